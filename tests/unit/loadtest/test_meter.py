"""The meter, on real processes."""

import csv
import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from loadtest.box import PROFILES, Box
from loadtest.meter import COLUMNS, Meter, Row, measure

# Keeps 64 MiB and, for the seconds it is told, a processor.
WORK = """
import sys, threading, time
kept = bytearray(b"x") * (64 * 2**20)
until = time.monotonic() + float(sys.argv[1])
print(flush=True)
while time.monotonic() < until:
    pass
sys.stdin.read()
"""


@pytest.fixture
def idle() -> Iterator["subprocess.Popen[bytes]"]:
    yield from working(0)


@pytest.fixture
def busy() -> Iterator["subprocess.Popen[bytes]"]:
    yield from working(60)


def working(seconds: float) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-c", WORK, str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def meter_of(process: "subprocess.Popen[bytes]", port: int = 1, plain_port: int | None = None) -> Meter:
    box = Box("none", PROFILES["t2.medium"], process)
    return Meter(box, psutil.Process(), port, plain_port)


def test_memory_and_threads(idle: "subprocess.Popen[bytes]") -> None:
    row = meter_of(idle).row()
    for column in ("rss_mb", "pss_mb"):
        assert 64 < (row[column] or 0) < 128, column
    assert row["threads"] == 1


def test_a_busy_box_takes_a_processor(
    busy: "subprocess.Popen[bytes]", idle: "subprocess.Popen[bytes]"
) -> None:
    meters = [meter_of(process) for process in (busy, idle)]
    for meter in meters:
        assert meter.row()["cpu_share"] is None  # not known yet
    time.sleep(1)
    shares = [meter.row()["cpu_share"] or 0 for meter in meters]
    assert 0.1 < shares[0] < 1.2  # others want the processors too
    assert shares[1] < 0.05


def test_its_own_cost_is_the_generators(idle: "subprocess.Popen[bytes]") -> None:
    meter = meter_of(idle)
    meter.row()
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    assert (meter.row()["generator_cpu_share"] or 0) > 0.05


def test_connections_are_those_of_the_port(idle: "subprocess.Popen[bytes]") -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        meter = meter_of(idle, server.getsockname()[1])
        assert meter.row()["connections"] == 0
        with (
            socket.create_connection(server.getsockname(), source_address=("127.1.0.1", 0)),
            socket.create_connection(server.getsockname()),
            socket.create_connection(other.getsockname()),
        ):
            assert meter.row()["connections"] == 2


def test_an_engine_that_does_not_answer_leaves_its_cells_empty(idle: "subprocess.Popen[bytes]") -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # nobody accepts
        row = meter_of(idle, 1, server.getsockname()[1]).row()
    assert "running" not in row
    assert row["rss_mb"]


def test_a_box_that_has_ended_is_empty(idle: "subprocess.Popen[bytes]") -> None:
    meter = meter_of(idle)
    meter.row()
    idle.kill()
    idle.wait()
    row = meter.row()
    assert (row["rss_mb"], row["threads"]) == (0, 0)


def test_a_row_a_second(idle: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    counts, seen = itertools.count(), list[Row]()
    began = time.monotonic() - 100
    readers = iter([None, 7, 7])
    measure(
        meter_of(idle),
        tmp_path / "box.csv",
        began,
        lambda: next(readers),
        lambda: next(counts) < 3,
        seen.append,
    )
    with (tmp_path / "box.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["readers"] for row in rows] == ["", "7", "7"]
    times = [float(row["at"]) for row in rows]
    assert times[0] == pytest.approx(100, abs=3)
    assert [round(later - earlier, 1) % 1 for earlier, later in itertools.pairwise(times)] == [0, 0]
    assert len(seen) == 3
    assert rows[0]["cgroup_mb"] == ""  # no box
    assert rows[0]["pss_mb"]
    assert not rows[1]["pss_mb"]
