"""The relay of the log: whole lines where they are taken, a count where they are not."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from server.log_relay import KEPT_BYTES, Relay

LINE = b"x" * 99 + b"\n"


def relayed(written: bytes) -> bytes:
    """What the command makes of it."""
    command = [sys.executable, "-S", "-m", "server.log_relay"]
    return subprocess.run(command, input=written, capture_output=True, check=True, timeout=20).stdout


def test_lines_pass_as_they_are() -> None:
    assert relayed(b"") == b""
    assert relayed(b"one\n\ntwo\n") == b"one\n\ntwo\n"
    assert relayed(LINE * 5000) == LINE * 5000


def test_a_line_without_an_end_gets_one() -> None:
    assert relayed(b"one\ntwo") == b"one\ntwo\n"


def test_what_never_ends_is_cut() -> None:
    last, after, note = relayed(b"x" * 3 * KEPT_BYTES + b"\nthe next\n").splitlines()
    assert set(last) == set(b"x")
    assert len(last) < KEPT_BYTES
    assert after == b"the next"
    assert json.loads(note)["message"].startswith("2 lines")


def test_a_full_disk_stops_nobody() -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-S", "-m", "server.log_relay"]
        subprocess.run(command, input=LINE * 10_000, stdout=full, check=True, timeout=20)


def test_what_nobody_reads_is_counted() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:  # until the pipe is full
            os.write(writer, LINE)
    os.set_blocking(writer, True)
    relay = Relay(writer, limit=len(LINE) * 10)
    for _ in range(1000):
        relay.push(LINE)

    read = b""
    while b"lost" not in read:
        read += os.read(reader, 65536)
        relay.push(LINE)
    assert relay.flush(within=5)
    os.close(writer)
    while data := os.read(reader, 65536):
        read += data
    os.close(reader)
    notes = [json.loads(line) for line in read.splitlines() if line.startswith(b"{")]
    kept = [line for line in read.splitlines(keepends=True) if not line.startswith(b"{")]
    assert set(kept) == {LINE}
    assert notes[0]["logger"] == "server.log_relay"
    lost = int(notes[0]["message"].split()[0])
    assert lost >= 1000 - 2 * 10, "all but those in its hand and those behind them"


def test_a_line_that_was_torn_ends_before_the_next(tmp_path: Path) -> None:
    file = tmp_path / "log"
    # A limit on the size of files stands for a disk with room for one line and a half.
    program = (
        "import os, resource, signal; from server.log_relay import Relay;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); soft = resource.RLIMIT_FSIZE; relay = Relay(1);"
        "resource.setrlimit(soft, (150, -1)); relay.push(b'x' * 99 + b'\\n' + b'y' * 99 + b'\\n'); relay.flush(5);"
        "relay.push(b'lost\\n'); relay.flush(5); relay.push(b'lost, too\\n'); relay.flush(5);"
        "resource.setrlimit(soft, (-1, -1)); relay.push(b'z\\n'); relay.flush(5)"
    )
    with file.open("wb") as log:
        subprocess.run([sys.executable, "-c", program], stdout=log, check=True, timeout=20)
    whole, torn, after, note = file.read_bytes().splitlines()
    assert whole == b"x" * 99
    assert torn == b"y" * 50
    assert after == b"z"
    assert json.loads(note)["message"].startswith("3 lines")


def test_a_sink_that_does_not_wait_loses_nothing() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)  # as a terminal is whose other user wants it so
    relay = Relay(writer)
    relay.push(LINE * 5000)
    read = b""
    while len(read) < 5000 * len(LINE):
        read += os.read(reader, 4096)
    assert read == LINE * 5000
    assert relay.flush(within=5)
    os.close(writer)
    os.close(reader)
