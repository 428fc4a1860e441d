"""Who closes a connection gives up what was asked over it."""

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from server.api.departures import Departures
from server.engine import Generation, SamplingParams
from server.engine.detokenizer import Detokenizer
from server.engine.generation import Sample
from tests.unit.api.conftest import Small


@pytest.fixture
def ours_and_theirs() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def generation() -> Generation:
    return Generation(1, SamplingParams(length=1), [Sample(Detokenizer([]))])


def is_cancelled(generation: Generation, within: float = 30) -> bool:
    deadline = time.monotonic() + within
    while not generation.cancelled and time.monotonic() < deadline:
        time.sleep(0.01)
    return generation.cancelled


def test_all_that_was_asked_over_a_connection_is_given_up(
    ours_and_theirs: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ours_and_theirs
    departures, asked = Departures(), [generation(), generation()]
    for each in asked:
        departures.watch(ours.fileno(), each)
    assert not is_cancelled(asked[0], within=0.05)
    theirs.close()
    assert all(is_cancelled(each) for each in asked)


@pytest.mark.parametrize("how", [socket.SHUT_WR, None])
def test_who_has_left_before_is_noticed_too(
    ours_and_theirs: tuple[socket.socket, socket.socket], how: int | None
) -> None:
    ours, theirs = ours_and_theirs
    theirs.close() if how is None else theirs.shutdown(how)
    departures, first, second = Departures(), generation(), generation()
    departures.watch(ours.fileno(), first)
    assert is_cancelled(first)
    departures.watch(ours.fileno(), second)
    assert is_cancelled(second)


def test_what_is_forgotten_is_not_given_up(ours_and_theirs: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ours_and_theirs
    departures, asked = Departures(), generation()
    departures.watch(ours.fileno(), asked)
    departures.forget(ours.fileno())
    departures.forget(ours.fileno())
    theirs.close()
    assert not is_cancelled(asked, within=0.1)


def test_the_next_reader_does_not_suffer_for_the_one_before_on_the_same_number() -> None:
    departures = Departures()
    for _ in range(200):
        ours, theirs = socket.socketpair()
        gone, there = generation(), generation()
        departures.watch(ours.fileno(), gone)
        number = ours.fileno()
        theirs.close()  # reported at about the time at which the number passes on
        departures.forget(number)
        ours.close()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert ours.fileno() == number
            departures.watch(number, there)
            assert not is_cancelled(there, within=0.002)
            departures.forget(number)


def test_a_stream_that_nobody_begins_to_read_is_given_up(small: Small) -> None:
    small.core.some_steps = threading.Semaphore(8)  # or it might be done before
    small.client.get("/generate?stream=true&length=500").close()
    small.core.some_steps.release(1000)
    deadline = time.monotonic() + 30
    while small.engine.statistics().ended["cancelled"] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_answer_that_was_given_up_is_no_answer(small: Small) -> None:
    small.core.open.clear()

    def open_when_cancelled() -> None:
        while not any(sequence.generation.cancelled for sequence in list(small.engine._scheduler)):
            time.sleep(0.01)
        small.core.open.set()

    opener = threading.Thread(target=open_when_cancelled, daemon=True)
    opener.start()
    reading, writing = os.pipe()
    os.close(writing)
    with open(reading) as connection:  # noqa: PTH123 - a connection that the other side has closed
        environ = {"werkzeug.socket": connection}
        assert small.client.get("/generate?length=500", environ_overrides=environ).status_code == 499
    opener.join(timeout=30)
