"""How many readers there are, and when.

A shape is a generator of stages, which is told after each whether the service kept up with it.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

ShapeName = Literal["ramp", "steady", "spike", "soak"]

MOST_READERS = 10_000


@dataclass(frozen=True)
class Stage:
    """So many readers for so many seconds. at_once: those who come or go for it do so at the same moment."""

    name: str
    readers: int
    seconds: float
    at_once: bool = False


Shape = Generator[Stage, bool, None]


def ramp(first: int, seconds: float) -> Shape:
    """Twice as many each time until the service does not keep up; then half the gap, until the knee is known to 1/8."""
    most, too_many = 0, 0
    readers = first
    while readers <= MOST_READERS:
        keeps_up = yield Stage(f"{readers} at once", readers, seconds)
        if keeps_up:
            most = readers
        else:
            too_many = readers
        if not too_many:
            readers *= 2
        elif too_many - most <= max(1, most // 8):
            return
        else:
            readers = (most + too_many) // 2


def levels(counts: Sequence[int], seconds: float) -> Shape:
    """These, whatever becomes of them."""
    for readers in counts:
        yield Stage(f"{readers} at once", readers, seconds)


def steady(name: str, readers: int, seconds: float) -> Shape:
    """As many all the time."""
    yield Stage(name, readers, seconds)


def spike(readers: int, times: int, seconds: float) -> Shape:
    """Three thirds: so many, `times` as many, and as many as before."""
    yield Stage("before", readers, seconds / 3)
    yield Stage("spike", min(readers * times, MOST_READERS), seconds / 3, at_once=True)
    yield Stage("after", readers, seconds / 3, at_once=True)
