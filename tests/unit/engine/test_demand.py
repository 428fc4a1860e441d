"""When those who find no room are told to come back."""

import random
import time

import pytest

from server.engine.demand import LONGEST, MEMORY_SECONDS, Demand


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its only entry is the time."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture(autouse=True)
def no_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: low)


@pytest.mark.usefixtures("clock")
def test_who_is_refused_comes_back_after_as_many_turns_as_ask_for_each_place() -> None:
    asked = Demand()
    for _ in range(10):
        asked.admit()
    assert asked.refuse(2.0) == 3, "one in eleven: hardly more than the 2 s"
    answers = [asked.refuse(2.0) for _ in range(189)]
    assert answers == sorted(answers)
    assert answers[-1] == 2 * (1 + 190 / 10)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("wait", "seconds"), [(0.0, 1), (1e-9, 1), (1e9, LONGEST)])
def test_it_is_a_second_at_least_and_two_minutes_at_most(wait: float, seconds: int) -> None:
    assert Demand().refuse(wait) == seconds


def test_a_crowd_that_has_gone_is_forgotten(clock: list[float]) -> None:
    asked = Demand()
    for _ in range(100):
        asked.refuse(1.0)
    clock[0] += 10 * MEMORY_SECONDS
    assert asked.refuse(2.0) <= 5, "two turns, and not two hundred"


def test_they_do_not_come_back_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert len({Demand().refuse(30.0) for _ in range(100)}) > 10
