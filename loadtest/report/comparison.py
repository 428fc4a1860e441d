"""Ours beside the seed design: in the same box, with the same checkpoint."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from loadtest.report.figures import Capacity, Level, Soak, Spike, capacity, levels, soak, spike
from loadtest.report.runs import Run

OURS, SEED = "pokegen", "seed"
CHECKPOINTS = ("run1", "124M")  # in this order, others behind them
PROFILES = ("t2.medium", "t2.medium-spent")


@dataclass(frozen=True)
class Price:
    """What a box costs, in US dollars.

    per_hour: of a t2.medium with Linux, on demand, in us-east-1, as last known here: compare with
    https://aws.amazon.com/ec2/pricing/on-demand
    surplus: for each hour of a CPU beyond `baseline`, which CPU credits pay for (T2 Unlimited): compare there, too
    baseline: CPUs that the first price includes: 20% of each of two
    """

    per_hour: float = 0.0464
    surplus: float = 0.05
    baseline: float = 0.4

    def of(self, cpus: float) -> float:
        """An hour of a box that takes so many CPUs all the time."""
        return self.per_hour + self.surplus * max(0.0, cpus - self.baseline)

    def per_thousand(self, cpus: float, episodes_per_minute: float) -> float | None:
        """A thousand episodes. None where none is made."""
        return self.of(cpus) / (60 * episodes_per_minute) * 1000 if episodes_per_minute else None


@dataclass(frozen=True)
class Side:
    """A service in a box: its runs, one a shape."""

    runs: dict[str, Run]

    @cached_property
    def levels(self) -> list[Level]:
        """Of the ramp and the steady run."""
        return levels(self.runs[shape] for shape in ("ramp", "steady") if shape in self.runs)

    def capacity(self, patience: float) -> Capacity | None:
        """None where no level was measured."""
        return capacity(self.levels, patience) if self.levels else None

    @property
    def busiest(self) -> Level | None:
        """The level at which the most episodes a minute were made."""
        return max(self.levels, key=lambda level: level.episodes_per_minute, default=None)

    @cached_property
    def spike(self) -> Spike | None:
        """What the spike did, where one was measured."""
        return spike(self.runs["spike"]) if "spike" in self.runs else None

    @cached_property
    def soak(self) -> Soak | None:
        """What the soak did, where one was measured."""
        return soak(self.runs["soak"]) if "soak" in self.runs else None

    @property
    def cpus(self) -> float:
        """Of the box."""
        return next(iter(self.runs.values())).about.box.cpus


@dataclass(frozen=True)
class Setting:
    """A checkpoint in a box of a profile, and who was measured there, by service."""

    checkpoint: str
    profile: str
    sides: dict[str, Side] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.checkpoint} on {self.profile}"


def settings(runs: Iterable[Run]) -> tuple[list[Setting], list[str]]:
    """The runs by checkpoint and profile, and a sentence on each that a later one of the same kind replaces."""
    newest: dict[tuple[str, str, str, str], Run] = {}
    replaced = []
    for run in sorted(runs, key=lambda run: run.about.started):
        about = run.about
        key = about.checkpoint, about.profile, about.service, about.shape
        if key in newest:
            replaced.append(
                f"{newest[key].directory} is left out: {run.directory} is a later run of the same."
            )
        newest[key] = run
    found: dict[tuple[str, str], Setting] = {}
    for (checkpoint, profile, service, shape), run in newest.items():
        setting = found.setdefault((checkpoint, profile), Setting(checkpoint, profile))
        setting.sides.setdefault(service, Side({})).runs[shape] = run
    return sorted(found.values(), key=_order), replaced


def _order(setting: Setting) -> tuple[int, str, int, str]:
    return (
        _place(CHECKPOINTS, setting.checkpoint),
        setting.checkpoint,
        _place(PROFILES, setting.profile),
        setting.profile,
    )


def _place(known: tuple[str, ...], name: str) -> int:
    return known.index(name) if name in known else len(known)
