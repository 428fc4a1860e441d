"""GET /openapi.json: what the service takes and answers, for programs.

flask-openapi3 writes down what each module declares. What is the same at every address is added here: that errors are
problem documents, with an example each; those that nginx gives; the headers; and pages where browsers get some.
"""

from collections.abc import Collection, Iterator
from http import HTTPStatus
from typing import Any, cast

from flask import current_app
from flask_openapi3 import APIBlueprint, OpenAPI
from pydantic import BaseModel

from server.api import keys, page
from server.api.openai import errors as openai
from server.api.problems import PROBLEM, FieldError, ProblemDocument

blueprint = APIBlueprint("document", __name__)

# What nginx answers by itself, whatever the address.
_FRONT_DOOR = [
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_URI_TOO_LONG,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
]

# What each status means here, and a sentence as an answer has it.
_PROBLEMS = {
    HTTPStatus.BAD_REQUEST: (
        "The request is not well-formed.",
        "The query string is not UTF-8; percent-encode the UTF-8 bytes of each character.",
    ),
    HTTPStatus.UNAUTHORIZED: (
        "This service wants an API key, and there is none or a wrong one.",
        "This is no API key of this service. Check it, or ask whoever runs it.",
    ),
    HTTPStatus.FORBIDDEN: (
        "Pages of other sites may not ask for texts, and have no JSONP, unless POKEGEN_CORS_ORIGINS lets them.",
        "callback: There is JSONP only where POKEGEN_CORS_ORIGINS is *; without callback the answer is JSON",
    ),
    HTTPStatus.NOT_FOUND: (
        "It is not there.",
        "The checkpoint has no card.json: `pokegen card` writes it; then reload the service.",
    ),
    HTTPStatus.NOT_ACCEPTABLE: (
        "None of the media types in Accept can be had.",
        "The card is to be had as application/json and as text/html: let Accept have one of them.",
    ),
    HTTPStatus.LENGTH_REQUIRED: (
        "Without nginx in front, the body needs a Content-Length.",
        "This port takes no Transfer-Encoding; send a Content-Length.",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
        "The body is larger than POKEGEN_MAX_BODY.",
        "The body may have 65536 bytes at most: send a shorter one.",
    ),
    HTTPStatus.REQUEST_URI_TOO_LONG: (
        "The address and its query are longer than 16 KiB.",
        "The address and its query may have 16 KiB at most: send the fields as JSON with POST instead.",
    ),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: (
        "The body is not said to be JSON.",
        "The body must be a JSON object with Content-Type: application/json.",
    ),
    HTTPStatus.UNPROCESSABLE_ENTITY: (
        "A field is not known, or its value is outside of its limits; `errors` names each.",
        "length: Input should be greater than or equal to 1; it is 0",
    ),
    HTTPStatus.TOO_MANY_REQUESTS: (
        "Your address has too many texts at once, or asks for too many a second.",
        "You may have 32 texts at once, and have too many for 1 more: wait for some to end.",
    ),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: (
        "The header fields are larger than 16 KiB.",
        "The header fields may have 16 KiB at most: send fewer or shorter ones.",
    ),
    HTTPStatus.INTERNAL_SERVER_ERROR: (
        "The service failed on this request.",
        "The engine failed on this request. Trying again may help.",
    ),
    HTTPStatus.BAD_GATEWAY: (
        "The application is starting, or was restarted.",
        "The text generator did not answer: it is starting, or it was restarted. Try again in a few seconds.",
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: (
        "Too many are waiting, the text took too long, or the service is stopping.",
        "The service is busy: too many are waiting. Try again in 4 seconds.",
    ),
    HTTPStatus.GATEWAY_TIMEOUT: (
        "The application took too long.",
        "The text generator took longer than 70 seconds: ask for a shorter text, or try again later.",
    ),
}
_COME_BACK = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}

_HEADERS = {
    "X-Request-ID": {
        "description": "The name of this request, which the log has too: as its own X-Request-ID says, or a new one.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "Retry-After": {
        "description": "Seconds until it makes sense to ask again.",
        "schema": {"type": "integer", "minimum": 1},
    },
}


@blueprint.get("/openapi.json", doc_ui=False)
def openapi() -> dict[str, Any]:
    """The OpenAPI document of this very application."""
    return cast(OpenAPI, current_app).api_doc


def register(app: OpenAPI) -> None:
    """Serve the document of `app`; to be called when all that it describes is registered."""
    app.register_api(blueprint)
    document = app.api_doc
    components = document["components"]
    components["headers"] = _HEADERS
    components["responses"] = {}
    del components["schemas"]["ValidationErrorModel"]  # nothing refers to it
    del components["securitySchemes"]  # null, which it may not be
    for path, method, operation in _operations(document):
        components["responses"] |= _complete(path, method, operation)


def demand_key(app: OpenAPI, blueprints: Collection[APIBlueprint], is_optional: bool) -> None:
    """Say that the operations of these blueprints take an API key; to be called after `register`."""
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": keys.HEADER},
    }
    components = app.api_doc["components"]
    components["securitySchemes"] = schemes
    tags = {tag.name for blueprint in blueprints for tag in blueprint.abp_tags or []}
    security: list[dict[str, list[str]]] = [{scheme: []} for scheme in schemes]
    for path, _, operation in _operations(app.api_doc):
        if tags.isdisjoint(operation["tags"]):
            continue
        operation["security"] = [{}, *security] if is_optional else security
        for status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS):
            name = f"Problem{status.value}"
            components["responses"][name] = _problem(status)
            answer = {"$ref": f"#/components/responses/{name}"}
            if path.startswith(openai.PREFIX):
                answer = _problem(status) | {"content": _as_json(openai.ErrorAnswer)}
            operation["responses"].setdefault(str(status.value), answer)
        operation["responses"] = dict(sorted(operation["responses"].items()))


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _complete(path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    """Say the rest of the operation; gives the problems that it refers to, by their names."""
    operation["description"] = operation["description"].replace("<br/>", "\n")
    answers = operation["responses"]
    if "ValidationErrorModel" in str(answers["422"]):  # what the library says where nothing is declared
        del answers["422"]
    has_page = (path, method) == (page.PATH, "get")
    if has_page:
        answers["200"]["content"][page.HTML] = {"schema": {"type": "string"}}
    problems = _complete_own(answers, has_page) | _add_front_door(answers, path.startswith(openai.PREFIX))
    operation["responses"] = dict(sorted(answers.items()))
    return problems


def _complete_own(answers: dict[str, Any], has_page: bool) -> dict[str, Any]:
    """What the modules declare: for problems the media type, the headers and an example, in one place for all."""
    problems = {}
    for status, answer in answers.items():
        if answer.get("content") == _as_json(ProblemDocument):
            name = f"Problem{status}OrPage" if has_page else f"Problem{status}"
            problems[name] = _problem(HTTPStatus(int(status)), has_page)
            answers[status] = {"$ref": f"#/components/responses/{name}"}
        else:
            answer["headers"] = _refer("X-Request-ID")
    return problems


def _add_front_door(answers: dict[str, Any], is_openai: bool) -> dict[str, Any]:
    """What nginx answers by itself. Below /v1 it is in the shape of that API, if nginx has seen the address by then."""
    problems = {}
    for front in _FRONT_DOOR:
        name = f"Problem{front.value}"
        problems[name] = _problem(front)
        if not is_openai:
            answers.setdefault(str(front.value), {"$ref": f"#/components/responses/{name}"})
        elif front >= HTTPStatus.INTERNAL_SERVER_ERROR:
            answers[str(front.value)] = problems[name] | {"content": _as_json(openai.ErrorAnswer)}
        else:
            answer = answers.setdefault(str(front.value), dict(problems[name]))
            answer["content"] = problems[name]["content"] | _as_json(openai.ErrorAnswer)
    return problems


def _as_json(model: type[BaseModel]) -> dict[str, Any]:
    """What the library makes of a model in a module's responses."""
    return {page.JSON: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}


def _problem(status: HTTPStatus, has_page: bool = False) -> dict[str, Any]:
    """The answer of this status; `has_page`: a browser gets it as a page."""
    meaning, detail = _PROBLEMS[status]
    field, found, sentence = detail.partition(": ")
    of_field = status == HTTPStatus.UNPROCESSABLE_ENTITY and found
    example = ProblemDocument(
        title=status.phrase,
        status=status,
        detail=detail,
        errors=[FieldError(field=field, detail=sentence)] if of_field else [],
        request_id="7c1d5f0e9b0a4c3d8e6f2a1b0c9d8e7f",
    )
    content: dict[str, Any] = {
        PROBLEM: {"schema": _as_json(ProblemDocument)[page.JSON]["schema"], "example": example.model_dump()}
    }
    if has_page:
        content[page.HTML] = {"schema": {"type": "string"}}
    names = ["X-Request-ID", *(["Retry-After"] if status in _COME_BACK else [])]
    return {"description": meaning, "headers": _refer(*names), "content": content}


def _refer(*headers: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
