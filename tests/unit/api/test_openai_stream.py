"""/v1/completions as a stream: the same choices in pieces."""

import json
import os
import statistics
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from flask.testing import FlaskClient
from flask_openapi3 import OpenAPI
from werkzeug.test import TestResponse

from server.api.event_stream import PAUSE_SECONDS
from server.engine import SamplingParams
from server.engine.scheduler import Drawn, Slice
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


def test_what_is_null_in_the_options_is_the_default_and_obfuscation_is_nothing(client: FlaskClient) -> None:
    plain = put_together(stream(client))
    for options in (
        {"include_usage": None, "include_obfuscation": None},
        {"include_obfuscation": True},
        {"include_obfuscation": False},
    ):
        chunks = stream(client, stream_options=options)
        assert put_together(chunks) == plain
        assert all("usage" not in chunk for chunk in chunks)


# --- When what comes ---------------------------------------------------------------------------------------------

STEP_SECONDS = 0.01


@pytest.fixture
def make_slow_client(
    make_app: Callable[..., OpenAPI], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., FlaskClient]:
    """Of a service each step of which takes a while, as a large model's does."""

    def make(**settings: object) -> FlaskClient:
        app = make_app(**settings)
        core = app.extensions["serving"].current.engine._core
        step = core.step

        def slow_step(batch: list[Slice]) -> list[Drawn]:
            time.sleep(STEP_SECONDS)
            drawn: list[Drawn] = step(batch)
            return drawn

        monkeypatch.setattr(core, "step", slow_step)
        return app.test_client()

    return make


class Told(NamedTuple):
    """A choice's piece, or its end, and when it came."""

    at: float
    choice: int
    text: str
    finish_reason: str | None


def told(client: FlaskClient, **parameters: object) -> list[Told]:
    pieces = []
    for data in ask(client, stream=True, **parameters).iter_encoded():
        if data.startswith(b"data: {"):
            [choice] = json.loads(data.removeprefix(b"data: "))["choices"]
            pieces.append(Told(time.monotonic(), choice["index"], choice["text"], choice["finish_reason"]))
    return pieces


def test_all_choices_grow_side_by_side(make_slow_client: Callable[..., FlaskClient]) -> None:
    pieces = told(make_slow_client(), prompt=["Ash was", "Misty is"], n=2, max_tokens=60, temperature=0.5)
    first_end = next(i for i, piece in enumerate(pieces) if piece.finish_reason)
    assert {piece.choice for piece in pieces[:first_end]} == {0, 1, 2, 3}


def test_each_prompt_comes_at_the_same_pace_while_others_wait_and_when_they_have_ended(
    make_slow_client: Callable[..., FlaskClient],
) -> None:
    pieces = told(make_slow_client(max_running=1), prompt=["Ash"] * 4, max_tokens=60, temperature=0.5)
    for index in range(4):
        times = [piece.at for piece in pieces if piece.choice == index and piece.text]
        pace = statistics.median(after - before for before, after in pairwise(times))
        assert 0.8 * PAUSE_SECONDS < pace < 4 * PAUSE_SECONDS, f"prompt {index}, {len(times)} pieces"


def test_a_choice_hears_its_end_while_others_go_on(make_slow_client: Callable[..., FlaskClient]) -> None:
    client = make_slow_client()
    asked: dict[str, object] = {"n": 2, "max_tokens": 120}
    first, second = (choice["text"] for choice in ask(client, **asked).get_json()["choices"])
    stop = next(first[i : i + 2] for i in range(4, len(first)) if first[i : i + 2] not in second)
    pieces = told(client, **asked, stop=stop)
    [end] = [i for i, piece in enumerate(pieces) if (piece.choice, piece.finish_reason) == (0, "stop")]
    assert sum(piece.choice == 1 for piece in pieces[end:]) > 3


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
    small.settings.request_timeout = 0.2
    small.core.open.clear()
    failure = last_event(ask(small.client, model="small", stream=True))
    small.core.open.set()
    assert "not done within 0.2 s" in failure["error"]["message"]


def test_closing_the_stream_frees_the_places(make_app: Callable[..., OpenAPI]) -> None:
    app = make_app(engine="numpy")  # slow enough that the texts are not done by then
    engine = app.extensions["serving"].current.engine
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


@pytest.mark.parametrize("streams", [False, True])
def test_who_has_left_is_told_no_end(small: Small, streams: bool) -> None:
    """Also where only the sending half of the connection is closed, and what is told still arrives."""
    reading, writing = os.pipe()
    os.close(writing)
    with open(reading) as connection:  # noqa: PTH123 - a connection that the other side has closed
        response = small.client.post(
            "/v1/completions",
            json={"model": "small", "max_tokens": 500, "seed": 1, "stream": streams},  # whose text is long
            environ_overrides={"werkzeug.socket": connection},
        )
        assert response.status_code == (200 if streams else 499)
        assert "[DONE]" not in response.text
        assert '"finish_reason":"' not in response.text
