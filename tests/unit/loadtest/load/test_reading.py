"""What a reader makes of an answer, right or wrong; over real connections, from a server that says what it is told."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from loadtest.load.reading import Question, Reading, Server, Way

QUESTION = Question("Ash", 20)
ANSWER = {"text": "Ash runs.", "usage": {"completion_tokens": 20}}
DONE = f"event: done\ndata: {json.dumps(ANSWER)}\n\n"
WAITING = 'event: waiting\ndata: {"ahead":1,"seconds":0.5}\n\n'


def piece(text: str) -> str:
    return f'data: {{"text":"{text}"}}\n\n'


def whole(status: str, document: object, headers: str = "") -> list[str | float]:
    body = json.dumps(document)
    return [f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n{body}"]


def streamed(*parts: str | float) -> list[str | float]:
    return ["HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n", *parts]


Ask = Callable[..., Reading]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Ask a server that sends these parts, and sleeps for the seconds among them."""
    over = threading.Event()
    with contextlib.ExitStack() as stack:

        def answered(parts: list[str | float], way: Way = "stream", **conduct: float) -> Reading:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve() -> None:
                connection, _ = server.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(65536)
                    for part in parts:
                        if isinstance(part, str):
                            connection.sendall(part.encode())
                        else:
                            over.wait(part)

            thread = threading.Thread(target=serve)
            thread.start()
            stack.callback(thread.join)
            reading = Reading(time.monotonic(), "CasualReader", 1)
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            Server(url).ask(QUESTION, way, reading, "127.1.0.1", **conduct)
            return reading

        yield answered
        over.set()


def test_a_whole_stream(ask: Ask) -> None:
    parts = streamed(WAITING, 0.2, ":\n\n", piece("Ash"), 1.0, piece(" runs."), DONE)
    reading = ask(parts)
    assert reading.ending == "complete", reading.error
    assert (reading.status, reading.tokens, reading.text) == (200, 20, "Ash runs.")
    assert reading.first_token_s is not None
    assert reading.longest_gap_s is not None
    assert reading.total_s is not None
    assert 0.2 <= reading.first_token_s < reading.total_s  # neither the queue nor a heartbeat is a token
    assert 0.3 < reading.longest_gap_s < reading.total_s


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        (streamed(piece("Ash")), "the stream ended without its last event"),
        (streamed(), "the stream ended without its last event"),
        (streamed(piece("Ash"), piece(" walks."), DONE), "the pieces are not the text"),
        (
            streamed(piece("Misty runs."), DONE.replace("Ash", "Misty")),
            "the text does not begin with its prefix",
        ),
        (streamed(piece("Ash runs."), "event: done\ndata: {\n\n"), "JSONDecodeError"),
        (whole("500 Internal Server Error", {"detail": "An unexpected error"}), "500: An unexpected error"),
        (whole("502 Bad Gateway", "no document"), "502: Bad Gateway"),
        (["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nda"], "IncompleteRead"),
        ([], "RemoteDisconnected"),
    ],
)
def test_a_broken_answer_failed(ask: Ask, parts: list[str | float], error: str) -> None:
    reading = ask(parts)
    assert reading.ending == "failed"
    assert reading.error.startswith(error)


@pytest.mark.parametrize(
    ("status", "detail", "ending"),
    [
        (
            "503 Service Unavailable",
            "The service is busy: too many are waiting. Try again in 7 seconds.",
            "refused",
        ),
        (
            "503 Service Unavailable",
            "The text was not done within 60 s. Ask for a smaller length.",
            "deadline",
        ),
        ("503 Service Unavailable", "The service is stopping or starting anew.", "failed"),
        ("429 Too Many Requests", "Too much from one address.", "limited"),
        ("504 Gateway Timeout", "The text generator took longer than 70 seconds.", "failed"),
    ],
)
def test_kinds_of_refusal(ask: Ask, status: str, detail: str, ending: str) -> None:
    for way in ("stream", "post"):
        reading = ask(whole(status, {"detail": detail}, "Retry-After: 7\r\n"), way)
        assert reading.ending == ending
        assert reading.retry_after_s == 7
        assert reading.first_token_s is None


def test_an_error_within_the_stream(ask: Ask) -> None:
    problem = json.dumps({"status": 503, "detail": "The text was not done within 60 s. Come back."})
    reading = ask(streamed(piece("Ash"), f"event: error\ndata: {problem}\n\n"))
    assert (reading.ending, reading.error) == ("deadline", "The text was not done within 60 s")


@pytest.mark.parametrize("parts", [streamed(WAITING, 5.0), [5.0], streamed(piece("Ash"), 5.0)])
def test_a_reader_without_patience_leaves(ask: Ask, parts: list[str | float]) -> None:
    reading = ask(parts, patience=0.2)
    assert (reading.ending, reading.error) == ("left", "")
    assert reading.total_s is not None
    assert 0.2 <= reading.total_s < 4


def test_a_reader_leaves_half_way(ask: Ask) -> None:
    reading = ask(streamed(piece("Ash runs and runs and runs and runs and runs."), 5.0, DONE), share=0.5)
    assert reading.ending == "left"
    assert reading.total_s is not None
    assert reading.total_s < 4


def test_a_text_as_json(ask: Ask) -> None:
    reading = ask(whole("200 OK", ANSWER), "post")
    assert (reading.ending, reading.tokens, reading.first_token_s) == ("complete", 20, None)


def test_of_the_seed_design_nothing_is_seen_before_the_end(ask: Ask) -> None:
    reading = ask(whole("200 OK", ANSWER), "seed")
    assert reading.ending == "complete"
    assert reading.first_token_s == reading.total_s


def test_a_text_to_another_question(ask: Ask) -> None:
    reading = ask(whole("200 OK", ANSWER | {"text": "Misty runs."}), "post")
    assert (reading.ending, reading.error) == ("failed", "the text does not begin with its prefix")


def test_nobody_listens() -> None:
    reading = Reading(time.monotonic(), "CasualReader", 1)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # it keeps the port, and does not listen
        Server(f"http://127.0.0.1:{nobody.getsockname()[1]}").ask(QUESTION, "stream", reading)
    assert reading.ending == "failed"
    assert reading.error.startswith("ConnectionRefusedError")


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "https://pokegen.example", "http://"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="must be http://HOST:PORT"):
        Server(url)


def test_the_rate_of_a_reading() -> None:
    reading = Reading(0, "CasualReader", 1, first_token_s=1.0, total_s=11.0, tokens=81)
    assert reading.rate() == pytest.approx(8)
    reading.tokens = 3  # too few to say
    assert reading.rate() is None
