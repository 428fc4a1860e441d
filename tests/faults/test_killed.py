"""Parts of the service that die: who asked learns it, and the service comes back by itself."""

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

from tests.faults.conftest import Record
from tests.faults.readers import LONGEST, Newcomers, in_flight
from tests.service.stack import Stack, is_alive, running, wait_until


def test_the_worker_is_killed(service: Stack, record: Record) -> None:
    [worker] = service.workers("uwsgi")
    with (
        in_flight(service.url, service.http, LONGEST) as (whole, stream),
        Newcomers(service.url) as newcomers,
    ):
        os.kill(worker, signal.SIGKILL)
        newcomers.until_served()
    assert whole.result().status == 502
    assert whole.result().retry_after
    assert stream.result().cut
    assert newcomers.away < 10
    record("uWSGI's worker is killed (SIGKILL)", f"{whole.result()}; streamed: {stream.result()}", newcomers)


def test_the_engines_thread_is_killed(service: Stack, record: Record, engine_killer: Path) -> None:
    [worker] = service.workers("uwsgi")
    with (
        in_flight(service.url, service.http, LONGEST) as (whole, stream),
        Newcomers(service.url) as newcomers,
    ):
        engine_killer.write_text("now")
        wait_until(lambda: service.workers("uwsgi") not in ([worker], []), within=20, what="another worker")
        newcomers.until_served()
    assert whole.result().status == 500
    assert stream.result().last == "error"
    assert {answer.status for answer in newcomers.later} <= {200, 500, 503, 502}
    assert newcomers.away < 10
    record(
        "the engine's thread ends by an exception",
        f"{whole.result()}; streamed: {stream.result()}",
        newcomers,
    )


def test_the_master_of_uwsgi_is_killed(service: Stack, record: Record) -> None:
    with (
        in_flight(service.url, service.http, LONGEST) as (whole, stream),
        Newcomers(service.url) as newcomers,
    ):
        os.kill(service.pid("uwsgi"), signal.SIGKILL)
        newcomers.until_served()
    assert whole.result().status == 502
    assert stream.result().cut
    assert {answer.retry_after for answer in newcomers.later if answer.status == 502} <= {5}
    assert newcomers.away < 10
    record("uWSGI's master is killed (SIGKILL)", f"{whole.result()}; streamed: {stream.result()}", newcomers)


def test_the_master_of_nginx_is_killed(service: Stack, record: Record, text: str) -> None:
    with in_flight(service.url, service.http) as (whole, stream), Newcomers(service.url) as newcomers:
        os.kill(service.pid("nginx"), signal.SIGKILL)
        newcomers.until_served()
    assert whole.result().text == stream.result().text == text
    assert newcomers.away < 10
    record("nginx's master is killed (SIGKILL)", f"{whole.result()}; streamed: {stream.result()}", newcomers)


def test_the_workers_of_nginx_are_killed(service: Stack, record: Record) -> None:
    workers = service.workers("nginx")
    with (
        in_flight(service.url, service.http, LONGEST) as (whole, stream),
        Newcomers(service.url) as newcomers,
    ):
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        newcomers.until_served()
    assert whole.result().status == 0
    assert stream.result().cut
    assert newcomers.away < 5
    record(
        "nginx's workers are killed (SIGKILL)", f"{whole.result()}; streamed: {stream.result()}", newcomers
    )


def test_nginx_is_reloaded(service: Stack, record: Record, text: str) -> None:
    workers = service.workers("nginx")
    with in_flight(service.url, service.http) as (whole, stream), Newcomers(service.url) as newcomers:
        os.kill(service.pid("nginx"), signal.SIGHUP)
        wait_until(lambda: set(service.workers("nginx")) > set(workers), within=10, what="new workers")
        newcomers.until_served()
    assert whole.result().text == stream.result().text == text
    assert all(answer.whole for answer in newcomers.later)
    record("nginx is reloaded (HUP)", f"{whole.result()}; streamed: {stream.result()}", newcomers)


def test_who_dies_again_and_again_is_started_ever_later(new_stack: Callable[..., Stack]) -> None:
    """And the service can be stopped while it waits for that."""
    stack = new_stack()
    with running(stack):
        kill_master(stack, "nginx", said="and is started anew\n")
        kill_master(stack, "nginx", said="and is started anew in 1 s\n")
        kill_master(stack, "nginx", said="and is started anew in 2 s\n")
        assert stack.stop() == 0


def kill_master(stack: Stack, name: str, said: str) -> None:
    """Kill it as soon as it is there, and wait until the service has said this."""
    wait_until(lambda: is_there(stack, name), within=20, what=f"{name} to be there")
    os.kill(stack.pid(name), signal.SIGKILL)
    wait_until(lambda: said in stack.log.read_text(), within=10, what=said)


def is_there(stack: Stack, name: str) -> bool:
    with contextlib.suppress(FileNotFoundError, ValueError):  # it is about to write its number
        return bool(stack.workers(name)) and is_alive(stack.pid(name))
    return False
