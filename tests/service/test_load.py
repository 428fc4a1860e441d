"""The service with nothing to do, and with far too much."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.stack import ROOT, Stack, descendants, running


@pytest.fixture(scope="module")
def native_stack(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running service that computes with the C++ core."""
    settings = {"POKEGEN_ENGINE": "int8", "POKEGEN_MAX_RUNNING": "4", "POKEGEN_MAX_WAITING": "8"}
    with running(Stack(tmp_path_factory.mktemp("stack") / "log", environment | settings)) as stack:
        yield stack


def test_an_idle_service_uses_no_cpu(native_stack: Stack) -> None:
    assert native_stack.get("/generate?length=20").status_code == 200  # every thread has worked
    time.sleep(1)
    before = processor_seconds(native_stack.process.pid)
    time.sleep(8)
    assert processor_seconds(native_stack.process.pid) - before < 0.005 * 8


def processor_seconds(pid: int) -> float:
    """What a process and its descendants have taken, and those of its children that have ended.

    To the nanosecond for those who live: the clock of /proc/PID/stat ticks every 10 ms.
    """
    ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]
    seconds = sum(map(int, ended)) / os.sysconf("SC_CLK_TCK")
    for each in (pid, *descendants(pid)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            for thread in Path(f"/proc/{each}/task").iterdir():
                seconds += int((thread / "schedstat").read_text().split()[0]) / 1e9
    return seconds


def test_nothing_breaks_under_four_times_the_load_that_can_be_served(native_stack: Stack) -> None:
    options = {
        "--url": native_stack.url,
        "--pid-file": str(native_stack.run / "uwsgi.pid"),
        "--max-running": "4",
        "--max-waiting": "8",
        "--longest": "40",
        "--measure": "2",
        "--minutes": "0.1",
    }
    command = [
        sys.executable,
        "-m",
        "loadtest.soak",
        *(word for option in options.items() for word in option),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    for ending in ("complete", "left", "refused"):
        assert ending in done.stdout
