"""The service around the texts: health, request ids, logs, and what happens when it is busy, slow or broken."""

import contextlib
import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from flask_openapi3 import OpenAPI

from server.api.schemas import GenerateAnswer, GenerateQuery
from server.app import _end_process_soon
from server.engine import SamplingParams
from server.logs import configure_logging
from tests.unit.api.conftest import Small

# --- Health ------------------------------------------------------------------------------------------------------


def test_alive_and_ready(client: FlaskClient) -> None:
    assert client.get("/healthz").get_json() == {"status": "alive"}
    assert client.get("/readyz").get_json() == {"status": "ready"}


def test_a_crash_ends_the_process_even_where_no_thread_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(timer: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    codes: list[int] = []
    monkeypatch.setattr(threading.Timer, "start", start)
    monkeypatch.setattr(os, "_exit", codes.append)
    _end_process_soon()
    assert codes == [1]


def test_without_its_engine_it_is_neither(small: Small) -> None:
    small.engine.close()
    for path in ("/healthz", "/readyz"):
        response = small.client.get(path)
        assert (response.status_code, response.content_type) == (503, "application/problem+json")
        assert "restarted" in response.get_json()["detail"]
    refused = small.client.get("/generate")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")


# --- Request ids -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", ["a", "7", "Episode-12_b.c", "x" * 64])
def test_a_harmless_request_id_is_taken_over(client: FlaskClient, sent: str) -> None:
    response = client.get("/healthz", headers={"X-Request-ID": sent})
    assert response.headers.getlist("X-Request-ID") == [sent]


@pytest.mark.parametrize("sent", [None, "", "x" * 65, "a b", 'a"b', "é", "a/b", "a\tb"])
def test_any_other_request_gets_a_new_one(client: FlaskClient, sent: str | None) -> None:
    headers = {} if sent is None else {"X-Request-ID": sent}
    ids = {client.get("/healthz", headers=headers).headers["X-Request-ID"] for _ in range(2)}
    assert len(ids) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", request_id) for request_id in ids)


# --- Logs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def log(client: FlaskClient) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Everything logged since the last call, each line parsed."""
    root = logging.getLogger()
    before = root.handlers[:]
    with contextlib.redirect_stderr(io.StringIO()) as stream:
        configure_logging("INFO")

    def read() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        stream.seek(stream.truncate(0))
        return lines

    yield read
    root.handlers[:] = before


@pytest.mark.parametrize(
    "prefix", ["Sesame", 'Sesame\n"quoted"\\', "Sesame\r\n{}\u2028", "Sesame 🔥\x1b[31m"]
)
def test_each_request_is_one_json_line_without_what_the_reader_typed(
    client: FlaskClient, log: Callable[[], list[dict[str, Any]]], prefix: str
) -> None:
    good = {"prefix": prefix, "length": 1}
    client.environ_base["HTTP_X_REQUEST_ID"] = "r-1"
    responses = [
        client.get("/generate", query_string=good),
        client.post("/generate", json=good),
        client.get("/generate", query_string={**good, "Sesame": 1}),
        client.post("/generate", json={**good, "length": "Sesame"}),
        client.post("/generate", json={**good, "prefix": prefix * 999}),
    ]
    del client.environ_base["HTTP_X_REQUEST_ID"]
    for response, line in zip(responses, log(), strict=True):
        assert line["request_id"] == "r-1"
        assert (line["method"], line["path"]) == (response.request.method, "/generate")
        assert (line["status"], line["bytes"]) == (response.status_code, len(response.data))
        assert line["level"] == "INFO"
        assert line["duration_ms"] >= 0
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", line["time"])
        assert "Sesame" not in json.dumps(line)


@pytest.mark.parametrize(
    "path",
    [
        "/apidocs/",
        "/apidocs/swagger-ui-bundle.js",
        "/apidocs/none",
        "/openapi.json",
        "/metrics",
        "/model",
        "/healthz",
        "/",
        "/generate?length=1&stream=true",
    ],
)
def test_every_answer_is_one_line(
    client: FlaskClient, log: Callable[[], list[dict[str, Any]]], path: str
) -> None:
    answer = client.get(path, buffered=True)
    [line] = log()
    assert (line["path"], line["status"]) == (path.partition("?")[0], answer.status_code)
    assert line["bytes"] == (None if "stream" in path else len(answer.data))


def test_that_a_file_has_not_changed_is_one_line_too(
    client: FlaskClient, log: Callable[[], list[dict[str, Any]]]
) -> None:
    known = client.get("/apidocs/start.js").headers["ETag"]
    client.get("/apidocs/start.js", headers={"If-None-Match": known})
    assert [line["status"] for line in log()] == [200, 304]


def test_a_path_cannot_forge_a_line(client: FlaskClient, log: Callable[[], list[dict[str, Any]]]) -> None:
    client.get('/x%0A{"level":"ERROR"}%ff')
    [line] = log()
    assert line["path"].startswith("/x\n")
    assert line["level"] == "INFO"


def test_an_unexpected_error_is_a_problem_document_and_its_traceback_one_line_of_the_log(
    small: Small, log: Callable[[], list[dict[str, Any]]]
) -> None:
    small.client.application.extensions["serving"] = None  # nothing that runs can be like this
    response = small.client.get("/generate", headers={"X-Request-ID": "r-2"})
    assert (response.status_code, response.content_type) == (500, "application/problem+json")
    assert response.get_json()["request_id"] == "r-2"
    assert "Traceback" not in response.text
    assert "NoneType" not in response.text
    [error, access] = log()
    assert error["request_id"] == access["request_id"] == "r-2"
    assert error["exc_info"].startswith("Traceback")


# --- Busy, slow, broken ------------------------------------------------------------------------------------------


def ask_until_answered(client: FlaskClient) -> None:
    """The place of what was given up is free after the step that runs."""
    deadline = time.monotonic() + 30
    while (response := client.get("/generate?length=1")).status_code != 200:
        assert time.monotonic() < deadline, response.text
        time.sleep(0.01)


def test_busy_is_503_with_retry_after(small: Small) -> None:
    small.core.open.clear()
    running = small.engine.submit("Ash", SamplingParams(length=2))
    response = small.client.get("/generate?length=1")
    assert (response.status_code, response.content_type) == (503, "application/problem+json")
    assert 1 <= int(response.headers["Retry-After"]) <= 120
    assert f"Try again in {response.headers['Retry-After']} seconds" in response.get_json()["detail"]
    small.core.open.set()
    running.result(timeout=30)
    ask_until_answered(small.client)


def test_busy_does_not_disturb_the_one_that_runs(small: Small) -> None:
    alone = small.client.get("/generate?length=9&seed=3").get_json()["text"]
    small.core.open.clear()
    small.core.entered.clear()
    texts: list[str] = []
    reader = threading.Thread(
        target=lambda: texts.append(small.client.get("/generate?length=9&seed=3").get_json()["text"])
    )
    reader.start()
    assert small.core.entered.wait(timeout=30)
    assert small.client.get("/generate?length=1").status_code == 503
    small.core.open.set()
    reader.join(timeout=30)
    assert texts == [alone]


def test_a_timeout_is_503_and_frees_the_place(small: Small) -> None:
    small.settings.request_timeout = 0.2
    small.core.open.clear()
    response = small.client.get("/generate?length=50")
    assert (response.status_code, response.content_type) == (503, "application/problem+json")
    assert "not done within 0.2 s" in response.get_json()["detail"]
    assert int(response.headers["Retry-After"]) >= 1
    small.core.open.set()
    small.settings.request_timeout = 30
    ask_until_answered(small.client)


def test_a_damaged_model_is_500_for_its_reader_alone(
    small: Small, log: Callable[[], list[dict[str, Any]]]
) -> None:
    gain = small.model._weights["ln_f/g"]
    whole = gain.copy()
    gain[:] = np.nan
    response = small.client.get("/generate?prefix=Sesame&length=1", headers={"X-Request-ID": "r-3"})
    gain[:] = whole
    assert (response.status_code, response.content_type) == (500, "application/problem+json")
    assert "Traceback" not in response.text
    assert "engine failed" in response.get_json()["detail"]
    lines = log()
    assert [line["level"] for line in lines if line["request_id"] == "r-3"] == ["ERROR", "INFO"]
    assert "Sesame" not in json.dumps(lines)
    ask_until_answered(small.client)


# --- The application ---------------------------------------------------------------------------------------------


def test_the_openapi_document_names_every_field(app: OpenAPI) -> None:
    document = app.api_doc
    get, post = (document["paths"]["/generate"][method] for method in ("get", "post"))
    assert {parameter["name"] for parameter in get["parameters"]} == set(GenerateQuery.model_fields)
    assert all(parameter["description"] for parameter in get["parameters"])
    schemas = document["components"]["schemas"]
    assert set(schemas["GenerateBody"]["properties"]) == set(GenerateQuery.model_fields)
    assert set(schemas["GenerateAnswer"]["properties"]) == set(GenerateAnswer.model_fields)
    assert {"200", "400", "422", "500", "503"} <= set(get["responses"])
    assert {"200", "400", "411", "413", "415", "422", "500", "503"} <= set(post["responses"])
    assert {"/healthz", "/readyz"} <= set(document["paths"])
    json.dumps(document)


def test_defaults_come_from_the_settings(make_app: Callable[..., OpenAPI]) -> None:
    client = make_app(length=3, temperature=0, opening="Brock said", max_samples=2).test_client()
    answer = client.get("/generate?whole_sentences=false").get_json()
    explicit = client.get(
        "/generate?prefix=Brock+said&length=3&temperature=0&whole_sentences=false"
    ).get_json()
    assert answer["text"] == explicit["text"]
    assert answer["usage"]["completion_tokens"] == 3
    assert "at most 2" in client.get("/generate?nsamples=3").get_json()["detail"]


def test_top_k_and_top_p_come_from_the_settings(make_app: Callable[..., OpenAPI]) -> None:
    greedy = make_app(temperature=0, length=8).test_client().get("/generate").get_json()["text"]
    for settings in ({"top_k": 1}, {"top_p": 1e-9}):
        assert make_app(length=8, **settings).test_client().get("/generate").get_json()["text"] == greedy


def test_importing_the_application_brings_no_tensorflow_and_no_torch(app: OpenAPI) -> None:
    script = "import sys, server.app; print([m for m in ('tensorflow', 'torch', 'transformers') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_openapi_document_is_served(client: FlaskClient, app: OpenAPI) -> None:
    response = client.get("/openapi.json")
    assert response.status_code == 200
    assert response.get_json() == json.loads(json.dumps(app.api_doc))
