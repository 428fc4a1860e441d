"""Pages of other sites: what a reader's browser may be made to ask for, to show and to tell.

There is nothing to steal from a reader: no cookie is ever set, and none is looked at. What is left is the machine's
time, the page in somebody else's frame, and a name that is made to lead here (DNS rebinding).
"""

import json
from collections.abc import Iterator

import pytest

from tests.enemies.wire import Answer, ask, head
from tests.service.stack import Stack, running

FAN = b"Origin: https://fan.example"
STRANGER = b"Origin: https://stranger.example"
CROSS_SITE = b"Sec-Fetch-Site: cross-site"
BODY = b'{"length": 1}'
DESTINATIONS = [b"image", b"script", b"iframe", b"embed", b"empty", b"audio"]
KEPT = b"/generate?length=1&seed=7"
TEXTS = [b"/generate?length=1", b"/?sample=Ash", b"/?prefix=Ash&length=1", b"/text-generate", b"/v1/models"]


@pytest.fixture(scope="module")
def listed(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service that names one other site."""
    log = tmp_path_factory.mktemp("listed") / "log"
    with running(Stack(log, environment | {"POKEGEN_CORS_ORIGINS": "https://fan.example"})) as stack:
        yield stack


def get(stack: Stack, target: bytes, *fields: bytes) -> Answer:
    return ask(stack, head(b"GET", target, b"Connection: close", *fields))


def post(stack: Stack, target: bytes, media_type: bytes, *fields: bytes) -> Answer:
    framing = [b"Content-Type: " + media_type, b"Content-Length: %d" % len(BODY), b"Connection: close"]
    return ask(stack, head(b"POST", target, *framing, *fields) + BODY)


@pytest.mark.parametrize("target", TEXTS)
@pytest.mark.parametrize("destination", DESTINATIONS)
def test_another_sites_page_gets_no_text(listed: Stack, target: bytes, destination: bytes) -> None:
    answer = get(listed, target, CROSS_SITE, b"Sec-Fetch-Dest: " + destination)
    assert answer.status == 403
    assert b"POKEGEN_CORS_ORIGINS" in answer.body


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_nor_one_that_nginx_has_kept(listed: Stack, destination: bytes) -> None:
    assert get(listed, KEPT).status == 200
    assert get(listed, KEPT, CROSS_SITE, b"Sec-Fetch-Dest: " + destination).status == 403
    assert get(listed, KEPT, CROSS_SITE, STRANGER, b"Sec-Fetch-Dest: " + destination).status == 403
    assert get(listed, KEPT, CROSS_SITE, FAN, b"Sec-Fetch-Dest: " + destination).status == 200


def test_not_even_by_a_post_that_needs_no_preflight(listed: Stack) -> None:
    """These three types are all that a form, or fetch without a preflight, can send: Fetch standard, 2.2.2."""
    for media_type in (
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=a",
    ):
        for target in (b"/", b"/generate", b"/text-generate", b"/v1/completions"):
            answer = post(listed, target, media_type, CROSS_SITE, STRANGER, b"Sec-Fetch-Dest: empty")
            assert answer.status == 403
            # A browser too old to say so still fails, but at the address that takes JSON of any type.
            answer = post(listed, target, media_type, STRANGER)
            assert answer.status == (200 if target == b"/" else 415)


def test_links_lead_here_from_everywhere(listed: Stack) -> None:
    for target in (b"/generate?length=1&seed=7", b"/"):
        page = get(listed, target, CROSS_SITE, b"Sec-Fetch-Dest: document", b"Accept: text/html")
        assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize("site", [b"same-origin", b"same-site", b"none", b"", b"nonsense"])
def test_whoever_is_not_another_site_may_ask(listed: Stack, site: bytes) -> None:
    assert (
        get(listed, b"/generate?length=1", b"Sec-Fetch-Site: " + site, b"Sec-Fetch-Dest: empty").status == 200
    )


def test_a_listed_site_may_ask_and_read(listed: Stack) -> None:
    answer = get(listed, b"/generate?length=1", CROSS_SITE, FAN, b"Sec-Fetch-Dest: empty")
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "https://fan.example"
    assert post(listed, b"/generate", b"application/json", CROSS_SITE, FAN).status == 200
    assert get(listed, b"/generate?length=1", CROSS_SITE, STRANGER).status == 403


def test_no_cookie_is_set_and_none_is_looked_at(stack: Stack) -> None:
    answers = [
        get(stack, b"/generate?length=1&seed=7", cookie)
        for cookie in (b"X: x", b"Cookie: session=1; key=" + b"a" * 999)
    ]
    for answer in answers:
        assert "Set-Cookie" not in answer.headers
        assert "Access-Control-Allow-Credentials" not in answer.headers
    first, second = (json.loads(answer.body)["text"] for answer in answers)
    assert first == second


@pytest.mark.parametrize(
    "target", [b"/", b"/generate?length=1&seed=7", b"/none", b"/js", b"/apidocs", b"/model"]
)
def test_no_answer_depends_on_the_name_that_led_here(stack: Stack, target: bytes) -> None:
    """So a name that a stranger makes lead here (DNS rebinding) shows what everybody may see, and nothing is cached."""
    told = []
    for host in (b"127.0.0.1", b"evil.example", b"evil.example:1234", b"[::1]"):
        request = b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n"
        answer = ask(stack, request + b"X-Forwarded-Host: evil.example\r\nX-Request-ID: same\r\n\r\n")
        assert b"evil" not in bytes(answer.headers) + answer.body
        told.append((answer.status, answer.headers["Location"], answer.headers["ETag"]))
    assert len(set(told)) == 1
