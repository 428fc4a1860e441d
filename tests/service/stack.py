"""The service as `make run` starts it: nginx and uWSGI, real processes on ports of their own."""

import contextlib
import functools
import itertools
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import requests
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.events import Event, read_events

ROOT = Path(__file__).parents[2]
# Below those that the kernel gives to whoever asks for any (ip_local_port_range), and above those with a name.
PORTS = range(20_000, 32_000)
BLOCK = 500  # of them, for each process of tests


class Stack:
    """`scripts/run` on free ports.

    url     through nginx, such as http://127.0.0.1:40001
    http    uWSGI's plain HTTP
    run     its directory below run/: uwsgi.pid, nginx.pid, sockets
    log     the file that gets everything it writes to standard error
    command what starts it: `scripts/run`, in front of which a test may put what changes its surroundings
    """

    def __init__(self, log: Path, environment: Mapping[str, str]) -> None:
        self.port, http_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = f"http://127.0.0.1:{http_port}"
        self.run = ROOT / "run" / str(self.port)
        self.log = log
        self.command = [str(ROOT / "scripts/run")]
        self._environment = {
            **os.environ,
            "PORT": str(self.port),
            "POKEGEN_HTTP": f"127.0.0.1:{http_port}",
            "POKEGEN_ADDRESS_RATE": "0",  # all of a test's requests come from one address
            "POKEGEN_ADDRESS_AT_ONCE": "0",
            **environment,
        }
        self._session = direct_session()

    def launch(self) -> None:
        """Start it, and do not wait for it."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, env=self._environment, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def start(self) -> None:
        """Come back when the service says that it is ready. RuntimeError if it ends instead."""
        self.launch()
        assert self.process.stdout
        said = ""
        for line in self.process.stdout:
            said += line
            if "Ctrl-C" in line:  # the last line of the announcement
                drain(self.process.stdout)
                return
        raise RuntimeError(f"the service did not start:\n{said}{self.log.read_text()}")

    def run_to_the_end(self) -> subprocess.CompletedProcess[str]:
        """Start it where it must not start; gives its exit code and what it wrote."""
        return subprocess.run(
            self.command,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def reload(self) -> subprocess.CompletedProcess[str]:
        """`scripts/reload`: its exit code and what it wrote."""
        return subprocess.run(
            [ROOT / "scripts/reload", str(self.port)], capture_output=True, text=True, timeout=60, check=False
        )

    def get(self, path: str, headers: Mapping[str, str | bytes] | None = None) -> requests.Response:
        """GET through nginx."""
        return self._session.get(self.url + path, headers=headers, timeout=60)

    def stream(self, path: str) -> Iterator[Event]:
        """The events that a GET through nginx is answered with, as they come."""
        with self._session.get(self.url + path, stream=True, timeout=60) as response:
            assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            yield from read_events(line.decode() for line in response.iter_lines(chunk_size=1))

    def post(
        self, path: str, data: bytes = b"", headers: Mapping[str, str | bytes] | None = None
    ) -> requests.Response:
        """POST through nginx."""
        return self._session.post(self.url + path, data, headers=headers, timeout=60)

    def request(self, method: str, path: str, headers: Mapping[str, str]) -> requests.Response:
        """Any method, through nginx."""
        return self._session.request(method, self.url + path, headers=headers, timeout=60)

    def raw(self, request: bytes) -> tuple[int, bytes]:
        """The status and the body that nginx answers to these very bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before it was read
                connection.sendall(request)
            answer = b""
            while data := connection.recv(65536):
                answer += data
                head, found, body = answer.partition(b"\r\n\r\n")
                if found and len(body) >= content_length(head):
                    break
        return int(head.split()[1]), body

    def pid(self, name: str) -> int:
        """The master's process id: `uwsgi` or `nginx`."""
        return int((self.run / f"{name}.pid").read_text())

    def workers(self, name: str) -> list[int]:
        """The processes that the master has started; none before it has written its number."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return children(self.pid(name))
        return []

    def logged(self) -> list[str]:
        """The lines of its log. One that is being written is none yet."""
        return self.log.read_bytes().rpartition(b"\n")[0].decode().splitlines()

    def stop(self, number: signal.Signals = signal.SIGTERM, within: float = 60) -> int:
        """End it with a signal; gives the exit code. Nothing of it may be left."""
        family = descendants(self.process.pid)
        self.process.send_signal(number)
        code = self.process.wait(timeout=within)
        self.nothing_is_left(family)
        return code

    def nothing_is_left(self, family: list[int]) -> None:
        """No process of `family`, no listener, no file. Orphans have some time to be buried by init."""
        wait_until(
            lambda: not [pid for pid in family if is_alive(pid)], within=20, what="every process to end"
        )
        assert not self.run.exists()
        for url in (self.url, self.http):
            socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))).close()


def direct_session() -> requests.Session:
    """A session that takes no proxy between the test and this machine, whatever the environment says."""
    session = requests.Session()
    session.trust_env = False
    return session


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at, and that nobody else takes before the test listens there itself.

    The kernel would give any that is free, and a moment later, while a service is about to start, give the same to
    another process of tests.
    """
    found: list[int] = []
    while len(found) < count:
        port = next(_own_ports())
        with contextlib.suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            found.append(port)
    return found


@functools.cache
def _own_ports() -> Iterator[int]:
    """The block of ports of this process, round and round."""
    blocks = list(PORTS[::BLOCK])
    random.shuffle(blocks)
    for first in blocks:
        owner = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError):  # another process has it
            owner.bind(f"\0pokegen-tests-ports-{first}")
            _owners.append(owner)
            return itertools.cycle(range(first, first + BLOCK))
        owner.close()
    raise RuntimeError("every block of ports is taken: so many tests at once were not expected")


_owners: list[socket.socket] = []  # as long as one is open, nobody else can bind its name


def wait_until(condition: Callable[[], bool], within: float, what: str) -> float:
    """How many seconds it took until `condition` held. AssertionError after `within` seconds."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within, f"waited {within} s in vain for {what}"
        time.sleep(0.05)
    return time.monotonic() - started


def content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError(f"no Content-Length in {head!r}")


def drain(stream: IO[str]) -> None:
    """Read what comes until the end, so that the writer never waits for us."""
    threading.Thread(target=stream.read, daemon=True).start()


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid: int) -> list[int]:
    found = children(pid)
    for child in found:
        found.extend(children(child))
    return found


def metrics(url: str) -> dict[str, float]:
    """What /metrics says; url is that of the plain port. A name with labels is written as Prometheus writes it."""
    with direct_session() as session:
        answer = session.get(f"{url}/metrics", timeout=20)
    return {
        name_of(sample): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def name_of(sample: Sample) -> str:
    """Its name, and its labels in braces."""
    labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
    return sample.name + (f"{{{labels}}}" if labels else "")


def at_rest(url: str) -> bool:
    """Whether nothing runs or waits, and every block of the key/value cache is free."""
    now = metrics(url)
    return (
        now["pokegen_samples_running"] == now["pokegen_samples_waiting"] == 0
        and now["pokegen_kv_blocks_free"] == now["pokegen_kv_blocks"]
    )


def leave_early(url: str, path: str, after: float) -> None:
    """GET the path, and close the connection after so many seconds."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection, contextlib.suppress(TimeoutError):
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        leaves_at = time.monotonic() + after
        while (left := leaves_at - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(65536):
                return


def leave_when(url: str, path: str, condition: Callable[[], bool], what: str) -> None:
    """GET the path, and close the connection as soon as the condition holds."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        wait_until(condition, within=20, what=what)


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has taken."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie that its parent has not collected yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@contextlib.contextmanager
def running(stack: Stack) -> Iterator[Stack]:
    """Start it, and stop it unless the test has done so."""
    stack.start()
    try:
        yield stack
    finally:
        if stack.process.poll() is None:
            stack.stop()
