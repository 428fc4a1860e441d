"""Is the process alive, and can it answer? For load balancers and orchestrators."""

from http import HTTPStatus

from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, ConfigDict

from server.api.problems import ProblemDocument, ProblemError
from server.serving import get_serving

blueprint = APIBlueprint("health", __name__, abp_tags=[Tag(name="Health")])


class Status(BaseModel):
    """The answer when all is well."""

    model_config = ConfigDict(openapi_extra={"example": {"status": "ready"}})  # type: ignore[typeddict-unknown-key]

    status: str


@blueprint.get(
    "/healthz",
    operation_id="isAlive",
    summary="Is it alive?",
    responses={HTTPStatus.OK: Status, HTTPStatus.SERVICE_UNAVAILABLE: ProblemDocument},
)
def healthz() -> dict[str, str]:
    """200 while the engine's thread runs, otherwise 503: then restart the process."""
    _require_engine()
    return {"status": "alive"}


@blueprint.get(
    "/readyz",
    operation_id="isReady",
    summary="Can it answer?",
    responses={HTTPStatus.OK: Status, HTTPStatus.SERVICE_UNAVAILABLE: ProblemDocument},
)
def readyz() -> dict[str, str]:
    """200: the checkpoint is loaded and tokens were made. That is so before the first request is accepted."""
    _require_engine()
    return {"status": "ready"}


def _require_engine() -> None:
    if not get_serving().current.engine.alive:
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE, "The engine has stopped; the service must be restarted."
        )
