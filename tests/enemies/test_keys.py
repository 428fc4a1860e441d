"""API keys through nginx and uWSGI, with OpenAI's own client, and taken up anew by a reload."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openai import AuthenticationError, DefaultHttpxClient, OpenAI, RateLimitError

from server.keys import digest, new_key
from tests.service.stack import Stack, running, wait_until

ALICE, BOB = new_key(), new_key()
WRONG = "pokegen-" + "x" * 43
ENTRY = '[{name}]\nsha256 = "{sha256}"\nat_once = 8\nper_minute = {per_minute}\n'


def entry(name: str, key: str, per_minute: int = 1000) -> str:
    return ENTRY.format(name=name, sha256=digest(key), per_minute=per_minute)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    file.write_text(entry("alice", ALICE) + entry("bob", BOB, per_minute=3))
    file.chmod(0o600)
    return file


@pytest.fixture(scope="module")
def guarded(
    environment: dict[str, str], file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    log = tmp_path_factory.mktemp("guarded") / "log"
    with running(Stack(log, environment | {"POKEGEN_API_KEYS": str(file)})) as stack:
        yield stack


@pytest.fixture
def client_of(guarded: Stack) -> Callable[[str], OpenAI]:
    def make(key: str) -> OpenAI:
        transport = DefaultHttpxClient(trust_env=False)
        return OpenAI(base_url=f"{guarded.url}/v1", api_key=key, max_retries=0, http_client=transport)

    return make


def test_openais_client_with_a_right_and_a_wrong_key(client_of: Callable[[str], OpenAI]) -> None:
    with client_of(ALICE) as client:
        [model] = client.models.list()
        assert client.completions.create(model=model.id, prompt="Ash", max_tokens=2).choices
    with client_of(WRONG) as client, pytest.raises(AuthenticationError, match="no API key") as found:
        client.completions.create(model="run1", prompt="Ash")
    assert (found.value.status_code, found.value.code) == (401, "invalid_api_key")


def test_openais_client_is_told_to_wait(client_of: Callable[[str], OpenAI]) -> None:
    with client_of(BOB) as client:
        for _ in range(3):
            client.models.list()
        with pytest.raises(RateLimitError, match="3 times a minute") as found:
            client.models.list()
    assert int(found.value.response.headers["Retry-After"]) >= 1


def test_both_fields_reach_the_application(guarded: Stack) -> None:
    for field in ({"Authorization": f"Bearer {ALICE}"}, {"X-API-Key": ALICE}):
        assert guarded.get("/generate?length=1", headers=field).status_code == 200
    for none in ({}, {"X-API-Key": ""}, {"Cookie": f"key={ALICE}"}, {"Authorization": f"Basic {ALICE}"}):
        answer = guarded.get("/generate?length=1", headers=none)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="pokegen"')
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert guarded.get(f"/generate?key={ALICE}").status_code == 401
    assert guarded.get("/").status_code == guarded.get("/readyz").status_code == 200


def test_no_key_is_in_the_log_but_names_are(guarded: Stack) -> None:
    guarded.get("/generate?length=1", headers={"X-API-Key": ALICE, "X-Request-ID": "named"})
    wait_until(lambda: "\n".join(guarded.logged()).count('"named"') == 2, within=20, what="the log")
    log = guarded.log.read_text()
    lines = [json.loads(line) for line in guarded.logged() if '"named"' in line]
    assert [line["key"] for line in lines if line["logger"] == "server.access"] == ["alice"]
    for secret in (ALICE, BOB, WRONG, digest(ALICE)):
        assert secret not in log


def test_the_file_is_taken_up_anew_by_a_reload_or_left_as_it_was(guarded: Stack, file: Path) -> None:
    before = file.read_text()
    carol = new_key()
    file.write_text("[carol]\nsha256 = 7\n")
    refused = guarded.reload()
    assert refused.returncode == 1
    assert "POKEGEN_API_KEYS" in refused.stderr
    assert guarded.get("/generate?length=1", headers={"X-API-Key": ALICE}).status_code == 200
    file.write_text(entry("carol", carol))
    assert guarded.reload().returncode == 0

    def status(key: str) -> int:
        return guarded.get("/generate?length=1", headers={"X-API-Key": key}).status_code

    wait_until(lambda: status(carol) == 200, within=30, what="the new file")
    assert status(ALICE) == 401
    file.write_text(before)
