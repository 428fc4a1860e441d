"""Request smuggling: no bytes of one request are ever taken for another one.

A probe is sent with a second request behind it on the same connection, and another one on a fresh connection. Whatever
is hidden in the probe carries the name "smuggled": no answer and no line of the log may ever have it.

Between nginx and uWSGI is no HTTP: nginx reads the body whole and writes its length into a packet of the uwsgi
protocol, one packet a connection. So what is tried here is whether nginx disagrees with itself.
"""

import json
from typing import NamedTuple

import pytest

from tests.enemies.wire import Answer, answers, ask, exchange, head
from tests.service.stack import Stack

JSON = b'{"prefix": "Ash", "length": 1}'
HIDDEN = head(b"GET", b"/healthz", b"X-Request-ID: smuggled")
CHUNKED = b"Transfer-Encoding: chunked"
NEXT = head(b"GET", b"/healthz", b"X-Request-ID: next", b"Connection: close")


class Probe(NamedTuple):
    """name; the request; the status of its answer. Behind a refusal with 400 or 413 nginx closes the connection."""

    name: str
    request: bytes
    status: int


def post(name: str, *fields: bytes, body: bytes, status: int = 400) -> Probe:
    request = head(b"POST", b"/generate", b"Content-Type: application/json", *fields) + body
    return Probe(name, request, status)


def chunk(data: bytes, size: bytes = b"", end: bytes = b"\r\n") -> bytes:
    return (size or b"%x" % len(data)) + end + data + end + b"0" + end + end


def length(body: bytes) -> bytes:
    return b"Content-Length: %d" % len(body)


PROBES = [
    # CL.TE, TE.CL: both a length and chunks, one of which the second server would believe
    post("CL.TE", length(b"0\r\n\r\n" + HIDDEN), CHUNKED, body=b"0\r\n\r\n" + HIDDEN),
    post("TE.CL", CHUNKED, b"Content-Length: 4", body=chunk(HIDDEN)),
    post("CL.TE, the length behind", CHUNKED, length(HIDDEN), body=b"0\r\n\r\n" + HIDDEN),
    # TE.TE: chunks that only one of two servers recognises
    post("TE.TE: identity behind", CHUNKED, b"Transfer-Encoding: identity", body=chunk(JSON) + HIDDEN),
    post("TE.TE: twice", CHUNKED, CHUNKED, body=chunk(JSON) + HIDDEN),
    post("TE.TE: a list", b"Transfer-Encoding: chunked, identity", body=chunk(JSON) + HIDDEN),
    post("TE.TE: a list that ends so", b"Transfer-Encoding: identity, chunked", body=chunk(JSON) + HIDDEN),
    post("TE.TE: x-chunked", b"Transfer-Encoding: x-chunked", body=chunk(JSON) + HIDDEN),
    post("TE.TE: quoted", b'Transfer-Encoding: "chunked"', body=chunk(JSON) + HIDDEN),
    post("TE.TE: a tab in front", b"Transfer-Encoding:\tchunked", body=chunk(JSON) + HIDDEN),
    post("TE.TE: a vertical tab", b"Transfer-Encoding: \x0bchunked", body=chunk(JSON) + HIDDEN),
    post("TE.TE: NUL behind", b"Transfer-Encoding: chunked\0", body=chunk(JSON) + HIDDEN),
    post("TE.TE: a space before the colon", b"Transfer-Encoding : chunked", body=chunk(JSON) + HIDDEN),
    post("TE.TE: folded", b"Transfer-Encoding:", b" chunked", body=chunk(JSON) + HIDDEN),
    post("TE.TE: behind a folded field", b"X: a", b" b", CHUNKED, length(JSON), body=JSON),
    post("TE.TE: behind a bare CR", b"X: a\rTransfer-Encoding: chunked", length(JSON), body=JSON),
    post("TE.TE: behind a bare LF", b"X: a\nTransfer-Encoding: chunked", length(JSON), body=JSON),
    post("TE: small and large letters", b"tRANSFER-eNCODING: ChUnKeD", body=chunk(JSON), status=200),
    # Names that CGI-like protocols take for the real ones
    post("CL with an underscore", length(JSON), b"Content_Length: 0", body=JSON, status=200),
    post("TE with an underscore", length(JSON), b"Transfer_Encoding: chunked", body=JSON, status=200),
    # Two lengths, or none that is a number
    post("CL twice, alike", length(JSON), length(JSON), body=JSON),
    post("CL twice", length(JSON + HIDDEN), length(JSON), body=JSON + HIDDEN),
    post("CL a list", b"Content-Length: 30, 30", body=JSON),
    post("CL with a sign", b"Content-Length: +30", body=JSON),
    post("CL hexadecimal", b"Content-Length: 0x1e", body=JSON),
    post("CL with a space inside", b"Content-Length: 3 0", body=JSON),
    post("CL folded", b"Content-Length:", b" 30", body=JSON),
    post("CL of 2^64 + 30", b"Content-Length: 18446744073709551646", body=JSON),
    # Chunks whose size or end is read in more than one way
    post("a chunk's size with 0x", CHUNKED, body=chunk(JSON, b"0x1e") + HIDDEN),
    post("a chunk's size with a sign", CHUNKED, body=chunk(JSON, b"+1e") + HIDDEN),
    post("a chunk's size with a minus", CHUNKED, body=chunk(JSON, b"-1e") + HIDDEN),
    post("a chunk's size of 2^64 + 30", CHUNKED, body=chunk(JSON, b"1000000000000001e") + HIDDEN),
    post("a chunk that is longer than it says", CHUNKED, body=chunk(JSON + HIDDEN, b"1e")),
    post("a chunk with an extension", CHUNKED, body=chunk(JSON, b'1e;a="\x01b"'), status=200),
    post("a chunk with an early end of line", CHUNKED, body=chunk(JSON, b"1e;\n"), status=400),
    post("chunks with bare LF", CHUNKED, body=chunk(JSON, end=b"\n"), status=200),
    post("a chunk's size with zeros in front", CHUNKED, body=chunk(JSON, b"0000001e"), status=200),
    post("trailers", CHUNKED, body=chunk(JSON)[:-2] + b"X-Request-ID: smuggled\r\n\r\n", status=200),
    # Bodies where none is expected: nginx must have read or thrown away all of it
    Probe("a GET with a body", head(b"GET", b"/healthz", length(HIDDEN)) + HIDDEN, 200),
    Probe("a GET with chunks", head(b"GET", b"/healthz", CHUNKED) + chunk(HIDDEN), 200),
    Probe("a file with a body", head(b"GET", b"/robots.txt", length(HIDDEN)) + HIDDEN, 200),
    Probe("nothing with a body", head(b"GET", b"/none", length(HIDDEN)) + HIDDEN, 404),
    Probe("POST to a file", head(b"POST", b"/robots.txt", length(HIDDEN)) + HIDDEN, 405),
    Probe("OPTIONS with a body", head(b"OPTIONS", b"/generate", length(HIDDEN)) + HIDDEN, 200),
    Probe("a redirect with a body", head(b"GET", b"/apidocs", length(HIDDEN)) + HIDDEN, 308),
    Probe("the site's folder with a body", head(b"GET", b"/js", length(HIDDEN)) + HIDDEN, 301),
    post("a body that is too large", length(HIDDEN * 2000), body=HIDDEN * 2000, status=413),
    Probe("a body of a wrong type", head(b"POST", b"/generate", length(HIDDEN)) + HIDDEN, 415),
    # Addresses of other forms
    Probe("absolute form", b"GET http://x/healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    Probe("absolute form, another host", b"GET http://evil.example/healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    Probe("absolute form, a user", b"GET http://a@b@c/healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    Probe("authority form", b"GET x:80 HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN, 400),
    Probe("CONNECT", b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN, 400),
    Probe("asterisk form", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    Probe(
        "a request line within the address", b"GET /healthz HTTP/1.1\nX: x HTTP/1.1\r\nHost: x\r\n\r\n", 200
    ),
    Probe("a line break in the address", b"GET /none%0d%0a%0d%0aGET%20/ HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    Probe("an empty line in front", b"\r\n\r\n" + head(b"GET", b"/healthz"), 200),
    Probe("bare LF throughout", head(b"GET", b"/healthz").replace(b"\r\n", b"\n"), 200),
    Probe("bare CR throughout", head(b"GET", b"/healthz").replace(b"\r\n", b"\r") + HIDDEN, 400),
    Probe("HTTP/1.0 with chunks", b"POST /generate HTTP/1.0\r\n" + CHUNKED + b"\r\n\r\n" + chunk(JSON), 400),
    # What would change the protocol, or make a proxy drop a field
    Probe(
        "upgrade to h2c",
        head(b"GET", b"/healthz", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"),
        200,
    ),
    Probe(
        "upgrade to websocket", head(b"GET", b"/healthz", b"Connection: Upgrade", b"Upgrade: websocket"), 200
    ),
    Probe("hop by hop", head(b"GET", b"/healthz", b"Connection: X-Request-ID, Content-Length"), 200),
    post("Expect", length(JSON), b"Expect: 100-continue", body=JSON, status=200),
    Probe(
        "uWSGI's own variables",
        head(b"GET", b"/healthz", b"UWSGI_FILE: /etc/passwd", b"SCRIPT-NAME: /x"),
        200,
    ),
]


def outcome(stack: Stack, probe: Probe) -> list[Answer]:
    return answers(exchange(stack.port, probe.request + NEXT))


@pytest.mark.parametrize("probe", PROBES, ids=[probe.name for probe in PROBES])
def test_the_next_request_is_unharmed(stack: Stack, probe: Probe) -> None:
    first, *others = outcome(stack, probe)
    assert first.status == probe.status
    if (
        others or first.status < 400
    ):  # the connection goes on: what follows is the next request and nothing else
        [following] = others
        assert (following.status, following.headers["X-Request-ID"]) == (200, "next")
    fresh = ask(stack, NEXT)
    assert (fresh.status, fresh.headers["X-Request-ID"]) == (200, "next")


def test_requests_one_behind_the_other_get_their_answers_in_order(stack: Stack) -> None:
    prefixes = [f"Ash {number}" for number in range(5)]
    bodies = [b'{"prefix": "%s", "length": 1}' % prefix.encode() for prefix in prefixes]
    posts = [post("", *framing, body=body).request for body, framing in framed(bodies)]
    *texts, last = answers(exchange(stack.port, b"".join(posts) + NEXT))
    assert [json.loads(answer.body)["prefix"] for answer in texts] == prefixes
    assert last.headers["X-Request-ID"] == "next"


def framed(bodies: list[bytes]) -> list[tuple[bytes, list[bytes]]]:
    """Each body as it is sent and the field that says so: by turns with a length and in chunks."""
    return [
        (chunk(body), [CHUNKED]) if number % 2 else (body, [length(body)])
        for number, body in enumerate(bodies)
    ]


def test_http_0_9_gets_no_more_than_its_answer(stack: Stack) -> None:
    received = exchange(stack.port, b"GET /healthz\r\n" + NEXT)
    assert received == b'{"status":"alive"}\n'


def test_the_plain_port_answers_one_request_a_connection(stack: Stack) -> None:
    plain = int(stack.http.rpartition(":")[2])
    for first in (head(b"GET", b"/healthz"), head(b"GET", b"/healthz", length(HIDDEN)) + HIDDEN):
        [only] = answers(exchange(plain, first + HIDDEN))
        assert (only.status, only.body) == (200, b'{"status":"alive"}\n')


def test_nothing_was_smuggled(stack: Stack) -> None:
    """No request of that name has arrived, neither at nginx nor at the application."""
    log = stack.log.read_text(errors="replace")
    assert '"next"' in log
    assert "smuggled" not in log
