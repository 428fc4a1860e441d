"""Errors in OpenAI's shape, for every path of its API."""

from collections.abc import Mapping
from http import HTTPStatus

from flask import Response, request
from pydantic import BaseModel

PREFIX = "/v1/"


class ErrorDetails(BaseModel):
    """What is wrong: a sentence, its kind, the parameter at fault, and OpenAI's own word for it if it has one."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """An error, as OpenAI's clients know it."""

    error: ErrorDetails


def is_wanted() -> bool:
    """Whether this request is one to OpenAI's API."""
    return request.path.startswith(PREFIX)


def error(
    status: HTTPStatus, message: str, param: str | None, code: str | None, headers: Mapping[str, str]
) -> Response:
    """The answer. A field of a wrong value, 422 elsewhere, is 400 here, for which the client has a BadRequestError.

    Busy stays 503, which OpenAI answers too when it is overloaded: the client waits as Retry-After says.
    """
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    answer = ErrorAnswer(error=ErrorDetails(message=message, type=_kind(status), param=param, code=code))
    response = Response(answer.model_dump_json() + "\n", status, headers, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def _kind(status: HTTPStatus) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    return "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
