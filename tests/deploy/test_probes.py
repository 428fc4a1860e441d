"""What each probe of deploy/kubernetes means, asked of the running service as a kubelet asks it.

`scripts/run` stands in for the pod: the same nginx and server, started and ended in the same order. What is asked,
where, and how long an answer may take, is read from the manifests.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.deploy.manifests import can_render, render
from tests.faults.readers import LONGEST, SHORT, ask
from tests.service.stack import Stack, direct_session, metrics, running, wait_until
from tests.service.test_crowds import crowd_before
from tests.service.test_reload import Place

pytestmark = pytest.mark.skipif(
    not can_render(),
    reason="neither kustomize nor kubectl is here: install kubectl (Debian: kubernetes-client)",
)


@dataclass(frozen=True)
class Probe:
    """An HTTP probe of a container.

    port: its name: `http` is nginx's, `plain` the server's own. timeout: seconds in which an answer must come.
    patience: for how many seconds it may fail before the kubelet does something.
    """

    path: str
    port: str
    timeout: float
    patience: float

    @classmethod
    def of(cls, container: str, kind: str) -> "Probe":
        probe = render("base").containers[container][f"{kind}Probe"]
        asked = probe["httpGet"]
        patience = probe["periodSeconds"] * probe["failureThreshold"]
        return cls(asked["path"], asked["port"], probe["timeoutSeconds"], patience)

    def status(self, stack: Stack) -> int:
        """What is answered in time over a new connection; 0 if nothing is."""
        url = {"http": stack.url, "plain": stack.http}[self.port]
        with direct_session() as session:
            try:
                answer = session.get(
                    url + self.path,
                    headers={"Connection": "close"},
                    timeout=self.timeout,
                    allow_redirects=False,
                )
            except requests.RequestException:
                return 0
            return answer.status_code

    def succeeds(self, stack: Stack) -> bool:
        return 200 <= self.status(stack) < 400


@dataclass(frozen=True)
class Probes:
    """Those of the pod."""

    startup: Probe
    liveness: Probe
    readiness: Probe
    nginx_liveness: Probe


@pytest.fixture(scope="session")
def probes() -> Probes:
    return Probes(
        startup=Probe.of("server", "startup"),
        liveness=Probe.of("server", "liveness"),
        readiness=Probe.of("nginx", "readiness"),
        nginx_liveness=Probe.of("nginx", "liveness"),
    )


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """These processes stand still: they hold their ports and their connections, and answer nothing."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def worker_that_loads(stack: Stack) -> int:
    """The worker of uWSGI, as soon as there is one: it takes a second or more to load the application."""
    wait_until(lambda: bool(stack.workers("uwsgi")), within=60, what="a worker, which loads the checkpoint")
    [worker] = stack.workers("uwsgi")
    return worker


def listens(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=5):
        return True
    return False


def test_a_start_has_succeeded_when_the_checkpoint_is_loaded_and_no_sooner(
    new_stack: Callable[..., Stack], probes: Probes
) -> None:
    stack = new_stack()
    stack.launch()
    try:
        with stopped(worker_that_loads(stack)):
            assert not (stack.run / "ready").exists(), "it was too fast for this test"
            wait_until(
                lambda: listens(stack.http), within=20, what="the port to be open, behind which nobody is"
            )
            assert not probes.startup.succeeds(stack)
            assert not probes.readiness.succeeds(stack)
        took = wait_until(lambda: probes.startup.succeeds(stack), within=60, what="the start to succeed")
        assert took < probes.startup.patience
        assert metrics(stack.http)["pokegen_tokens_total"] > 0, "it has proven itself"
        wait_until(lambda: probes.readiness.succeeds(stack), within=20, what="nginx to pass on")
        assert ask(stack.url, SHORT).whole
    finally:
        stack.stop()


def test_while_a_pod_drains_it_is_not_ready_but_alive_and_its_answers_arrive(
    new_stack: Callable[..., Stack], probes: Probes
) -> None:
    """`scripts/run` ends the two as a pod does: nginx is told to QUIT, and the server when nginx has ended."""
    with running(new_stack()) as stack, ThreadPoolExecutor(1) as pool:
        assert probes.readiness.succeeds(stack)
        answer = pool.submit(ask, stack.url, LONGEST)
        wait_until(
            lambda: metrics(stack.http)["pokegen_samples_running"] == 1,
            within=20,
            what="a text to be written",
        )
        stack.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not probes.readiness.succeeds(stack), within=20, what="the pod not to be ready")
        assert probes.liveness.succeeds(stack), "or it would be killed while it answers"
        assert not answer.done(), "the engine was too fast for this test: raise the length in LONGEST"
        assert answer.result().whole
        assert stack.process.wait(timeout=60) == 0


def test_when_the_engine_is_dead_the_server_is_neither_alive_nor_ready_and_nginx_is_alive(
    new_stack: Callable[..., Stack], probes: Probes, tmp_path: Path
) -> None:
    killer = tmp_path / "pipe"
    os.mkfifo(killer)
    variables = {
        "UWSGI_IMPORT": "tests.faults.kill_engine",
        "POKEGEN_TEST_PIPE": str(killer),
        "POKEGEN_TEST_LINGERS": "yes",
    }
    with running(new_stack(**variables)) as stack:
        assert probes.liveness.succeeds(stack)
        assert probes.readiness.succeeds(stack)
        killer.write_text("now")
        wait_until(lambda: ask(stack.url, SHORT).status == 500, within=20, what="the engine to die at a step")
        assert probes.liveness.status(stack) == 503
        assert not probes.readiness.succeeds(stack)
        assert probes.nginx_liveness.succeeds(stack), "nginx is not what is to be started anew"

        killer.write_text("now it may end")
        took = wait_until(
            lambda: probes.liveness.succeeds(stack) and probes.readiness.succeeds(stack),
            within=60,
            what="uWSGI to start a worker with a new engine",
        )
        assert took < probes.liveness.patience, "before a kubelet would have done it"
        assert ask(stack.url, SHORT).whole


def test_a_full_queue_makes_no_probe_fail(new_stack: Callable[..., Stack], probes: Probes) -> None:
    """Or a crowd would have pods killed, one after the other, by those who should look after them."""
    full = {
        "POKEGEN_MAX_RUNNING": "1",
        "POKEGEN_MAX_WAITING": "8",
        "POKEGEN_MAX_WAIT": "3600",
        "POKEGEN_MAX_SAMPLES": "2",
        "POKEGEN_THREADS": "20",
        "POKEGEN_REQUEST_TIMEOUT": "3600",
    }
    with running(new_stack(**full)) as stack, crowd_before(stack) as crowd:

        def fill() -> None:
            """Until one is turned away; those whose texts have ended meanwhile are replaced."""
            while (answer := crowd.ask("192.0.2.1")).status_code == 200:
                pass
            assert answer.status_code == 503
            assert "too many are waiting" in answer.json()["detail"]

        for _ in range(10):
            for probe in (probes.liveness, probes.readiness, probes.nginx_liveness):
                fill()
                assert probe.succeeds(stack), probe
        assert metrics(stack.http)["pokegen_requests_refused_total"] >= 30


def test_a_reload_makes_no_probe_fail(
    new_stack: Callable[..., Stack], probes: Probes, tmp_path: Path
) -> None:
    """Or the liveness probe would have to be as patient as the largest checkpoint takes to load."""
    place = Place(tmp_path / "served")
    with (
        running(new_stack(POKEGEN_CHECKPOINT=str(place.directory))) as stack,
        ThreadPoolExecutor(1) as pool,
    ):
        place.lay(seed=2)
        reloading = pool.submit(stack.reload)
        while not reloading.done():
            for probe in (probes.liveness, probes.readiness, probes.nginx_liveness):
                assert probe.succeeds(stack), probe
        assert "answers from here on" in reloading.result().stdout


@pytest.mark.parametrize(
    ("container", "processes", "other"), [("server", "uwsgi", "nginx"), ("nginx", "nginx", "server")]
)
def test_what_hangs_is_neither_alive_nor_ready_and_the_other_container_is_alive(
    container: str, processes: str, other: str, new_stack: Callable[..., Stack], probes: Probes
) -> None:
    liveness = Probe.of(container, "liveness")
    with running(new_stack()) as stack:
        with stopped(*stack.workers(processes)):
            assert not liveness.succeeds(stack)
            assert not probes.readiness.succeeds(stack)
            assert Probe.of(other, "liveness").succeeds(stack)
        wait_until(lambda: probes.readiness.succeeds(stack), within=20, what="the pod to be ready again")
        assert liveness.succeeds(stack)
