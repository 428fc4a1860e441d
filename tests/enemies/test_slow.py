"""Slowloris: hundreds who send their heads and bodies slowly, or never, while others read as if nobody were there.

RFC 9110 allows a client to be as slow as it likes. nginx waits 10 s for a head as a whole, and 10 s from one piece of
a body to the next; the application hears of a request when all of it is there.
"""

import contextlib
import selectors
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import NamedTuple

import pytest

from tests.enemies.wire import head
from tests.service.stack import Stack, direct_session, running, wait_until

HEADS = BODIES = 300
PLAIN = 64  # on the plain port
TIMEOUT = 10  # client_header_timeout and client_body_timeout in nginx.conf
TYPE = b"Content-Type: application/json"
UNFINISHED_HEAD = head(b"GET", b"/generate")[:-2]
UNFINISHED_BODY = head(b"POST", b"/generate", TYPE, b"Content-Length: 60000") + b'{"prefix": "'


class Slow:
    """Connections that have begun a request, and send another piece of it now and then until they are cut off."""

    def __init__(self, port: int, count: int, begun: bytes, piece: bytes) -> None:
        self._piece = piece
        self.connections = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(count)]
        for connection in self.connections:
            connection.sendall(begun)
        self.began = time.monotonic()
        self.cut: list[float] = []  # seconds after which each was cut off
        self._left = set(self.connections)

    def drip(self) -> None:
        """Send each connection's next piece; take away those that have been closed over there."""
        with selectors.DefaultSelector() as selector:
            for connection in self._left:
                selector.register(connection, selectors.EVENT_READ)
            for key, _ in selector.select(timeout=0):
                with contextlib.suppress(ConnectionError):
                    if key.fileobj.recv(65536):  # type: ignore[union-attr]
                        continue  # a refusal, behind which the end follows
                self._gone(key.fileobj)  # type: ignore[arg-type]
        for connection in list(self._left):
            try:
                connection.sendall(self._piece)
            except ConnectionError:
                self._gone(connection)

    def _gone(self, connection: socket.socket) -> None:
        self._left.discard(connection)
        self.cut.append(time.monotonic() - self.began)

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


@contextlib.contextmanager
def slow(port: int, count: int, begun: bytes, piece: bytes = b"") -> Iterator[Slow]:
    found = Slow(port, count, begun, piece)
    try:
        yield found
    finally:
        found.close()


class Reader:
    """Asks for short texts one after the other, in a thread of its own, and notes how long each takes."""

    def __init__(self, url: str) -> None:
        self.seconds: list[float] = []
        self.statuses: list[int] = []
        self._url = url
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        with direct_session() as session:
            while not self._enough.is_set():
                began = time.monotonic()
                self.statuses.append(session.get(f"{self._url}/generate?length=5", timeout=60).status_code)
                self.seconds.append(time.monotonic() - began)
                self._enough.wait(0.1)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._enough.set()
        self._thread.join()


class Siege(NamedTuple):
    """After how many seconds each slow connection was cut off, and what a reader saw meanwhile."""

    heads: list[float]
    bodies: list[float]
    plain: list[float]
    reader: Reader


@pytest.fixture(scope="module")
def siege(stack: Stack) -> Siege:
    """All who are slow, at once, until the last of them is cut off."""
    plain_port = int(stack.http.rpartition(":")[2])
    with (
        slow(stack.port, HEADS, UNFINISHED_HEAD, piece=b"X: a\r\n") as heads,
        slow(stack.port, BODIES, UNFINISHED_BODY) as bodies,
        slow(plain_port, PLAIN, UNFINISHED_BODY) as plain,
        Reader(stack.url) as reader,
    ):

        def all_are_cut() -> bool:
            for each in (heads, bodies, plain):
                each.drip()
            time.sleep(0.45)
            return (len(heads.cut), len(bodies.cut), len(plain.cut)) == (HEADS, BODIES, PLAIN)

        wait_until(all_are_cut, within=4 * TIMEOUT, what="all of them to be cut off")
    return Siege(heads.cut, bodies.cut, plain.cut, reader)


def test_hundreds_of_slow_heads_and_bodies_hold_nobody_up(siege: Siege) -> None:
    cut, reader = siege.heads + siege.bodies, siege.reader
    assert min(cut) > TIMEOUT / 2
    assert set(reader.statuses) == {200}
    assert len(reader.seconds) > 20
    assert statistics.median(reader.seconds) < 1
    assert max(reader.seconds) < 10
    print(  # with pytest -s, for docs/security.md
        f"\n{HEADS} heads and {BODIES} bodies were cut off after {min(cut):.1f} to {max(cut):.1f} s; meanwhile"
        f" {len(reader.seconds)} texts took {statistics.median(reader.seconds):.3f} s in the median,"
        f" {max(reader.seconds):.3f} s at most"
    )


def test_the_plain_port_gives_its_threads_back(siege: Siege) -> None:
    """It is the operator's: what is slow there holds a thread, but not for ever."""
    assert len(siege.plain) == PLAIN


@pytest.mark.parametrize(
    ("method", "path"), [(b"POST", b"/generate"), (b"OPTIONS", b"/generate"), (b"GET", b"/model")]
)
def test_bodies_that_never_pause_long_enough_shut_nobody_out(
    new_stack: Callable[..., Stack], method: bytes, path: bytes
) -> None:
    """A byte now and then keeps such a connection for hours; so one address has only so many of them at once."""
    unfinished = UNFINISHED_BODY.replace(b"POST /generate", method + b" " + path)
    few = {"POKEGEN_THREADS": "32", "POKEGEN_MAX_RUNNING": "4", "POKEGEN_MAX_WAITING": "4"}
    with (
        running(new_stack(POKEGEN_ADDRESS_AT_ONCE="8", **few)) as stack,
        slow(stack.port, 100, unfinished, piece=b"a") as bodies,
        Reader(stack.url) as reader,
    ):
        for _ in range(8):
            bodies.drip()
            time.sleep(0.25)
        own, others = (post_from(address, stack.port) for address in ("127.0.0.1", "127.0.0.2"))
    assert set(reader.statuses) == {200}
    assert (own.status, others.status) == (503, 200)
    assert own.headers["Retry-After"]


def post_from(address: str, port: int) -> HTTPResponse:
    """The head of the answer to a short text's POST from this address."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60, source_address=(address, 0))
    connection.request("POST", "/generate", b'{"length": 1}', {"Content-Type": "application/json"})
    with contextlib.closing(connection):
        return connection.getresponse()
