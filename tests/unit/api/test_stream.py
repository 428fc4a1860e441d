"""/generate as server-sent events."""

import threading
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from server.engine import SamplingParams
from tests.events import Event, read_events, texts
from tests.unit.api.conftest import Small


def ask(client: FlaskClient, **fields: object) -> TestResponse:
    return client.get("/generate", query_string={"seed": 7, "stream": "true", **fields})


def stream(client: FlaskClient, **fields: object) -> list[Event]:
    response = ask(client, **fields)
    assert (response.status_code, response.mimetype) == (200, "text/event-stream")
    return list(read_events(response.text.split("\n")))


def without_timing(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "timing"}


def test_the_last_event_is_the_whole_answer(client: FlaskClient) -> None:
    *pieces, done = stream(client, prefix="Ash was")
    whole = client.get("/generate", query_string={"seed": 7, "prefix": "Ash was"}).get_json()
    assert done.name == "done"
    assert without_timing(done.data) == without_timing(whole)
    assert set(done.data["timing"]) == set(whole["timing"])
    assert {piece.name for piece in pieces} == {"message"}


@pytest.mark.parametrize("include_prefix", ["true", "false"])
def test_the_pieces_are_the_text(client: FlaskClient, include_prefix: str) -> None:
    fields = {"prefix": "Ash was", "include_prefix": include_prefix, "whole_sentences": "false"}
    *pieces, done = stream(client, **fields)
    assert texts(pieces) == {0: done.data["text"]}
    assert all(set(piece.data) == {"text"} for piece in pieces)


def test_a_text_that_ends_at_once_is_the_prefix_alone(client: FlaskClient) -> None:
    fields = {"prefix": "Ash was", "nsamples": 2, "whole_sentences": "false"}
    *_, done = stream(client, **fields)
    ends = done.data["samples"][1]["text"].removeprefix("Ash was")[0]
    *pieces, done = stream(client, truncate=ends, **fields)
    assert done.data["samples"][1]["text"] == "Ash was"
    assert texts(pieces) == {i: sample["text"] for i, sample in enumerate(done.data["samples"])}


def test_a_text_is_cut_at_its_last_sentence_only_in_the_record(client: FlaskClient) -> None:
    *pieces, done = stream(client, prefix="Ash was. And")
    assert texts(pieces)[0].startswith(done.data["text"])


def test_pieces_of_several_samples_say_whose_they_are(client: FlaskClient) -> None:
    *pieces, done = stream(client, nsamples=3, whole_sentences="false")
    assert texts(pieces) == {i: sample["text"] for i, sample in enumerate(done.data["samples"])}
    assert all(set(piece.data) == {"text", "sample"} for piece in pieces)


def test_accept_asks_for_a_stream_too(client: FlaskClient) -> None:
    with client.get("/generate", headers={"Accept": "text/event-stream"}) as response:
        assert response.mimetype == "text/event-stream"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "text/event-stream;q=0.5, application/json", ""]
)
def test_others_get_json(client: FlaskClient, accept: str) -> None:
    assert client.get("/generate", headers={"Accept": accept}).mimetype == "application/json"


def test_a_page_that_is_preferred_is_no_stream(client: FlaskClient) -> None:
    headers = {"Accept": "text/html, text/event-stream;q=0.5"}
    assert client.get("/generate?length=1", headers=headers).mimetype == "text/html"
    posted = client.post("/generate", json={"length": 1}, headers=headers, buffered=True)
    assert posted.mimetype == "text/event-stream", "a POST has no page"


@pytest.mark.parametrize("accept", ["text/html", "application/json", "image/png"])
def test_the_field_asks_for_a_stream_whatever_accept_says(client: FlaskClient, accept: str) -> None:
    for query in ("stream=true", "str%65am=true"):
        answer = client.get(f"/generate?length=1&{query}", headers={"Accept": accept}, buffered=True)
        assert answer.mimetype == "text/event-stream"


def test_a_body_asks_for_a_stream_too(client: FlaskClient) -> None:
    response = client.post("/generate", json={"stream": True, "seed": 7})
    assert list(read_events(response.text.split("\n")))[-1].name == "done"


def test_a_refusal_is_no_stream(client: FlaskClient, small: Small) -> None:
    assert (ask(client, length=0).status_code, ask(client, length=0).mimetype) == (
        422,
        "application/problem+json",
    )
    small.core.open.clear()
    small.engine.submit("Ash", SamplingParams(length=5))
    refused = ask(small.client)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")


def test_what_fails_later_is_the_last_event(small: Small) -> None:
    small.model._weights["wpe"][20] = np.nan
    *_, failure = stream(small.client, length=60, temperature=0)
    assert failure.name == "error"
    assert failure.data["status"] == 500
    assert set(failure.data) == {"type", "title", "status", "detail", "errors", "request_id"}
    small.model._weights["wpe"][20] = 0
    assert stream(small.client, length=5)[-1].name == "done"


@pytest.mark.parametrize("asked", ["stream=true", "str%65am=true"])
def test_what_fails_is_one_event_for_a_browser_too(small: Small, asked: str) -> None:
    small.model._weights["wpe"][:] = np.nan
    failed = small.client.get(f"/generate?length=5&{asked}", headers={"Accept": "text/html"})
    [*_, failure] = read_events(failed.text.split("\n"))
    assert (failure.name, failure.data["status"]) == ("error", 500)


def test_a_deadline_is_the_last_event(small: Small) -> None:
    small.settings.request_timeout = 0.2
    small.core.open.clear()
    *_, failure = stream(small.client)
    small.core.open.set()
    assert (failure.name, failure.data["status"]) == ("error", 503)


def test_who_waits_is_told_the_place(small: Small) -> None:
    small.engine._scheduler._max_waiting = 8
    small.core.open.clear()
    in_front = [small.engine.submit("Ash", SamplingParams(length=2)) for _ in range(3)]
    with ask(small.client, length=3) as response:
        events = read_events(line for chunk in response.response for line in _text(chunk).split("\n")[:-1])
        waiting = next(events)
        assert (waiting.name, waiting.data["ahead"]) == ("waiting", 2)
        assert waiting.data["seconds"] >= 0
        small.core.open.set()
        assert list(events)[-1].name == "done"
    assert all(generation.done for generation in in_front)


def test_closing_the_stream_frees_the_place(small: Small) -> None:
    small.core.some_steps = threading.Semaphore(8)  # or it might be done before its reader has left
    with ask(small.client, length=500) as response:
        next(iter(response.response))
    small.core.some_steps.release(1000)
    for _ in range(1000):
        if not small.engine.statistics().running:
            break
        threading.Event().wait(0.01)
    assert small.engine.statistics().ended["cancelled"] == 1


def _text(chunk: str | bytes) -> str:
    return chunk if isinstance(chunk, str) else chunk.decode()
