"""Every error is a problem document (RFC 9457): what is wrong, at which field, and what to do about it.

Who asked for a page gets the same sentence on a page, and a client of OpenAI's API in that API's shape.
"""

import difflib
import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, get_args

from flask import Flask, Response, current_app, g
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException

from server.api import page
from server.api.openai import errors as openai
from server.engine import DeadlineExceededError, EngineBusyError, EngineClosedError, EngineFailedError

logger = logging.getLogger(__name__)

PROBLEM = "application/problem+json"

# The most that one document lists: a request of thousands of wrong fields gets a short answer.
MAX_ERRORS = 10


class FieldError(BaseModel):
    """One field of a request and what is wrong with it."""

    field: str
    detail: str


class ProblemDocument(BaseModel):
    """The members of RFC 9457, section 3.1, with two of our own: `errors`, a field each, and `request_id`."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []
    request_id: str


# As flask-openapi3 takes them.
Answers = dict[str | int | HTTPStatus, type[BaseModel] | dict[Any, Any] | None]

# What can go wrong where a text is asked for, in a query or in a body.
IN_QUERY: Answers = dict.fromkeys(
    [
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ],
    ProblemDocument,
)
IN_BODY: Answers = IN_QUERY | dict.fromkeys(
    [HTTPStatus.LENGTH_REQUIRED, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE],
    ProblemDocument,
)


class ProblemError(Exception):
    """Raise it to answer with a problem document.

    status: the HTTP status. detail: a sentence for a person: what is wrong and what to do. errors: the fields
    at fault. code: OpenAI's word for it, where it has one.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        errors: list[FieldError] | None = None,
        headers: dict[str, str] | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors or []
        self.headers = headers or {}
        self.code = code


def field_problem(
    field: str, detail: str, status: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY
) -> ProblemError:
    """A problem with a single field; its sentence becomes the document's."""
    field = shortened(field)
    return ProblemError(status, f"{field}: {detail}", [FieldError(field=field, detail=detail)])


def from_validation_error(error: ValidationError, model: type[BaseModel]) -> ProblemError:
    """What pydantic found of `model`, as a problem that names each field and its limit."""
    errors = []
    for found in error.errors(include_url=False, include_context=False)[:MAX_ERRORS]:
        field = shortened(".".join(str(part) for part in found["loc"]))
        if found["type"] == "extra_forbidden":
            *outer, name = found["loc"]
            detail = _no_such_field(shortened(str(name)), _inner(model, outer))
        elif found["type"] == "missing":
            detail = "It is required"
        else:
            detail = f"{found['msg']}; it is {shortened(repr(found['input']))}"
        errors.append(FieldError(field=field, detail=detail))
    summary = "; ".join(f"{e.field}: {e.detail}" for e in errors)
    if error.error_count() > MAX_ERRORS:
        summary += f"; and {error.error_count() - MAX_ERRORS} more"
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, summary, errors)


def _inner(model: type[BaseModel], fields: Iterable[int | str]) -> type[BaseModel]:
    """The model that these fields, each within the one before, lead to; each may be left out."""
    for field in fields:
        annotation = model.model_fields[str(field)].annotation
        model = next(kind for kind in (*get_args(annotation), annotation) if issubclass(kind, BaseModel))
    return model


def _no_such_field(field: str, model: type[BaseModel]) -> str:
    known = [info.alias or name for name, info in model.model_fields.items()]
    similar = difflib.get_close_matches(field, known, n=1)
    hint = f" Did you mean {similar[0]}?" if similar else ""
    return f"There is no such field.{hint} The fields are {', '.join(known)}"


def shortened(text: str) -> str:
    """What the request said, at a length that an answer may repeat: 60 characters."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def register(app: Flask) -> None:
    """Answer every error that `app` raises with a problem document, and nothing else."""

    @app.errorhandler(ProblemError)
    def problem(error: ProblemError) -> Response:
        return _respond(error.status, error.detail, error.errors, error.headers, error.code)

    @app.errorhandler(EngineBusyError)
    def busy(error: EngineBusyError) -> Response:
        detail = f"The service is busy: too many are waiting. Try again in {error.retry_after} seconds."
        headers = {"Retry-After": str(error.retry_after)}
        return _respond(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=headers, tries_again=True)

    @app.errorhandler(DeadlineExceededError)
    def too_slow(error: DeadlineExceededError) -> Response:
        timeout = current_app.extensions["settings"].request_timeout
        detail = f"The text was not done within {timeout:g} s. Ask for a smaller length, or come back later."
        return _respond(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "10"})

    @app.errorhandler(EngineClosedError)
    def closed(error: EngineClosedError) -> Response:
        detail = "The service is stopping or starting anew. Try again in a few seconds."
        headers = {"Retry-After": "5"}
        return _respond(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=headers, tries_again=True)

    @app.errorhandler(EngineFailedError)
    def engine_failed(error: EngineFailedError) -> Response:
        logger.error("a generation failed: %s", error)
        return _respond(
            HTTPStatus.INTERNAL_SERVER_ERROR, "The engine failed on this request. Trying again may help."
        )

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status = HTTPStatus(error.code or 500)
        headers = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
        return _respond(status, _DETAILS.get(status) or error.description or status.phrase, headers=headers)

    @app.errorhandler(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    def body_too_large(error: HTTPException) -> Response:
        limit = current_app.config["MAX_CONTENT_LENGTH"]
        return _respond(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body may have {limit} bytes at most; shorten it."
        )

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        logger.exception("an unexpected error")
        return _respond(
            HTTPStatus.INTERNAL_SERVER_ERROR, "An unexpected error; the log has it under this request_id."
        )


# Where werkzeug's own sentence does not say what to do.
_DETAILS = {
    HTTPStatus.NOT_FOUND: "There is nothing at this path. Episodes are at /generate?prefix=..., and completions"
    " at /v1/completions.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This path does not take this method; the Allow header lists those it takes.",
}


def _respond(
    status: HTTPStatus,
    detail: str,
    errors: list[FieldError] | None = None,
    headers: dict[str, str] | None = None,
    code: str | None = None,
    tries_again: bool = False,
) -> Response:
    """`tries_again`: whether a page asks once more by itself, which only makes sense where that can succeed."""
    if page.is_wanted():
        return page.problem(status, detail, g.request_id, headers or {}, tries_again)
    if openai.is_wanted():
        return openai.error(status, detail, errors[0].field if errors else None, code, headers or {})
    document = ProblemDocument(
        title=status.phrase, status=status, detail=detail, errors=errors or [], request_id=g.request_id
    )
    response = Response(document.model_dump_json() + "\n", status, headers, mimetype=PROBLEM)
    response.headers["Cache-Control"] = "no-store"
    return response
