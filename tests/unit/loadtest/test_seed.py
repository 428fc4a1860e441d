"""The seed design, for real: nginx, uWSGI's five workers, and TensorFlow loading a checkpoint for a request."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import ProxyHandler, build_opener

import pytest

from server.weights import HParams
from tests.checkpoints import write_gpt2_simple
from tests.service.stack import children, free_ports, is_alive, wait_until

ROOT = Path(__file__).parents[3]
RUN = ROOT / "loadtest/seed/run"
OPENER = build_opener(ProxyHandler({}))  # no proxy between
SMALL = HParams(n_vocab=280, n_ctx=32, n_embd=8, n_head=2, n_layer=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("seed") / "run1"
    write_gpt2_simple(directory, SMALL)
    return directory


@pytest.fixture(scope="module")
def service(checkpoint: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]", int]]:
    """Its address, its process and its port."""
    [port] = free_ports(1)
    settings = {"PORT": str(port), "POKEGEN_CHECKPOINT": str(checkpoint)}
    process = subprocess.Popen([RUN], env=os.environ | settings, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        give_up = time.monotonic() + 120
        while not ready(address):
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.2)
        yield address, process, port
    finally:
        process.terminate()
        process.wait(60)


def ready(address: str) -> bool:
    try:
        return bool(OPENER.open(f"{address}/healthz", timeout=60).status == 200)
    except OSError:  # nobody listens yet, or nobody is behind nginx
        return False


Service = tuple[str, "subprocess.Popen[bytes]", int]


def test_it_answers_with_a_text_of_the_checkpoint_whole(service: Service) -> None:
    address = service[0]
    for prefix in ("Ash", "Misty & co"):  # a second request finds nothing that the first left
        with OPENER.open(f"{address}/generate?prefix={quote(prefix)}&length=5", timeout=120) as answer:
            told = json.load(answer)
        assert told["text"].startswith(prefix)
        assert len(told["text"]) > len(prefix)
        assert told["usage"] == {"completion_tokens": 5}


def test_a_request_that_fails_leaves_the_next_one_alone(service: Service) -> None:
    with pytest.raises(HTTPError) as error:
        OPENER.open(f"{service[0]}/generate?prefix=Ash&length=99", timeout=120)  # more than n_ctx
    assert error.value.code == 500
    assert OPENER.open(f"{service[0]}/generate?prefix=Ash&length=2", timeout=120).status == 200


def test_it_runs_in_five_workers_behind_nginx(service: Service) -> None:
    address, _, port = service
    master = int((ROOT / f"run/seed/{port}/uwsgi.pid").read_text())
    wait_until(lambda: len(children(master)) >= 5, within=20, what="the last of them")
    assert len(children(master)) == 5
    assert OPENER.open(f"{address}/healthz", timeout=60).headers["Server"].startswith("nginx")


def test_interrupted_it_ends_with_all_its_processes_and_files(service: Service) -> None:
    """The last test, for it ends what the others ask."""
    _, process, port = service
    master = int((ROOT / f"run/seed/{port}/uwsgi.pid").read_text())
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    wait_until(lambda: not is_alive(master), within=20, what="uWSGI to be gone")
    assert not (ROOT / f"run/seed/{port}").exists()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)
