"""The OpenAPI document: every answer that an address can give, with examples that are true."""

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from flask.testing import FlaskClient
from flask_openapi3 import OpenAPI
from pydantic import BaseModel

from server.api.openai.schemas import Completion, CompletionRequest
from server.api.problems import ProblemDocument
from server.api.schemas import GenerateAnswer, GenerateBody, PieceRecord, WaitingRecord
from tests.events import read_events


def operations(app: OpenAPI) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in app.api_doc["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def answer(app: OpenAPI, operation: dict[str, Any], status: int) -> dict[str, Any]:
    """What is said of a status, wherever it is said."""
    found: dict[str, Any] = operation["responses"][str(status)]
    if "$ref" in found:
        found = app.api_doc["components"]["responses"][found["$ref"].rpartition("/")[2]]
    return found


def test_every_address_of_the_application_is_described(app: OpenAPI) -> None:
    unsaid = {"/openapi.json", "/metrics", "/reload", "/apidocs", "/apidocs/", "/apidocs/<name>"}
    said = {re.sub("[{](.*)[}]", "<path:\\1>", path) for path in app.api_doc["paths"]}
    assert said == {rule.rule for rule in app.url_map.iter_rules()} - unsaid


def test_every_operation_has_a_name_a_place_and_a_sentence(app: OpenAPI) -> None:
    names = [operation["operationId"] for _, operation in operations(app)]
    assert len(set(names)) == len(names)
    for of, operation in operations(app):
        assert re.fullmatch("[a-z][a-zA-Z]+", operation["operationId"]), of
        assert operation["tags"] != ["default"], of
        assert "<br" not in operation["description"], of


def test_nothing_is_left_of_the_librarys_own_errors(app: OpenAPI) -> None:
    assert "ValidationErrorModel" not in str(app.api_doc)
    for of, operation in operations(app):
        takes_fields = "requestBody" in operation or "parameters" in operation
        assert takes_fields or "422" not in operation["responses"], of


def test_every_problem_has_an_example_that_is_one(app: OpenAPI) -> None:
    responses = app.api_doc["components"]["responses"]
    for name, response in responses.items():
        problem = ProblemDocument.model_validate(response["content"]["application/problem+json"]["example"])
        assert name.removesuffix("OrPage") == f"Problem{problem.status}"
        assert problem.title == HTTPStatus(problem.status).phrase
        assert ("Retry-After" in response["headers"]) == (problem.status in (429, 502, 503, 504))
        assert "X-Request-ID" in response["headers"]


def test_examples_of_problems_are_what_is_answered(app: OpenAPI, client: FlaskClient) -> None:
    generate = app.api_doc["paths"]["/generate"]["get"]
    for status, query in ((400, "prefix=%ff"), (422, "length=0")):
        example = answer(app, generate, status)["content"]["application/problem+json"]["example"]
        real = client.get(f"/generate?{query}").get_json()
        assert real["detail"].replace("'", "") == example["detail"]
        assert [error["field"] for error in real["errors"]] == [error["field"] for error in example["errors"]]


def test_what_nginx_answers_by_itself_is_said_everywhere(app: OpenAPI) -> None:
    for of, operation in operations(app):
        for status in (400, 414, 431, 500, 502, 503, 504):
            answered = answer(app, operation, status)
            is_openai = " /v1/" in of and status >= 500
            assert ("application/json" if is_openai else "application/problem+json") in answered["content"], (
                of
            )
            assert ("Retry-After" in answered["headers"]) == (status > 500), of


def test_generate_is_said_to_be_json_events_or_a_page(app: OpenAPI) -> None:
    get, post = (app.api_doc["paths"]["/generate"][method] for method in ("get", "post"))
    assert set(answer(app, get, 200)["content"]) == {"application/json", "text/event-stream", "text/html"}
    assert set(answer(app, post, 200)["content"]) == {"application/json", "text/event-stream"}
    assert set(answer(app, get, 422)["content"]) == {"application/problem+json", "text/html"}
    assert set(answer(app, post, 422)["content"]) == {"application/problem+json"}


def test_who_streams_is_told_to_close_an_event_source(app: OpenAPI) -> None:
    query = {
        field["name"]: field["description"]
        for field in app.api_doc["paths"]["/generate"]["get"]["parameters"]
    }
    body = app.api_doc["components"]["schemas"]["GenerateBody"]["properties"]["stream"]["description"]
    assert "call close() on `done` and on `error`" in query["stream"] == body


def test_examples_are_requests_and_answers(app: OpenAPI) -> None:
    post = app.api_doc["paths"]["/generate"]["post"]
    GenerateBody.model_validate(post["requestBody"]["content"]["application/json"]["example"])
    content = answer(app, post, 200)["content"]
    GenerateAnswer.model_validate(content["application/json"]["example"])
    models: dict[str, type[BaseModel]] = {
        "message": PieceRecord,
        "waiting": WaitingRecord,
        "done": GenerateAnswer,
    }
    events = list(read_events(content["text/event-stream"]["example"].split("\n")))
    assert {event.name for event in events} == set(models)
    for event in events:
        models[event.name].model_validate(event.data)
    complete = app.api_doc["paths"]["/v1/completions"]["post"]
    CompletionRequest.model_validate(complete["requestBody"]["content"]["application/json"]["example"])
    Completion.model_validate(answer(app, complete, 200)["content"]["application/json"]["example"])
