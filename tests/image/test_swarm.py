"""The compose file as a stack of three: one killed, all replaced, under readers, none of whom may notice."""

import csv
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.image.conftest import docker
from tests.image.test_image import answers, get
from tests.service.stack import ROOT, free_ports, wait_until

REPLICAS = 3
READERS = 12

pytestmark = pytest.mark.usefixtures("images")


class Swarm:
    """A stack. url: of its nginx."""

    def __init__(self) -> None:
        [port] = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.name = f"pokegen-test-{uuid.uuid4().hex[:8]}"
        # All come from one address here.
        limits = {"POKEGEN_ADDRESS_RATE": "0", "POKEGEN_ADDRESS_AT_ONCE": "0"}
        self._environment = {**os.environ, **limits, "REPLICAS": str(REPLICAS), "PORT": str(port)}

    def deploy(self) -> None:
        files = [f"--compose-file={ROOT / file}" for file in ("docker-compose.yml", "deploy/swarm.yml")]
        command = ["docker", "stack", "deploy", "--resolve-image=never", *files, self.name]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def servers(self) -> list[str]:
        """The containers that run, and are healthy."""
        filters = ["--filter", f"name={self.name}_server", "--filter", "health=healthy"]
        return docker("ps", "--quiet", *filters).split()

    def update(self) -> None:
        """Replace all servers, one after the other; returns when that is done."""
        docker("service", "update", "--quiet", "--force", f"{self.name}_server")

    def remove(self) -> None:
        docker("stack", "rm", self.name)
        wait_until(
            lambda: not docker("ps", "--quiet", "--filter", f"name={self.name}"), within=120, what="its end"
        )


@pytest.fixture(scope="module")
def swarm(images: None) -> Iterator[Swarm]:
    docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    stack = Swarm()
    try:
        stack.deploy()
        wait_until(lambda: len(stack.servers()) == REPLICAS, within=180, what="three servers")
        wait_until(lambda: answers(stack.url), within=60, what="nginx to start")
        yield stack
        stack.remove()
    finally:
        docker("swarm", "leave", "--force")


@contextmanager
def readers(url: str, story: str, out: Path) -> Iterator[None]:
    """Locust's, until the end. AssertionError where a request of theirs failed."""
    out.mkdir()
    command = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless", "--only-summary"]
    options = ["--host", url, "--users", str(READERS), "--spawn-rate", str(READERS), "--length", "40"]
    with (out / "log").open("wb") as log:
        locust = subprocess.Popen(
            [*command, *options, "--out", str(out), story], cwd=ROOT, stdout=log, stderr=log
        )
        try:
            yield
        finally:
            locust.terminate()
            locust.wait(60)
    with (out / "readers.csv").open(newline="") as file:
        seen = list(csv.DictReader(file))
    assert sum(row["ending"] == "complete" for row in seen) > 5 * READERS
    wrong = {(row["ending"], row["error"]) for row in seen} - {("complete", ""), ("left", "")}
    assert not wrong


def test_a_server_is_killed_and_nobody_notices(swarm: Swarm, tmp_path: Path) -> None:
    """Whose answer has not begun; a stream that has is cut, which its reader sees (tests/faults)."""
    with readers(swarm.url, "Script", tmp_path / "readers"):
        wait_until(lambda: (tmp_path / "readers/readers.csv").exists(), within=30, what="readers")
        [killed, *others] = swarm.servers()
        docker("kill", "--signal", "KILL", killed)
        wait_until(
            lambda: len(swarm.servers()) == REPLICAS and killed not in swarm.servers(),
            within=120,
            what="another server",
        )
        assert set(others) < set(swarm.servers())


def test_all_servers_are_replaced_and_nobody_notices(swarm: Swarm, tmp_path: Path) -> None:
    before = set(swarm.servers())
    with readers(swarm.url, "CasualReader", tmp_path / "readers"):
        wait_until(lambda: (tmp_path / "readers/readers.csv").exists(), within=30, what="readers")
        swarm.update()
        wait_until(lambda: not before & set(swarm.servers()), within=300, what="new servers")
    assert len(swarm.servers()) == REPLICAS
    assert get(f"{swarm.url}/readyz").status_code == 200
