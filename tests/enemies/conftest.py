"""The live service over a tiny model, whose texts take milliseconds."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest

from server.weights import Checkpoint
from tests.service.stack import ROOT, Stack, running, wait_until


@pytest.fixture(scope="session")
def environment(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Its model card is damaged, so that /model fails with 500."""
    checkpoint = tmp_path_factory.mktemp("enemies") / "run1"
    shutil.copytree(tiny_checkpoint.directory, checkpoint)
    (checkpoint / "card.json").write_text("{")
    return {"POKEGEN_CHECKPOINT": str(checkpoint), "POKEGEN_MAX_RUNNING": "8"}


@pytest.fixture(scope="session")
def stack(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One running service for all attacks: whatever one of them breaks, the next tests show."""
    with running(Stack(tmp_path_factory.mktemp("enemies") / "log", environment)) as stack:
        yield stack


@pytest.fixture(scope="session")
def nginx_alone(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The service's nginx, with nobody behind it."""
    directory = tmp_path_factory.mktemp("nginx")
    stack = Stack(directory / "log", environment)
    variables = {
        "NGINX_LISTEN": f"127.0.0.1:{stack.port}",
        "NGINX_UPSTREAM": f"unix:{directory}/none.sock",
        "NGINX_RUN": str(directory),
    }
    with stack.log.open("wb") as log:
        process = subprocess.Popen(
            [ROOT / "nginx/start"], env=os.environ | environment | variables, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: accepts(stack.port), within=20, what="nginx to listen")
        yield stack
    finally:
        process.terminate()
        process.wait(timeout=20)


def accepts(port: int) -> bool:
    """Whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True
