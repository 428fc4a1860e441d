"""Time that jumps, and time in which nothing happens."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

from tests.faults.conftest import Clock, CollectedStack, Record
from tests.faults.readers import Newcomers, in_flight

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


@contextmanager
def jumped(clock: Clock, seconds: int) -> Iterator[None]:
    """So far from the true time, and back again."""
    clock.jump(seconds)
    try:
        yield
    finally:
        clock.jump(0)


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


def test_the_clock_jumps(service: CollectedStack, clock: Clock, record: Record, text: str) -> None:
    """A day ahead, and a day behind, while texts are written; and back again."""
    for jump in (DAY_SECONDS, -DAY_SECONDS):
        with (
            in_flight(service.url, service.http) as (whole, stream),
            Newcomers(service.url) as newcomers,
            jumped(clock, jump),
        ):
            newcomers.until_served()
            seen = parsedate_to_datetime(
                service.get("/healthz", {"Connection": "close"}).headers["Date"]
            ).timestamp()
            assert abs(seen - time.time() - jump) < 60
        assert whole.result().text == stream.result().text == text
        assert all(answer.whole for answer in newcomers.later)
        assert newcomers.away < 10
        record(f"the clock jumps to {jump:+,} s", f"{whole.result()}", newcomers)
