"""What an input may cost, and what a refusal must look like."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from server.weights import CheckpointError
from server.weights.errors import LONGEST

SECONDS = 2.0  # of this process, so that a busy machine makes no difference
MEMORY = 64 << 20  # bytes of address space above what the process has


class BreachError(BaseException):
    """An input had an effect that none may have. No `Exception`, lest what is fuzzed catches it."""


@contextmanager
def bounded() -> Iterator[None]:
    """Raises BreachError after `SECONDS`; beyond `MEMORY` no more is given, which raises MemoryError."""
    before = signal.signal(signal.SIGVTALRM, _too_slow)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGVTALRM, before)


def _too_slow(_number: int, _frame: FrameType | None) -> None:
    raise BreachError(f"took more than {SECONDS} seconds")


def require(holds: bool, what: str) -> None:
    """Raises BreachError, which says `what`, unless it holds."""
    if not holds:
        raise BreachError(what)


def require_one_line(error: CheckpointError, directory: Path) -> None:
    """A refusal is one line that any terminal and log can show, and begins with a file in `directory`."""
    line = str(error)
    require(line.isprintable(), f"the message is not one printable line: {line!r}")
    require(len(line) <= LONGEST, f"the message has {len(line)} characters")
    require(line.startswith(f"{directory}"), f"the message names no file of the checkpoint: {line}")
