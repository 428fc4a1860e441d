"""Cross-origin requests: who may read answers in a browser is a list, and errors are answers too."""

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from flask_openapi3 import OpenAPI

FAN, STRANGER, LOCAL = "https://fan.example", "https://stranger.example", "http://[::1]:3000"
ALLOWED = "Access-Control-Allow-Origin"


@pytest.fixture
def listed(make_app: Callable[..., OpenAPI]) -> FlaskClient:
    return make_app(cors_origins=f"{FAN},{LOCAL}", length=2).test_client()


@pytest.fixture
def open_to_all(make_app: Callable[..., OpenAPI]) -> FlaskClient:
    return make_app(cors_origins="*", length=2).test_client()


def preflight(client: FlaskClient, path: str, origin: str, method: str = "POST") -> dict[str, str]:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type, x-request-id",
    }
    answer = client.options(path, headers=asked)
    assert answer.status_code == 200
    return {name: value for name, value in answer.headers if name.startswith("Access-Control-")}


@pytest.mark.parametrize("path", ["/generate", "/generate?length=0", "/model", "/nowhere"])
def test_a_listed_origin_may_read_answers_and_errors(listed: FlaskClient, path: str) -> None:
    for origin in (FAN, LOCAL):
        answer = listed.get(path, headers={"Origin": origin})
        assert answer.headers[ALLOWED] == origin
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(
    "origin", [STRANGER, f"{FAN}.evil.example", f"{FAN}:8443", "http://fan.example", "null", "*", ""]
)
def test_no_other_origin_may(listed: FlaskClient, origin: str) -> None:
    for path in ("/generate", "/generate?length=0"):
        assert ALLOWED not in listed.get(path, headers={"Origin": origin}).headers
    assert not preflight(listed, "/generate", origin)


def test_a_preflight_says_what_may_be_sent(listed: FlaskClient) -> None:
    assert preflight(listed, "/generate", FAN) == {
        ALLOWED: FAN,
        "Access-Control-Allow-Headers": "content-type, x-request-id",
        "Access-Control-Allow-Methods": "GET, HEAD, POST",
        "Access-Control-Expose-Headers": "Retry-After, X-Request-ID",
        "Access-Control-Max-Age": "7200",
    }
    assert "Access-Control-Allow-Methods" not in preflight(listed, "/generate", FAN, method="DELETE")


@pytest.mark.parametrize("origin", [FAN, STRANGER, None])
def test_caches_are_told_that_a_list_answers_each_origin_differently(
    listed: FlaskClient, origin: str | None
) -> None:
    answer = listed.get("/healthz", headers={"Origin": origin} if origin else {})
    assert answer.headers.getlist("Vary") == ["Origin"]


def test_open_to_all_is_the_same_answer_for_everybody(open_to_all: FlaskClient) -> None:
    for headers in ({"Origin": STRANGER}, {"Origin": "null"}, {}):
        for path in ("/healthz", "/generate?length=0"):
            answer = open_to_all.get(path, headers=headers)
            assert answer.headers[ALLOWED] == "*"
            assert "Origin" not in answer.headers.get("Vary", "")
    assert preflight(open_to_all, "/generate", STRANGER)[ALLOWED] == "*"


def test_by_default_no_other_site_may(client: FlaskClient) -> None:
    answer = client.get("/healthz", headers={"Origin": FAN})
    assert ALLOWED not in answer.headers
    assert "Vary" not in answer.headers
    assert not preflight(client, "/generate", FAN)
