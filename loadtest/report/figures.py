"""The figures of a run: latencies by level of load, the knee, what a spike and a long time do."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from loadtest.load.journal import PATIENCE, READING, SETTLE_SECONDS, TURNED_AWAY
from loadtest.report.runs import ENDINGS, Numbers, Run, Stage, Table

PERCENTILES = (50, 90, 95, 99)
PATIENCES = (0.5, 1.0, 2.0, 5.0)  # seconds to the first token, at the 95th percentile
UNSERVED = ("refused", "limited", "deadline", "failed")

# Not counted, for then readers are still coming: so many seconds of a stage, a quarter of it at most, and what was
# asked while the readers present differed from the stage's by such a share. Of the seed design all counts: one of its
# requests takes longer than that, and most of a stage's would be left out.
SETTLE = {"pokegen": SETTLE_SECONDS, "seed": 0.0}
ARRIVED = {"pokegen": 0.1, "seed": math.inf}
WINDOW = 5.0  # seconds of which the recovery from a spike is told
RECOVERED = 1.5  # times the uncrowded 95th percentile
WARM_UP = 60.0  # seconds of a soak in which memory may grow


def percentile(values: Numbers, rank: float) -> float:
    """By nearest rank: the smallest value that `rank` percent of the values do not exceed. At least one value.

    It is always a value that was measured, never one between two. (Source: Hyndman and Fan, "Sample Quantiles in
    Statistical Packages", 1996, definition 1.)
    """
    return float(np.percentile(values, rank, method="inverted_cdf"))


@dataclass(frozen=True)
class Spread:
    """How values are spread. A percentile that fewer than 1 value is expected beyond is not told, but is None.

    So p50 needs 2 values, p90 10, p95 20 and p99 100; `most` is the largest of them all.
    """

    count: int
    percentiles: dict[int, float | None]
    most: float | None

    @classmethod
    def of(cls, values: Numbers) -> Self:
        """Of the values that are numbers."""
        known = values[np.isfinite(values)]
        told = {
            rank: percentile(known, rank) if len(known) * (100 - rank) >= 100 else None
            for rank in PERCENTILES
        }
        return cls(len(known), told, float(known.max()) if len(known) else None)

    def __getitem__(self, rank: int) -> float | None:
        return self.percentiles[rank]

    def bound(self, rank: int) -> float:
        """The percentile, or what it cannot exceed where there are too few values; infinity where there is none."""
        value = self[rank] if self[rank] is not None else self.most
        return math.inf if value is None else value


def first_token(requests: Table) -> Numbers:
    """Seconds to the first token, by request; NaN for those of which it is not told.

    Who left, or was given up, before a token came counts with the time that he had waited, which is a lower bound.
    Where some answers stream, those that do not are not told of, nor those of a story whose answers do not; where none
    does (the seed design), the first token comes with the last.
    """
    first, total, story = requests["first_token_s"], requests["total_s"], requests["story"]
    streamed = first < total
    silent = story[np.isnan(first) & (requests["ending"] == "complete")]
    waited = np.isnan(first) & np.isin(requests["ending"], ("left", "deadline")) & ~np.isin(story, silent)
    told = np.where(waited, total, first)
    if streamed.any():
        told = np.where(streamed | waited, told, np.nan)
    return told


def per_token(requests: Table) -> Numbers:
    """Seconds from one token to the next, by streamed request, in the mean of its text; NaN for the others."""
    gaps = requests["tokens"] - 1
    seconds = requests["total_s"] - requests["first_token_s"]
    told = (gaps >= 1) & (seconds > 0)
    return np.where(told, seconds / np.where(told, gaps, 1), np.nan)


def _whole_texts(requests: Table) -> Numbers:
    """Seconds that complete texts took."""
    seconds: Numbers = requests["total_s"][requests["ending"] == "complete"]
    return seconds


def memory_mb(box: Table) -> Numbers:
    """MiB of the box's processes: PSS, which counts shared pages once; else what the control group or RSS says."""
    for column in ("pss_mb", "cgroup_mb", "rss_mb"):
        if box.has(column):
            return box[column]
    return np.full(len(box), np.nan)


@dataclass(frozen=True)
class Level:
    """What was seen while so many readers were there. Latencies in seconds, memory in MiB, shares of one core."""

    stage: str
    readers: int
    seconds: float
    requests: int
    first: Spread
    total: Spread
    gap: Spread
    longest_gap: Spread
    endings: dict[str, int]
    episodes_per_minute: float
    tokens_per_s: float
    memory_mb: float | None
    cpu_share: float | None
    throttled_share: float | None
    generator_share: float | None

    @property
    def unserved(self) -> float:
        """The share of the requests that got no text for want of capacity, or by a fault."""
        return sum(self.endings[ending] for ending in UNSERVED) / max(self.requests, 1)

    @property
    def slowest_reader(self) -> float | None:
        """Tokens per second that 95% of the streams exceed."""
        return None if self.gap[95] is None else 1 / self.gap[95]

    def misses(self, patience: float) -> list[str]:
        """Why readers of such patience (seconds) are not content here; empty where they are."""
        if not self.requests:
            return ["nothing was answered"]
        faults = []
        if self.unserved > TURNED_AWAY:
            faults.append(f"{self.unserved:.1%} got no text")
        if self.first.bound(95) > patience:
            faults.append(f"p95 to the first token was {_seconds(self.first.bound(95))}")
        if self.gap.count and 1 / self.gap.bound(95) < READING:
            faults.append(f"a twentieth got fewer than {READING:.0f} tok/s")
        return faults


def _seconds(value: float) -> str:
    return "never reached" if math.isinf(value) else f"{value:.2f} s"


def levels(runs: Run | Iterable[Run]) -> list[Level]:
    """The levels of load of ramps and steady runs, fewest readers first; the longest of those with as many."""
    runs = [runs] if isinstance(runs, Run) else list(runs)
    found: dict[int, Level] = {}
    for run in runs:
        for stage, end in run.stages():
            level = level_of(run, stage, end)
            known = found.get(level.readers)
            if level.readers and level.requests and (known is None or known.seconds < level.seconds):
                found[level.readers] = level
    return [found[readers] for readers in sorted(found)]


def level_of(run: Run, stage: Stage, end: float) -> Level:
    """What was seen from `stage.at` to `end`, without the seconds in which its readers came."""
    begin = stage.at + min(SETTLE[run.about.service], (end - stage.at) / 4)
    asked = run.requests.where(_within(run.requests["at"], begin, end))
    if run.requests.has("readers"):
        asked = asked.where(
            np.abs(asked["readers"] - stage.readers) <= ARRIVED[run.about.service] * stage.readers
        )
    seconds = end - begin
    finished = run.requests["at"] + run.requests["total_s"]
    ended = run.requests.where(_within(finished, begin, end))
    seen = _within(run.box["at"], begin, end)
    box = run.box.where(seen)
    complete = asked.where(asked["ending"] == "complete")
    return Level(
        stage=stage.name,
        readers=stage.readers,
        seconds=seconds,
        requests=len(asked),
        first=Spread.of(first_token(asked) if len(asked) else np.empty(0)),
        total=Spread.of(complete["total_s"]),
        gap=Spread.of(per_token(asked)),
        longest_gap=Spread.of(asked["longest_gap_s"]),
        endings=_endings(asked),
        episodes_per_minute=60 * float((ended["ending"] == "complete").sum()) / seconds,
        tokens_per_s=float(np.nansum(ended["tokens"])) / seconds,
        memory_mb=_most(memory_mb(run.box)[seen]),
        cpu_share=_mean(box["cpu_share"]),
        throttled_share=_mean(box["throttled_share"]),
        generator_share=_mean(box["generator_cpu_share"]),
    )


def _endings(requests: Table) -> dict[str, int]:
    counted = Counter(str(ending) for ending in requests["ending"])
    return {ending: counted[ending] for ending in ENDINGS}


def _within(times: Numbers, begin: float, end: float) -> NDArray[np.bool_]:
    return (times >= begin) & (times < end)


def _most(values: Numbers) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.max()) if len(known) else None


def _mean(values: Numbers) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


@dataclass(frozen=True)
class Capacity:
    """The most readers of a patience (seconds) that were content, all levels with fewer readers too; 0 is nobody.

    `level` is what was seen then. `beyond` is the next level that was measured, and `why` what was wrong there; None
    where the readers were content at every level, so that the box may hold more.
    """

    patience: float
    readers: int
    level: Level | None
    beyond: Level | None
    why: str


def capacity(measured: Sequence[Level], patience: float = PATIENCE) -> Capacity:
    """How many readers the box holds, by the levels that were measured, fewest readers first."""
    best: Level | None = None
    for level in measured:
        if faults := level.misses(patience):
            return Capacity(patience, best.readers if best else 0, best, level, ", ".join(faults))
        best = level
    return Capacity(patience, best.readers if best else 0, best, None, "")


@dataclass(frozen=True)
class Spike:
    """What a crowd that arrives at once does to those who are admitted, and what the others hear.

    before, during, after: seconds to the first token of the admitted; after is what came once all was as before
    gaps, totals: seconds from token to token, and of whole texts, in the same three times
    refused: seconds until who was refused was told so; told: the share of them that heard when to come back (None
    where that was not written down)
    recovery: seconds after the crowd left until the admitted waited as before, None where that was never
    """

    readers: tuple[int, int, int]
    before: Spread
    during: Spread
    after: Spread
    gaps: tuple[Spread, Spread, Spread]
    totals: tuple[Spread, Spread, Spread]
    endings: tuple[dict[str, int], dict[str, int], dict[str, int]]
    refused: Spread
    told: float | None
    recovery: float | None

    @property
    def slowdowns(self) -> dict[str, float]:
        """How many times longer all takes during the spike, at the 95th percentile; without what is not told."""
        pairs = {
            "the first token": (self.before[95], self.during[95]),
            "a token after it": (self.gaps[0][95], self.gaps[1][95]),
            "a whole text": (self.totals[0][95], self.totals[1][95]),
        }
        return {name: during / before for name, (before, during) in pairs.items() if before and during}


def spike(run: Run) -> Spike | None:
    """Of the stage with the most readers, and of those beside it. None where there are not three stages."""
    parts = list(run.stages())
    top = max(range(len(parts)), key=lambda i: parts[i][0].readers, default=0)
    if not 0 < top < len(parts) - 1:
        return None
    calm = level_of(run, *parts[top - 1])
    # Those who come while the crowd arrives are told of, too: that is what a spike is.
    during = run.requests.where(_within(run.requests["at"], parts[top][0].at, parts[top][1]))
    refused = during.where(np.isin(during["ending"], ("refused", "limited")))
    ends = parts[top][1]
    after = run.requests.where(_within(run.requests["at"], ends, parts[top + 1][1]))
    recovery = None if calm.first[95] is None else _recovery(after, ends, RECOVERED * calm.first[95])
    after = after.where(after["at"] >= ends + (recovery or 0.0))
    return Spike(
        readers=(calm.readers, parts[top][0].readers, parts[top + 1][0].readers),
        before=calm.first,
        during=Spread.of(first_token(during)),
        after=Spread.of(first_token(after)),
        gaps=(calm.gap, Spread.of(per_token(during)), Spread.of(per_token(after))),
        totals=(calm.total, Spread.of(_whole_texts(during)), Spread.of(_whole_texts(after))),
        endings=(calm.endings, _endings(during), _endings(after)),
        refused=Spread.of(refused["total_s"]),
        told=float(np.isfinite(refused["retry_after_s"]).mean()) if refused.has("retry_after_s") else None,
        recovery=recovery,
    )


def _recovery(after: Table, ends: float, limit: float) -> float | None:
    """Seconds until a window in which nobody was refused and p95 to the first token is `limit` at most."""
    if not len(after):
        return None
    first = first_token(after)
    for number in range(math.ceil((float(after["at"].max()) - ends) / WINDOW)):
        rows = _within(after["at"], ends + number * WINDOW, ends + (number + 1) * WINDOW)
        waits = first[rows & np.isfinite(first)]
        turned_away = np.isin(after["ending"][rows], UNSERVED).any()
        if len(waits) and not turned_away and percentile(waits, 95) <= limit:
            return number * WINDOW
    return None


class Drift(NamedTuple):
    """The rise of a fitted line from its begin to its end, and two standard errors of that, both over its begin.

    About 95 of 100 such intervals hold the true rise, where the minutes' deviations do not depend on each other.
    """

    rise: float
    error: float


@dataclass(frozen=True)
class Soak:
    """What a long time does.

    memory: MiB at the first and the last minute that count, the least and the most
    """

    minutes: float
    readers: int
    requests: int
    endings: dict[str, int]
    memory: tuple[float, float, float, float] | None
    memory_drift: Drift | None
    median_drift: Drift | None
    p95_drift: Drift | None


def soak(run: Run) -> Soak | None:
    """Whole minutes, without the first, in which memory may grow. None where there are not two more."""
    ends = run.seconds // 60 * 60
    span = ends - WARM_UP
    if span < 2 * 60:
        return None

    def of_them(rows: Table) -> Table:
        return rows.where((rows["at"] >= WARM_UP) & (rows["at"] < ends))

    requests, box = of_them(run.requests), of_them(run.box)
    memory = by_minute(box["at"], memory_mb(box), 50)
    first = first_token(requests) if len(requests) else np.empty(0)
    values = memory[1]
    return Soak(
        minutes=span / 60,
        readers=max((stage.readers for stage, _ in run.stages()), default=0),
        requests=len(requests),
        endings=_endings(requests),
        memory=((float(values[0]), float(values[-1]), *_range(memory_mb(box))) if len(values) else None),
        memory_drift=drift(*memory),
        median_drift=drift(*by_minute(requests["at"], first, 50)),
        p95_drift=drift(*by_minute(requests["at"], first, 95)),
    )


def _range(values: Numbers) -> tuple[float, float]:
    return float(np.nanmin(values)), float(np.nanmax(values))


def by_minute(at: Numbers, values: Numbers, rank: float, seconds: float = 60.0) -> tuple[Numbers, Numbers]:
    """A percentile of each minute (or so many seconds) with a value: its middle in seconds, and the value."""
    known = np.isfinite(values)
    at, values = at[known], values[known]
    minutes = np.floor(at / seconds)
    numbers = np.unique(minutes)
    found = np.array([percentile(values[minutes == number], rank) for number in numbers])
    return (numbers + 0.5) * seconds, found


def drift(at: Numbers, values: Numbers) -> Drift | None:
    """That of the line of least squares; None for fewer than 3 points, and for a line that begins at 0."""
    if len(values) < 3:
        return None
    (slope, begin), covariance = np.polyfit(at - at[0], values, 1, cov=True)
    if not begin:
        return None
    scale = (at[-1] - at[0]) / begin
    return Drift(float(slope * scale), float(2 * np.sqrt(covariance[0, 0]) * abs(scale)))
