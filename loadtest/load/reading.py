"""One request and what its reader saw of the answer."""

import json
import math
import socket
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

# complete: the whole text. left: the reader went away. refused: 503 at once. limited: 429, too much from one address.
# deadline: the service's time for it was over. failed: anything else, which must not be.
Ending = Literal["complete", "left", "refused", "limited", "deadline", "failed"]

# stream: GET, as the site does. post: POST with JSON, as a script does. seed: the only way that the seed design knows.
Way = Literal["stream", "post", "seed"]

# Seconds of silence after which a reader reports a fault: longer than nginx's own limit, whose answer should be seen.
LOST_AFTER = 75.0

# How a piece of text begins on the wire, and the whole answer at the end. A queue's event and a heartbeat do not.
PIECE = b'data: {"text":'

CHARACTERS = 4  # of a token, about


@dataclass(frozen=True)
class Question:
    """What is asked: the fields of /generate."""

    prefix: str
    length: int
    seed: int | None = None


@dataclass
class Reading:
    """One request, as it went; what is not known is None.

    began: time.monotonic() when it was asked. story: the kind of reader. readers: how many there were then.
    first_token_s: seconds until the first piece of the text; None where it does not come in pieces. total_s: until the
    end. tokens: that were made. longest_gap_s: the longest silence after the first piece. error: what is wrong.
    retry_after_s: when the service asked to come back. text: a complete one.
    """

    began: float
    story: str
    readers: int
    ending: Ending = "left"
    status: int | None = None
    first_token_s: float | None = None
    total_s: float | None = None
    tokens: int | None = None
    longest_gap_s: float | None = None
    error: str = ""
    retry_after_s: float | None = None
    text: str = ""

    def rate(self) -> float | None:
        """Tokens a second from the first token on; None where that says nothing."""
        if self.first_token_s is None or not self.total_s or not self.tokens or self.tokens < 16:
            return None
        return (self.tokens - 1) / max(self.total_s - self.first_token_s, 1e-6)

    def fail(self, ending: Ending, error: str) -> None:
        """It ended so, because of `error`, of which the first sentence is kept: the next says what to do."""
        self.ending, self.error = ending, error.partition(". ")[0][:120]


class Server:
    """Where to ask. url: such as http://127.0.0.1:8080. Raises ValueError."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        if address.scheme != "http" or not address.hostname:
            raise ValueError(f"the address must be http://HOST:PORT, not {url}")
        self._host, self._port = address.hostname, address.port

    def ask(
        self,
        question: Question,
        way: Way,
        reading: Reading,
        source: str | None = None,
        patience: float = math.inf,
        share: float = math.inf,
    ) -> None:
        """Ask, read, and fill in `reading`; what goes wrong is told there. A greenlet that is killed has left.

        source: the address to ask from. patience: seconds until the reader leaves. share: about how much of a stream
        the reader reads before leaving.
        """
        # A connection of its own: readers come from all over, and stay for a text.
        connection = HTTPConnection(
            self._host,
            self._port,
            timeout=min(patience, LOST_AFTER),
            source_address=(source, 0) if source else None,
        )
        try:
            _send(connection, question, way)
            sock = connection.sock  # the connection forgets it where the server will close it
            response = connection.getresponse()
            reading.status = response.status
            if response.status != 200:
                _refusal(response, reading)
            elif way == "stream":
                enough = share * question.length * CHARACTERS
                _read_stream(sock, response, reading, patience, enough)
            else:
                _complete(json.loads(response.read()), reading)
            if reading.ending == "complete" and not reading.text.startswith(question.prefix):
                reading.fail("failed", "the text does not begin with its prefix")
        except TimeoutError:
            if time.monotonic() - reading.began < patience:
                reading.fail("failed", f"silence for {LOST_AFTER:.0f} s")
        except (OSError, HTTPException, ValueError, KeyError, IndexError, TypeError) as error:
            reading.fail("failed", f"{type(error).__name__}: {error}")
        finally:
            reading.total_s = time.monotonic() - reading.began
            connection.close()
        if way == "seed" and reading.ending == "complete":
            reading.first_token_s = reading.total_s


def _send(connection: HTTPConnection, question: Question, way: Way) -> None:
    fields: dict[str, Any] = {"prefix": question.prefix, "length": question.length}
    if question.seed is not None:
        fields["seed"] = question.seed
    if way == "stream":
        fields |= {"stream": "true", "whole_sentences": "false"}
        connection.request("GET", f"/generate?{urlencode(fields)}", headers={"Accept": "text/event-stream"})
    elif way == "post":
        body = json.dumps(fields | {"whole_sentences": False})
        connection.request("POST", "/generate", body, {"Content-Type": "application/json"})
    else:
        connection.request("GET", f"/generate?{urlencode(fields)}")


def _read_stream(
    sock: socket.socket, response: HTTPResponse, reading: Reading, patience: float, enough: float
) -> None:
    """Only counts time while it comes, for hundreds of readers share a processor; what came is checked at the end.

    enough: characters after which the reader leaves.
    """
    came = []
    last, characters = 0.0, 0
    while data := response.read1(65536):
        came.append(data)
        now = time.monotonic()
        if PIECE in data:
            if reading.first_token_s is None:
                reading.first_token_s = now - reading.began
                reading.longest_gap_s = 0.0
            else:
                reading.longest_gap_s = max(reading.longest_gap_s or 0.0, now - last)
            last = now
            characters += len(data) - len(PIECE)
        if characters > enough:
            return
        if patience < math.inf:
            left = reading.began + patience - now
            if left <= 0:
                return
            sock.settimeout(min(left, LOST_AFTER))
    _check_stream(b"".join(came).decode(), reading)


def _check_stream(stream: str, reading: Reading) -> None:
    """The pieces must be the text, and the last event must be `done`."""
    pieces = []
    for event in stream.split("\n\n"):
        head, _, data = event.partition("data: ")
        if head == "" and data:
            pieces.append(json.loads(data)["text"])
        elif head == "event: error\n":
            problem = json.loads(data)
            reading.fail(_kind(problem["status"], problem["detail"]), problem["detail"])
            return
        elif head == "event: done\n":
            answer = json.loads(data)
            _complete(answer, reading)
            if "".join(pieces) != answer["text"]:
                reading.fail("failed", "the pieces are not the text")
            return
    reading.fail("failed", "the stream ended without its last event")


def _complete(answer: dict[str, Any], reading: Reading) -> None:
    reading.ending = "complete"
    reading.text, reading.tokens = answer["text"], answer["usage"]["completion_tokens"]


def _refusal(response: HTTPResponse, reading: Reading) -> None:
    if after := response.getheader("Retry-After"):
        reading.retry_after_s = float(after)
    body = response.read()
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):  # not the service's own answer
        detail = response.reason
    reading.fail(_kind(response.status, detail), f"{response.status}: {detail}")


def _kind(status: int, detail: str) -> Ending:
    """What an error means for its reader; the two kinds of 503 differ in their sentence (server/api/problems.py)."""
    if status == 429:
        return "limited"
    if status == 503 and "busy" in detail:
        return "refused"
    if status == 503 and "not done within" in detail:
        return "deadline"
    return "failed"
