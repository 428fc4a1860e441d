"""`pokegen serve`: the page and the API from one process, for development."""

import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from flask.testing import FlaskClient

from server.commands.serve import application
from server.weights import Checkpoint
from tests.root import AT_ROOT, answered_by
from tests.service.stack import descendants, free_ports, is_alive, wait_until
from tests.terminal import POKEGEN, Terminal, bare_environment, pokegen

SITE = Path(__file__).parents[3] / "nginx/site"


class Served:
    """A running `pokegen serve`."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    def get(self, path: str, accept: str = "*/*") -> requests.Response:
        session = requests.Session()
        session.trust_env = False  # no proxy between the test and this machine
        return session.get(self.url + path, headers={"Accept": accept}, timeout=30)

    def stop(self, number: signal.Signals) -> int:
        family = descendants(self.process.pid)
        self.process.send_signal(number)
        status = self.process.wait(30)
        wait_until(lambda: not any(map(is_alive, family)), within=20, what="nothing to be left")
        return status


@pytest.fixture
def serve(tiny_checkpoint: Checkpoint) -> Iterator[Callable[..., Served]]:
    """Start it and wait until it says that it is ready."""
    processes = []

    def started(*arguments: str) -> Served:
        (port,) = free_ports(1)
        process = subprocess.Popen(
            [POKEGEN, "serve", f"--port={port}", f"--checkpoint={tiny_checkpoint.directory}", *arguments],
            env=bare_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stderr
        url = f"http://127.0.0.1:{port}"
        assert f"Pokegen is ready: {url}/ (Ctrl-C stops it)\n" in iter(process.stderr.readline, "")
        return Served(process, url)

    yield started
    for process in processes:
        process.kill()
        process.communicate()


def test_the_page_and_the_api_are_there(serve: Callable[..., Served]) -> None:
    served = serve()
    assert served.get("/").text == (SITE / "index.html").read_text()
    assert served.get("/js/main.js").headers["Content-Type"].startswith("text/javascript")
    text = served.get("/generate?prefix=Ash&length=5&seed=1").json()["text"]
    assert text.startswith("Ash")
    assert served.get("/healthz").status_code == 200
    for path in ("/nothing", "/../nginx.conf", "/js"):
        answer = served.get(path)
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert served.stop(signal.SIGTERM) == 0


@pytest.fixture(scope="module")
def client(tiny_checkpoint: Checkpoint) -> Iterator[FlaskClient]:
    """What `pokegen serve` serves, asked in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POKEGEN_CHECKPOINT", str(tiny_checkpoint.directory))
        app = application()
    yield app.test_client()
    app.extensions["serving"].close()


@pytest.mark.parametrize(("address", "accept", "who"), AT_ROOT)
def test_at_the_root_those_are_answered_whom_nginx_would_pass_on(
    client: FlaskClient, address: str, accept: dict[str, str], who: str
) -> None:
    assert answered_by(client.get(address, headers=accept).status_code) == who


def test_at_the_root_a_permalink_is_the_page_and_an_older_client_is_answered(
    serve: Callable[..., Served],
) -> None:
    served = serve()
    page = (SITE / "index.html").read_text()
    assert served.get("/?prefix=Ash&seed=1&length=5&temperature=1").text == page
    assert served.get("/?prefix=Ash", accept="text/html").text == page
    assert served.get("/?prefix=Ash&length=5").json()["text"].startswith("Ash")
    assert "sample_text" in served.get("/?sample=Ash", accept="text/html").json()
    assert served.stop(signal.SIGINT) == 0


def test_ctrl_c_ends_it_in_silence(tiny_checkpoint: Checkpoint) -> None:
    (port,) = free_ports(1)
    with Terminal("serve", f"--port={port}", f"--checkpoint={tiny_checkpoint.directory}") as terminal:
        terminal.wait_for("(Ctrl-C stops it)\n")
        terminal.type("\x03")
        assert terminal.end() == (0, "^C")


def test_a_port_that_is_taken_is_said_at_once(tiny_checkpoint: Checkpoint) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = pokegen("serve", f"--port={port}", f"--checkpoint={tiny_checkpoint.directory}")
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use. Choose another --port" in done.stderr


def test_a_host_that_does_not_exist_is_said(tiny_checkpoint: Checkpoint) -> None:
    done = pokegen(
        "serve", "--host=nosuch.invalid", "--port=5000", f"--checkpoint={tiny_checkpoint.directory}"
    )
    assert done.returncode == 1
    why = "Name or service not known|Temporary failure in name resolution|No address associated with hostname"
    assert re.search(rf"cannot listen on nosuch.invalid:5000: ({why})\. Choose another", done.stderr)


def test_it_does_not_start_with_what_the_service_would_not_start_with(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    done = pokegen("serve", f"--port={port}", f"--checkpoint={tmp_path}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"pokegen: {tmp_path}: has neither model.safetensors nor")
    assert done.stderr.count("\n") == 1
    wrong = pokegen("serve", "--host=no host", f"--port={port}")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("pokegen: POKEGEN_HTTP: must be host:port")
