"""What all readers saw: readers.csv, stages.csv, and whether the service still keeps up."""

import csv
import time
from pathlib import Path
from typing import NamedTuple

from loadtest.load.reading import Ending, Reading
from loadtest.load.shapes import Stage

READERS = "readers.csv"
STAGES = "stages.csv"

COLUMNS = (
    "at", "story", "readers", "ending", "status", "first_token_s", "total_s", "tokens", "longest_gap_s",
    "retry_after_s", "error",
)  # fmt: skip

# What readers may expect: the ramp looks for the knee by it, and the report finds it.
PATIENCE = 1.0  # seconds to the first token
READING = 8.0  # tokens per second: faster than people read
LATE = 0.05  # the share for whom it may be later or slower
TURNED_AWAY = 0.01  # the share of requests that may get no text
SETTLE_SECONDS = 8.0  # of a stage, in which its readers come: they do not count


class Ended(NamedTuple):
    """What is kept of a reading until its stage is over: a soak has a hundred thousand."""

    began: float
    ending: Ending
    first_token_s: float | None
    rate: float | None


class Journal:
    """Writes down each reading as it ends. folder: for the files; None writes none. began: time.monotonic() at 0 s.

    Lines are written one by one, so that an interrupted run can be reported. Raises OSError.
    """

    def __init__(self, folder: Path | None, began: float) -> None:
        self._began = began
        self._going_on: dict[int, Reading] = {}
        self._ended: list[Ended] = []  # since the stage began
        self._stage_began = began
        self._rows = self._stages = None
        if folder:
            self._rows = csv.writer((folder / READERS).open("w", buffering=1, newline=""))
            self._stages = csv.writer((folder / STAGES).open("w", buffering=1, newline=""))
            self._rows.writerow(COLUMNS)
            self._stages.writerow(("at", "readers", "name"))

    def begin(self, stage: Stage) -> None:
        """A stage begins."""
        self._stage_began = time.monotonic()
        self._ended.clear()
        if self._stages:
            self._stages.writerow((_round(self._stage_began - self._began), stage.readers, stage.name))

    def asked(self, reading: Reading) -> None:
        """A request begins."""
        self._going_on[id(reading)] = reading

    def ended(self, reading: Reading) -> None:
        """It is over."""
        del self._going_on[id(reading)]
        self._ended.append(Ended(reading.began, reading.ending, reading.first_token_s, reading.rate()))
        if self._rows:
            values = {**vars(reading), "at": reading.began - self._began}
            self._rows.writerow(_round(values[column]) for column in COLUMNS)

    def keeps_up(self, settle: float, length: int) -> bool:
        """Whether the stage's readers got what they may expect, without those of its first `settle` seconds.

        length: tokens of a text. Who still waits, for the first token or the end, counts with the time until now.
        """
        now, since = time.monotonic(), self._stage_began + settle
        ended = [reading for reading in self._ended if reading.began >= since]
        firsts = [reading.first_token_s for reading in ended if reading.first_token_s is not None]
        here = [reading for reading in self._ended if reading.began >= self._stage_began]
        rates = [reading.rate for reading in here if reading.rate is not None]
        for reading in self._going_on.values():
            if reading.first_token_s is None:
                firsts.append(now - reading.began)
            elif reading.began >= self._stage_began:  # who began before was slowed down by that stage
                rates.append(length / max(now - reading.began - reading.first_token_s, 1e-6))
        late = sum(first > PATIENCE for first in firsts)
        slow = sum(rate < READING for rate in rates)
        turned_away = sum(reading.ending not in ("complete", "left") for reading in ended)
        return (
            len(firsts) > 0
            and late <= LATE * len(firsts)
            and slow <= LATE * len(rates)
            and turned_away <= TURNED_AWAY * len(ended)
        )


def _round(value: object) -> object:
    """To tenths of a millisecond; None is empty in the file."""
    return round(value, 4) if isinstance(value, float) else value
