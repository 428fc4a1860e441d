"""The images as an operator runs them: little memory, a read-only root, a user without rights, or docker compose."""

import hashlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.blobs import serve
from tests.image.conftest import docker
from tests.service.stack import ROOT, free_ports, wait_until

EPISODE = "/generate?prefix=Ash+and+Pikachu+were&seed=1&length=40"

pytestmark = pytest.mark.usefixtures("images")


def get(url: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False  # no proxy between the test and this machine
        return session.get(url, timeout=60)


def answers(url: str) -> bool:
    """Whether nginx is there and passes requests on: `compose up` returns before that."""
    try:
        return get(f"{url}/readyz").status_code == 200
    except requests.ConnectionError:
        return False


def assert_episode(url: str) -> None:
    first, second = get(url + EPISODE), get(url + EPISODE)
    assert first.status_code == 200
    assert first.json()["text"].startswith("Ash and Pikachu were")
    assert first.json()["text"] == second.json()["text"]


def test_the_server_is_small(images: None) -> None:
    assert int(docker("image", "inspect", "--format", "{{.Size}}", "pokegen-server")) < 200e6


@pytest.fixture
def container(images: None) -> Iterator[tuple[str, str]]:
    """The server's image with the shipped checkpoint: its container and its address."""
    [port] = free_ports(1)
    name = docker(
        "run", "--detach", "--cpus", "2", "--memory", "4g", "--read-only", "--user", "65534",
        "--cap-drop", "ALL", "--publish", f"127.0.0.1:{port}:5000", "pokegen-server",
    )  # fmt: skip
    try:
        yield name, f"http://127.0.0.1:{port}"
    finally:
        docker("rm", "--force", "--volumes", name)


def health(container: str) -> str:
    return docker("inspect", "--format", "{{.State.Health.Status}}", container)


def test_the_server_answers_with_a_read_only_root_and_no_rights(container: tuple[str, str]) -> None:
    name, url = container
    wait_until(lambda: health(name) == "healthy", within=60, what="a healthy container")
    assert_episode(url)
    assert docker("diff", name) == ""  # nothing was written


def test_the_server_stops_at_once_when_it_is_idle(container: tuple[str, str]) -> None:
    name, _ = container
    wait_until(lambda: health(name) == "healthy", within=60, what="a healthy container")
    docker("stop", "--time", "10", name)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", name) == "0"  # 137 were it killed


def test_a_bad_checkpoint_ends_the_container_with_one_line(images: None) -> None:
    ended = subprocess.run(
        ["docker", "run", "--rm", "--read-only", "--env", "POKEGEN_CHECKPOINT=/none", "pokegen-server"],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert "/none" in line


def test_a_checkpoint_is_fetched_into_a_new_volume(images: None, tmp_path: Path) -> None:
    """By the image's own user, to whom the volume belongs; and without one, the variable is named that would help."""
    run9 = Path(
        shutil.copytree(
            ROOT / "checkpoint/run1", tmp_path / "run9", ignore=shutil.ignore_patterns("*.packed")
        )
    )
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in run9.iterdir()]
    (run9 / "SHA256SUMS").write_text("".join(sums))
    volume = f"pokegen-test-{uuid.uuid4().hex[:8]}"

    def check(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                "docker", "run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "host", *options,
                "--env", f"POKEGEN_CHECKPOINT={blobs.url}/run9", "pokegen-server", "pokegen", "check",
            ],
            capture_output=True,
            text=True,
        )  # fmt: skip

    try:
        with serve(tmp_path) as blobs:
            refused = check()
            fetched = check("--volume", f"{volume}:/cache")
        again = check("--volume", f"{volume}:/cache")
    finally:
        docker("volume", "rm", "--force", volume)
    assert refused.returncode == 1
    assert "let XDG_CACHE_HOME name" in refused.stderr
    assert fetched.returncode == 0, fetched.stderr
    assert again.returncode == 0, again.stderr
    assert "what has come before is taken" in again.stderr


def test_compose_starts_the_service(images: None) -> None:
    compose = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
    [port] = free_ports(1)
    project = [*compose, "--project-name", f"pokegen-test-{uuid.uuid4().hex[:8]}"]

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [*project, *arguments],
            cwd=ROOT,
            env={**os.environ, "PORT": str(port)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        run("up", "--detach", "--no-build")
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(url), within=60, what="nginx to start")
        assert_episode(url)
        assert '<form action="/generate"' in get(f"{url}/").text
        assert get(f"{url}/none").json()["status"] == 404
        run(
            "up", "--detach", "--no-build", "--no-deps", "--force-recreate", "server"
        )  # with another address, maybe
        wait_until(lambda: answers(url), within=60, what="nginx to find the server")
    finally:
        run("down", "--volumes", "--timeout", "10")
