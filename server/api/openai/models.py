"""GET /v1/models and /v1/models/{model}: the one model that is served."""

import hashlib
from http import HTTPStatus
from typing import Annotated, Any, Literal

from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, Field

from server.api.openai.errors import ErrorAnswer
from server.api.problems import FieldError, ProblemError, shortened
from server.engine import ARITHMETIC, EngineName, Isa, supported_isas
from server.serving import Served, get_serving

TAG = Tag(name="As OpenAI's API")

blueprint = APIBlueprint("openai_models", __name__, abp_tags=[TAG])


def fingerprint(identity: str, engine: EngineName, isa: Isa) -> str:
    """What a text depends on beside its request: another one as soon as the same seed may give another text.

    identity: the checkpoint's. Processes on other machines that have the same of all three have the same fingerprint.
    """
    instructions = supported_isas()[1] if isa == "auto" else isa
    parts = f"{identity} {engine} {instructions} {ARITHMETIC}"
    return f"fp_{hashlib.blake2b(parts.encode(), digest_size=5).hexdigest()}"


def require_served(model: str, served: Served) -> Served:
    """What is served, if it has this name. Raises ProblemError."""
    if model != served.model:
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            f"The model {shortened(model)!r} does not exist; this service has {served.model!r}.",
            [FieldError(field="model", detail=f"It is {served.model!r} here")],
            code="model_not_found",
        )
    return served


class Model(BaseModel):
    """A model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "pokegen"


class ModelList(BaseModel):
    """All models: one."""

    object: Literal["list"] = "list"
    data: list[Model]


class ModelPath(BaseModel):
    """Which model."""

    model: Annotated[str, Field(json_schema_extra={"example": "run1"})]


@blueprint.get(
    "/v1/models",
    operation_id="listModels",
    summary="What models are there?",
    responses={
        HTTPStatus.OK: ModelList,
        HTTPStatus.BAD_REQUEST: ErrorAnswer,
        HTTPStatus.FORBIDDEN: ErrorAnswer,
    },
)
def list_models() -> dict[str, Any]:
    """The one that is served, as a list."""
    return ModelList(data=[_model(get_serving().current)]).model_dump()


@blueprint.get(
    "/v1/models/<path:model>",
    operation_id="retrieveModel",
    summary="Is there such a model?",
    responses={
        HTTPStatus.OK: Model,
        HTTPStatus.BAD_REQUEST: ErrorAnswer,
        HTTPStatus.FORBIDDEN: ErrorAnswer,
        HTTPStatus.NOT_FOUND: ErrorAnswer,
    },
)
def retrieve_model(path: ModelPath) -> dict[str, Any]:
    """The one that is served, if it has this name."""
    return _model(require_served(path.model, get_serving().current)).model_dump()


def _model(served: Served) -> Model:
    return Model(id=served.model, created=served.created)
