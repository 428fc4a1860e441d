"""The figures as tables, which page and document show alike."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.load.journal import PATIENCE, READING
from loadtest.report.comparison import OURS, SEED, Price, Setting, Side
from loadtest.report.figures import PATIENCES, PERCENTILES, Drift, Soak, Spike, percentile
from loadtest.report.runs import ENDINGS, Run

NAMES = {OURS: "Pokegen", SEED: "seed design"}
NONE = "–"  # noqa: RUF001


@dataclass(frozen=True)
class Table:
    """Cells as texts; the first `words` columns are words, the others numbers."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1

    def markdown(self) -> str:
        """As GitHub shows it, the caption as a line behind it."""
        rule = ["---"] * self.words + ["---:"] * (len(self.heads) - self.words)
        lines = [f"| {' | '.join(_escaped(cells))} |" for cells in (self.heads, rule, *self.rows)]
        return "\n".join([*lines, "", self.caption]) + "\n"


def _escaped(cells: Iterable[str]) -> Iterable[str]:
    return (cell.replace("|", r"\|").replace("\n", " ") for cell in cells)


def seconds(value: float | None) -> str:
    """Of a latency: three digits at most."""
    if value is None:
        return NONE
    if value < 0.9995:
        return f"{1000 * value:.0f} ms" if value >= 0.00995 else f"{1000 * value:.1f} ms"
    return f"{value:.2f} s" if value < 9.995 else f"{value:.0f} s"


def number(value: float | None, form: str = ",.0f", unit: str = "") -> str:
    """A dash for what was not measured."""
    return NONE if value is None else format(value, form) + unit


def mib(value: float | None) -> str:
    """With a digit where there are few."""
    return number(value, ",.0f" if value and value >= 99.5 else ",.1f", " MiB")


def rate(value: float | None) -> str:
    """Three digits, or whole numbers."""
    return NONE if value is None else f"{value:,.3g}" if value < 100 else f"{value:,.0f}"


def percent(value: float | None, form: str = ".0%") -> str:
    """Of a share of one."""
    return number(value, form)


def _change(drift: Drift | None) -> str:
    return NONE if drift is None else f"{drift.rise:+.1%} ± {drift.error:.1%}"


def _ratio(more: float | None, less: float | None) -> str:
    """How many times `more` is `less`."""
    if more is None or less is None:
        return NONE
    if not less:
        return f"{more:,.0f} to 0" if more else NONE
    ratio = more / less
    return f"{ratio:,.0f}×" if ratio >= 9.5 else f"{ratio:.1f}×"  # noqa: RUF001


@dataclass(frozen=True)
class Headline:
    """A figure of ours beside the seed design's, None where it was not measured; `ratio` is in our favour."""

    name: str
    ours: str
    seed: str
    ratio: str


def headlines(setting: Setting) -> list[Headline]:
    """Readers whose first token comes within a second, memory a reader, episodes a minute."""
    sides = [setting.sides.get(service) for service in (OURS, SEED)]
    readers = [_held(side) for side in sides]
    memory = [_memory_per_reader(side) for side in sides]
    episodes = [side.busiest.episodes_per_minute if side and side.busiest else None for side in sides]
    return [
        Headline(
            f"readers with p95 to the first token under {PATIENCE:.0f} s",
            number(readers[0]),
            number(readers[1]),
            _ratio(*readers),
        ),
        Headline("memory per reader", mib(memory[0]), mib(memory[1]), _ratio(memory[1], memory[0])),
        Headline("episodes per minute, at most", rate(episodes[0]), rate(episodes[1]), _ratio(*episodes)),
    ]


def _held(side: Side | None) -> float | None:
    held = side.capacity(PATIENCE) if side else None
    return float(held.readers) if held else None


def _memory_per_reader(side: Side | None) -> float | None:
    """MiB: the peak over the readers at the knee, or where nobody is content, at the busiest level."""
    held = side.capacity(PATIENCE) if side else None
    level = held.level if held and held.level else side.busiest if side else None
    return None if level is None or level.memory_mb is None else level.memory_mb / level.readers


def headline_table(found: Sequence[Setting]) -> Table:
    """Every setting's headline."""
    rows = [
        [str(setting), line.name, line.ours, line.seed, line.ratio]
        for setting in found
        for line in headlines(setting)
    ]
    return Table(
        "Memory per reader is the box's peak over the number of readers, at the knee; where no reader is content, at"
        " the level at which the most episodes are made. The ratio is in Pokegen's favour.",
        ["checkpoint and box", "figure", "Pokegen", "seed design", "ratio"],
        rows,
        words=2,
    )


# What was aimed at on two CPUs: readers, and where there was such a goal, MiB in all.
GOALS = {"124M": (128, 1024.0), "run1": (500, None)}


def goal_table(found: Sequence[Setting]) -> Table | None:
    """What was aimed at with 2 CPUs, beside what was measured; None where no such run is there."""
    rows = []
    for setting in found:
        side = setting.sides.get(OURS)
        if setting.checkpoint not in GOALS or setting.profile != "t2.medium" or not side or not side.levels:
            continue
        readers, memory = GOALS[setting.checkpoint]
        held = side.capacity(PATIENCE)
        assert held  # noqa: S101 - there are levels
        best = held.level
        rows.append(
            [f"{setting}: readers", f"{readers:,}", number(held.readers), _met(held.readers >= readers)]
        )
        slowest = best.slowest_reader if best else None
        text, met = number(slowest, ".1f", " tok/s"), slowest is not None and slowest >= READING
        rows.append(["… the slowest twentieth of them", f"{READING:.0f} tok/s", text, _met(met)])
        if memory:
            used = best.memory_mb if best else None
            rows.append(
                [
                    "… memory in all",
                    f"under {memory:,.0f} MiB",
                    number(used, ",.0f", " MiB"),
                    _met(used is not None and used < memory),
                ]
            )
    if not rows:
        return None
    return Table(
        f"Readers with p95 to the first token under {PATIENCE:.0f} s.",
        ["goal", "aimed at", "measured", "met"],
        rows,
    )


def _met(met: bool) -> str:
    return "yes" if met else "no"


def capacity_table(found: Sequence[Setting], price: Price) -> Table:
    """Readers that a box holds at a patience, and what a thousand episodes cost."""
    rows = []
    for setting, service, side in sides(found):
        if not side.levels:
            continue
        held = [side.capacity(patience) for patience in PATIENCES]
        cells = [
            f"{'≥ ' if each and each.beyond is None and each.readers else ''}{each.readers if each else 0:,}"
            for each in held
        ]
        knee, busiest = side.capacity(PATIENCE), side.busiest
        costs = [
            number(
                price.per_thousand(side.cpus, level.episodes_per_minute) if level else None, ",.4f", " USD"
            )
            for level in (knee.level if knee else None, busiest)
        ]
        rows.append([str(setting), NAMES[service], *cells, *costs])
    return Table(
        f"Readers whose p95 to the first token is within the patience, 95% of whose texts come at {READING:.0f} tok/s"
        " or more, and of whom at most 1% get no text; ≥ where that held at every level measured. The costs are of a"
        f" thousand episodes at the knee (a patience of {PATIENCE:.0f} s) and at the level with the most episodes, for"
        f" {price.per_hour} USD an hour with {price.baseline} CPU (--price: a t2.medium on demand in us-east-1) and"
        f" {price.surplus} USD for an hour of each CPU beyond (--surplus: T2 Unlimited); compare both prices with"
        " Amazon's own, which change.",
        [
            "checkpoint and box",
            "service",
            *(f"{patience:g} s" for patience in PATIENCES),
            "1,000 episodes, knee",
            "1,000 episodes, most",
        ],
        rows,
        words=2,
    )


def sides(found: Iterable[Setting]) -> Iterable[tuple[Setting, str, Side]]:
    """Every service of every setting, ours first."""
    for setting in found:
        for service in (OURS, SEED):
            if service in setting.sides:
                yield setting, service, setting.sides[service]


def knee(side: Side) -> str:
    """A sentence."""
    held = side.capacity(PATIENCE)
    if held is None:
        return "No level of load was measured."
    if held.beyond is None:
        return f"The knee was not reached: {held.readers:,} readers, the most that were there, were content."
    if not held.readers:
        return f"Nobody was content: with {count(held.beyond.readers)}, {held.why}."
    return f"The knee: {count(held.readers)}. With {held.beyond.readers:,}, {held.why}."


def count(readers: int) -> str:
    """In words."""
    return f"{readers:,} reader{'' if readers == 1 else 's'}"


def latency_table(side: Side, about: str) -> Table:
    """By number of readers: to the first token, and to the last."""
    rows = [
        [
            f"{level.readers:,}",
            f"{level.requests:,}",
            *(seconds(told[rank]) for told in (level.first, level.total) for rank in PERCENTILES),
            seconds(level.first.most),
            seconds(level.total.most),
        ]
        for level in side.levels
    ]
    return Table(
        f"{about}: time to the first token, and to the last, by percentile. A dash: too few requests for it (p50 takes"
        " 2, p90 10, p95 20, p99 100), or not measured.",
        [
            "readers",
            "requests",
            *(f"{name} p{rank}" for name in ("first", "total") for rank in PERCENTILES),
            "first, longest",
            "total, longest",
        ],
        rows,
    )


def pace_table(side: Side, about: str) -> Table | None:
    """By number of readers: from one token to the next. None where nothing streams."""
    rows = [
        [
            f"{level.readers:,}",
            f"{level.gap.count:,}",
            *(seconds(level.gap[rank]) for rank in PERCENTILES),
            number(level.slowest_reader, ",.1f"),
            seconds(level.longest_gap[95]),
            seconds(level.longest_gap.most),
        ]
        for level in side.levels
    ]
    if not any(level.gap.count for level in side.levels):
        return None
    return Table(
        f"{about}: time per token of a stream, after the first; the tokens per second that 95% of the streams exceed;"
        " and the longest silence within a stream.",
        [
            "readers",
            "streams",
            *(f"per token p{rank}" for rank in PERCENTILES),
            "tok/s, slow",
            "silence p95",
            "silence, longest",
        ],
        rows,
    )


def level_tables(side: Side, about: str) -> list[Table]:
    """What was measured by number of readers."""
    found = latency_table(side, about), pace_table(side, about), load_table(side, about)
    return [table for table in found if table]


def load_table(side: Side, about: str) -> Table:
    """By number of readers: what was made, what it took, and how requests ended."""
    rows = [
        [
            f"{level.readers:,}",
            rate(level.episodes_per_minute),
            number(level.tokens_per_s),
            number(level.memory_mb),
            percent(level.cpu_share),
            percent(level.throttled_share),
            percent(level.generator_share),
            *(f"{level.endings[ending]:,}" for ending in ENDINGS),
        ]
        for level in side.levels
    ]
    return Table(
        f"{about}: throughput, memory (the most, MiB), CPU (of one core; beside it the load generator's, on the same"
        " cores) and how the requests ended.",
        ["readers", "episodes/min", "tok/s", "MiB", "CPU", "throttled", "generator", *ENDINGS],
        rows,
    )


def spike_table(found: Spike, about: str) -> Table:
    """Before, during and after."""
    times = [found.before, found.during, found.after]
    rows = []
    names = ("before", "during", "after")
    for name, readers, first, gap, total, endings in zip(
        names, found.readers, times, found.gaps, found.totals, found.endings, strict=True
    ):
        rows.append(
            [
                name,
                f"{readers:,}",
                *(seconds(first[rank]) for rank in PERCENTILES),
                *(seconds(gap[rank]) for rank in (50, 95)),
                *(seconds(total[rank]) for rank in (50, 95)),
                *(f"{endings[ending]:,}" for ending in ENDINGS),
            ]
        )
    return Table(
        f"{about}: a crowd arrives. Latencies are those of the admitted. {spike_sentence(found)}",
        [
            "time",
            "readers",
            *(f"first p{rank}" for rank in PERCENTILES),
            "per token p50",
            "per token p95",
            "total p50",
            "total p95",
            *ENDINGS,
        ],
        rows,
    )


def spike_sentence(found: Spike) -> str:
    """What came of it, in words."""
    parts = []
    if found.slowdowns:
        told = ", ".join(f"{name} {times:.2f}" for name, times in found.slowdowns.items())
        parts.append(f"At p95 the admitted waited so many times as long as before: for {told}.")
    if found.refused.count:
        when = f"{seconds(found.refused.bound(95))} at p95 ({seconds(found.refused.most)} at most)"
        told = "" if found.told is None else f", {found.told:.0%} of them with Retry-After"
        parts.append(f"{found.refused.count:,} were refused, after {when}{told}.")
    if found.recovery is None:
        parts.append("It was not seen that latency came back to that of before.")
    else:
        parts.append(f"After the crowd had left, it took {found.recovery:.0f} s until all was as before.")
    return " ".join(parts)


def soak_table(found: Soak, about: str) -> Table:
    """Drifts and errors."""
    first, last, least, most = found.memory or (None, None, None, None)
    return Table(
        f"{about}: after the first minute. A drift is the change of a line fitted to the minutes' values, over where"
        " it begins, and two standard errors of it: where these are more than the change, none was seen.",
        [
            "minutes",
            "readers",
            "requests",
            "MiB first",
            "last",
            "least",
            "most",
            "memory drift",
            "first token p50 drift",
            "p95 drift",
            *ENDINGS,
        ],
        [
            [
                f"{found.minutes:.1f}",
                f"{found.readers:,}",
                f"{found.requests:,}",
                *(number(mb, ",.1f") for mb in (first, last, least, most)),
                *(_change(drift) for drift in (found.memory_drift, found.median_drift, found.p95_drift)),
                *(f"{found.endings[ending]:,}" for ending in ENDINGS),
            ]
        ],
    )


def error_table(run: Run, about: str, most: int = 10) -> Table | None:
    """The texts of the errors, the most frequent first; None where there was none."""
    counts: dict[tuple[str, str, str], int] = {}
    for ending, status, error in zip(
        run.requests["ending"], run.requests["status"], run.requests["error"], strict=True
    ):
        if error or ending == "failed":
            code = NONE if np.isnan(status) else f"{status:.0f}"
            key = str(ending), code, str(error) or NONE
            counts[key] = counts.get(key, 0) + 1
    rows = [[*key, f"{n:,}"] for key, n in sorted(counts.items(), key=lambda item: -item[1])[:most]]
    if not rows:
        return None
    kills = run.box["oom_kills"]
    killed = (
        f" The kernel killed {np.nanmax(kills):,.0f} processes for want of memory."
        if run.box.has("oom_kills") and np.nanmax(kills)
        else ""
    )
    return Table(
        f"{about}: errors as they were told.{killed}",
        ["ending", "status", "error", "requests"],
        rows,
        words=3,
    )


def run_table(runs: Sequence[Run]) -> Table:
    """What made each figure: the command, the machine, the box, and what the load generator took of its cores."""
    rows = []
    for run in runs:
        about = run.about
        share = run.box["generator_cpu_share"]
        took = percentile(share[np.isfinite(share)], 50) if run.box.has("generator_cpu_share") else None
        machine = f"{about.machine.cpu}, {about.machine.cpus} CPUs, {about.machine.memory_mb:,.0f} MiB"
        box = f"{about.box.cpus:g} CPU, {about.box.memory_mb:,.0f} MiB, {about.box.by or 'no box'}"
        rows.append(
            [
                run.directory.name,
                " ".join([*(f"{name}={value}" for name, value in about.settings.items()), about.command])
                or NONE,
                machine,
                box,
                str(about.versions.get("pokegen", NONE)),
                about.started or NONE,
                f"{run.seconds / 60:.1f} min",
                percent(took),
            ]
        )
    return Table(
        "The last column is what the load generator took of one core, in the median second. It runs on the same cores"
        " as the box, which would do better alone.",
        ["run", "command", "machine", "box", "version", "started", "took", "generator"],
        rows,
        words=6,
    )
