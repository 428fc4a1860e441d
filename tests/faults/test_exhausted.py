"""Disk, memory, file descriptors, the log's pipe: what can be used up, is."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from loadtest.box import BoxError, ControlGroup, Profile
from tests.faults.conftest import CollectedStack, Record
from tests.faults.readers import LONGEST, MEDIUM, SHORT, Answer, Newcomers, ask, in_flight
from tests.service.stack import ROOT, Stack, children, running, wait_until

READERS = 40


@contextlib.contextmanager
def few_files(pids: list[int], spare: int) -> Iterator[None]:
    """Let each of these processes open only so many more files than it has."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
    for pid, (_, hard) in before.items():
        has = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (has + spare, hard))
    try:
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def crowd(url: str, path: str) -> list[Answer]:
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(lambda _: ask(url, path), range(READERS)))


def test_file_descriptors_of_uwsgi_run_out(service: CollectedStack, record: Record, text: str) -> None:
    [worker] = service.workers("uwsgi")
    soft, _ = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    threads = len(list(Path(f"/proc/{worker}/task").iterdir()))
    assert soft >= 2 * threads + 100, "a thread holds one, its reader another"
    with in_flight(service.url, service.http) as (whole, stream), few_files([worker], spare=4):
        answers = crowd(service.url, SHORT)
    assert whole.result().text == stream.result().text == text
    assert all(answer.whole for answer in answers)
    slowest = max(answer.heard - answer.asked for answer in answers)
    record(
        f"uWSGI may open 4 files more, {READERS} readers come", "the whole text", "the whole text", slowest
    )


def test_file_descriptors_of_nginx_run_out(service: CollectedStack, record: Record, text: str) -> None:
    with in_flight(service.url, service.http) as (whole, stream):
        with few_files(service.workers("nginx"), spare=4):
            answers = crowd(service.url, SHORT)
        begun = time.monotonic()
        with Newcomers(service.url) as newcomers:
            newcomers.until_served(within=10)
    assert whole.result().text == stream.result().text == text
    refused = [answer for answer in answers if not answer.whole]
    assert refused
    assert all(answer.status in (0, 500) for answer in refused)
    assert all(answer.retry_after for answer in refused if answer.status)
    record(
        f"each of nginx's workers may open 4 files more, {READERS} readers come",
        "the whole text",
        f"{max(refused, key=lambda answer: answer.status)} ({len(refused)} of {READERS})",
        newcomers.later[0].heard - begun,
    )


def named(service: Stack, name: str) -> requests.Response:
    """A request that the log has under this name."""
    return service.get("/healthz", {"X-Request-ID": name, "Connection": "close"})


def test_nobody_reads_the_log(service: CollectedStack, record: Record, text: str) -> None:
    long_path = f"/apidocs/{'a' * 12_000}"  # a line of nginx's and one of the application's
    service.collector.send_signal(signal.SIGSTOP)
    try:
        with in_flight(service.url, service.http) as (whole, stream), Newcomers(service.url) as newcomers:
            # The pipes hold 128 KiB, the relay 1 MiB: with this much, each of them is full.
            for _ in range(100):
                assert ask(service.url, long_path).status == 404
            newcomers.until_served()
    finally:
        service.collector.send_signal(signal.SIGCONT)
    assert whole.result().text == stream.result().text == text
    assert all(answer.whole for answer in newcomers.later)
    assert newcomers.away < 10
    wait_until(
        lambda: "lines of the log were lost" in service.log.read_text(), within=10, what="the log to say it"
    )
    assert named(service, "after-it").status_code == 200
    wait_until(lambda: '"after-it"' in service.log.read_text(), within=10, what="the log to go on")
    record("nobody reads the log's pipe (SIGSTOP)", f"{whole.result()}", newcomers)


def test_the_relay_of_the_log_is_killed(service: CollectedStack, record: Record, text: str) -> None:
    [relay] = [
        pid
        for pid in children(service.process.pid)
        if b"server.log_relay" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    with in_flight(service.url, service.http) as (whole, stream), Newcomers(service.url) as newcomers:
        os.kill(relay, signal.SIGKILL)
        newcomers.until_served()
    assert whole.result().text == stream.result().text == text
    assert all(answer.whole for answer in newcomers.later)
    assert named(service, "by-the-next").status_code == 200
    wait_until(lambda: '"by-the-next"' in service.log.read_text(), within=10, what="the log to go on")
    record("the log's relay is killed (SIGKILL)", f"{whole.result()}", newcomers)


def test_the_disk_is_full(new_stack: Callable[..., Stack], record: Record, text: str) -> None:
    """run/ and the log are on a disk of their own, which is full."""
    namespace = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    if subprocess.run([*namespace, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode:
        pytest.skip(
            "mounting a small disk takes root's rights, which a plain container lacks, or user namespaces"
        )
    stack = new_stack()
    (ROOT / "run").mkdir(exist_ok=True)
    mount = "mount -t tmpfs -o size=1m tmpfs run && exec scripts/run 2>run/log"
    stack.command = [*namespace, "sh", "-c", mount]
    run = stack.run.relative_to(ROOT)
    stack.launch()
    disk = Path(f"/proc/{stack.process.pid}/root{ROOT}/run")  # as the service sees it
    stack.run, stack.log = disk / run.name, disk / "log"
    wait_until((stack.run / "ready").exists, within=60, what="the service")
    with running_already(stack):
        written = ask(stack.url, MEDIUM).text
        with in_flight(stack.url, stack.http) as (whole, stream), Newcomers(stack.url) as newcomers:
            fill(disk / "filling")
            newcomers.until_served(within=120, in_a_row=20)
        assert whole.result().text == stream.result().text == text
        assert all(answer.whole for answer in newcomers.later)
        record("the disk is full", f"{whole.result()}", newcomers)
        with Newcomers(stack.url) as newcomers:
            os.kill(stack.pid("uwsgi"), signal.SIGKILL)
            newcomers.until_served()
        record("uWSGI's master is killed while the disk is full", "-", newcomers)
        (disk / "filling").unlink()
        assert ask(stack.url, MEDIUM).text == written
        wait_until(
            lambda: "lines of the log were lost" in stack.log.read_text(), within=10, what="the log to go on"
        )


@contextlib.contextmanager
def running_already(stack: Stack) -> Iterator[None]:
    try:
        yield
    finally:
        stack.process.terminate()
        stack.process.wait(timeout=60)


def fill(file: Path) -> None:
    """Write until the disk is full."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as filling:
        while filling.write(bytes(4096)):
            pass


@contextlib.contextmanager
def control_group(memory_mb: int) -> Iterator[ControlGroup]:
    """A control group with so much memory; the test is skipped where none can be made."""
    try:
        group = ControlGroup.create(f"pokegen-faults-{os.getpid()}", Profile("small", 2.0, memory_mb))
    except BoxError as error:
        pytest.skip(str(error))
    try:
        yield group
    finally:
        group.remove()


def test_too_little_memory_stops_the_start_with_one_line(new_stack: Callable[..., Stack]) -> None:
    with control_group(memory_mb=200) as group:
        stack = new_stack(POKEGEN_ENGINE="int8")
        stack.command = group.entering(stack.command)
        ended = stack.run_to_the_end()
    assert ended.returncode == 1
    [line] = [line for line in ended.stderr.splitlines() if "memory" in line]
    assert "the memory limit is 200 MiB" in line
    assert "allow more memory, or take a smaller checkpoint" in line


def test_the_memory_is_used_up(new_stack: Callable[..., Stack], record: Record) -> None:
    """By somebody else in the service's control group, and the kernel kills the worker for it."""
    with control_group(memory_mb=700) as group:
        stack = new_stack()
        stack.command = group.entering(stack.command)
        with running(stack):
            text = ask(stack.url, MEDIUM).text
            [worker] = stack.workers("uwsgi")
            Path(f"/proc/{worker}/oom_score_adj").write_text("1000")  # it, and not who takes too much
            too_much = 700 - round(group.memory_mb()) + 40
            with (
                in_flight(stack.url, stack.http, LONGEST) as (whole, stream),
                Newcomers(stack.url) as newcomers,
            ):
                with guzzler(group, too_much):
                    wait_until(lambda: group.oom_kills() > 0, within=30, what="the kernel to kill")
                newcomers.until_served()
            assert whole.result().status == 502
            assert stream.result().cut
            assert newcomers.away < 15
            assert ask(stack.url, MEDIUM).text == text
    record(
        "memory runs out, the kernel kills the worker",
        f"{whole.result()}; streamed: {stream.result()}",
        newcomers,
    )


@contextlib.contextmanager
def guzzler(group: ControlGroup, megabytes: int) -> Iterator[None]:
    """A process that takes so much memory in the group."""
    take = f"import time; taken = [bytes([1]) * 2**20 for _ in range({megabytes})]; time.sleep(60)"
    process = subprocess.Popen(group.entering([sys.executable, "-c", take]))
    try:
        yield
    finally:
        process.kill()
        process.wait()
