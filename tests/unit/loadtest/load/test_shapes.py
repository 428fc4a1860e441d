"""Shapes: the ramp finds the knee, and the others do what they are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.load.shapes import MOST_READERS, Shape, Stage, levels, ramp, spike, steady


def walk(shape: Shape, knee: int) -> list[Stage]:
    """The stages that a service sees which keeps up with `knee` readers and no more."""
    stages = [next(shape)]
    while True:
        try:
            stages.append(shape.send(stages[-1].readers <= knee))
        except StopIteration:
            return stages


@given(knee=st.integers(1, MOST_READERS // 2), first=st.integers(1, 64))
def test_a_ramp_finds_the_knee_to_an_eighth(knee: int, first: int) -> None:
    tried = [stage.readers for stage in walk(ramp(first, 30), knee)]
    most = max((readers for readers in tried if readers <= knee), default=0)
    assert knee - most <= max(1, most // 8)
    assert min(readers for readers in tried if readers > knee) - most <= max(1, most // 8)
    assert len(tried) <= 20


def test_a_ramp_ends_where_not_even_one_reader_is_served() -> None:
    assert [stage.readers for stage in walk(ramp(8, 30), knee=0)] == [8, 4, 2, 1]


def test_a_ramp_ends_where_nothing_is_too_much() -> None:
    tried = [stage.readers for stage in walk(ramp(16, 30), knee=10**9)]
    assert tried[:3] == [16, 32, 64]
    assert max(tried) <= MOST_READERS


def test_levels_go_on_whatever_becomes_of_them() -> None:
    assert walk(levels([1, 3, 2], 9), knee=0) == [
        Stage("1 at once", 1, 9),
        Stage("3 at once", 3, 9),
        Stage("2 at once", 2, 9),
    ]


def test_a_spike_goes_up_and_back() -> None:
    assert walk(spike(4, 20, 30), knee=4) == [
        Stage("before", 4, 10),
        Stage("spike", 80, 10, at_once=True),
        Stage("after", 4, 10, at_once=True),
    ]


def test_a_spike_has_its_limit() -> None:
    assert walk(spike(MOST_READERS, 20, 30), knee=4)[1].readers == MOST_READERS


@pytest.mark.parametrize("name", ["steady", "soak"])
def test_a_steady_shape_is_one_stage(name: str) -> None:
    assert walk(steady(name, 7, 60), knee=0) == [Stage(name, 7, 60)]
