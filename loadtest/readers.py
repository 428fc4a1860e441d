"""Readers: what they ask for, how they behave, and who answers them, the engine in this process or a service."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

# The endings that a reader's visit may have. left: the reader gave up half-way. deadline: the time that the engine was
# given was over. refused: there was no room.
Ending = Literal["complete", "left", "deadline", "refused"]

LOST_AFTER = 120.0  # seconds without an answer, after which there will be none

WORDS = (
    "Ash",
    "Pikachu",
    "Misty",
    "Brock",
    "Team",
    "Rocket",
    "a",
    "the",
    "gym",
    "badge",
    "lost",
    "and",
    "when",
    "said",
)


class Fault(Exception):  # noqa: N818
    """What must not happen: an answer that is lost, comes twice, or is another than it should be."""


@dataclass(frozen=True)
class Request:
    """What a reader asks for; the fields are those of /generate."""

    prefix: str
    length: int
    nsamples: int = 1
    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 0.0
    truncate: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Conduct:
    """How the reader behaves.

    patience: seconds until the reader leaves. deadline: seconds that the engine is given. streams: whether the text is
    read as it grows. A service knows only the first.
    """

    patience: float = math.inf
    deadline: float = math.inf
    streams: bool = False


STAYS = Conduct()


@dataclass(frozen=True)
class Visit:
    """How it went; a complete one has its samples' texts, and how many tokens were made for them."""

    ending: Ending
    texts: tuple[str, ...] = ()
    tokens: int = 0


class Host(Protocol):
    """Who answers readers, many at once."""

    def visit(self, request: Request, conduct: Conduct = STAYS) -> Visit:
        """Ask, and do as `conduct` says until it is over. Raises Fault."""
        ...

    def resident_mb(self) -> float:
        """The resident memory (MiB) of all processes that answer."""
        ...

    def at_rest(self) -> list[str]:
        """What is not as it should be now that every reader has gone, in sentences."""
        ...


def random_request(random: np.random.Generator, longest: int) -> Request:
    """Prompts of one word to some chunks of a prefill; most texts short, some as long as `longest` tokens."""
    prefix = " ".join(random.choice(WORDS, int(random.integers(1, 150))))
    length = 1 + int(random.beta(1, 3) * (longest - 1))
    return Request(
        prefix=prefix,
        length=length,
        nsamples=int(random.choice([1, 1, 1, 2, 3])),
        temperature=float(random.choice([0, 0.7, 1])),
        top_k=int(random.choice([0, 40])),
        top_p=float(random.choice([0, 0.9])),
        truncate=[None, None, " the"][int(random.integers(3))],
        seed=int(random.integers(2**32)),
    )


def random_conduct(random: np.random.Generator, wait: float) -> Conduct:
    """One in three stays to the end; the others have up to `wait` seconds of patience, or give the engine as much."""
    some = float(random.uniform(0, wait))
    kinds: list[Callable[[], Conduct]] = [
        lambda: STAYS,
        lambda: Conduct(streams=True),
        lambda: Conduct(patience=some),
        lambda: Conduct(patience=some, streams=True),
        lambda: Conduct(deadline=some),
        lambda: Conduct(deadline=some, streams=True),
    ]
    return kinds[int(random.integers(len(kinds)))]()


def resident_mb(pid: int) -> float:
    """VmRSS in MiB (man 5 proc, /proc/pid/status: kB are 1024 bytes)."""
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS:"))
