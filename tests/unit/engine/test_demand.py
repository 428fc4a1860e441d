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


@pytest.fixture
def last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks is the last of those who are spread."""
    monkeypatch.setattr(random, "uniform", lambda low, high: high)


@pytest.mark.usefixtures("clock", "last")
def test_the_last_comes_back_when_all_the_others_have_had_their_turn() -> None:
    asked = Demand()
    for _ in range(10):
        asked.admit()
    assert asked.refuse(2.0) == 4, "one in eleven: hardly more than the 2 s, and half as much again"
    answers = [asked.refuse(2.0) for _ in range(189)]
    assert answers == sorted(answers)
    assert answers[-1] == 2 * (1.5 + 190 / 10)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("wait", "seconds"), [(0.0, 1), (1e-9, 1), (1e9, LONGEST)])
def test_it_is_a_second_at_least_and_two_minutes_at_most(wait: float, seconds: int) -> None:
    assert Demand().refuse(wait) == seconds


@pytest.mark.usefixtures("last")
def test_a_crowd_that_has_gone_is_forgotten(clock: list[float]) -> None:
    asked = Demand()
    for _ in range(100):
        asked.refuse(1.0)
    clock[0] += 10 * MEMORY_SECONDS
    assert asked.refuse(2.0) <= 6, "as for one, and not for a hundred"


@pytest.mark.usefixtures("clock")
def test_they_come_back_spread_over_the_time_that_serving_all_takes() -> None:
    random.seed(7)
    asked = Demand()
    asked.admit()
    for _ in range(49):
        asked.refuse(1.0)
    answers = sorted(asked.refuse(1.0) for _ in range(200))
    for share in (0.25, 0.5, 0.75):
        assert answers[int(share * 200)] == pytest.approx(share * min(150, LONGEST), rel=0.5)
