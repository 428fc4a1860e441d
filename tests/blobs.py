"""A server of files as Azure's blob storage is one (ETag, Content-MD5, Range, If-Range), which can be told to fail.

    with serve(folder) as blobs:
        blobs.faults["model.ckpt.data-00000-of-00001"] = [cut(0.5), status(503)]
        get(blobs.url + "/encoder.json")

A file's faults come one after another, one a GET; then it is served soundly. `blobs.gets` lists the GETs.
"""

import base64
import hashlib
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Answer:
    """What is about to be sent. `body` may be made shorter than `headers` promise; `pause` is in seconds a KiB."""

    status: int
    headers: dict[str, str]
    body: bytes
    pause: float = 0.0


Fault = Callable[[Answer], None]


@dataclass
class Get:
    """A file that was asked for, the Range or None, how many bytes of it have been sent, and who asked, or None."""

    file: str
    asked: str | None
    sent: int = 0
    authorization: str | None = None


@dataclass
class Blobs:
    """What is served, and what was asked for."""

    folder: Path
    url: str = ""
    faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    gets: list[Get] = field(default_factory=list)
    etags: bool = True
    ranges: bool = True
    md5: bool = True
    wrong_md5: set[str] = field(default_factory=set)

    def gets_of(self, name: str) -> list[tuple[str | None, int]]:
        return [(get.asked, get.sent) for get in self.gets if get.file == name]


def cut(share: float) -> Fault:
    """Close the connection after this share of the body."""

    def fault(answer: Answer) -> None:
        answer.body = answer.body[: int(len(answer.body) * share)]

    return fault


def status(code: int) -> Fault:
    def fault(answer: Answer) -> None:
        answer.status, answer.headers, answer.body = code, {"Content-Length": "0"}, b""

    return fault


def headers(**others: str) -> Fault:
    """Send these headers too, whatever the body is."""
    return lambda answer: answer.headers.update(others)


def content(body: bytes) -> Fault:
    """Send this as if it were the file."""

    def fault(answer: Answer) -> None:
        answer.body, answer.headers["Content-Length"] = body, str(len(body))

    return fault


def slow(pause: float) -> Fault:
    def fault(answer: Answer) -> None:
        answer.pause = pause

    return fault


@contextmanager
def serve(folder: Path) -> Iterator[Blobs]:
    blobs = Blobs(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(send_body=False)

        def do_GET(self) -> None:
            self._answer(send_body=True)

        def _answer(self, *, send_body: bool) -> None:
            name = self.path.partition("?")[0].removeprefix("/")
            file = blobs.folder / name
            if not file.is_file():
                self.send_error(404)
                return
            content = file.read_bytes()
            md5 = hashlib.md5(content + b"!" * (name in blobs.wrong_md5), usedforsecurity=False).digest()
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            answer = Answer(200, {}, content)
            asked = self.headers["Range"]
            if asked and blobs.ranges and self.headers["If-Range"] in (None, etag):
                found = re.fullmatch(r"bytes=(\d+)-", asked)
                assert found, asked
                start = int(found[1])
                answer = Answer(
                    206,
                    {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"},
                    content[start:],
                )
            elif blobs.md5:  # Azure's Content-MD5 of a range is the range's
                answer.headers["Content-MD5"] = base64.b64encode(md5).decode()
            if blobs.etags:
                answer.headers["ETag"] = etag
            answer.headers["Content-Length"] = str(len(answer.body))
            if send_body and blobs.faults[name]:
                blobs.faults[name].pop(0)(answer)
            get = Get(name, asked, authorization=self.headers["Authorization"])
            if send_body:
                blobs.gets.append(get)  # who has its headers may look at once
            self.send_response(answer.status)
            for header, value in answer.headers.items():
                self.send_header(header, value)
            self.end_headers()
            if send_body:
                self._send(answer, get)

        def _send(self, answer: Answer, get: Get) -> None:
            with suppress(ConnectionError):  # who asked has gone
                for start in range(0, len(answer.body), 1024):
                    piece = answer.body[start : start + 1024]
                    get.sent += len(piece)  # who has all of it may look at once
                    self.wfile.write(piece)
                    time.sleep(answer.pause)

        def log_message(self, *_: object) -> None:
            """Nothing: the tests look at `gets`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        blobs.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield blobs
        finally:
            server.shutdown()
            thread.join()
