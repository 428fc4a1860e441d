"""/v1/completions as a stream: the same choices in pieces."""

import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from flask_openapi3 import OpenAPI
from werkzeug.test import TestResponse

from server.engine import SamplingParams
from tests.unit.api.conftest import Small

Chunk = dict[str, Any]


def ask(client: FlaskClient, **parameters: object) -> TestResponse:
    fields = {"model": "tiny", "prompt": "Ash was", "seed": 7} | parameters
    return client.post("/v1/completions", json=fields)


def stream(client: FlaskClient, **parameters: object) -> list[Chunk]:
    """The chunks between the head and `data: [DONE]`."""
    response = ask(client, stream=True, **parameters)
    assert (response.status_code, response.mimetype) == (200, "text/event-stream")
    assert response.headers["X-Accel-Buffering"] == "no"
    lines = [line for line in response.text.split("\n") if line and not line.startswith(":")]
    *data, done = lines
    assert done == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in data]


def put_together(chunks: list[Chunk]) -> list[Chunk]:
    """The choices that the chunks are the pieces of."""
    choices: dict[int, Chunk] = {}
    for [piece] in (chunk["choices"] for chunk in chunks):
        whole = choices.setdefault(piece["index"], {"text": "", "finish_reason": None, "logprobs": None})
        assert whole["finish_reason"] is None, "nothing comes behind the end"
        whole["text"] += piece["text"]
        whole["finish_reason"] = piece["finish_reason"]
        if piece["logprobs"]:
            for name, values in piece["logprobs"].items():
                lists = whole.setdefault("lists", {})
                lists[name] = lists.get(name, []) + values
    return [choices[index] | {"index": index} for index in sorted(choices)]


PARAMETERS: list[dict[str, object]] = [
    {},
    {"n": 3},
    {"prompt": ["Ash was", "Misty is", ""]},
    {"prompt": [[5, 6, 7], [8]], "echo": True},
    {"prompt": ["Ash was", "Misty is"], "n": 2, "echo": True},
    {"logprobs": 2, "n": 2},
    {"logprobs": 2, "echo": True, "prompt": ["Pokémon 🔥" * 15, "Ash"]},
    {"logprobs": 1, "echo": True, "max_tokens": 0, "n": 2},
    {"stop": ["e", "a"], "logprobs": 1, "n": 4},
    {"temperature": 2, "n": 8, "max_tokens": 60, "logprobs": 1},
]


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_the_pieces_are_the_whole_answer(client: FlaskClient, parameters: dict[str, object]) -> None:
    chunks = stream(client, **parameters)
    whole = ask(client, **parameters).get_json()
    for found, expected in zip(put_together(chunks), whole["choices"], strict=True):
        assert found.pop("lists", None) == expected.pop("logprobs")
        assert {**found, "logprobs": None} == {**expected, "logprobs": None}
    for chunk in chunks:
        assert set(chunk) == {"id", "object", "created", "model", "system_fingerprint", "choices"}
        assert {name: chunk[name] for name in ("object", "model", "system_fingerprint")} == {
            name: whole[name] for name in ("object", "model", "system_fingerprint")
        }
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_the_usage_comes_last_and_has_no_choice(client: FlaskClient) -> None:
    *chunks, last = stream(client, n=2, stream_options={"include_usage": True})
    assert last["choices"] == []
    assert last["usage"] == ask(client, n=2).get_json()["usage"]
    assert {chunk["usage"] for chunk in chunks} == {None}
    assert put_together(chunks)
    assert all("usage" not in chunk for chunk in stream(client, stream_options={"include_usage": False}))


def test_all_choices_grow_side_by_side(client: FlaskClient) -> None:
    chunks = stream(client, prompt=["Ash was", "Misty is"], n=2, max_tokens=200, temperature=0.5)
    pieces = [choice for chunk in chunks for choice in chunk["choices"]]
    first_end = next(i for i, piece in enumerate(pieces) if piece["finish_reason"])
    assert {piece["index"] for piece in pieces[:first_end]} == {0, 1, 2, 3}


def test_a_refusal_is_no_stream(client: FlaskClient, small: Small) -> None:
    response = ask(client, stream=True, temperature=3)
    assert (response.status_code, response.mimetype) == (400, "application/json")
    small.core.open.clear()
    small.engine.submit("Ash", SamplingParams(length=5))
    refused = ask(small.client, model="small", stream=True)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")


def last_event(response: TestResponse) -> Chunk:
    name, data = response.text.rstrip("\n").split("\n")[-2:]
    assert name == "event: error"
    error: Chunk = json.loads(data.removeprefix("data: "))
    return error


def test_what_fails_later_is_the_last_event(small: Small) -> None:
    small.model._weights["wpe"][20] = np.nan
    failure = last_event(ask(small.client, model="small", stream=True, max_tokens=60, temperature=0))
    assert failure["error"]["type"] == "server_error"
    assert "failed" in failure["error"]["message"]


def test_a_deadline_is_the_last_event(small: Small) -> None:
    small.core.open.clear()
    failure = last_event(ask(small.client, model="small", stream=True))
    small.core.open.set()
    assert "not done within 0.2 s" in failure["error"]["message"]


def test_closing_the_stream_frees_the_places(make_app: Callable[..., OpenAPI]) -> None:
    app = make_app(engine="numpy")  # slow enough that the texts are not done by then
    engine = app.extensions["engine"]
    response = ask(app.test_client(), stream=True, prompt=["Ash", "Misty"], n=2, max_tokens=500)
    next(iter(response.response))
    response.close()
    for _ in range(1000):
        if not engine.statistics().running:
            break
        threading.Event().wait(0.01)
    ended = engine.statistics().ended
    assert engine.statistics().running == 0
    assert ended["cancelled"] >= 1
    assert ended["cancelled"] + ended["stop"] == 4
