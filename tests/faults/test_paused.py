"""Time that jumps, and time in which nothing happens."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path

from tests.faults.conftest import CollectedStack, Record
from tests.faults.readers import LONG, Newcomers, ask, in_flight
from tests.service.stack import Stack, running

STOPPED_SECONDS = 3
DAY_SECONDS = 86_400


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process stands still, as on a machine that is suspended or whose disk hangs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_the_worker_stands_still(service: CollectedStack, record: Record, text: str) -> None:
    [worker] = service.workers("uwsgi")
    with in_flight(service.url, service.http) as (whole, stream), Newcomers(service.url) as newcomers:
        with stopped(worker):
            time.sleep(STOPPED_SECONDS)
        newcomers.until_served()
    assert whole.result().text == stream.result().text == text
    assert all(answer.whole for answer in newcomers.later)
    assert newcomers.away < STOPPED_SECONDS + 5
    record(
        f"uWSGI's worker stands still for {STOPPED_SECONDS} s (SIGSTOP)",
        f"{whole.result()}, later",
        newcomers,
    )


class Clock:
    """The time of day as processes see it that have this environment."""

    def __init__(self, directory: Path) -> None:
        library, self._offset = directory / "clock.so", directory / "offset"
        source = Path(__file__).with_name("clock.cpp")
        subprocess.run(
            ["g++", "-shared", "-fPIC", "-Wall", "-Wextra", source, "-o", library, "-ldl"], check=True
        )
        self._offset.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(self._offset)}

    def jump(self, seconds: int) -> None:
        """To so many seconds from the true time, for all of them at once."""
        with self._offset.open("r+b") as offset:
            offset.write(seconds.to_bytes(8, sys.byteorder, signed=True))


def test_the_clock_jumps(new_stack: Callable[..., Stack], record: Record, tmp_path: Path) -> None:
    """A day ahead and a day back, while texts are written."""
    clock = Clock(tmp_path)
    with running(new_stack(**clock.environment)) as stack:
        text = ask(stack.url, LONG).text
        for jump in (DAY_SECONDS, -DAY_SECONDS):
            with in_flight(stack.url, stack.http) as (whole, stream), Newcomers(stack.url) as newcomers:
                clock.jump(jump)
                newcomers.until_served()
                seen = parsedate_to_datetime(stack.get("/healthz").headers["Date"]).timestamp()
                assert abs(seen - time.time() - jump) < 60
            assert whole.result().text == stream.result().text == text
            assert all(answer.whole for answer in newcomers.later)
            assert newcomers.away < 10
            record(f"the clock jumps by {jump:+,} s", f"{whole.result()}", newcomers)
