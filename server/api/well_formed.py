"""What must hold of every request before its fields are looked at: UTF-8, no NUL, no field twice, real JSON."""

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

from flask import Flask, request

from server.api.problems import ProblemError, field_problem


def register(app: Flask) -> None:
    """Refuse requests to `app` that are not well-formed, with 400 or 415 and a sentence that says where."""

    @app.before_request
    def refuse() -> None:
        if request.routing_exception is not None:
            return  # there is no such path or method, which is the better thing to say
        _check_query(request.query_string)
        if request.method == "POST":
            _check_body()


def _check_query(raw: bytes) -> None:
    try:
        unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            "The query string is not UTF-8; percent-encode the UTF-8 bytes of each character.",
        ) from None
    for field, values in request.args.lists():
        if len(values) > 1:
            raise _bad_field(field, f"it is given {len(values)} times; give it once")
        _check_text(field, values[0])


def _check_body() -> None:
    if request.query_string:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, "A POST takes its fields in the JSON body, not in the query string."
        )
    if request.mimetype != "application/json":
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "The body must be a JSON object with Content-Type: application/json.",
        )
    body = request.get_data()
    try:
        parsed = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object_without_duplicates,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"The body is not UTF-8 at byte {error.start}.") from None
    except RecursionError:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, "The body is not a flat JSON object: it is nested too deeply."
        ) from None
    except ValueError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"The body is not JSON: {error}.") from None
    if not isinstance(parsed, dict):
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, 'The body must be a JSON object, such as {"prefix": "Ash"}.'
        )
    for field, value in parsed.items():
        _check_text(field, field)
        for text in _texts(value):
            _check_text(field, text)


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r} is given more than once")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _check_text(field: str, text: str) -> None:
    if "\0" in text:
        raise _bad_field(field, "it contains a NUL character; leave it out")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _bad_field(field, "it contains half of a surrogate pair, which is no character") from None


def _bad_field(field: str, detail: str) -> ProblemError:
    return field_problem(field.encode("utf-8", "replace").decode(), detail, HTTPStatus.BAD_REQUEST)
