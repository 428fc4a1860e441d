"""`python -m loadtest.simulate RAMP STEADY`: one box on paper, by the step times that a ramp measured.

The box is what server/engine/scheduler.py makes of it: each step advances all who run by one token and reads a chunk of
prompt, as many run as keep their pace, and who would wait for too long is told to come back. What nginx, Python and the
network add is not in it. First it repeats a steady run, beside what was measured there; only then is it asked about
other loads.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

import click
import numpy as np

from loadtest.load.journal import PATIENCE, SETTLE_SECONDS, TURNED_AWAY
from loadtest.report.comparison import Price
from loadtest.report.figures import Level, levels, percentile
from loadtest.report.runs import Numbers, Run, RunError, read_run
from server.engine.scheduler import PREFILL_CHUNK
from server.settings import Settings

PROMPT = 10  # tokens of an opening, in the mean of loadtest/load/openings.py
TURNAROUND = (
    0.1  # seconds from the end of a reader's text to the next request, as loadtest/locustfile.py has it
)
TOLERANCE = 0.15
DAY = 86_400


@dataclass(frozen=True)
class StepTime:
    """How long a step takes with so many texts: the measured medians, and straight lines between and beyond them.

    running: ascending. seconds: of a step with as many. swings: of each of these, second by second, how many times as
    long as the median a step took: a machine that others use too has slow seconds, and they come together.
    """

    running: Numbers
    seconds: Numbers
    swings: list[Numbers]

    @classmethod
    def of(cls, run: Run) -> "StepTime":
        """By the rows of its box.csv in which tokens were drawn, from each of its levels. Raises RunError."""
        found: dict[float, tuple[float, Numbers]] = {}
        for stage, end in run.stages():
            rows = (run.box["at"] >= stage.at + SETTLE_SECONDS) & (run.box["at"] < end)
            running, speed = run.box["running"][rows], run.box["tokens_per_second"][rows]
            known = np.isfinite(running) & np.isfinite(speed) & (speed > 0) & (running > 0)
            if known.sum() >= 3:
                texts, median = float(np.median(running[known])), float(np.median(speed[known]))
                # Beyond the knee as many run as at the knee, beside a crowd that is turned away: the first counts.
                found.setdefault(round(texts, -1) or 1.0, (texts / median, median / speed[known]))
        if len(found) < 2:
            raise RunError(f"{run.directory}: box.csv has fewer than two levels of load: measure a ramp")
        levels = sorted(found)
        return cls(np.array(levels), np.array([found[n][0] for n in levels]), [found[n][1] for n in levels])

    def __call__(self, running: int, second: int = -1) -> float:
        """Seconds; in the median, or as long as in one of the measured seconds."""
        if running <= self.running[-1]:
            known = np.append(0, self.running), np.append(self.seconds[0] / 2, self.seconds)
            median = float(np.interp(running, *known))
        else:
            median = float(running * self.seconds[-1] / self.running[-1])
        if second < 0:
            return median
        swings = self.swings[int(np.argmin(abs(self.running - running)))]
        return median * float(swings[second % len(swings)])


@dataclass
class Seen:
    """What readers saw, in seconds: to the first token, of whole texts; how many texts ended, how many were refused."""

    first: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    ended: int = 0
    refused: int = 0
    seconds: float = 0.0

    @property
    def unserved(self) -> float:
        """The share that was turned away."""
        return self.refused / max(self.refused + len(self.total), 1)


def simulate(
    step_time: StepTime,
    arrivals: Iterator[float],
    again: Callable[[float], float | None],
    *,
    length: int,
    seconds: float,
    settle: float = 0.0,
    settings: Settings | None = None,
) -> Seen:
    """One box for so many seconds.

    arrivals: when readers come, ascending. again: when somebody who was served, or refused, at such a time asks once
    more; None is never. length: new tokens of a text. settle: seconds at the beginning that do not count.
    """
    settings = settings or Settings(_env_file=None)
    most = settings.max_running
    if settings.pace:
        most = max(1, sum(step_time(n) <= 1 / settings.pace for n in range(1, most + 1)))
    seen = Seen(seconds=seconds - settle)
    comes: list[float] = []
    next_arrival = next(arrivals, math.inf)
    waiting: deque[float] = deque()  # since when
    reading: deque[float] = deque()  # prompts that are to be read: of whom that came at that time
    ends: list[tuple[int, float, float]] = []  # the step, when they came, when the first token did
    now, steps, last = 0.0, 0, step_time(1)
    while now < seconds:
        while min(next_arrival, comes[0] if comes else math.inf) <= now:
            if next_arrival <= (comes[0] if comes else math.inf):
                came, next_arrival = next_arrival, next(arrivals, math.inf)
            else:
                came = heapq.heappop(comes)
            free = most - len(ends) - len(reading)
            if waiting and _wait(ends, len(waiting) - free, steps, length) * last > settings.max_wait:
                seen.refused += came >= settle
                if (later := again(now + 1)) is not None:
                    heapq.heappush(comes, later)
            else:
                waiting.append(came)
        while waiting and len(ends) + len(reading) < most:
            reading.append(waiting.popleft())
        if not ends and not reading:
            now = min(next_arrival, comes[0] if comes else math.inf)
            continue
        begun = [reading.popleft() for _ in range(min(len(reading), PREFILL_CHUNK // PROMPT))]
        last = step_time(len(ends) + len(begun), int(now))
        now, steps = now + last, steps + 1
        for came in begun:
            heapq.heappush(ends, (steps + length - 1, came, now))
        while ends and ends[0][0] <= steps:
            _, came, first = heapq.heappop(ends)
            seen.ended += now >= settle
            if came >= settle:
                seen.first.append(first - came)
                seen.total.append(now - came)
            if (later := again(now)) is not None:
                heapq.heappush(comes, later)
    return seen


def _wait(ends: list[tuple[int, float, float]], ahead: int, steps: int, length: int) -> int:
    """How many steps until the place behind so many, for whom none is free, is free; 0 for a negative number."""
    if ahead < 0 or not ends:
        return 0
    rounds, place = divmod(ahead, len(ends))
    return max(heapq.nsmallest(place + 1, ends)[-1][0] - steps, 0) + rounds * length


def closed(step_time: StepTime, readers: int, length: int, seconds: float = 60.0) -> Seen:
    """So many readers, each of whom asks again when the text is done: as in a ramp."""
    come = (3 * number / readers for number in range(readers))
    return simulate(
        step_time, come, lambda at: at + TURNAROUND, length=length, seconds=seconds, settle=seconds / 3
    )


def opened(step_time: StepTime, per_second: float, length: int, seconds: float = 300.0) -> Seen:
    """Readers who come at random, so many a second in the mean, for one text each."""
    random = Random(1)  # noqa: S311
    clock = 0.0

    def come() -> Iterator[float]:
        nonlocal clock
        for _ in count():
            clock += random.expovariate(per_second)
            yield clock

    return simulate(step_time, come(), lambda _: None, length=length, seconds=seconds, settle=seconds / 5)


def most_per_second(step_time: StepTime, length: int) -> float:
    """How many readers a second a box serves, so that all who come are content (loadtest/load/journal.py)."""
    few, many = 0.0, 1.0
    while _content(opened(step_time, many, length)):
        few, many = many, 2 * many
    while many - few > 0.02 * many:
        middle = (few + many) / 2
        few, many = (middle, many) if _content(opened(step_time, middle, length)) else (few, middle)
    return few


def _content(seen: Seen) -> bool:
    if not seen.total or seen.unserved > TURNED_AWAY:
        return False
    first = percentile(np.array(seen.first), 95)
    return first <= PATIENCE


def compare(run: Run, step_time: StepTime) -> Iterator[tuple[Level, dict[str, tuple[float, float]]]]:
    """Each level of a run: what was measured, and what the simulation says."""
    for level in levels(run):
        seen = closed(step_time, level.readers, run.about.length, level.seconds * 3 / 2)
        yield (
            level,
            {
                "tok/s": (level.tokens_per_s, seen.ended * run.about.length / seen.seconds),
                "episodes/min": (level.episodes_per_minute, 60 * seen.ended / seen.seconds),
                "text p50": (level.total.bound(50), percentile(np.array(seen.total), 50)),
                "text p95": (level.total.bound(95), percentile(np.array(seen.total), 95)),
            },
        )


@click.command()
@click.argument("ramp", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("steady", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--peak", default=3.0, show_default=True, help="The busiest hour's readers over the mean's.")
@click.option("--length", default=256, show_default=True, help="New tokens of a text, at other loads.")
def command(ramp: Path, steady: Path, peak: float, length: int) -> None:
    """Repeat a steady run on paper, by a ramp's step times, and say what other loads need.

    RAMP, STEADY: directories below run/loadtest, of the same checkpoint and box.
    """
    try:
        step_time, measured = StepTime.of(read_run(ramp)), read_run(steady)
    except RunError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"| readers | {' | '.join(['tok/s', 'episodes/min', 'text p50', 'text p95'])} | within |")
    click.echo("|---:|" + "---:|" * 5)
    worst = 0.0
    for level, figures in compare(measured, step_time):
        off = max(abs(paper / real - 1) for real, paper in figures.values())
        worst = max(worst, off)
        cells = [f"{real:,.4g} / {paper:,.4g}" for real, paper in figures.values()]
        click.echo(f"| {level.readers} | {' | '.join(cells)} | {off:.0%} |")
    click.echo(
        f"\nMeasured / simulated; the worst is off by {worst:.0%}, and {TOLERANCE:.0%} is the limit.\n"
    )
    if worst > TOLERANCE:
        raise click.ClickException("the simulation does not repeat the run, so it is not asked about more")
    per_second = most_per_second(step_time, length)
    a_day = per_second / peak * DAY
    click.echo(
        f"A box serves {per_second:.1f} readers a second, texts of {length} tokens; {a_day:,.0f} a day"
    )
    click.echo(f"with a busiest hour of {peak:g} times the mean. Boxes for so many a day:\n")
    a_box = 24 * Price().of(measured.about.box.cpus)
    click.echo(
        "| readers a day | in the busiest hour, a second | boxes | USD a day, at most |\n|---:|---:|---:|---:|"
    )
    for readers in (10**5, 10**6, 10**7, 10**8):
        peak_rate = readers / DAY * peak
        boxes = math.ceil(peak_rate / per_second)
        click.echo(f"| {readers:,} | {peak_rate:,.1f} | {boxes:,} | {boxes * a_box:,.0f} |")


if __name__ == "__main__":
    command()
