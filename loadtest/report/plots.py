"""The plots, as SVG that follows the reader's light or dark colours.

Colours are Okabe and Ito's, which colour-blind readers tell apart ("Color Universal Design", 2008); lines are labelled
where they end. Every plot comes with a text for those who do not see it.
"""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from loadtest.load.journal import PATIENCE
from loadtest.report.comparison import OURS, SEED, Setting, Side
from loadtest.report.figures import PERCENTILES, Level, Spread, by_minute, first_token
from loadtest.report.runs import ENDINGS, Numbers, Run
from loadtest.report.tables import NAMES, count, rate, seconds

INK, MUTED, GRID = "#24292f", "#6a737d", "#d8dee4"
BLUE, RED, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
COLOURS = {OURS: BLUE, SEED: RED}
ENDING_COLOURS = dict(
    zip(ENDINGS, ("#0072b3", "#88ccee", "#e69f00", "#f0e442", PINK, "#d55e01"), strict=True)
)
# What stands for a colour where the reader's screen is dark.
DARK = {
    INK: "#e6edf3",
    MUTED: "#9da7b1",
    GRID: "#3d444d",
    BLUE: "#56b4e9",
    RED: "#ff8f4d",
    GREEN: "#2fc79b",
    PINK: "#e6a3c8",
    "#0072b3": "#2f8fcf",
}
POINTS = 240  # of a line over time at most: more are not seen, and a document's picture stays small

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pokegen",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 2,
    "lines.markersize": 4,
    "path.simplify_threshold": 0.5,
}


@dataclass(frozen=True)
class Plot:
    """`name` is a file's, without its ending; `text` says what is seen; `svg` is the file's content."""

    name: str
    title: str
    text: str
    svg: str


@contextmanager
def _drawing(width: float, height: float) -> Iterator[Figure]:
    with rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Figure, title: str) -> str:
    """The same figure, the same text; without the fonts' names, for the reader's own are read best."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file, format="svg", transparent=True, metadata={**nothing, "Title": title})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"(font: (?:bold )?[\d.]+px) [^;\"]*", r"\1 system-ui, sans-serif", svg)
    svg = re.sub(r"(\d+\.\d\d)\d+", r"\1", svg)
    dark = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    )
    return svg.replace("<defs>", f"<style>@media (prefers-color-scheme: dark){{{dark}}}</style><defs>", 1)


def _label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Texts of a colour at the right of the points x, y, moved apart where they would lie on each other."""
    if not ends:
        return
    axes.figure.canvas.draw()  # so that the axes know where they are
    points = axes.figure.dpi / 72
    ends = sorted(ends, key=lambda end: end[1])
    at = np.array([axes.transData.transform((x, y))[1] for x, y, _, _ in ends]) / points
    low, high = axes.bbox.y0 / points + 4, axes.bbox.y1 / points - 4
    for (x, y, text, colour), before, after in zip(ends, at, _apart(at, 12.0, low, high), strict=True):
        axes.annotate(
            text,
            (x, y),
            xytext=(6, after - before),
            textcoords="offset points",
            va="center",
            color=colour,
            annotation_clip=False,
        )


def _apart(places: Numbers, gap: float, low: float, high: float) -> Numbers:
    """Rising places, moved as little as it takes to lie `gap` apart, between `low` and `high` where there is room."""
    moved = places.copy()
    for _ in range(100):
        overlap = np.maximum(gap - np.diff(moved), 0) / 2
        moved[:-1] -= overlap
        moved[1:] += overlap
    moved -= max(moved[-1] - high, 0.0)
    moved += max(low - moved[0], 0.0)
    return moved


def _readers_axis(axes: Axes, readers: Sequence[int], room: float = 1.9) -> None:
    """Logarithmic, with round numbers, and at the right with room for the labels."""
    low, high = min(readers), max(readers)
    axes.set_xscale("log")
    axes.set_xlim(low / 1.15, high * 1.15 * (max(high / low, 2) ** 0.12) * room / 1.5)
    rounds = [digit * 10**power for power in range(6) for digit in (1, 2, 5)]
    if high / low > 50:
        rounds = [n for n in rounds if not str(n).startswith("5")] if high / low > 500 else rounds
    axes.xaxis.set_major_locator(FixedLocator([n for n in rounds if low / 1.15 <= n <= high * 1.15]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    axes.set_xlabel("readers")


def _seconds_axis(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    axes.set_yscale("log")
    axes.set_ylim(low / 1.5, high * 1.6)
    steps = [digit * 10.0**power for power in range(-5, 4) for digit in (1, 2, 5)]
    shown = [step for step in steps if low / 1.5 <= step <= high * 1.6]
    if len(shown) > 7:
        shown = [step for step in shown if f"{step:e}"[0] == "1"]
    axes.yaxis.set_major_locator(FixedLocator(shown))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def _tick(value: float) -> str:
    return f"{value:g} s" if value >= 1 else f"{1000 * value:g} ms"


def _nothing(axes: Axes, why: str) -> None:
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=MUTED)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)


@dataclass(frozen=True)
class Quantity:
    """Something that each level of load has, to be shown of ours and of the seed design in one panel."""

    name: str
    title: str
    of: Callable[[Level], float | None]
    form: Callable[[float], str]
    seconds: bool = False
    wide: bool = False
    limit: tuple[float, str] | None = None


QUANTITIES = (
    Quantity(
        "latency",
        "Time to first token, 95th percentile (of fewer than 20 requests the longest)",
        lambda level: level.first[95] if level.first[95] is not None else level.first.most,
        seconds,
        seconds=True,
        limit=(PATIENCE, f"{PATIENCE:.0f} s"),
    ),
    Quantity(
        "throughput",
        "Episodes per minute",
        lambda level: level.episodes_per_minute,
        rate,
        wide=True,
    ),
    Quantity("memory", "Memory, the most, MiB", lambda level: level.memory_mb, lambda value: f"{value:,.0f} MiB"),
)  # fmt: skip


def compared(found: Sequence[Setting], quantity: Quantity) -> Plot | None:
    """A panel a setting: a quantity against the number of readers. None where nothing was measured."""
    shown = [setting for setting in found if any(side.levels for side in setting.sides.values())]
    if not shown:
        return None
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    texts = []
    with _drawing(6.3 * columns, 3.1 * rows) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).flat
        for setting, axes in zip(shown, panels, strict=False):
            texts += [f"{setting}: {text}" for text in _compare(axes, setting, quantity)]
        for axes in list(figure.axes)[len(shown) :]:
            axes.set_visible(False)
        return Plot(
            quantity.name,
            quantity.title,
            f"{quantity.title}. {' '.join(texts)}",
            _svg(figure, quantity.title),
        )


def _compare(axes: Axes, setting: Setting, quantity: Quantity) -> list[str]:
    axes.set_title(str(setting))
    texts, ends = [], []
    values: list[float] = []
    readers = [level.readers for side in setting.sides.values() for level in side.levels]
    for service, side in setting.sides.items():
        points = [(level.readers, quantity.of(level)) for level in side.levels]
        known = [
            (n, value) for n, value in points if value is not None and (value > 0 or not quantity.seconds)
        ]
        if not known:
            continue
        x, y = zip(*known, strict=True)
        axes.plot(x, y, "o-", color=COLOURS[service])
        ends.append((x[-1], y[-1], NAMES[service], COLOURS[service]))
        values += y
        texts.append(
            f"{NAMES[service]} {quantity.form(y[0])} with {x[0]} and {quantity.form(y[-1])} with {x[-1]} readers."
        )
    if not values:
        _nothing(axes, "not measured")
        return []
    _readers_axis(axes, readers, room=2.4)
    if quantity.seconds:
        limits = [quantity.limit[0]] if quantity.limit else []
        _seconds_axis(axes, values + limits)
    elif quantity.wide:
        axes.set_yscale("symlog", linthresh=1, linscale=0.4)  # it has a place for nothing at all
        axes.set_ylim(0, max(values) * 2 or 1)
        powers = [0.0, *(10.0**power for power in range(7))]
        axes.yaxis.set_major_locator(FixedLocator([n for n in powers if n <= max(values) * 2]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    else:
        axes.set_ylim(0, max(values) * 1.12 or 1)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    if quantity.limit:
        axes.axhline(quantity.limit[0], color=INK, linewidth=1, linestyle=(0, (4, 3)))
    _label_ends(axes, ends)
    return texts


SHADES = {50: (1.2, (0, (1, 1.5))), 90: (1.4, (0, (4, 2))), 95: (2.4, "solid"), 99: (1.2, "solid")}


def percentiles(side: Side, service: str, name: str, title: str) -> Plot | None:
    """To the first token, to the last and from one to the next, by percentile, against the number of readers."""
    if not side.levels:
        return None
    parts: list[tuple[str, Callable[[Level], Spread]]] = [
        ("to the first token", lambda level: level.first),
        ("the whole episode", lambda level: level.total),
        ("from token to token", lambda level: level.gap),
    ]
    parts = [part for part in parts if any(part[1](level).count for level in side.levels)]
    if not parts:
        return None
    texts = []
    with _drawing(4.2 * len(parts), 3) as figure:
        panels = figure.subplots(1, len(parts), squeeze=False).flat
        for axes, (what, spread) in zip(panels, parts, strict=True):
            axes.set_title(what)
            ends = []
            values: list[float] = []
            for rank in PERCENTILES:
                points = [(level.readers, spread(level)[rank]) for level in side.levels]
                known = [(n, value) for n, value in points if value]
                if not known:
                    continue
                x, y = zip(*known, strict=True)
                width, dashes = SHADES[rank]
                axes.plot(x, y, marker=".", color=COLOURS[service], linewidth=width, linestyle=dashes)
                ends.append((x[-1], y[-1], f"p{rank}", COLOURS[service]))
                values += y
                if rank in (50, 95):
                    texts.append(
                        f"{what}, p{rank}: {seconds(y[0])} with {x[0]}, {seconds(y[-1])} with {x[-1]} readers."
                    )
            if not values:
                _nothing(axes, "too few requests for a percentile")
                continue
            _readers_axis(axes, [level.readers for level in side.levels], room=1.6)
            _seconds_axis(axes, values)
            _label_ends(axes, ends)
        return Plot(name, title, f"{title}. {' '.join(texts)}", _svg(figure, title))


def endings(side: Side, name: str, title: str) -> Plot | None:
    """How requests ended, as shares, against the number of readers."""
    if not side.levels:
        return None
    with _drawing(12.6, 1.1 + 0.28 * len(side.levels)) as figure:
        axes = figure.subplots()
        labels = [f"{level.readers:,}" for level in side.levels]
        left = np.zeros(len(labels))
        seen = []
        for ending in ENDINGS:
            shares = np.array([level.endings[ending] / level.requests for level in side.levels])
            if shares.any():
                seen.append(ending)
                axes.barh(labels, shares, left=left, color=ENDING_COLOURS[ending], label=ending, height=0.72)
            left += shares
        axes.invert_yaxis()
        axes.set(xlim=(0, 1), ylabel="readers")
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
        figure.legend(
            loc="outside upper left", ncols=len(ENDINGS), frameon=False, handlelength=1, handleheight=1
        )
        most = side.levels[-1]
        parts = ", ".join(f"{most.endings[e] / most.requests:.0%} {e}" for e in seen)
        text = f"{title}. With {count(most.readers)}: {parts}."
        return Plot(name, title, text, _svg(figure, title))


def _time_axis(axes: Axes, run: Run) -> float:
    """The divisor of seconds: minutes where the run is long."""
    long = run.seconds > 300
    axes.set_xlabel("minutes" if long else "seconds")
    axes.set_xlim(0, run.seconds / (60 if long else 1) * 1.13)
    return 60.0 if long else 1.0


def _thinned(at: Numbers, values: Numbers) -> tuple[Numbers, Numbers]:
    """At most POINTS of them, the largest of each stretch, without those that are missing."""
    known = np.isfinite(values)
    at, values = at[known], values[known]
    if len(values) <= POINTS:
        return at, values
    parts = np.array_split(np.arange(len(values)), POINTS)
    return at[[part[0] for part in parts]], np.array([values[part].max() for part in parts])


def over_time(run: Run, name: str, title: str) -> Plot | None:
    """Readers, memory and CPU by the second, as the box's meter saw them. None where it saw nothing."""
    if not len(run.box):
        return None
    panels: list[tuple[str, list[tuple[str, str, Numbers]]]] = [
        (
            "readers",
            [
                ("there", BLUE, run.box["readers"]),
                ("texts running", GREEN, run.box["running"]),
                ("waiting", PINK, run.box["waiting"]),
            ],
        ),
        (
            "memory, MiB",
            [
                ("control group", PINK, run.box["cgroup_mb"]),
                ("RSS", GREEN, run.box["rss_mb"]),
                ("PSS", BLUE, run.box["pss_mb"]),
            ],
        ),
        (
            "CPU, cores",
            [
                ("box", BLUE, run.box["cpu_share"]),
                ("load generator", RED, run.box["generator_cpu_share"]),
                ("throttled", PINK, run.box["throttled_share"]),
            ],
        ),
    ]
    texts = []
    with _drawing(12.6, 3) as figure:
        for axes, (what, lines) in zip(figure.subplots(1, 3), panels, strict=True):
            axes.set_title(what)
            unit = _time_axis(axes, run)
            ends, top = [], 0.0
            for label, colour, column in lines:
                at, values = _thinned(run.box["at"], column)
                if not len(values):
                    continue
                axes.plot(at / unit, values, color=colour, linewidth=1.4)
                ends.append((at[-1] / unit, values[-1], label, colour))
                top = max(top, values.max())
                texts.append(f"{what}, {label}: at most {values.max():,.4g}.")
            if not ends:
                _nothing(axes, "not measured")
                continue
            axes.set_ylim(0, top * 1.1 or 1)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
            _label_ends(axes, ends)
        return Plot(name, title, f"{title}. {' '.join(texts)}", _svg(figure, title))


def waits_over_time(run: Run, name: str, title: str) -> Plot | None:
    """Time to first token of the admitted, and who was refused, over time. None where nobody was admitted."""
    first = first_token(run.requests) if len(run.requests) else np.empty(0)
    if not np.isfinite(first).any():
        return None
    width = max(1.0, run.seconds / 120)
    with _drawing(12.6, 4.4) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        unit = _time_axis(below, run)
        above.set_title("time to first token of the admitted")
        ends, every = [], []
        for rank, (thick, dashes) in ((50, SHADES[50]), (95, SHADES[95])):
            at, values = by_minute(run.requests["at"], first, rank, width)
            above.plot(at / unit, values, color=BLUE, lw=thick, ls=dashes)
            ends.append((at[-1] / unit, values[-1], f"p{rank}", BLUE))
            every += [value for value in values if value > 0]
        _seconds_axis(above, every or [1.0])
        below.set_title("requests per second")
        edges = np.arange(0, run.seconds + width, width)
        for label, kinds, colour in (
            ("admitted", ("complete", "left", "deadline"), BLUE),
            ("refused", ("refused", "limited"), "#e69f00"),
            ("failed", ("failed",), RED),
        ):
            rows = np.isin(run.requests["ending"], kinds)
            if rows.any():
                counts, _ = np.histogram(run.requests["at"][rows], edges)
                below.stairs(counts / width, edges / unit, baseline=None, color=colour, linewidth=1.6)
                ends.append((edges[-1] / unit, counts[-1] / width, label, colour))
        below.set_ylim(bottom=0)
        for stage, _ in run.stages():
            for axes in (above, below):
                axes.axvline(stage.at / unit, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
            above.text(
                stage.at / unit, 1.0, f" {stage.name} {stage.readers:,}", transform=above.get_xaxis_transform(),
                va="top", color=MUTED, fontsize=9,
            )  # fmt: skip
        _label_ends(above, [end for end in ends if end[2].startswith("p")])
        _label_ends(below, [end for end in ends if not end[2].startswith("p")])
        refused = int(np.isin(run.requests["ending"], ("refused", "limited")).sum())
        text = (
            f"{title}. The median was {seconds(float(np.nanmedian(first)))}, the longest"
            f" {seconds(float(np.nanmax(first)))}; {refused:,} of {len(run.requests):,} requests were refused."
        )
        return Plot(name, title, text, _svg(figure, title))


def plots_of(service: str, side: Side, about: str, prefix: str) -> dict[str, list[Plot]]:
    """All of a side, by shape; `levels` are those of the ramp and the steady run."""
    drawn: dict[str, list[Any]] = {
        "levels": [
            percentiles(side, service, f"{prefix}-percentiles", f"{about}: latency by percentile"),
            endings(side, f"{prefix}-endings", f"{about}: how requests ended"),
        ]
    }
    for shape, run in side.runs.items():
        drawn[shape] = [
            over_time(run, f"{prefix}-{shape}-time", f"{about}, {shape}: readers, memory and CPU over time")
        ]
        if shape in ("spike", "soak"):
            waits = waits_over_time(run, f"{prefix}-{shape}-waits", f"{about}, {shape}: latency over time")
            drawn[shape].insert(0, waits)
    return {kind: [plot for plot in plots if plot] for kind, plots in drawn.items()}
