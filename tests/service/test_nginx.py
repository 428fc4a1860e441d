"""What nginx adds: the site, security headers, request ids, logs, and errors as problem documents."""

import json
import re
from urllib.parse import urljoin

import pytest
import requests

from tests.service.stack import Stack, wait_until


def test_the_page_has_a_form_for_the_generator(stack: Stack) -> None:
    page = stack.get("/")
    assert page.status_code == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert '<form action="/generate" method="get">' in page.text


def test_everything_that_the_page_refers_to_is_there(stack: Stack) -> None:
    addresses = re.findall(r'(?:href|src)="([^"]*)"', stack.get("/").text)
    assert addresses
    answers = {address: stack.get(urljoin("/", address)).status_code for address in addresses}
    assert answers == dict.fromkeys(addresses, 200) | {"/model": 404}  # this checkpoint has no card


def test_the_site_is_sent_again_only_when_it_changed(stack: Stack) -> None:
    first = stack.get("/style.css", headers={"Accept-Encoding": "identity"})
    assert first.headers["Cache-Control"] == "no-cache"
    again = stack.get("/style.css", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    assert stack.get("/style.css").headers["Content-Encoding"] == "gzip"


@pytest.mark.parametrize(
    "path", ["/", "/style.css", "/healthz", "/generate?length=1", "/generate?length=x", "/none"]
)
def test_every_answer_has_the_security_headers(stack: Stack, path: str) -> None:
    headers = stack.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "geolocation=()" in headers["Permissions-Policy"]
    assert headers["Server"] == "nginx"  # and not its version


@pytest.mark.parametrize("path", ["/", "/healthz", "/generate?length=0", "/none"])
def test_a_readers_request_id_comes_back_once(stack: Stack, path: str) -> None:
    answer = stack.get(path, headers={"X-Request-ID": "reader-1.a_B"})
    assert answer.headers["X-Request-ID"] == "reader-1.a_B"  # "x, x" were it there twice
    if answer.status_code >= 400:
        assert answer.json()["request_id"] == "reader-1.a_B"


@pytest.mark.parametrize("forged", ["", "two words", "a" * 65, '","status":200,"x":"', "é"])
def test_an_unsafe_request_id_is_replaced(stack: Stack, forged: str) -> None:
    answer = stack.get("/healthz", headers={"X-Request-ID": forged.encode()})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])


def test_the_log_is_json_lines_without_what_the_reader_typed(stack: Stack) -> None:
    stack.get('/generate?length=1&prefix=a"quoted"secret', headers={"X-Request-ID": "logged"})

    def lines() -> list[dict[str, object]]:
        return [json.loads(line) for line in stack.logged() if '"logged"' in line]

    wait_until(lambda: len(lines()) >= 2, within=20, what="a line of nginx and one of the application")
    [nginx] = [line for line in lines() if line["logger"] == "nginx"]
    assert nginx["path"] == "/generate"
    assert nginx["status"] == 200
    assert isinstance(nginx["upstream_seconds"], float)
    assert not [line for line in stack.logged() if line.startswith("{") and "secret" in line]


def assert_problem(answer: requests.Response, status: int) -> None:
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == answer.headers["X-Request-ID"]


def test_an_unknown_address_is_a_problem_document(stack: Stack) -> None:
    assert_problem(stack.get("/none"), 404)


def test_a_directory_is_not_listed(stack: Stack) -> None:
    assert_problem(stack.get("/../nginx.conf"), 404)


def test_the_site_takes_no_posts(stack: Stack) -> None:
    answer = stack.post("/robots.txt")
    assert_problem(answer, 405)
    assert answer.headers["Allow"] == "GET, HEAD"


def test_a_large_body_is_a_problem_document(stack: Stack) -> None:
    answer = stack.post("/generate", data=b" " * 65_537, headers={"Content-Type": "application/json"})
    assert_problem(answer, 413)
    assert "65536 bytes" in answer.json()["detail"]


def test_a_long_address_is_a_problem_document(stack: Stack) -> None:
    assert_problem(stack.get("/generate?prefix=" + "a" * 17_000), 414)


def test_an_address_of_16_kib_reaches_the_application(stack: Stack) -> None:
    answer = stack.get("/generate?prefix=" + "a" * 16_000)
    assert_problem(answer, 422)
    assert answer.json()["errors"][0]["field"] == "prefix"


def test_large_header_fields_are_a_problem_document(stack: Stack) -> None:
    assert_problem(stack.get("/healthz", headers={"X-Large": "a" * 17_000}), 431)


@pytest.mark.parametrize(
    "request_",
    [
        b"garbage\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/3.0\r\nHost: a\r\n\r\n",
        b"POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)
def test_what_is_not_http_is_a_problem_document(stack: Stack, request_: bytes) -> None:
    status, body = stack.raw(request_)
    assert status == 400
    assert json.loads(body)["status"] == 400
