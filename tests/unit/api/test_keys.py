"""API keys: who is let in, how much each may ask for, and that no key is ever told to anybody."""

import hmac
import json
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from flask_openapi3 import OpenAPI

from server.api.keys import LastMinute
from server.cli import commands
from server.keys import Keys, digest, read_keys
from server.settings import Settings, SettingsError

ALICE, BOB = ("pokegen-" + 43 * letter for letter in "ab")  # always the same: tests are named by them
FILE = f"""
[alice]
sha256 = "{digest(ALICE)}"
at_once = 2
per_minute = 1000

[bob]
sha256 = "{digest(BOB)}"
at_once = 8
per_minute = 3
"""
ANONYMOUS = """
[anonymous]
at_once = 1
per_minute = 2
"""


def settings_of(file: Path, text: str) -> Settings:
    file.write_text(text)
    file.chmod(0o600)
    return Settings(api_keys=str(file))


def keys_of(file: Path, text: str) -> Keys:
    keys = read_keys(settings_of(file, text))
    assert keys
    return keys


@pytest.fixture
def make_client(make_app: Callable[..., OpenAPI], tmp_path: Path) -> Callable[[str], FlaskClient]:
    def make(text: str) -> FlaskClient:
        settings_of(tmp_path / "keys.toml", text)
        return make_app(api_keys=str(tmp_path / "keys.toml"), length=1, max_samples=8).test_client()

    return make


@pytest.fixture
def client(make_client: Callable[[str], FlaskClient]) -> FlaskClient:
    return make_client(FILE)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# --- Who is let in -----------------------------------------------------------------------------------------------

TEXTS = ["/generate", "/?sample=Ash", "/?prefix=Ash", "/", "/text-generate", "/v1/models", "/v1/models/x"]


@pytest.mark.parametrize("path", TEXTS)
def test_without_a_key_nothing_is_written(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="pokegen"'
    assert "wants an API key" in answer.text


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/openapi.json", "/model", "/apidocs/", "/metrics", "/none"]
)
def test_what_is_no_text_needs_no_key(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code in (200, 404)


@pytest.mark.parametrize(
    "headers",
    [
        bearer(ALICE),
        {"Authorization": f"bearer  {ALICE} "},
        {"X-API-Key": ALICE},
        bearer(ALICE) | {"X-API-Key": ALICE},
    ],
    ids=["bearer", "small letters and blanks", "X-API-Key", "both"],
)
def test_a_key_opens(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.get("/generate", headers=headers).status_code == 200
    assert client.post("/generate", headers=headers, json={}).status_code == 200
    assert client.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        bearer(ALICE[:-1]),
        bearer(ALICE + "x"),
        bearer(ALICE.swapcase()),
        bearer(digest(ALICE)),
        bearer("alice"),
        bearer(""),
        bearer("é\xff"),
        bearer("x" * 10_000),
        bearer(f"{ALICE}, Bearer {BOB}"),
        {"Authorization": f"Basic {ALICE}"},
        {"Authorization": ALICE},
        {"Authorization": "Bearer"},
        {"Authorization": ""},
        {"X-API-Key": ""},
        {"X-API-Key": "wrong"},
        bearer(ALICE) | {"X-API-Key": BOB},
    ],
)
@pytest.mark.parametrize("text", [FILE, FILE + ANONYMOUS], ids=["keys", "and anonymous"])
def test_a_wrong_key_is_refused_even_where_none_is_needed(
    make_client: Callable[[str], FlaskClient], text: str, headers: dict[str, str]
) -> None:
    client = make_client(text)
    answer = client.get("/generate", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="pokegen", error="invalid_token"'
    error = client.get("/v1/models", headers=headers)
    assert error.status_code == 401
    assert error.get_json()["error"]["code"] == "invalid_api_key"
    assert error.get_json()["error"]["type"] == "invalid_request_error"
    for told in (answer, error):
        assert ALICE not in told.text + str(told.headers)


def test_who_has_no_key_is_told_so_before_the_body_is_looked_at(client: FlaskClient) -> None:
    assert client.post("/generate", data=b"{").status_code == 401
    assert (
        client.post(
            "/generate", data=b"{", headers=bearer(ALICE), content_type="application/json"
        ).status_code
        == 400
    )


def test_a_browser_without_javascript_is_told_on_a_page(client: FlaskClient) -> None:
    answer = client.get("/generate", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.mimetype) == (401, "text/html")
    assert "wants an API key" in answer.text


def test_a_preflight_brings_no_key(make_app: Callable[..., OpenAPI], tmp_path: Path) -> None:
    settings_of(tmp_path / "keys.toml", FILE)
    client = make_app(api_keys=str(tmp_path / "keys.toml"), cors_origins="https://fan.example").test_client()
    asked = {
        "Origin": "https://fan.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, x-api-key",
    }
    answer = client.options("/generate", headers=asked)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization, x-api-key"


def test_every_entry_is_compared_whichever_is_right(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[str, str]] = []

    def compare_digest(known: str, sent: str) -> bool:
        compared.append((known, sent))
        return known == sent

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    for key in (ALICE, BOB, "wrong"):
        compared.clear()
        client.get("/generate", headers=bearer(key))
        assert compared == [(digest(ALICE), digest(key)), (digest(BOB), digest(key))]


# --- How much ----------------------------------------------------------------------------------------------------


def test_requests_in_a_minute(client: FlaskClient) -> None:
    statuses = [client.get("/generate", headers=bearer(BOB)).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    refused = client.post("/v1/completions", json={}, headers={"X-API-Key": BOB})
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.get_json()["error"]["code"] == "rate_limit_exceeded"
    assert "3 times a minute" in refused.get_json()["error"]["message"]
    assert client.get("/generate", headers=bearer(ALICE)).status_code == 200, "who is another"


def test_the_minute_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    minute = LastMinute()
    for _ in range(3):
        assert minute.count("bob", most=3) == 0
        now += 10
    assert minute.count("bob", most=3) == 30
    assert minute.count("bob", most=3) == 30, "who is refused is not counted"
    now += 30
    assert minute.count("bob", most=3) == 0
    assert minute.count("bob", most=3) == 10


@pytest.mark.parametrize(("before", "after"), [(2, 5), (5, 2)])
def test_another_limit_holds_for_who_was_counted_by_the_last(before: int, after: int) -> None:
    minute = LastMinute()
    assert minute.count("bob", most=before) == 0
    assert [minute.count("bob", most=after) > 0 for _ in range(after)] == [False] * (after - 1) + [True]


def test_who_has_not_asked_for_a_minute_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    minute = LastMinute()
    for number in range(1000):
        minute.count(f"192.0.2.{number}", most=1)
    now += 30
    minute.count("192.0.2.7", most=2)
    now += 30
    minute.count("192.0.2.8", most=1)
    assert len(minute) == 2


def test_samples_at_once(client: FlaskClient) -> None:
    def stream(n: int) -> Any:  # noqa: ANN401
        return client.get(f"/generate?stream=true&nsamples={n}&length=20", headers=bearer(ALICE))

    first = stream(2)  # whose answer nobody has read yet
    refused = stream(1)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) >= 1
    assert "2 texts at once" in refused.get_json()["detail"]
    assert client.get("/generate?nsamples=8", headers=bearer(BOB)).status_code == 200, "who is another"
    first.get_data()
    first.close()
    assert stream(2).status_code == 200


def test_more_at_once_than_a_key_ever_has(client: FlaskClient) -> None:
    for answer in (
        client.get("/generate?nsamples=3", headers=bearer(ALICE)),
        client.post("/generate", json={"nsamples": 3}, headers=bearer(ALICE)),
    ):
        assert answer.status_code == 422
        assert "2 texts at once" in answer.get_json()["detail"]


def test_without_a_key_each_address_has_its_limits(make_client: Callable[[str], FlaskClient]) -> None:
    client = make_client(FILE + ANONYMOUS)

    def ask(address: str) -> int:
        return client.get("/generate", environ_base={"REMOTE_ADDR": address}, buffered=True).status_code

    assert [ask("192.0.2.1") for _ in range(3)] == [200, 200, 429]
    assert ask("192.0.2.2") == 200
    assert [ask(f"2001:db8::{last}") for last in (1, 2, 3)] == [200, 200, 429], "one network"
    assert client.get("/generate", headers=bearer(ALICE)).status_code == 200
    assert client.get("/generate?nsamples=2", environ_base={"REMOTE_ADDR": "192.0.2.3"}).status_code == 422


# --- What is told ------------------------------------------------------------------------------------------------


def test_the_log_has_the_name_and_never_the_key(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        client.get("/generate", headers=bearer(ALICE))
        client.get("/generate", headers={"X-API-Key": "wrong-secret"})
        client.get("/generate?length=x", headers=bearer(BOB))
        client.get("/healthz", headers=bearer(BOB))
    lines = [record.__dict__ for record in caplog.records if record.name == "server.access"]
    assert [(line["status"], line.get("key")) for line in lines] == [
        (200, "alice"),
        (401, None),
        (422, "bob"),
        (200, None),
    ]
    told = json.dumps([*map(str, lines)]) + caplog.text
    for secret in (ALICE, BOB, "wrong-secret", digest(ALICE)):
        assert secret not in told


def test_the_openapi_document_asks_for_a_key(make_client: Callable[[str], FlaskClient], app: OpenAPI) -> None:
    assert "securitySchemes" not in app.api_doc["components"]
    for text in (FILE, FILE + ANONYMOUS):
        optional: list[dict[str, list[str]]] = [{}] if ANONYMOUS in text else []
        document = make_client(text).get("/openapi.json").get_json()
        assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
        for path, methods in document["paths"].items():
            for operation in methods.values():
                if path in ("/healthz", "/readyz", "/model", "/model/curve.svg"):
                    assert "security" not in operation
                else:
                    assert operation["security"] == [*optional, {"bearer": []}, {"header": []}]
                    assert "401" in operation["responses"]
                    assert "429" in operation["responses"]


# --- The file ----------------------------------------------------------------------------------------------------


def test_the_file_is_read(tmp_path: Path) -> None:
    keys = keys_of(tmp_path / "keys.toml", FILE + ANONYMOUS)
    assert list(keys.entries) == ["alice", "bob"]
    assert (keys.entries["bob"].at_once, keys.entries["bob"].per_minute) == (8, 3)
    assert keys.anonymous
    assert keys.anonymous.per_minute == 2
    assert keys_of(tmp_path / "keys.toml", FILE).anonymous is None
    assert read_keys(Settings()) is None


SHA = f'sha256 = "{digest(ALICE)}"'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no entry.*pokegen key NAME"),
        ("# nothing", "no entry"),
        ("alice", "is not TOML: Expected"),
        ("[alice]\n[alice]", "is not TOML"),
        ("[alice", "is not TOML"),
        (f"{SHA}\n", "sha256 stands outside"),
        ("[alice]\nat_once = 1", r"\[alice\] sha256: Field required"),
        (f"[alice]\n{SHA.upper().replace('SHA256', 'sha256')}", r"\[alice\] sha256: .*pattern"),
        (f"[alice]\nkey = '{ALICE}'\n{SHA}", r"\[alice\] key: Extra inputs"),
        (f"[alice]\nsha256 = '{ALICE}'", r"\[alice\] sha256: .*pattern"),
        (f"[alice]\n{SHA}\nat_once = 0", r"\[alice\] at_once: .*greater than or equal to 1"),
        (f"[alice]\n{SHA}\nat_once = true", r"\[alice\] at_once: .*valid integer"),
        (f"[alice]\n{SHA}\nper_minute = '60'", r"\[alice\] per_minute: .*valid integer"),
        (f"[alice]\n{SHA}\nper_minute = 1e3", r"\[alice\] per_minute: .*valid integer"),
        (f"[alice.b]\n{SHA}", r"\[alice\] sha256"),
        (f'["a b"]\n{SHA}', "no name"),
        (f'[""]\n{SHA}', "no name"),
        (f"[alice]\n{SHA}\n[bob]\n{SHA}", r"\[alice\] and \[bob\] have the same key"),
        (f"[anonymous]\n{SHA}", r"\[anonymous\] sha256: Extra inputs"),
        ("[[alice]]\nat_once = 1", "stands outside"),
    ],
)
def test_what_is_wrong_with_the_file_is_one_line_without_a_secret(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(SettingsError) as found:
        keys_of(tmp_path / "keys.toml", text)
    message = str(found.value)
    assert message.startswith(f"POKEGEN_API_KEYS: {tmp_path}/keys.toml: ")
    assert re.search(says, message), message
    assert "\n" not in message
    assert ALICE not in message
    assert digest(ALICE) not in message


def test_a_file_that_is_none(tmp_path: Path) -> None:
    for name, says in (
        ("nothing", "is not there"),
        ("folder", "is not a file"),
        ("latin", "not UTF-8 at byte 0"),
        ("large", "more than 1048576 bytes"),
    ):
        file = tmp_path / name
        if name == "folder":
            file.mkdir()
        elif name != "nothing":
            file.write_bytes({"latin": b"\xff", "large": b"#" * 2**21}[name])
        with pytest.raises(SettingsError, match=says):
            read_keys(Settings(api_keys=str(file)))


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    settings = settings_of(tmp_path / "keys.toml", FILE)
    Path(settings.api_keys).chmod(mode)
    with pytest.raises(SettingsError, match="chmod go-w"):
        read_keys(settings)
    Path(settings.api_keys).chmod(0o644)
    assert read_keys(settings)


# --- The commands ------------------------------------------------------------------------------------------------


def test_a_key_is_made_shown_once_and_its_entry_is_good(tmp_path: Path) -> None:
    made = [
        CliRunner().invoke(commands, ["key", *arguments])
        for arguments in (["alice"], ["bob", "--at-once", "2", "--per-minute", "9"], ["anonymous"])
    ]
    assert [result.exit_code for result in made] == [0, 0, 0]
    keys = keys_of(tmp_path / "keys.toml", "".join(result.stdout for result in made))
    shown = [re.findall(r"pokegen-[\w-]{43}", result.stderr) for result in made]
    assert [len(found) for found in shown] == [1, 1, 0]
    assert keys.entries["alice"].sha256 == digest(shown[0][0])
    assert (keys.entries["bob"].at_once, keys.entries["bob"].per_minute) == (2, 9)
    assert keys.anonymous
    assert not any("pokegen-" in result.stdout for result in made)


@pytest.mark.parametrize(
    "arguments", [["a b"], [""], ["ä"], ["a" * 65], ["a.b"], ["alice", "--at-once", "0"], []]
)
def test_a_name_or_a_limit_that_is_none(arguments: list[str]) -> None:
    result = CliRunner().invoke(commands, ["key", *arguments])
    assert result.exit_code == 2
    assert not result.stdout


def test_check_looks_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POKEGEN_API_KEYS", str(tmp_path / "keys.toml"))
    result = CliRunner().invoke(commands, ["check"])
    assert result.exit_code == 1
    assert "POKEGEN_API_KEYS" in result.stderr
