"""How many ask, of whom how many find room: when it makes sense to come back."""

import math
import random
import time

MEMORY_SECONDS = 10.0  # after which a submission counts for 1/e
LONGEST = 120  # seconds


class Demand:
    """Counts submissions, the last ones most. Not thread-safe: the engine's lock guards it."""

    def __init__(self) -> None:
        self._admitted = 0.0
        self._refused = 0.0
        self._at = time.monotonic()

    def admit(self) -> None:
        """One found room."""
        self._fade()
        self._admitted += 1

    def refuse(self, wait: float) -> int:
        """One found no room; `wait`: seconds until there is some. Whole seconds after which to come back: 1 to 120.

        If twenty ask for each who finds room, serving all takes twenty times as long. Over that time they are spread,
        as places become free: back all at once, they would be refused again, and before that nobody would have come.
        """
        self._fade()
        self._refused += 1
        turns = self._refused / max(self._admitted, 1)
        return min(max(math.ceil(wait * random.uniform(1, 1.5 + turns)), 1), LONGEST)  # noqa: S311

    def _fade(self) -> None:
        now = time.monotonic()
        left = math.exp((self._at - now) / MEMORY_SECONDS)
        self._admitted *= left
        self._refused *= left
        self._at = now
