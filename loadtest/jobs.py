"""What runs in a box: the service, or the seed design that it replaces."""

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Literal

from loadtest.box import ROOT, Box, BoxError, Job
from server.bench.checkpoint import CACHE, random_checkpoint
from server.settings import SHIPPED_CHECKPOINT

ServiceName = Literal["pokegen", "seed"]

READY_SECONDS = 300.0  # on 0.4 processors the start packs 124M's weights for a minute

SEED = ROOT / "loadtest/seed/run"


def checkpoint_of(name: str) -> Path:
    """run1: the shipped checkpoint. 124M: random weights of that shape, written at the first time. Else a directory."""
    if name == "run1":
        return SHIPPED_CHECKPOINT
    if name == "124M":
        return random_checkpoint("124M", ROOT / CACHE)
    if not Path(name).is_dir():
        raise BoxError(f"there is no checkpoint {name}: run1, 124M, or a directory")
    return Path(name)


def make_job(service: ServiceName, checkpoint: Path) -> Job:
    """The service, or the seed design, with this checkpoint, on free ports. Raises BoxError."""
    checkpoint = checkpoint.resolve()
    if checkpoint.is_relative_to(ROOT):  # where both are started
        checkpoint = checkpoint.relative_to(ROOT)
    port, plain_port = _free_ports(2)
    environment = {"VENV": sys.prefix, "HOST": "127.0.0.1", "PORT": str(port)}
    environment["POKEGEN_CHECKPOINT"] = str(checkpoint)
    if service == "seed":
        # What gpt-2-simple can read is made outside of the box.
        export = subprocess.run(  # noqa: S603
            [SEED, "--export"], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
        )
        if export.returncode:
            raise BoxError(f"{SEED.relative_to(ROOT)} --export: {export.stderr.strip()}")
        return Job((str(SEED),), environment, port, None, "/healthz", checkpoint)
    environment["POKEGEN_HTTP"] = f"127.0.0.1:{plain_port}"
    return Job((str(ROOT / "scripts/run"),), environment, port, plain_port, "/readyz", checkpoint)


def wait_until_ready(job: Job, box: Box, log: Path) -> None:
    """Return once the job answers. Raises BoxError where it ended, or does not answer within READY_SECONDS."""
    give_up = time.monotonic() + READY_SECONDS
    while time.monotonic() < give_up:
        if box.process.poll() is not None:
            said = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise BoxError("the service did not start: " + (" | ".join(said) or f"{log} is empty"))
        connection = HTTPConnection("127.0.0.1", job.port, timeout=5)
        try:
            connection.request("GET", job.ready)
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):  # nobody listens yet
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    raise BoxError(f"the service is not ready after {READY_SECONDS:.0f} s: see {log}")


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens at; held together until all are known, so that they differ."""
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]
