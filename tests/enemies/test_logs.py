"""Log injection: no line is forged, and no terminal that shows the log obeys what a reader sent."""

import contextlib
import json
import re
import socket

import pytest

from tests.enemies.wire import exchange, head
from tests.service.stack import Stack, wait_until

FORGED = b'{"time":"now","logger":"nginx","request_id":"forged","status":200}'
# Line breaks as themselves and encoded; the terminal's escape in 7 bits, in 8 bits, in UTF-8; and a delete.
HOSTILE = [
    b"\n" + FORGED,
    b"\r\n" + FORGED,
    b"\x1b[2J\x1b]0;owned\x07",
    b"\x9b2J",
    b"\xc2\x9b2J",
    b"\x7f\x08\x08",
]
ENCODED = [b"%0a" + FORGED, b"%0d%0a" + FORGED, b"%1b[2J%07", b"%9b2J", b"%c2%9b2J", b"%7f%08"]
CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]|[\x00-\x7f\xc2][\x80-\x9f]")

FIELDS = [
    b"User-Agent",
    b"Referer",
    b"X-Request-ID",
    b"X-Forwarded-For",
    b"Authorization",
    b"X-API-Key",
    b"Origin",
    b"Accept",
    b"Content-Type",
    b"If-None-Match",
    b"Cookie",
    b"Host",
]
# Where the application answers, where a file is, where nothing is, and where nginx itself writes to its error log:
# a folder that it does not list, and a body that is too large.
PLACES = [
    (b"GET", b"/healthz", b""),
    (b"GET", b"/robots.txt", b""),
    (b"GET", b"/none", b""),
    (b"GET", b"/js/", b""),
    (b"POST", b"/generate", b"Content-Length: 99999999\r\n"),
    (b"POST", b"/v1/completions", b"Content-Length: 2\r\n\r\n{}"),
]


def send(stack: Stack, request: bytes) -> None:
    """Send it, and leave as soon as an answer has begun."""
    with socket.create_connection(("127.0.0.1", stack.port), timeout=20) as connection:
        connection.sendall(request)
        with contextlib.suppress(ConnectionResetError):
            connection.recv(65536)


def test_nothing_that_is_sent_forges_a_line_or_reaches_a_terminal(stack: Stack) -> None:
    before = stack.log.read_bytes().rindex(b"\n") + 1
    for hostile in HOSTILE:
        for method, place, rest in PLACES:
            for field in FIELDS:
                sent = b"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s: a%s\r\n%s\r\n"
                send(stack, sent % (method, place, field, hostile, rest))
        send(stack, head(b"GET" + hostile, b"/healthz", b"Connection: close"))
    for hostile in HOSTILE + ENCODED:
        for place in (b"/healthz", b"/none", b"/js/", b"/v1/", b"/v1/models/", b"/generate?length=1&prefix="):
            send(stack, head(b"GET", place + hostile, b"Connection: close"))
        too_large = b"Content-Length: 99999999"
        send(stack, head(b"POST", b"/generate?" + hostile, b"Connection: close", too_large))
    send(stack, head(b"GET", b"/healthz", b"X-Request-ID: the-last", b"Connection: close"))
    wait_until(  # whole ones
        lambda: len(re.findall(rb'"the-last".*\n', stack.log.read_bytes())) == 2,
        within=20,
        what="the last lines of the log",
    )

    written = stack.log.read_bytes()[before:].rpartition(b"\n")[0]
    assert CONTROL.findall(written) == []
    lines = written.decode("utf-8", "surrogateescape").splitlines()
    for line in lines:
        if line.startswith("{"):
            record = json.loads(line)
            assert record["logger"] in ("nginx", "server.access")
            assert record.get("request_id") != "forged"
        else:  # nginx's error log
            assert re.match(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(warn|error|info)\] ", line), line
    assert "client intended to send too large body" in written.decode("utf-8", "replace")


@pytest.mark.parametrize("referer", [b"\x1b[2J", b"\xc2\x9b2J", b"http://a/\x07"])
def test_a_referer_that_no_browser_sends_is_refused(stack: Stack, referer: bytes) -> None:
    request = head(b"GET", b"/healthz", b"Referer: " + referer, b"Connection: close")
    answer = exchange(stack.port, request)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"check its first line and version, its Host, Referer" in answer
