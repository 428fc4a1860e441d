"""Starting, stopping, reloading and breaking the service: no answer is lost that could be given."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.service.stack import ROOT, Stack, descendants, drain, free_ports, is_alive, running, wait_until

# Greedy text from random weights: seconds of work for the NumPy engine, and always the same.
SLOW = "/generate?prefix=Ash&temperature=0&length=400"


def ask_slowly(stack: Stack, pool: ThreadPoolExecutor) -> Future[requests.Response]:
    """A request that is being worked on when this comes back."""
    answer = pool.submit(stack.get, SLOW)
    time.sleep(0.5)
    assert not answer.done(), "the engine was too fast for this test: raise the length in SLOW"
    return answer


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_delivers_the_answer_in_flight(own_stack: Stack, number: signal.Signals) -> None:
    with ThreadPoolExecutor() as pool:
        answer = ask_slowly(own_stack, pool)
        assert own_stack.stop(number) == 0
        assert answer.result().status_code == 200
        assert answer.result().json()["usage"]["completion_tokens"] == 400


def test_a_stop_ends_within_the_grace_time(new_stack: Callable[..., Stack]) -> None:
    with running(new_stack(POKEGEN_GRACE="1")) as stack, ThreadPoolExecutor() as pool:
        answer = pool.submit(stack.get, SLOW.replace("400", "1000"))
        time.sleep(0.5)
        started = time.monotonic()
        stack.stop()
        assert time.monotonic() - started < 4
        assert isinstance(
            answer.exception() or answer.result(), (requests.ConnectionError, requests.Response)
        )


def test_a_reload_delivers_the_answer_in_flight_and_loses_no_new_request(own_stack: Stack) -> None:
    [before] = own_stack.workers("uwsgi")
    with ThreadPoolExecutor() as pool:
        answer = ask_slowly(own_stack, pool)
        os.kill(own_stack.pid("uwsgi"), signal.SIGHUP)
        time.sleep(0.2)
        during = pool.submit(own_stack.get, "/generate?length=1")  # waits until the new worker has loaded
        assert answer.result().status_code == 200
        assert during.result().status_code == 200
    [after] = own_stack.workers("uwsgi")
    assert after != before


def test_a_killed_worker_is_a_502_and_is_replaced(own_stack: Stack) -> None:
    with ThreadPoolExecutor() as pool:
        answer = ask_slowly(own_stack, pool)
        [worker] = own_stack.workers("uwsgi")
        os.kill(worker, signal.SIGKILL)
        refused = answer.result()
    assert refused.status_code == 502
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.json()["request_id"] == refused.headers["X-Request-ID"]
    wait_until(lambda: own_stack.get("/readyz").status_code == 200, within=10, what="the next worker")
    assert own_stack.get("/generate?length=1").status_code == 200


NAMES = {"nginx": "nginx", "uwsgi": "uWSGI"}


@pytest.mark.parametrize("name", NAMES)
def test_if_one_of_the_two_dies_the_other_is_stopped(own_stack: Stack, name: str) -> None:
    family = descendants(own_stack.process.pid)
    os.kill(own_stack.pid(name), signal.SIGKILL)
    assert own_stack.process.wait(timeout=20) == 1
    own_stack.nothing_is_left(family)
    assert f"pokegen: {NAMES[name]} ended by itself" in own_stack.log.read_text()


def test_should_the_script_be_killed_the_two_stop_by_themselves(own_stack: Stack) -> None:
    family = descendants(own_stack.process.pid)
    own_stack.process.kill()
    own_stack.process.wait()
    wait_until(
        lambda: not [pid for pid in family if is_alive(pid)], within=10, what="nginx and uWSGI to stop"
    )
    shutil.rmtree(own_stack.run)  # nobody was left to do it; the next start would


def test_two_copies_run_side_by_side(stack: Stack, own_stack: Stack) -> None:
    assert stack.run != own_stack.run
    assert stack.workers("uwsgi") != own_stack.workers("uwsgi")
    assert own_stack.get("/readyz").status_code == 200
    own_stack.stop()
    assert stack.get("/readyz").status_code == 200


@pytest.mark.parametrize("variable", ["PORT", "POKEGEN_HTTP"])
def test_a_taken_port_stops_the_start_with_one_line(
    stack: Stack, new_stack: Callable[..., Stack], variable: str
) -> None:
    taken = {"PORT": str(stack.port), "POKEGEN_HTTP": stack.http.removeprefix("http://")}[variable]
    ended = new_stack(**{variable: taken}).run_to_the_end()
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert "Address already in use" in line
    assert f"make run {variable}=" in line


def test_a_missing_checkpoint_stops_the_start_with_one_line(
    new_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    ended = new_stack(POKEGEN_CHECKPOINT=str(tmp_path / "none")).run_to_the_end()
    assert ended.returncode != 0
    [line] = ended.stderr.splitlines()
    assert str(tmp_path / "none") in line


def test_a_truncated_checkpoint_stops_the_start_with_one_line(
    new_stack: Callable[..., Stack], checkpoint: Path, tmp_path: Path
) -> None:
    truncated = tmp_path / "truncated"
    shutil.copytree(checkpoint, truncated)
    os.truncate(truncated / "model.safetensors", 1_000_000)
    ended = new_stack(POKEGEN_CHECKPOINT=str(truncated)).run_to_the_end()
    assert ended.returncode != 0
    [line] = ended.stderr.splitlines()
    assert "model.safetensors" in line


def test_gunicorn_serves_the_same_answers(stack: Stack, environment: dict[str, str], tmp_path: Path) -> None:
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    home = tmp_path / "home"
    home.mkdir()
    process = subprocess.Popen(
        [
            Path(os.environ.get("VENV", ROOT / ".venv")) / "bin/gunicorn",
            "--config",
            "server/gunicorn.conf.py",
        ],
        cwd=ROOT,
        env={**os.environ, **environment, "POKEGEN_HTTP": f"127.0.0.1:{port}", "HOME": str(home)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    drain(process.stderr)
    with requests.Session() as session:
        session.trust_env = False

        def ready() -> bool:
            try:
                return session.get(f"{url}/readyz", timeout=20).status_code == 200
            except requests.ConnectionError:
                return False

        wait_until(ready, within=60, what="gunicorn")
        query = "/generate?prefix=Ash&seed=7&length=20"
        assert session.get(url + query).json()["samples"] == stack.get(query).json()["samples"]
        with ThreadPoolExecutor() as pool:
            slow = pool.submit(session.get, url + SLOW)
            time.sleep(0.5)
            process.terminate()
            assert json.loads(slow.result().text)["usage"]["completion_tokens"] == 400
    assert process.wait(timeout=20) == 0
    assert list(home.iterdir()) == []
