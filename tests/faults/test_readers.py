"""Readers who are slow, vanish, or never say all that they want."""

import contextlib
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.faults.conftest import Record, settled
from tests.faults.footprint import Footprint, footprint
from tests.faults.readers import Newcomers, connect
from tests.service.stack import Stack, at_rest, running, wait_until

SLOW_READERS = 300
UNFINISHED = 100  # of each kind
BODY_SECONDS = 10  # client_header_timeout and client_body_timeout of nginx/nginx.conf
VANISHED = "127.9.9.9"
HEAD = "Host: 127.0.0.1\r\nConnection: close\r\n\r\n"


@dataclass
class Unfinished:
    """A service to which requests were begun and are not finished.

    before: what it held without them. ended: how many seconds it took until the last of their connections ended, and
    what they were answered.
    """

    stack: Stack
    before: Footprint
    ended: Future[tuple[float, list[bytes]]]


@pytest.fixture(scope="module")
def unfinished(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unfinished]:
    """A service with the C++ core, and those who never say all that they want while the others are tested."""
    heads = [
        b"GET /generate?length=9 HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        b"POST /generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{",
    ]
    log = tmp_path_factory.mktemp("faults") / "log"
    settings = {
        "POKEGEN_ENGINE": "int8",
        "POKEGEN_MAX_WAIT": "60",
    }  # hundreds come at once, and all are served
    with (
        running(Stack(log, environment | settings)) as stack,
        contextlib.ExitStack() as open_,
    ):
        before = settled(stack)
        connections = [open_.enter_context(connect(stack.port)) for _ in range(2 * UNFINISHED)]
        for index, connection in enumerate(connections):
            connection.sendall(heads[index % 2])
        pool = open_.enter_context(ThreadPoolExecutor(1))
        yield Unfinished(stack, before, pool.submit(until_ended, connections))


def until_ended(connections: list[socket.socket]) -> tuple[float, list[bytes]]:
    begun = time.monotonic()
    answers = [read_rest(connection) for connection in connections]
    return time.monotonic() - begun, answers


def test_hundreds_of_readers_are_slow(unfinished: Unfinished, record: Record) -> None:
    """They take a byte a second of texts that are long done."""
    stack = unfinished.stack
    request = f"GET /generate?length=40&stream=true&seed=7 HTTP/1.1\r\n{HEAD}".encode()
    with contextlib.ExitStack() as open_:
        readers = [
            open_.enter_context(connect(stack.port, f"127.1.{index // 250}.{index % 250 + 1}", 2048))
            for index in range(SLOW_READERS)
        ]
        for reader in readers:
            reader.sendall(request)
        with reading_slowly(readers), Newcomers(stack.url) as newcomers:
            newcomers.until_served()
        with reading_slowly(readers):
            wait_until(
                lambda: is_free(unfinished), within=60, what="all texts to be done, and no thread held"
            )
        for reader in readers[:3]:
            assert read_rest(reader).endswith(b"\n\n\r\n0\r\n\r\n")
    assert all(answer.whole for answer in newcomers.later)
    record(f"{SLOW_READERS} readers take a byte a second", "the whole text, as fast as they read", newcomers)


def is_free(unfinished: Unfinished) -> bool:
    """Whether the engine has nothing to do, and uWSGI no more open files than before, so that no thread is held."""
    stack = unfinished.stack
    return at_rest(stack.http) and footprint(stack).files["uwsgi"] == unfinished.before.files["uwsgi"]


def test_a_connection_that_uwsgi_holds_is_counted(unfinished: Unfinished) -> None:
    """Or one that it never closes would not be seen."""
    stack, before = unfinished.stack, unfinished.before.files["uwsgi"]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(stack.run / "uwsgi.sock"))
        wait_until(lambda: footprint(stack).files["uwsgi"] == before + 1, within=20, what="uWSGI to take it")
    wait_until(lambda: is_free(unfinished), within=60, what="uWSGI to close it")


@contextlib.contextmanager
def reading_slowly(readers: list[socket.socket]) -> Iterator[None]:
    gone = threading.Event()
    reading = threading.Thread(target=read_slowly, args=(readers, gone))
    reading.start()
    try:
        yield
    finally:
        gone.set()
        reading.join()


def read_slowly(readers: list[socket.socket], gone: threading.Event) -> None:
    while not gone.wait(1):
        for reader in select.select(readers, [], [], 0)[0]:
            reader.recv(1)


def read_rest(reader: socket.socket) -> bytes:
    """What comes until the other side closes the connection."""
    rest = b""
    with contextlib.suppress(ConnectionResetError):
        while data := reader.recv(65536):
            rest += data
    return rest


@contextlib.contextmanager
def unreachable(address: str) -> Iterator[None]:
    """Nothing reaches the address or comes from it, as if its cable were pulled."""
    rules = [["INPUT", "-s", address], ["INPUT", "-d", address]]
    for rule in rules:
        subprocess.run(["iptables", "-w", "-I", *rule, "-j", "DROP"], check=True, capture_output=True)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run(["iptables", "-w", "-D", *rule, "-j", "DROP"], check=True, capture_output=True)


def test_readers_vanish_without_a_word(unfinished: Unfinished, record: Record) -> None:
    if subprocess.run(["env", "iptables", "-w", "-S", "INPUT"], capture_output=True).returncode:
        pytest.skip(
            "cutting an address off takes root's rights over the network, which a plain container lacks"
        )
    stack = unfinished.stack
    request = f"GET /generate?length=400&nsamples=4&stream=true&seed=7 HTTP/1.1\r\n{HEAD}".encode()
    with contextlib.ExitStack() as open_:
        readers = [open_.enter_context(connect(stack.port, VANISHED)) for _ in range(8)]
        for reader in readers:
            reader.sendall(request)
            assert reader.recv(1024).startswith(b"HTTP/1.1 200")
        with unreachable(VANISHED):
            vanished = time.monotonic()
            with Newcomers(stack.url) as newcomers:
                newcomers.until_served()
            wait_until(lambda: is_free(unfinished), within=60, what="their places and threads to be free")
            freed = time.monotonic() - vanished
    assert all(answer.whole for answer in newcomers.later)
    record(
        "8 readers vanish without closing their connections",
        f"(their texts are written to the end, {freed:.1f} s)",
        newcomers,
    )


def test_requests_that_are_never_finished(unfinished: Unfinished, record: Record) -> None:
    stack = unfinished.stack
    with Newcomers(stack.url) as newcomers:
        newcomers.until_served()
    assert all(answer.whole for answer in newcomers.later)
    held, answers = unfinished.ended.result()
    assert BODY_SECONDS - 1 < held < 3 * BODY_SECONDS
    assert not any(b"200 OK" in answer for answer in answers)
    assert settled(stack) == unfinished.before
    record(
        f"{UNFINISHED} heads and {UNFINISHED} bodies of requests are never finished",
        f"the connection ends after {held:.0f} s",
        newcomers,
    )
