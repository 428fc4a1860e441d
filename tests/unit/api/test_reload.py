"""POST /reload: another checkpoint and other keys, or both as they were."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from flask_openapi3 import OpenAPI

from server.api.metrics import Texts
from server.engine import Generation, SamplingParams
from server.serving import ReloadRunsError
from tests.checkpoints import write_transformers
from tests.conftest import TINY

LATER = 4_000_000_000  # in seconds since 1970, when another checkpoint is loaded


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_transformers(tmp_path / "served", TINY, seed=1)
    return tmp_path / "served"


def entry(key: str) -> str:
    return f'[alice]\nsha256 = "{hashlib.sha256(key.encode()).hexdigest()}"\n'


def test_it_says_what_answers_from_here_on(
    make_app: Callable[..., OpenAPI], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_app(checkpoint=place).test_client()
    first = client.post("/reload", json={}).json
    assert first
    assert (first["model"], first["is_new"]) == ("served", False)
    write_transformers(place, TINY, seed=2)
    monkeypatch.setattr("server.app.time", SimpleNamespace(time=lambda: LATER))
    second = client.post("/reload", json={}).json
    assert second
    assert second["is_new"]
    assert second["fingerprint"] != first["fingerprint"]
    answer = client.get("/generate?length=2").json
    assert answer
    assert answer["fingerprint"] == second["fingerprint"]
    models = client.get("/v1/models").json
    assert models
    assert models["data"][0]["created"] == LATER


def test_what_cannot_be_had_is_said_and_changes_nothing(
    make_app: Callable[..., OpenAPI], place: Path
) -> None:
    client = make_app(checkpoint=place).test_client()
    (place / "model.safetensors").write_bytes(b"none")
    refused = client.post("/reload", json={})
    assert refused.status_code == 422
    assert refused.json
    assert refused.json["detail"].startswith("It stays as it was: ")
    assert "model.safetensors" in refused.json["detail"]
    assert client.get("/generate?length=2").status_code == 200
    said = client.get("/metrics").text
    assert "pokegen_reloads_refused_total 1.0" in said
    assert "pokegen_reloads_total 0.0" in said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImportError("No module named 'tensorflow'"), "No module named 'tensorflow'"),
        (MemoryError(), "MemoryError"),
        (RuntimeError("can't start new thread"), "can't start new thread"),
    ],
)
def test_whatever_keeps_it_from_being_loaded_is_said(
    make_app: Callable[..., OpenAPI], monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    app = make_app()

    def fails(_: object) -> None:
        raise error

    monkeypatch.setattr(app.extensions["serving"], "_load", fails)
    refused = app.test_client().post("/reload", json={})
    assert refused.status_code == 422
    assert refused.json
    assert refused.json["detail"] == f"It stays as it was: {said}"


def test_what_is_kept_of_the_same_content_under_another_name_is_not_told_again(
    make_app: Callable[..., OpenAPI], place: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(place)
    client = make_app(checkpoint=link, keep=10).test_client()
    first = client.get("/generate?length=2&seed=1")
    shutil.copytree(place, tmp_path / "renamed")
    link.unlink()
    link.symlink_to(tmp_path / "renamed")
    assert client.post("/reload", json={}).json == {
        "model": "renamed",
        "fingerprint": first.get_json()["fingerprint"],
        "is_new": True,
        "keys": None,
    }
    again = client.get("/generate?length=2&seed=1", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.get_json()["model"]) == (200, "renamed")
    assert again.get_json()["text"] == first.get_json()["text"]


def test_one_at_a_time(make_app: Callable[..., OpenAPI], monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()

    def runs() -> bool:
        raise ReloadRunsError("another checkpoint is being loaded: wait until that is done")

    monkeypatch.setattr(app.extensions["serving"], "reload", runs)
    assert app.test_client().post("/reload", json={}).status_code == 409


def test_keys_are_read_again_and_wrong_ones_are_not_taken(
    make_app: Callable[..., OpenAPI], tmp_path: Path
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(entry("old"))
    keys.chmod(0o600)
    client = make_app(api_keys=str(keys)).test_client()

    def status(key: str) -> int:
        return client.get("/generate?length=1", headers={"X-API-Key": key}).status_code

    assert (status("old"), status("new")) == (200, 401)
    keys.write_text("[alice")
    assert client.post("/reload", json={}).status_code == 422
    assert (status("old"), status("new")) == (200, 401)
    keys.write_text(entry("new"))
    reloaded = client.post("/reload", json={})
    assert (reloaded.status_code, reloaded.get_json()["keys"]) == (200, 1)
    assert (status("old"), status("new")) == (401, 200)


def test_texts_are_counted_when_they_end(make_app: Callable[..., OpenAPI]) -> None:
    app = make_app(length=5)
    client = app.test_client()
    before = client.get("/metrics").text
    assert "pokegen_text_seconds_count" in before
    client.get("/generate?prefix=Ash")
    client.get("/generate?length=0")
    said = client.get("/metrics").text
    assert 'pokegen_http_requests_total{path="/generate",status="200"} 1.0' in said
    assert 'pokegen_http_requests_total{path="/generate",status="422"} 1.0' in said
    for name in ("queue", "first_token", "token", "text"):
        assert f"pokegen_{name}_seconds_count 2.0" in said, "the one that proved the checkpoint is one"


def test_what_never_began_is_not_counted_as_a_text() -> None:
    texts = Texts()
    generation = Generation(3, SamplingParams(length=1), [])
    texts.count(generation)
    assert texts.registry.get_sample_value("pokegen_prompt_tokens_total") == 0
    generation.timing.started = generation.timing.submitted + 1
    texts.count(generation)
    assert texts.registry.get_sample_value("pokegen_prompt_tokens_total") == 3
    assert texts.registry.get_sample_value("pokegen_queue_seconds_sum") == pytest.approx(1)
    assert texts.registry.get_sample_value("pokegen_first_token_seconds_count") == 0


@pytest.mark.parametrize(("before", "after"), [(5, 2), (2, 5)])
def test_another_limit_holds_from_then_on(
    make_app: Callable[..., OpenAPI], tmp_path: Path, before: int, after: int
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(entry("one") + f"per_minute = {before}\n")
    keys.chmod(0o600)
    client = make_app(api_keys=str(keys)).test_client()

    def asked_until_refused() -> int:
        for times in range(10):
            if client.get("/generate?length=1", headers={"X-API-Key": "one"}).status_code == 429:
                return times
        raise AssertionError("no limit holds")

    assert asked_until_refused() == before
    keys.write_text(entry("one") + f"per_minute = {after}\n")
    assert client.post("/reload", json={}).status_code == 200
    assert asked_until_refused() == after
