"""What must hold of every request before its fields are looked at: UTF-8, no NUL, no field twice, real JSON."""

import json
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

from flask import Flask, request
from werkzeug.exceptions import ClientDisconnected

from server.api.problems import ProblemError, field_problem, shortened

MAX_DEPTH = (
    16  # of arrays and objects in each other: more than any field needs, and far from Python's own limit
)
MAX_DIGITS = 400  # of an integer: more than the largest double has, and far from Python's own limit


def register(app: Flask) -> None:
    """Refuse requests to `app` that are not well-formed, with 400, 411 or 415 and a sentence that says where."""

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
        _check_text(field, field)
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
    body = _read_body()
    try:
        parsed = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object_without_duplicates,
            parse_int=_integer,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"The body is not UTF-8 at byte {error.start}.") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"The body is not JSON: {error}.") from None
    if not isinstance(parsed, dict):
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, 'The body must be a JSON object, such as {"prefix": "Ash"}.'
        )
    for field, value in parsed.items():
        _check_text(field, field)
        for text in _texts(value, MAX_DEPTH):
            _check_text(field, text)


def _read_body() -> bytes:
    if request.headers.get("Transfer-Encoding") and not request.environ.get("wsgi.input_terminated"):
        # uWSGI's plain-HTTP port; nginx and gunicorn put the chunks together.
        raise ProblemError(
            HTTPStatus.LENGTH_REQUIRED, "This port takes no Transfer-Encoding; send a Content-Length."
        )
    try:
        return request.get_data()
    except (ClientDisconnected, OSError):
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, "The body ended before its Content-Length was reached."
        ) from None


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the field {shortened(repr(twice))} is given more than once")
    return fields


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits is too long")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _texts(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        if depth == 0:
            raise _too_deep()
        for item in value if isinstance(value, list) else (*value.keys(), *value.values()):
            yield from _texts(item, depth - 1)


def _too_deep() -> ProblemError:
    return ProblemError(
        HTTPStatus.BAD_REQUEST, f"The body is nested too deeply; {MAX_DEPTH} levels are the most."
    )


def _check_text(field: str, text: str) -> None:
    if "\0" in text:
        raise _bad_field(field, "it contains a NUL character; leave it out")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _bad_field(field, "it contains half of a surrogate pair, which is no character") from None


def _bad_field(field: str, detail: str) -> ProblemError:
    return field_problem(field.encode("utf-8", "replace").decode(), detail, HTTPStatus.BAD_REQUEST)
