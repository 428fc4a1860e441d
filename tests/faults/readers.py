"""Readers who look at the service while something goes wrong, and remember what they saw."""

import contextlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import requests

from tests.events import read_events
from tests.service.stack import direct_session, metrics, wait_until

# Greedy text from random weights: always the same, and seconds of work for the NumPy engine.
LONG = "/generate?prefix=Ash&temperature=0&length=250&whole_sentences=false"
LONGEST = "/generate?prefix=Ash&temperature=0&length=1000"  # for those who do not get it whole
MEDIUM = "/generate?prefix=Brock&seed=7&length=40&whole_sentences=false"
SHORT = "/generate?prefix=Misty&seed=7&length=4&whole_sentences=false"


@dataclass(frozen=True)
class Answer:
    """How one request ended.

    status: of HTTP; 0 where no head of an answer came. done: whether the answer came to its own end: a document with
    its last byte, a stream with its last event, `done` or `error`. last: a stream's last event. retry_after: in
    seconds, where the answer says it. asked, heard: of time.monotonic.
    """

    status: int
    text: str
    done: bool
    last: str
    retry_after: int | None
    asked: float
    heard: float

    @property
    def whole(self) -> bool:
        """Whether it is all that was asked for."""
        return self.status == 200 and self.done and self.last != "error"

    @property
    def cut(self) -> bool:
        """Whether an answer began and broke off, so that the reader knows that it is not whole."""
        return self.status == 200 and not self.done

    def __str__(self) -> str:
        if self.status == 0:
            return "no answer, the connection ends"
        if self.cut:
            return "the stream ends without `done`" if self.last else "the connection ends in the middle"
        if self.whole:
            return "the whole text"
        if self.status == 200:
            return f"the event `{self.last}`"
        when = f" with Retry-After {self.retry_after}" if self.retry_after else ""
        return f"{self.status}{when}"


def ask(url: str, path: str, timeout: float = 60) -> Answer:
    """GET it over a connection of its own, and read the answer, an event stream or not, to its end.

    An answer that breaks off or is not what it says it is raises nothing; TimeoutError after `timeout` seconds of
    silence.
    """
    asked = time.monotonic()
    status, text, done, last, retry_after = 0, "", False, "", None
    with direct_session() as session:
        try:
            headers = {"Connection": "close"}
            with session.get(url + path, headers=headers, stream=True, timeout=timeout) as response:
                status = response.status_code
                retry_after = int(response.headers.get("Retry-After", 0)) or None
                if response.headers["Content-Type"].startswith("text/event-stream"):
                    for event in read_events(line.decode() for line in response.iter_lines(chunk_size=1)):
                        last = event.name
                        text = event.data["text"] if last == "done" else text
                    done = last in ("done", "error")
                else:
                    document = json.loads(response.content)
                    assert document.get("status", 200) == status, document
                    text, done = document.get("text", ""), True
        except requests.Timeout as error:
            raise TimeoutError(f"{path} was silent for {timeout} s") from error
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            pass
    return Answer(status, text, done, last, retry_after, asked, time.monotonic())


@contextlib.contextmanager
def in_flight(url: str, http: str, path: str = LONG) -> Iterator[tuple[Future[Answer], Future[Answer]]]:
    """Two whose texts are being written: one gets it whole at its end, one as it grows.

    url: where they ask; http: the plain port, whose /metrics says that they have begun.
    """
    with ThreadPoolExecutor(2) as pool:
        whole = pool.submit(ask, url, path)
        stream = pool.submit(ask, url, f"{path}&stream=true")
        wait_until(
            lambda: metrics(http)["pokegen_samples_running"] == 2, within=20, what="two texts to be written"
        )
        yield whole, stream


@dataclass
class Newcomers:
    """Readers who come one after the other, each for a short text, from `with` on until its end."""

    url: str
    path: str = SHORT
    answers: list[Answer] = field(default_factory=list)

    def __enter__(self) -> "Newcomers":
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._come)
        self._thread.start()
        wait_until(lambda: bool(self.answers), within=20, what="the first of them to be answered")
        self._since = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._gone.set()
        self._thread.join()

    def _come(self) -> None:
        while not self._gone.wait(0.05):
            self.answers.append(ask(self.url, self.path))

    @property
    def later(self) -> list[Answer]:
        """The answers to those who came after the beginning of the `with` block."""
        return [answer for answer in self.answers if answer.asked >= self._since]

    def until_served(self, within: float = 60, in_a_row: int = 5) -> None:
        """Wait until `in_a_row` of them were given their text one after the other."""
        wait_until(
            lambda: len(self.later) >= in_a_row and all(answer.whole for answer in self.later[-in_a_row:]),
            within,
            "new readers to be served again",
        )

    @property
    def away(self) -> float:
        """For how many seconds nobody could be served, seen from the beginning of the `with` block.

        Until the first who was served after the last who was not; where all were served, the longest wait.
        """
        refused = [index for index, answer in enumerate(self.later) if not answer.whole]
        if not refused:
            return max(answer.heard - answer.asked for answer in self.later)
        return self.later[refused[-1] + 1].heard - self._since

    @property
    def saw(self) -> str:
        """What they were answered but for the text, each kind once."""
        kinds = Counter(str(answer) for answer in self.later if not answer.whole)
        return "; ".join(kinds) or "the whole text"


def connect(port: int, source: str = "127.0.0.1", receive_buffer: int = 0) -> socket.socket:
    """A connection from an address of its own, with as small a receive buffer as asked for (0: the system's)."""
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(20)
    connection.bind((source, 0))
    connection.connect(("127.0.0.1", port))
    return connection
