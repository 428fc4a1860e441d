"""Starting, stopping, reloading and breaking the service: no answer is lost that could be given."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.service.stack import (
    ROOT,
    Stack,
    at_rest,
    children,
    cpu_seconds,
    descendants,
    direct_session,
    drain,
    free_ports,
    is_alive,
    leave_when,
    metrics,
    running,
    wait_until,
)

# Greedy text from random weights: seconds of work for the NumPy engine, and always the same.
SLOW = "/generate?prefix=Ash&temperature=0&length=400"


def in_flight(
    worker: int, pool: ThreadPoolExecutor, get: Callable[[str], requests.Response], address: str = SLOW
) -> Future[requests.Response]:
    """A request that is being worked on when this comes back: the idle worker has begun to take processor time."""
    idle = cpu_seconds(worker)
    answer = pool.submit(get, address)
    wait_until(lambda: cpu_seconds(worker) > idle + 0.05, within=20, what="the engine to begin")
    assert not answer.done(), "the engine was too fast for this test: raise the length in SLOW"
    return answer


def ask_slowly(stack: Stack, pool: ThreadPoolExecutor) -> Future[requests.Response]:
    [worker] = stack.workers("uwsgi")
    return in_flight(worker, pool, stack.get)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_delivers_the_answer_in_flight(own_stack: Stack, number: signal.Signals) -> None:
    with ThreadPoolExecutor() as pool:
        answer = ask_slowly(own_stack, pool)
        assert own_stack.stop(number) == 0
        assert answer.result().status_code == 200
        assert answer.result().json()["usage"]["completion_tokens"] == 400


def test_a_stop_while_the_worker_ends_delivers_the_answer_in_flight(own_stack: Stack) -> None:
    """A worker that ends has as few threads as one that loads the checkpoint, which is stopped at once."""
    with ThreadPoolExecutor() as pool:
        answer = ask_slowly(own_stack, pool)
        [worker] = own_stack.workers("uwsgi")
        os.kill(own_stack.pid("uwsgi"), signal.SIGHUP)
        threads = Path(f"/proc/{worker}/task")
        wait_until(
            lambda: len(list(threads.iterdir())) < 100, within=20, what="the worker to end idle threads"
        )
        assert own_stack.stop() == 0
        assert answer.result().json()["usage"]["completion_tokens"] == 400


def test_so_does_one_while_a_later_worker_ends(own_stack: Stack) -> None:
    [first] = own_stack.workers("uwsgi")
    os.kill(own_stack.pid("uwsgi"), signal.SIGHUP)
    wait_until(lambda: own_stack.workers("uwsgi") not in ([], [first]), within=30, what="another worker")
    assert own_stack.get("/generate?length=1").status_code == 200
    test_a_stop_while_the_worker_ends_delivers_the_answer_in_flight(own_stack)


@pytest.mark.parametrize("start", [1, 2])
def test_a_stop_is_heard_while_uwsgi_is_being_started(
    new_stack: Callable[..., Stack], tmp_path: Path, start: int
) -> None:
    """Whoever starts it for the `start`-th time sends the signal: bash is not waiting yet."""
    starts = tmp_path / "starts"
    setsid = tmp_path / "setsid"
    setsid.write_text(
        f"""#!/bin/bash
        if [[ "$*" == *uwsgi.ini* ]]; then
          echo >>{starts}
          [ "$(wc -l <{starts})" -ne {start} ] || kill -TERM $PPID
        fi
        exec {shutil.which("setsid")} "$@"
        """
    )
    setsid.chmod(0o755)
    stack = new_stack(PATH=f"{tmp_path}:{os.environ['PATH']}")
    if start == 1:
        stack.launch()
    else:
        stack.start()
        os.kill(stack.pid("uwsgi"), signal.SIGKILL)
    assert stack.process.wait(timeout=40) == 0
    wait_until(lambda: not stack.run.exists(), within=5, what="its directory to go")


def test_a_stop_cuts_off_what_the_grace_time_is_too_short_for(new_stack: Callable[..., Stack]) -> None:
    endless = "/generate?prefix=Ash&length=1000&nsamples=64"  # 64,000 tokens, one text after another
    limits = {"POKEGEN_MAX_RUNNING": "1", "POKEGEN_MAX_SAMPLES": "64"}
    with running(new_stack(POKEGEN_GRACE="1", **limits)) as stack, ThreadPoolExecutor() as pool:
        [worker] = stack.workers("uwsgi")
        answer = in_flight(worker, pool, stack.get, endless)
        started = time.monotonic()
        stack.stop()
        assert 1 <= time.monotonic() - started < 4
        assert isinstance(answer.exception(), requests.ConnectionError)


def test_a_stop_does_not_wait_for_a_checkpoint_that_is_being_loaded(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(POKEGEN_GRACE="60")
    stack.launch()
    wait_until(lambda: bool(stack.workers("uwsgi")), within=60, what="a worker, which loads the checkpoint")
    assert not (stack.run / "ready").exists()
    stack.stop(within=10)


def test_nor_for_a_worker_that_comes_back_after_a_crash(own_stack: Stack) -> None:
    [worker] = own_stack.workers("uwsgi")
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: own_stack.workers("uwsgi") not in ([], [worker]), within=30, what="another worker")
    own_stack.stop(within=20)


def test_nor_for_one_that_comes_back_while_nginx_ends(own_stack: Stack) -> None:
    """A stop may come in the second that uWSGI takes to notice that its worker has died."""
    [worker] = own_stack.workers("uwsgi")
    with socket.create_connection(("127.0.0.1", own_stack.port)) as unfinished:
        unfinished.sendall(b"GET / HTTP/1.1\r\nHost: ")  # nginx waits for the rest before it ends
        family = descendants(own_stack.process.pid)
        os.kill(worker, signal.SIGKILL)
        own_stack.process.terminate()
        wait_until(lambda: own_stack.workers("uwsgi") not in ([], [worker]), within=30, what="another worker")
    assert own_stack.process.wait(timeout=20) == 0
    own_stack.nothing_is_left(family)


def test_another_worker_takes_over_and_no_answer_is_lost(own_stack: Stack) -> None:
    [before] = own_stack.workers("uwsgi")
    with ThreadPoolExecutor() as pool:
        answer = ask_slowly(own_stack, pool)
        os.kill(own_stack.pid("uwsgi"), signal.SIGHUP)
        deadline = time.monotonic() + 60
        while own_stack.workers("uwsgi") in ([before], []):  # a request waits until the new worker has loaded
            assert time.monotonic() < deadline
            assert own_stack.get("/generate?length=1").status_code == 200
        assert answer.result().status_code == 200
    assert own_stack.get("/generate?length=1").status_code == 200


def test_a_reload_is_refused_if_the_checkpoint_has_become_unreadable(
    new_stack: Callable[..., Stack], checkpoint: Path, tmp_path: Path
) -> None:
    replaced = tmp_path / "replaced"
    shutil.copytree(checkpoint, replaced)
    with running(new_stack(POKEGEN_CHECKPOINT=str(replaced))) as stack:
        workers = stack.workers("uwsgi")
        os.truncate(replaced / "model.safetensors", 1_000_000)
        refused = stack.reload()
        assert refused.returncode == 1
        [line] = refused.stderr.splitlines()
        assert "model.safetensors" in line
        assert stack.get("/generate?length=1").status_code == 200
        assert stack.workers("uwsgi") == workers


def test_a_reload_of_no_service_is_refused_with_one_line(new_stack: Callable[..., Stack]) -> None:
    refused = new_stack().reload()
    assert refused.returncode == 1
    [line] = refused.stderr.splitlines()
    assert "make run PORT=" in line


@pytest.mark.parametrize("name", ["nginx", "uWSGI"])
def test_if_one_of_the_two_ends_before_the_service_is_ready_it_stops(
    new_stack: Callable[..., Stack], name: str
) -> None:
    stack = new_stack()
    stack.launch()
    wait_until(lambda: len(workers_of(stack)) == 2, within=30, what="nginx and uWSGI to be started")
    family = descendants(stack.process.pid)
    os.kill(stack.pid(name.lower()), signal.SIGKILL)
    assert stack.process.wait(timeout=20) == 1
    stack.nothing_is_left(family)
    assert f"pokegen: {name} ended by itself (code 137), so the service stops" in stack.log.read_text()


def workers_of(stack: Stack) -> list[str]:
    """Those of the two whose master has started a worker."""
    return [name for name in ("nginx", "uwsgi") if stack.workers(name)]


def test_should_the_script_be_killed_the_two_stop_by_themselves(own_stack: Stack) -> None:
    family = descendants(own_stack.process.pid)
    own_stack.process.kill()
    own_stack.process.wait()
    wait_until(
        lambda: not [pid for pid in family if is_alive(pid)], within=30, what="nginx and uWSGI to stop"
    )
    shutil.rmtree(own_stack.run)  # nobody was left to do it; the next start would


def test_two_copies_do_not_share_a_port_at_two_hosts(stack: Stack, new_stack: Callable[..., Stack]) -> None:
    refused = new_stack(PORT=str(stack.port), HOST="127.0.0.2").run_to_the_end()
    assert refused.returncode == 1
    assert f"pokegen: another copy has port {stack.port}, at another HOST" in refused.stderr
    assert stack.get("/readyz").status_code == 200
    assert stack.pid("uwsgi")


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


def test_a_host_that_does_not_exist_stops_the_start_with_one_line(new_stack: Callable[..., Stack]) -> None:
    ended = new_stack(HOST="nosuch.invalid").run_to_the_end()
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert re.search("(Name or service not known|failure in name resolution|No address associated)", line)


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


@pytest.mark.parametrize("variable", ["POKEGEN_REQUEST_TIMEOUT", "POKEGEN_GRACE", "POKEGEN_MAX_BODY"])
def test_nginx_by_itself_takes_plain_decimal_numbers_only(tmp_path: Path, variable: str) -> None:
    for value in ("6e1", "65_536", "-1", "ten", "0x40"):
        ended = subprocess.run(
            [ROOT / "nginx/start"],
            env={
                "PATH": os.environ["PATH"],
                "NGINX_LISTEN": "8080",
                "NGINX_UPSTREAM": "server:3031",
                "NGINX_RUN": str(tmp_path),
                variable: value,
            },
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert ended.returncode == 1
        [line] = ended.stderr.splitlines()
        assert variable in line
        assert repr(value) in line


@pytest.mark.parametrize(
    "variable",
    [
        "POKEGEN_MAX_BODY",
        "POKEGEN_ADDRESS_RATE",
        "POKEGEN_ADDRESS_AT_ONCE",
        "POKEGEN_THREADS",
        "POKEGEN_KEEP",
        "NGINX_SERVERS",
    ],
)
def test_nginx_by_itself_takes_no_half_for_none(tmp_path: Path, variable: str) -> None:
    environment = {"NGINX_LISTEN": "8080", "NGINX_UPSTREAM": "server:3031", "NGINX_RUN": str(tmp_path)}
    environment |= {"PATH": os.environ["PATH"], variable: "0.5"}
    ended = subprocess.run(
        [ROOT / "nginx/start"], env=environment, capture_output=True, text=True, timeout=20
    )
    assert ended.returncode == 1
    assert f"{variable} must be a plain whole number" in ended.stderr


@pytest.mark.parametrize(
    ("variables", "door"),
    [
        ({}, 656),
        ({"POKEGEN_THREADS": "20"}, 12),
        ({"POKEGEN_THREADS": "20", "NGINX_SERVERS": "3"}, 36),
        ({"POKEGEN_THREADS": "10000", "NGINX_SERVERS": "100"}, 65535),
        ({"NGINX_SERVERS": "0"}, 1),
    ],
)
def test_nginx_lets_in_as_many_as_all_its_servers_have_threads_for(
    tmp_path: Path, variables: dict[str, str], door: int
) -> None:
    assert f"limit_conn door {door};" in filled_in(tmp_path, variables)


@pytest.mark.parametrize(
    ("names", "resolver"),
    [
        ("search example\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n", "10.0.0.2"),
        ("nameserver fe80::1%eth0\nnameserver fd00::1\n", "[fd00::1]"),
        ("nameserver fe80::1%eth0\n", "127.0.0.1"),
        (None, "127.0.0.1"),
    ],
)
def test_nginx_asks_the_first_name_server_that_it_can_ask(
    tmp_path: Path, names: str | None, resolver: str
) -> None:
    if names:
        (tmp_path / "resolv.conf").write_text(names)
    awk = tmp_path / "awk"
    awk.write_text(f'#!/bin/sh\nexec {shutil.which("awk")} "$1" {tmp_path}/resolv.conf\n')
    awk.chmod(0o755)
    assert f"resolver {resolver} valid=5s;" in filled_in(tmp_path, {})


def filled_in(folder: Path, variables: dict[str, str]) -> str:
    """nginx.conf as nginx/start fills it in, with `true` in nginx's place, and what else is in the folder."""
    (folder / "nginx").symlink_to("/bin/true")
    (folder / "run").mkdir()
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "NGINX_RUN": str(folder / "run")}
    environment |= {"NGINX_LISTEN": "8080", "NGINX_UPSTREAM": "server:3031"}
    subprocess.run([ROOT / "nginx/start"], env=environment | variables, check=True, timeout=20)
    return (folder / "run/nginx.conf").read_text()


def test_numbers_mean_to_the_whole_service_what_they_mean_to_the_application(
    new_stack: Callable[..., Stack],
) -> None:
    variables = {"REQUEST_TIMEOUT": "6e1", "GRACE": "08", "MAX_BODY": "4_096"}
    behind_a_proxy = {"http_proxy": "http://127.0.0.1:9"}  # where nobody listens
    with running(
        new_stack(**{f"POKEGEN_{name}": value for name, value in variables.items()}, **behind_a_proxy)
    ) as stack:
        configuration = (stack.run / "nginx.conf").read_text()
        assert "uwsgi_read_timeout 70s;" in configuration
        assert "worker_shutdown_timeout 8s;" in configuration
        assert "client_max_body_size 4096;" in configuration


def test_the_start_says_little_and_keeps_the_rest(own_stack: Stack) -> None:
    assert "*** Starting uWSGI" in (own_stack.run / "uwsgi.log").read_text()
    assert "*** Starting uWSGI" not in own_stack.log.read_text()


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
    with direct_session() as session:

        def ready() -> bool:
            try:
                return session.get(f"{url}/readyz", timeout=20).status_code == 200
            except requests.ConnectionError:
                return False

        wait_until(ready, within=60, what="gunicorn")
        query = "/generate?prefix=Ash&seed=7&length=20"
        assert session.get(url + query).json()["samples"] == stack.get(query).json()["samples"]
        leave_when(url, SLOW, lambda: not at_rest(url), what="the text to be begun")
        wait_until(lambda: at_rest(url), within=1, what="the place of who has left")
        assert metrics(url)['pokegen_samples_ended_total{reason="cancelled"}'] == 1
        with ThreadPoolExecutor() as pool:
            [worker] = children(process.pid)
            slow = in_flight(worker, pool, session.get, url + SLOW)
            process.terminate()
            assert json.loads(slow.result().text)["usage"]["completion_tokens"] == 400
    assert process.wait(timeout=20) == 0
    assert list(home.iterdir()) == []
