"""What a load test left on the disk: run.json, readers.csv and box.csv of a directory."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from loadtest.load.reading import Ending

Numbers = NDArray[np.float64]

RUNS = Path("run/loadtest")

ENDINGS: tuple[str, ...] = get_args(Ending)

# Columns by file: those of words, and those of numbers (NaN where nothing is written).
WORDS = {"readers.csv": ("story", "ending", "error"), "box.csv": ()}
NUMBERS = {
    "readers.csv": ("at", "readers", "status", "first_token_s", "total_s", "tokens", "longest_gap_s"),
    "box.csv": (
        "at", "readers", "rss_mb", "pss_mb", "cgroup_mb", "cpu_share", "throttled_share", "threads", "connections",
        "running", "waiting", "free_blocks", "tokens_per_second", "step_ms", "refused_total", "generator_cpu_share",
    ),
}  # fmt: skip
# Shown where a run has them; nobody misses them.
OPTIONAL = {"readers.csv": ("retry_after_s",), "box.csv": ("oom_kills",)}
# Not measured in the seed design, which has none of it.
ENGINE = ("running", "waiting", "free_blocks", "tokens_per_second", "step_ms", "refused_total")

Count = Annotated[int, Field(ge=0)]
Duration = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Machine(BaseModel):
    """What the run was measured on."""

    cpu: str = "an unnamed processor"
    cpus: Count = 0
    memory_mb: Duration = 0.0


class Box(BaseModel):
    """What the service could take of it."""

    cpus: Duration = 0.0
    memory_mb: Duration = 0.0
    by: str = ""


class Stage(BaseModel):
    """From second `at`, `readers` at once."""

    at: Duration
    readers: Count
    name: str = ""


class About(BaseModel):
    """run.json. What is unknown to us is no mistake: a newer load test may say more."""

    service: Literal["pokegen", "seed"]
    checkpoint: str
    profile: str
    shape: Literal["ramp", "steady", "spike", "soak"]
    length: Count = 0
    started: str = ""
    seconds: Duration | None = None
    machine: Machine = Machine()
    box: Box = Box()
    command: str = ""
    settings: dict[str, str] = {}
    versions: dict[str, Any] = {}
    stages: list[Stage] = []


@dataclass(frozen=True)
class Table:
    """Columns of one length: float64 with NaN for what is missing, or words with "" for it."""

    columns: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def has(self, name: str) -> bool:
        """Whether anything was measured."""
        return name in self.columns and not bool(np.isnan(self.columns[name]).all())

    def where(self, rows: NDArray[np.bool_]) -> "Table":
        """Those rows alone."""
        return Table({name: column[rows] for name, column in self.columns.items()})


class RunError(Exception):
    """A directory that cannot be reported. The text names it, says why and what to do."""


@dataclass(frozen=True)
class Run:
    """A load test. `notes` are sentences on what is missing of it."""

    directory: Path
    about: About
    requests: Table
    box: Table
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it took; where it was interrupted, until the last thing that was written."""
        if self.about.seconds is not None:
            return self.about.seconds
        ends = [*self.box["at"], *(self.requests["at"] + np.nan_to_num(self.requests["total_s"]))]
        return float(max(ends, default=0.0))

    def stages(self) -> Iterator[tuple[Stage, float]]:
        """Each with the second at which it ended; those that were never reached are left out."""
        stages = sorted(self.about.stages, key=lambda stage: stage.at)
        ends = [*(stage.at for stage in stages[1:]), self.seconds]
        for stage, end in zip(stages, ends, strict=True):
            if stage.at < min(end, self.seconds):
                yield stage, min(end, self.seconds)


def read_run(directory: Path) -> Run:
    """What is there of a run. Raises RunError where there is nothing to report."""
    notes: list[str] = []
    about = _about(directory)
    if about.seconds is None:
        notes.append("It was interrupted: run.json has no `seconds`.")
    requests = _table(directory, "readers.csv", notes)
    ours = about.service == "pokegen"
    box = _table(directory, "box.csv", notes, unneeded=() if ours else ENGINE)
    if not len(requests) and not len(box):
        raise RunError(
            f"{directory}: neither readers.csv nor box.csv has a row: the run ended before anything was measured"
        )
    if not about.stages:
        about = about.model_copy(update={"stages": _begun(directory)})
    if not about.stages:
        readers = requests["readers"] if requests.has("readers") else np.zeros(1)
        most = int(np.nanmax(readers))
        notes.append("run.json names no stages: everything is taken for one.")
        about = about.model_copy(update={"stages": [Stage(at=0.0, readers=most, name="")]})
    return Run(directory, about, requests, box, notes)


def _about(directory: Path) -> About:
    file = directory / "run.json"
    try:
        return About.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise RunError(
            f"{file} cannot be read ({error.strerror}): name a directory that a load test wrote"
        ) from error
    except ValidationError as error:
        mistake = error.errors()[0]
        where = ".".join(map(str, mistake["loc"])) or "the file"
        raise RunError(
            f"{file}: {where}: {mistake['msg']}. Another version wrote it: measure again"
        ) from error
    except ValueError as error:
        raise RunError(f"{file} is not JSON ({error}): it was cut off, so measure again") from error


def _begun(directory: Path) -> list[Stage]:
    """The stages that a run had begun when it was killed: run.json gets them at the end."""
    try:
        with (directory / "stages.csv").open(newline="", encoding="utf-8") as file:
            return [Stage.model_validate(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, csv.Error):
        return []


def _table(directory: Path, name: str, notes: list[str], unneeded: tuple[str, ...] = ()) -> Table:
    """A file's columns. What is missing of it becomes a note: the file, a column, the end of its last line."""
    rows, present, damaged = _rows(directory / name, notes)
    columns: dict[str, NDArray[Any]] = {}
    for column in WORDS[name]:
        columns[column] = np.array([row[column] or "" if column in row else "" for row in rows], np.str_)
    for column in (*NUMBERS[name], *OPTIONAL[name]):
        numbers = [_number(row.get(column)) for row in rows]
        damaged += sum(number is None for number in numbers)
        columns[column] = np.array([np.nan if n is None else n for n in numbers], np.float64)
    if present:
        missing = [c for c in (*WORDS[name], *NUMBERS[name]) if c not in present and c not in unneeded]
        notes.extend(
            f"{name} has no column `{column}`: what depends on it is left out." for column in missing
        )
    if damaged:
        notes.append(f"{name}: {damaged} damaged {'place was' if damaged == 1 else 'places were'} left out.")
    keep = np.isfinite(columns["at"])
    return Table(columns).where(keep)


def _rows(file: Path, notes: list[str]) -> tuple[list[dict[str, str | None]], list[str], int]:
    """The lines, the names of the columns, and how many lines are shorter or longer than the heading."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace").replace("\0", "")
    except OSError as error:
        notes.append(f"{file.name} cannot be read ({error.strerror}): what depends on it is left out.")
        return [], [], 0
    reader = csv.DictReader(io.StringIO(text, newline=""))
    rows: list[dict[str, str | None]] = []
    try:
        rows.extend(reader)
    except csv.Error as error:
        notes.append(f"{file.name} is no CSV after line {reader.line_num} ({error}): the rest is left out.")
    present = list(reader.fieldnames or [])
    if not present:
        notes.append(f"{file.name} is empty: what depends on it is left out.")
    whole = [row for row in rows if None not in row and None not in row.values()]
    return whole, present, len(rows) - len(whole)


def _number(cell: str | None) -> float | None:
    """NaN for an empty cell, None for one that is no finite number."""
    if not cell:
        return float("nan")
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if np.isfinite(number) else None
