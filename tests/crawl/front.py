"""A small proxy in front of the wiki: serves robots.txt, counts and times what passes, and has trouble on demand."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit


class Seen(NamedTuple):
    """A request as it arrived. came, gone: when it came and when it was answered, time.monotonic() seconds."""

    came: float
    gone: float
    path: str
    parameters: dict[str, str]
    user_agent: str


class Answer(NamedTuple):
    """What goes back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class DroppedConnectionError(Exception):
    """The proxy must close the connection in the middle of an answer."""


# What happens to one request to the API instead of being passed on: takes the request's parameters and the means to
# pass them on.
Trouble = Callable[[dict[str, str], Callable[[dict[str, str]], Answer]], Answer]


@dataclass
class Front:
    """The proxy. `backend`, `robots` and `troubles` may be changed at any time; each trouble happens once."""

    port: int = 0
    backend: str = ""
    robots: Answer = field(default_factory=lambda: Answer(404, {}, b""))
    troubles: deque[Trouble] = field(default_factory=deque)
    seen: list[Seen] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> list[Seen]:
        """The requests to the API."""
        return [seen for seen in self.seen if seen.path == "/w/api.php"]

    @property
    def titles(self) -> list[str]:
        """The pages asked for, in this order."""
        return [seen.parameters["titles"] for seen in self.api if "titles" in seen.parameters]

    @property
    def gaps(self) -> list[float]:
        """Seconds from each answer to the next request."""
        return [after.came - before.gone for before, after in zip(self.seen, self.seen[1:], strict=False)]

    def set_robots(self, *lines: str) -> None:
        self.robots = Answer(200, {"Content-Type": "text/plain"}, "\n".join(lines).encode())

    def reset(self) -> None:
        """Forget what was seen, and have no rules and no troubles.

        What a client that was killed has asked for may still be answered: that goes to what was seen before.
        """
        self.robots = Answer(404, {}, b"")
        self.troubles.clear()
        self.seen = []


@contextmanager
def front() -> Iterator[Front]:
    """A running proxy whose backend is still to be named."""
    proxy = Front()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            self._seen = proxy.seen  # a connection is one crawl's
            super().setup()

        def do_GET(self) -> None:
            self._handle("GET")

        def do_POST(self) -> None:
            self._handle("POST")

        def _handle(self, method: str) -> None:
            came = time.monotonic()
            target = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            parameters = dict(parse_qsl(body or target.query, keep_blank_values=True))

            def pass_on(changed: dict[str, str]) -> Answer:
                return _ask(proxy.backend, method, target.path, changed)

            answer: Answer | None
            try:
                if target.path == "/robots.txt":
                    answer = proxy.robots
                elif proxy.troubles and target.path == "/w/api.php":
                    answer = proxy.troubles.popleft()(parameters, pass_on)
                else:
                    answer = pass_on(parameters)
            except DroppedConnectionError:
                answer = None
            agent = self.headers.get("User-Agent", "")
            self._seen.append(Seen(came, time.monotonic(), target.path, parameters, agent))
            try:
                self._send(answer)
            except (BrokenPipeError, ConnectionResetError):  # the client was killed
                self.close_connection = True

        def _send(self, answer: Answer | None) -> None:
            """The answer; without one, the beginning of something and no more."""
            if answer is None:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{")
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _ask(backend: str, method: str, path: str, parameters: dict[str, str]) -> Answer:
    connection = HTTPConnection(urlsplit(backend).netloc, timeout=60)
    query = urlencode(parameters)
    if method == "GET":
        connection.request("GET", f"{path}?{query}")
    else:
        connection.request("POST", path, query, {"Content-Type": "application/x-www-form-urlencoded"})
    response = connection.getresponse()
    kept = ("content-type", "retry-after", "x-database-lag", "mediawiki-api-error", "location")
    headers = {name: value for name, value in response.getheaders() if name.lower() in kept}
    answer = Answer(response.status, headers, response.read())
    connection.close()
    return answer


def fails(status: int, **headers: str) -> Trouble:
    """Answer with this status; header names with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _parameters, _pass_on: Answer(status, named, b"The server has a problem.")


def drops(_parameters: dict[str, str], _pass_on: Callable[[dict[str, str]], Answer]) -> Answer:
    """Close the connection in the middle of the answer."""
    raise DroppedConnectionError


def lags(parameters: dict[str, str], pass_on: Callable[[dict[str, str]], Answer]) -> Answer:
    """What MediaWiki itself answers when its database lags: always, if no lag at all is small enough.

    It asks for 5 s; a second must do here.
    """
    answer = pass_on({**parameters, "maxlag": "-2"})
    assert b'"maxlag"' in answer.body, answer
    return answer._replace(headers={**answer.headers, "Retry-After": "1"})
