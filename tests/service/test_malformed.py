"""Malformed requests through the real nginx and uWSGI: each is refused by a problem document that says why.

And behind each of them the service answers the next good request, with the same text as ever. Every request is
written byte by byte, because a client library would mend or refuse most of them.
"""

import contextlib
import json
import re
import socket
from http.client import HTTPException, HTTPResponse
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.service.stack import Stack

JSON = b'{"prefix": "Ash", "length": 1}'
GOOD = b"GET /generate?prefix=Ash&length=1&seed=7 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Case(NamedTuple):
    """A request and the refusal it must get.

    name: what is wrong. status: through nginx. field: the field that the document names, if any. says: a pattern
    in its detail. direct: the status on uWSGI's plain-HTTP port; 0 where uWSGI closes the connection, or takes
    the request for a good one, before the application has a say.
    """

    name: str
    request: bytes
    status: int
    field: str | None = None
    says: str = ""
    direct: int = 0


def head(method: bytes, target: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join(
        [method + b" " + target + b" HTTP/1.1", b"Host: x", b"Connection: close", *fields, b"", b""]
    )


def query(name: str, raw: bytes, status: int, field: str | None = None, says: str = "") -> Case:
    """GET /generate?raw, which nginx passes on."""
    return Case(f"query: {name}", head(b"GET", b"/generate?" + raw), status, field, says, direct=status)


def body(name: str, raw: bytes, status: int, field: str | None = None, says: str = "") -> Case:
    """A well-framed JSON POST, which nginx passes on."""
    fields = [b"Content-Type: application/json", b"Content-Length: %d" % len(raw)]
    request = head(b"POST", b"/generate", *fields) + raw
    return Case(f"body: {name}", request, status, field, says, direct=status)


def framing(name: str, *fields: bytes, raw: bytes = JSON, status: int = 400, direct: int = 0) -> Case:
    """A POST whose length is told wrongly."""
    request = head(b"POST", b"/generate", b"Content-Type: application/json", *fields) + raw
    return Case(f"framing: {name}", request, status, direct=direct)


def target(name: str, path: bytes, status: int, direct: int, method: bytes = b"GET") -> Case:
    return Case(f"target: {name}", head(method, path), status, direct=direct)


def line(name: str, request: bytes, status: int = 400, direct: int = 0) -> Case:
    """Bytes that are hardly HTTP."""
    return Case(f"line: {name}", request, status, direct=direct)


def chunked(raw: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(raw), raw)


CASES = [
    # The fields
    query("length 0", b"length=0", 422, "length", "greater than or equal to 1"),
    query("length past its limit", b"length=65537", 422, "length", "less than or equal to 65536"),
    query("length not a number", b"length=five", 422, "length", "valid integer"),
    query("length a fraction", b"length=1.5", 422, "length", "valid integer"),
    query("length empty", b"length=", 422, "length", "valid integer"),
    query("length of 5,000 digits", b"length=" + b"9" * 5000, 422, "length"),
    query("temperature below 0", b"temperature=-0.1", 422, "temperature", "greater than or equal to 0"),
    query("temperature above 10", b"temperature=10.1", 422, "temperature", "less than or equal to 10"),
    query("temperature nan", b"temperature=nan", 422, "temperature", "finite"),
    query("temperature inf", b"temperature=inf", 422, "temperature", "finite"),
    query("temperature 1e999", b"temperature=1e999", 422, "temperature", "finite"),
    query("top_k below 0", b"top_k=-1", 422, "top_k", "greater than or equal to 0"),
    query("top_k huge", b"top_k=99999999999", 422, "top_k", "less than or equal to 1000000"),
    query("top_p below 0", b"top_p=-0.5", 422, "top_p", "greater than or equal to 0"),
    query("top_p above 1", b"top_p=1.01", 422, "top_p", "less than or equal to 1"),
    query("nsamples 0", b"nsamples=0", 422, "nsamples", "greater than or equal to 1"),
    query("nsamples past the limit", b"nsamples=9", 422, "nsamples", "at most 8"),
    query("seed below 0", b"seed=-1", 422, "seed", "greater than or equal to 0"),
    query("seed past 32 bits", b"seed=4294967296", 422, "seed", "less than or equal to 4294967295"),
    query("truncate empty", b"truncate=", 422, "truncate", "at least 1 character"),
    query("include_prefix neither", b"include_prefix=perhaps", 422, "include_prefix", "valid boolean"),
    query("unknown field", b"lenght=5", 422, "lenght", r"Did you mean length\?"),
    query("2,000 unknown fields", b"&".join(b"a%d=" % i for i in range(2000)), 422, "a0", "1990 more"),
    query("field twice", b"prefix=a&prefix=b", 400, "prefix", "2 times"),
    query("NUL", b"prefix=a%00b", 400, "prefix", "NUL"),
    query("NUL in a name", b"pre%00fix=a", 400, "pre\0fix", "NUL"),
    query("Latin-1, encoded", b"prefix=Pok%E9mon", 400, None, "not UTF-8"),
    query("Latin-1, raw", b"prefix=Pok\xe9mon", 400, None, "not UTF-8"),
    query("half a surrogate pair", b"prefix=%ED%A0%80", 400, None, "not UTF-8"),
    query("half a character", b"prefix=%F0%9F", 400, None, "not UTF-8"),
    query(
        "prefix too long", b"prefix=" + b"!1" * 5000, 422, "prefix", r"\d+ tokens long and may be \d+ at most"
    ),
    # The body
    body("empty", b"", 400, None, "not JSON"),
    body("not JSON", b"prefix=Ash", 400, None, "not JSON"),
    body("cut off", JSON[:-1], 400, None, "not JSON"),
    body("something behind it", JSON + b"x", 400, None, "not JSON"),
    body("trailing comma", b'{"length": 1,}', 400, None, "not JSON"),
    body("single quotes", b"{'length': 1}", 400, None, "not JSON"),
    body("NaN", b'{"temperature": NaN}', 400, None, "NaN is not a JSON number"),
    body("Infinity", b'{"temperature": -Infinity}', 400, None, "Infinity is not a JSON number"),
    body("5,000 digits", b'{"length": ' + b"9" * 5000 + b"}", 400, None, "5000 digits"),
    body("1e999", b'{"temperature": 1e999}', 422, "temperature", "finite"),
    body("raw line break in a string", b'{"prefix": "a\nb"}', 400, None, "not JSON"),
    body("byte order mark", b"\xef\xbb\xbf" + JSON, 400, None, "not JSON"),
    body("UTF-16", JSON.decode().encode("utf-16"), 400, None, "not UTF-8"),
    body("bad UTF-8", b'{"prefix": "\xff"}', 400, None, "not UTF-8 at byte 12"),
    body("NUL escaped", rb'{"prefix": "a\u0000"}', 400, "prefix", "NUL"),
    body("half a surrogate pair", rb'{"prefix": "\ud83d"}', 400, "prefix", "surrogate"),
    body("key twice", b'{"seed": 1, "seed": 2}', 400, None, "'seed' is given more than once"),
    body("array", b"[" + JSON + b"]", 400, None, "must be a JSON object"),
    body("string", b'"prefix"', 400, None, "must be a JSON object"),
    body("null", b"null", 400, None, "must be a JSON object"),
    body(
        "nested 20,000 deep", b'{"prefix": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", 400, None, "too deeply"
    ),
    body("nested 990 deep", b'{"prefix": ' + b"[" * 990 + b"]" * 990 + b"}", 400, None, "too deeply"),
    body("prefix a number", b'{"prefix": 7}', 422, "prefix", "valid string"),
    body("prefix null", b'{"prefix": null}', 422, "prefix", "valid string"),
    body("length in quotes", b'{"length": "1"}', 422, "length", "valid integer"),
    body("length a truth value", b'{"length": true}', 422, "length", "valid integer"),
    body("unknown field", b'{"colour": "red"}', 422, "colour", "no such field"),
    body("prefix of 60,000 characters", b'{"prefix": "%s"}' % (b"!1" * 30_000), 422, "prefix", "tokens long"),
    Case(
        "body: fields in the query of a POST",
        head(b"POST", b"/generate?length=1", b"Content-Type: application/json", b"Content-Length: 2") + b"{}",
        400,
        says="not in the query string",
        direct=400,
    ),
    # The media type
    *(
        Case(
            f"type: {name}",
            head(b"POST", b"/generate", *fields, b"Content-Length: 30") + JSON,
            415,
            direct=415,
        )
        for name, fields in {
            "none": [],
            "a form": [b"Content-Type: application/x-www-form-urlencoded"],
            "text": [b"Content-Type: text/plain"],
            "nonsense": [b"Content-Type: ;;;="],
        }.items()
    ),
    # How long the body is. What uWSGI's own port makes of a wrong length is an empty body.
    framing("no Content-Length", raw=b"", direct=400),
    framing("Content-Length a word", b"Content-Length: many", direct=400),
    framing("Content-Length below 0", b"Content-Length: -1", direct=400),
    framing("Content-Length with a sign", b"Content-Length: +30", direct=400),
    framing("Content-Length twice", b"Content-Length: 30", b"Content-Length: 3", direct=400),
    framing("Content-Length a list", b"Content-Length: 30, 30", direct=400),
    framing("Content-Length of 20 digits", b"Content-Length: 99999999999999999999", direct=413),
    framing("Content-Length too short", b"Content-Length: 10", direct=400),
    framing("too large", b"Content-Length: 65537", raw=b" " * 65537, status=413, direct=413),
    framing("said to be 2 GB", b"Content-Length: 2147483648", raw=b"", status=413, direct=413),
    framing("chunked and too large", b"Transfer-Encoding: chunked", raw=chunked(b" " * 65537), status=413),
    framing("chunk of no size", b"Transfer-Encoding: chunked", raw=b"zz\r\n", direct=411),
    framing("chunk of 2^80", b"Transfer-Encoding: chunked", raw=b"1" + b"0" * 20 + b"\r\n", direct=411),
    framing(
        "chunked and a Content-Length",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 3",
        raw=chunked(JSON),
        direct=411,
    ),
    framing(
        "chunked twice", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", raw=chunked(JSON)
    ),
    framing("gzip transfer", b"Transfer-Encoding: gzip", raw=chunked(JSON), direct=411),
    framing("xchunked transfer", b"Transfer-Encoding: xchunked", raw=chunked(JSON), direct=411),
    framing("space before the colon", b"Transfer-Encoding : chunked", raw=chunked(JSON), direct=400),
    # The method and the path
    target("DELETE", b"/generate", 405, 405, b"DELETE"),
    target("PUT", b"/generate", 405, 405, b"PUT"),
    target("TRACE", b"/generate", 405, 405, b"TRACE"),
    target("a method of its own", b"/generate", 405, 405, b"BREW"),
    target("POST to the site", b"/robots.txt", 405, 404, b"POST"),
    target("PUT at the root", b"/", 405, 405, b"PUT"),
    target("POST to health", b"/healthz", 405, 405, b"POST"),
    target("method in small letters", b"/generate", 400, 405, b"delete"),
    target("CONNECT", b"x:80", 400, 404, b"CONNECT"),
    target("nowhere", b"/nowhere", 404, 404),
    target("behind /generate", b"/generate/", 404, 404),
    target("capitals", b"/GENERATE", 404, 404),
    target("nginx's internal page", b"/problem", 404, 404),
    target("out of the site", b"/../../etc/passwd", 400, 404),
    target("out of the site, encoded", b"/%2e%2e/%2e%2e/etc/passwd", 400, 404),
    target("out of the site, slashes encoded", b"/..%2f..%2fetc%2fpasswd", 400, 404),
    target("backslashes", b"/..\\..\\etc\\passwd", 404, 404),
    target("encoded slash", b"/generate%2fx", 404, 404),
    target("encoded NUL", b"/generate%00", 400, 404),
    target("half an escape", b"/nowhere%z", 400, 404),
    target("not UTF-8", b"/%ff%fe", 404, 404),
    target("an asterisk", b"*", 400, 404, b"OPTIONS"),
    target("a file name of 4,000 letters", b"/" + b"a" * 4000, 404, 404),
    target("16 KiB", b"/generate?prefix=" + b"a" * 16384, 414, 422),
    target("64 KiB", b"/generate?prefix=" + b"a" * 65536, 414, 0),
    # The rest of the head
    Case(
        "head: a field of 16 KiB", head(b"GET", b"/generate?length=0", b"X: " + b"a" * 16384), 431, direct=422
    ),
    Case(
        "head: 3,000 fields",
        head(b"GET", b"/generate?length=0", *(b"X-%d: aaaaaaaaaa" % i for i in range(3000))),
        431,
    ),
    Case(
        "head: 400 small fields",
        head(b"GET", b"/generate?length=0", *(b"X-%d: a" % i for i in range(400))),
        422,
        "length",
    ),
    Case("head: a line without a colon", head(b"GET", b"/generate?length=0", b"no colon"), 400),
    Case("head: a field without a name", head(b"GET", b"/generate?length=0", b": hello"), 400),
    Case("head: NUL in a field", head(b"GET", b"/generate?length=0", b"X: a\0b"), 400, direct=422),
    Case("head: a folded field", head(b"GET", b"/generate?length=0", b"X: a", b" b"), 400, direct=422),
    line("no Host", b"GET /generate?length=0 HTTP/1.1\r\nConnection: close\r\n\r\n", direct=422),
    line("two Hosts", head(b"GET", b"/generate?length=0", b"Host: y"), direct=422),
    line("no sensible Host", b"GET /generate?length=0 HTTP/1.1\r\nHost: a/b@c\r\n\r\n", direct=422),
    line("not HTTP at all", b"hello\r\n\r\n"),
    line("binary", bytes(range(128, 256)) + b"\r\n\r\n"),
    line("TLS", bytes.fromhex("16030100c8010000c40303") + b"\0" * 60),
    line("HTTP/2 by prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    line("HTTP/3.0", b"GET /generate?length=0 HTTP/3.0\r\nHost: x\r\n\r\n"),
    line("no such version", b"GET /generate?length=0 HTTP/x\r\nHost: x\r\n\r\n"),
    line("no such protocol", b"GET /generate?length=0 HTTQ/1.1\r\nHost: x\r\n\r\n"),
    line("a space in the target", b"GET /generate?length=0&prefix=a b HTTP/1.1\r\nHost: x\r\n\r\n"),
    line(
        "a control character in the target", b"GET /generate?length=0&prefix=\x01 HTTP/1.1\r\nHost: x\r\n\r\n"
    ),
    line("NUL in the target", b"GET /no\0where HTTP/1.1\r\nHost: x\r\n\r\n", direct=404),
]


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def send(address: str, request: bytes, hang_up: bool = False) -> Answer:
    """The answer to these very bytes, behind which nothing comes where the client hangs up."""
    url = urlsplit(address)
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=20) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it was read
            connection.sendall(request)
        if hang_up:
            connection.shutdown(socket.SHUT_WR)
        response = HTTPResponse(connection)
        response.begin()
        headers: dict[str, str] = {}
        for name, value in response.getheaders():
            assert name.lower() not in headers, f"{name} is there twice"
            headers[name.lower()] = value
        return Answer(response.status, headers, response.read())


def is_refused(address: str, case: Case, status: int) -> None:
    answer = send(address, case.request)
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json", answer
    document = json.loads(answer.body)
    assert set(document) == {"type", "title", "status", "detail", "errors", "request_id"}
    assert answer.status == document["status"] == status, document
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document["title"]
    assert len(document["detail"]) > 20
    assert len(answer.body) < 8192
    if status == case.status:
        assert re.search(case.says, document["detail"]), document["detail"]
        named = [error["field"] for error in document["errors"]]
        assert named[:1] == ([case.field] if case.field else [])
    if status == 405:
        assert "GET" in answer.headers["allow"]


@pytest.fixture(scope="module")
def good_text(stack: Stack) -> str:
    text: str = json.loads(send(stack.url, GOOD).body)["text"]
    return text


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_through_nginx(stack: Stack, good_text: str, case: Case) -> None:
    assert 400 <= case.status < 500
    is_refused(stack.url, case, case.status)
    after = send(stack.url, GOOD)
    assert (after.status, json.loads(after.body)["text"]) == (200, good_text)


DIRECT = [case for case in CASES if case.direct]


@pytest.mark.parametrize("case", DIRECT, ids=[case.name for case in DIRECT])
def test_on_the_plain_http_port(stack: Stack, good_text: str, case: Case) -> None:
    assert 400 <= case.direct < 500
    is_refused(stack.http, case, case.direct)
    after = send(stack.http, GOOD)
    assert (after.status, json.loads(after.body)["text"]) == (200, good_text)


UNANSWERED = [case for case in CASES if not case.direct]


@pytest.mark.parametrize("case", UNANSWERED, ids=[case.name for case in UNANSWERED])
def test_the_plain_http_port_survives_what_never_reaches_the_application(
    stack: Stack, good_text: str, case: Case
) -> None:
    # uWSGI closes the connection, or answers in the request's own idea of HTTP.
    with contextlib.suppress(OSError, HTTPException):
        assert send(stack.http, case.request, hang_up=True).status < 500
    after = send(stack.http, GOOD)
    assert (after.status, json.loads(after.body)["text"]) == (200, good_text)


def test_there_are_more_than_fifty_kinds() -> None:
    assert len({case.request for case in CASES}) == len({case.name for case in CASES}) == len(CASES) > 50


def test_a_chunked_body_is_a_good_one_through_nginx(stack: Stack) -> None:
    fields = [b"Content-Type: application/json", b"Transfer-Encoding: chunked"]
    answer = send(stack.url, head(b"POST", b"/generate", *fields) + chunked(JSON))
    assert answer.status == 200
    assert json.loads(answer.body)["prefix"] == "Ash"


def test_a_body_that_never_comes_holds_nobody_up(stack: Stack, good_text: str) -> None:
    request = head(b"POST", b"/generate", b"Content-Type: application/json", b"Content-Length: 30")
    for address in (stack.url, stack.http):
        url = urlsplit(address)
        with socket.create_connection((url.hostname or "", url.port or 0), timeout=20) as stalled:
            stalled.sendall(request + JSON[:5])
            after = send(address, GOOD)
        assert (after.status, json.loads(after.body)["text"]) == (200, good_text)


def test_after_all_of_this_it_is_the_same_process_and_no_log_line_is_broken(stack: Stack) -> None:
    assert json.loads(send(stack.url, head(b"GET", b"/readyz")).body) == {"status": "ready"}
    lines = stack.logged()
    records = [json.loads(text) for text in lines if text.startswith("{")]
    assert {"server.access", "nginx"} <= {record["logger"] for record in records}
    assert not [record for record in records if record.get("level") == "ERROR"]
    assert not [text for text in lines if "Respawned" in text or "DAMN" in text]
