"""What OpenAI's API does not take: every error below /v1 has that API's shape, and names the parameter."""

import threading
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from server.api.openai.schemas import CompletionRequest
from server.engine import SamplingParams
from server.weights import Checkpoint
from tests.unit.api.conftest import Small
from tests.unit.api.test_refusals import JSON


def error(response: TestResponse, status: int) -> dict[str, Any]:
    """The error that this answer must be."""
    assert response.content_type == "application/json", response.text
    assert response.status_code == status, response.text
    assert response.headers["X-Request-ID"]
    assert response.headers["Cache-Control"] == "no-store"
    assert len(response.data) < 8192, "an answer stays short, however long the request was"
    answer = response.get_json()
    assert set(answer) == {"error"}
    found: dict[str, Any] = answer["error"]
    assert set(found) == {"message", "type", "param", "code"}
    assert found["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    return found


def ask(client: FlaskClient, **parameters: object) -> TestResponse:
    return client.post("/v1/completions", json={"model": "tiny", "max_tokens": 1, **parameters})


# Parameter, values that are just allowed, those that are just not, and what the message must say.
LIMITS: list[tuple[str, list[object], list[object], str]] = [
    ("max_tokens", [1, 65536], [-1, 65537, 1.5, "1", True], "Input should be"),
    ("n", [1, 8], [0, 9, 128, "2", 1.5, [1]], "Input should be"),
    ("best_of", [1], [2, 0, "1"], "be"),
    ("temperature", [0, 2], [-0.001, 2.001, "1", True], "Input should be"),
    ("top_p", [0, 1], [-0.001, 1.001, "1"], "Input should be"),
    ("top_k", [0, 1_000_000], [-1, 1_000_001, 1.5], "Input should be"),
    ("logprobs", [0, 5], [-1, 6, True, "1"], "Input should be"),
    ("seed", [-(2**63), 2**64 - 1], [-(2**63) - 1, 2**64, 1.5, "7"], "Input should be"),
    ("stop", ["x", ["a", "b", "c", "d"], []], ["", ["a"] * 5, [""], 7, [7]], "up to 4 texts"),
    ("echo", [True, False], [1, "true"], "valid boolean"),
    ("stream", [True, False], [1, "true"], "valid boolean"),
    ("presence_penalty", [0, 0.0], [0.1, -1], "leave it out"),
    ("frequency_penalty", [0], [2], "leave it out"),
    ("logit_bias", [{}], [{"50256": -100}], "leave it out"),
    ("suffix", [""], ["the end"], "leave it out"),
    ("user", ["", "a"], [7], "valid string"),
    (
        "prompt",
        ["", "Ash", ["Ash"], [0, 511], [[0], [511]]],
        [7, [], [[]], ["a", 1], [1, "a"], [[1], "a"], [1.5], [True], {"text": "Ash"}],
        "a text, a list of texts, a list of tokens, or a list of lists of tokens",
    ),
    ("prompt", [[511]], [[512], [-1], [[5], [10**30]]], "from 0 to 511"),
    ("prompt", [["Ash"] * 8], [["Ash"] * 9], "at most 8 choices"),
]


@pytest.mark.parametrize(("name", "allowed", "refused", "says"), LIMITS)
def test_both_sides_of_every_limit(
    client: FlaskClient, name: str, allowed: list[object], refused: list[object], says: str
) -> None:
    for value in allowed:
        response = ask(client, **{name: value})
        assert response.data
        assert response.status_code == 200
    for value in refused:
        found = error(ask(client, **{name: value}), 400)
        assert found["param"] == name
        assert found["message"].startswith(f"{name}: ")
        assert says in found["message"]


@pytest.mark.parametrize(
    ("parameters", "name", "says"),
    [
        ({"max_tokens": 0}, "max_tokens", "only with echo"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "only with stream"),
        ({"top_k": 40, "top_p": 0.9}, "top_k", "only where top_p is 1"),
        ({"best_of": 3, "n": 2}, "best_of", "what n is, 2"),
        ({"prompt": ["a", "b", "c"], "n": 3}, "prompt", "3 prompts with n 3"),
        ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage", "no such field"),
        ({"stream": True, "stream_options": {"include_obfuscation": 1}}, "stream_options.include_obfuscation", "valid"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together(
    client: FlaskClient, parameters: dict[str, object], name: str, says: str
) -> None:
    found = error(ask(client, **parameters), 400)
    assert found["param"] == name
    assert says in found["message"]


def test_an_unknown_parameter_gets_a_hint(client: FlaskClient) -> None:
    found = error(ask(client, temprature=1), 400)
    assert found["param"] == "temprature"
    assert "Did you mean temperature?" in found["message"]
    error(ask(client, messages=None), 400)
    found = error(ask(client, stream=True, stream_options={"include_usag": True}), 400)
    assert found["param"] == "stream_options.include_usag"
    assert "Did you mean include_usage? The fields are include_usage, include_obfuscation" in found["message"]


def test_a_long_number_is_not_repeated_whole(client: FlaskClient) -> None:
    found = error(ask(client, n=10**300), 400)
    assert found["param"] == "n"
    assert len(found["message"]) < 200


def test_a_missing_model_is_asked_for(client: FlaskClient) -> None:
    found = error(client.post("/v1/completions", json={"prompt": "Ash"}), 400)
    assert (found["param"], found["message"]) == ("model", "model: It is required")


def test_another_model_is_not_found_and_the_served_one_is_named(client: FlaskClient) -> None:
    for response in (ask(client, model="gpt-4"), client.get("/v1/models/gpt-4")):
        found = error(response, 404)
        assert (found["param"], found["code"]) == ("model", "model_not_found")
        assert "'gpt-4'" in found["message"]
        assert "'tiny'" in found["message"]
    error(client.get("/v1/models/someone/" + "x" * 9999), 404)


def test_a_prompt_too_long_is_told_the_counts(client: FlaskClient, tiny_checkpoint: Checkpoint) -> None:
    n_ctx = tiny_checkpoint.hparams.n_ctx
    assert ask(client, prompt=[5] * (n_ctx - 1)).status_code == 200
    found = error(ask(client, prompt=[5] * n_ctx), 400)
    assert (found["param"], found["code"]) == ("prompt", "context_length_exceeded")
    assert f"{n_ctx} tokens long and may be {n_ctx - 1} at most" in found["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": NaN}', b"\xff", b'{"model": "\\ud800"}'])
def test_bodies_that_are_not_well_formed(client: FlaskClient, body: bytes) -> None:
    error(client.post("/v1/completions", data=body, content_type="application/json"), 400)


def test_other_content_types_and_sizes(client: FlaskClient) -> None:
    error(client.post("/v1/completions", data={"model": "tiny"}), 415)
    error(ask(client, prompt="a" * 65536), 413)
    error(client.post("/v1/completions?n=1", json={"model": "tiny"}), 400)


@pytest.mark.parametrize(
    "path", ["/v1/", "/v1/nowhere", "/v1/completions/", "/v1/chat/completions", "/v1/models/"]
)
def test_other_paths(client: FlaskClient, path: str) -> None:
    assert "/v1/completions" in error(client.get(path), 404)["message"]
    error(client.post(path, json={}), 404)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_other_methods(client: FlaskClient, method: str) -> None:
    response = client.open("/v1/completions", method=method)
    error(response, 405)
    assert "POST" in response.headers["Allow"]


# --- Busy, slow, broken ------------------------------------------------------------------------------------------


def test_busy_is_503_with_retry_after(small: Small) -> None:
    small.core.open.clear()
    running = small.engine.submit("Ash", SamplingParams(length=2))
    response = ask(small.client, model="small")
    assert "busy" in error(response, 503)["message"]
    assert 1 <= int(response.headers["Retry-After"]) <= 120
    small.core.open.set()
    running.result(timeout=30)


def test_of_several_prompts_all_are_taken_or_none(small: Small) -> None:
    """There is one place, and no queue: the second prompt is refused, and the first one's place is free again."""
    small.settings.max_samples = 2
    small.core.open.clear()
    response = ask(small.client, model="small", prompt=["Ash", "Misty"], max_tokens=50)
    error(response, 503)
    response.close()
    small.core.open.set()
    for _ in range(1000):
        if small.engine.statistics().ended["cancelled"]:
            break
        threading.Event().wait(0.01)
    assert small.engine.statistics().running == 0
    assert ask(small.client, model="small").status_code == 200


def test_a_deadline_is_503(small: Small) -> None:
    small.settings.request_timeout = 0.2
    small.core.open.clear()
    response = ask(small.client, model="small", max_tokens=50)
    assert "not done within 0.2 s" in error(response, 503)["message"]
    assert response.headers["Retry-After"]
    small.core.open.set()


def test_a_damaged_model_is_500(small: Small) -> None:
    small.model._weights["ln_f/g"][:] = np.nan
    assert "engine failed" in error(ask(small.client, model="small"), 500)["message"]


def test_a_closed_engine_is_503(small: Small) -> None:
    small.engine.close()
    response = ask(small.client, model="small")
    error(response, 503)
    assert response.headers["Retry-After"] == "5"


# --- Anything at all ---------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(CompletionRequest.model_fields)), JSON, max_size=5))
def test_any_json_object(client: FlaskClient, parameters: dict[str, object]) -> None:
    response = ask(client, **{"max_tokens": 1, "model": "tiny", "stream": False, **parameters})
    if response.status_code != 200:
        error(response, response.status_code)
        assert response.status_code in (400, 404)
