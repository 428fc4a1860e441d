"""`python -m loadtest.run`: start the service in a box, let readers come, measure both, and end everything.

What a run saw is in run/loadtest/SERVICE-CHECKPOINT-PROFILE-SHAPE/: run.json, readers.csv and box.csv, of which
loadtest.report makes the report; stages.csv, service.log and locust.log beside them.
"""

import csv
import datetime
import functools
import itertools
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import click
import psutil
from tqdm import tqdm

from loadtest.box import MIB, PROFILES, ROOT, BoxError, By, Profile, running
from loadtest.jobs import ServiceName, checkpoint_of, make_job, wait_until_ready
from loadtest.load.journal import READERS, STAGES
from loadtest.load.shapes import ShapeName
from loadtest.meter import BOX, Meter, Row, measure
from loadtest.report import figures, runs

SEED_LEVELS = (1, 2, 3, 5, 8, 16)  # readers: its knee is below the first
STAGE_SECONDS = {"pokegen": 30.0, "seed": 90.0}  # of a ramp: some texts' time, and more than nginx's limit
MINUTES = {"steady": 2.0, "spike": 3.0, "soak": 30.0}
FIRST_READERS = 16  # of a ramp
SPIKE = 20  # times the readers
STORIES: dict[ShapeName, tuple[str, ...]] = {
    "ramp": ("CasualReader",),
    "steady": ("CasualReader",),
    "spike": ("CasualReader", "Crowd"),
    "soak": (),  # all of them
}


class Run:
    """One shape of load on one box; `folder` gets what it saw."""

    def __init__(
        self, out: Path, service: ServiceName, checkpoint: str, profile: Profile, shape: ShapeName
    ) -> None:
        self.folder = out / f"{service}-{Path(checkpoint).name}-{profile.name}-{shape}"
        self._service = service
        self._checkpoint = checkpoint
        self._profile = profile
        self._shape = shape

    def go(self, by: By, length: int, load: list[str], stories: list[str], seconds: float | None) -> None:
        """Do it. load: the options for loadtest/locustfile.py. seconds: how long it takes, where that is known.

        Raises BoxError; at KeyboardInterrupt what was seen until then is kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "service.log"
        job = make_job(self._service, checkpoint_of(self._checkpoint))
        with running(job, self._profile, by, log) as box:
            wait_until_ready(job, box, log)
            for earlier in (READERS, STAGES, BOX):  # kept until this run can begin
                (self.folder / earlier).unlink(missing_ok=True)
            began = time.monotonic()
            about = self._about(by, length)
            self._write(about)
            locust = f"{sys.executable} -m locust -f loadtest/locustfile.py --headless --only-summary"
            options = f"--exit-code-on-error 0 --host http://127.0.0.1:{job.port} --service {self._service}"
            options += f" --shape {self._shape} --length {length} --began {began}"
            command = [
                *locust.split(),
                *options.split(),
                "--out",
                str(self.folder.resolve()),
                *load,
                *stories,
            ]
            with (self.folder / "locust.log").open("wb") as said:
                generator = subprocess.Popen(  # noqa: S603
                    ["setpriv", "--pdeathsig", "TERM", *command],  # noqa: S607
                    cwd=ROOT,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                try:
                    meter = Meter(box, psutil.Process(generator.pid), job.port, job.plain_port)
                    with tqdm(
                        desc=self.folder.name, total=seconds and round(seconds), unit="s", disable=None
                    ) as bar:
                        measure(
                            meter,
                            self.folder / BOX,
                            began,
                            self._readers,
                            lambda: generator.poll() is None and box.process.poll() is None,
                            lambda row: _show(bar, row),
                        )
                finally:
                    if generator.poll() is None:
                        generator.send_signal(signal.SIGTERM)
                    code = generator.wait()
                    self._write(about | {"seconds": round(time.monotonic() - began, 1)})
            if box.process.poll() is not None:
                raise BoxError(f"the service ended by itself: see {log}")
            if code:
                raise BoxError(f"Locust ended with {code}: see {self.folder / 'locust.log'}")

    def _about(self, by: By, length: int) -> dict[str, Any]:
        return {
            "service": self._service,
            "checkpoint": self._checkpoint,
            "profile": self._profile.name,
            "shape": self._shape,
            "length": length,
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": {
                "cpu": _cpu_model(),
                "cpus": psutil.cpu_count(),
                "memory_mb": psutil.virtual_memory().total // MIB,
            },
            "box": {"cpus": self._profile.cpus, "memory_mb": self._profile.memory_mb, "by": by},
            "command": shlex.join(["python", "-m", "loadtest.run", *sys.argv[1:]]),
            "settings": {name: value for name, value in os.environ.items() if name.startswith("POKEGEN_")},
            "versions": {
                "pokegen": _git_commit(),
                "locust": version("locust"),
                "python": platform.python_version(),
                "kernel": platform.release(),
            },
        }

    def _write(self, about: dict[str, Any]) -> None:
        draft = self.folder / "run.json.part"
        draft.write_text(json.dumps(about | {"stages": self._stages()}, indent=2) + "\n")
        draft.rename(self.folder / "run.json")

    def _stages(self) -> list[dict[str, Any]]:
        """Those that have begun."""
        try:
            with (self.folder / STAGES).open(newline="") as file:
                return [
                    {"at": float(row["at"]), "readers": int(row["readers"]), "name": row["name"]}
                    for row in csv.DictReader(file)
                ]
        except FileNotFoundError:  # Locust has not come so far
            return []

    def _readers(self) -> int | None:
        stages = self._stages()
        return stages[-1]["readers"] if stages else None


def _show(bar: "tqdm[Any]", row: Row) -> None:
    bar.update()
    shown = {"readers": "readers", "tok/s": "tokens_per_second", "MiB": "rss_mb", "CPU": "cpu_share"}
    found = {name: row.get(column) for name, column in shown.items()}
    bar.set_postfix({name: f"{value:,.4g}" for name, value in found.items() if value is not None})


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _git_commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)  # noqa: S603
    return done.stdout.strip() or "unknown"


def _knee(out: Path, service: ServiceName, checkpoint: str, profile: Profile) -> int:
    """How many readers the ramp of the same service found. Raises BoxError where there was none, or it found nobody."""
    folder = Run(out, service, checkpoint, profile, "ramp").folder
    if not (folder / "run.json").exists():
        raise BoxError(f"no ramp has found the knee in {folder}: --shape ramp first, or say --readers")
    readers = figures.capacity(figures.levels(runs.read_run(folder))).readers
    if not readers:
        raise BoxError(
            f"the ramp in {folder} found no number of readers that the service keeps up with: say --readers"
        )
    return readers


def _load(
    shape: ShapeName, service: ServiceName, readers: int | None, seconds: float, knee: Callable[[], int]
) -> list[str]:
    """Options for loadtest/locustfile.py: how many readers for how long."""
    options = ["--seconds", str(seconds)]
    if shape == "ramp" and service == "seed" and readers is None:
        return [*options, "--levels", *map(str, SEED_LEVELS)]
    if readers is None and shape == "ramp":
        readers = FIRST_READERS
    elif readers is None:
        readers = knee() if shape != "soak" else max(knee() * 9 // 10, 1)
    return [*options, "--readers", str(readers), "--times", str(SPIKE)]


@click.command(context_settings={"show_default": True})
@click.option(
    "--service", type=click.Choice(get_args(ServiceName)), default="pokegen", help="Ours, or the seed design."
)
@click.option(
    "--checkpoint",
    multiple=True,
    default=("run1", "124M"),
    help="run1, 124M (random weights), or a directory.",
)
@click.option(
    "--profile",
    multiple=True,
    type=click.Choice(list(PROFILES)),
    default=("t2.medium",),
    help="The box's size.",
)
@click.option(
    "--shape",
    multiple=True,
    type=click.Choice(get_args(ShapeName)),
    default=("ramp", "steady", "spike"),
    help="How many readers, and when.",
)
@click.option(
    "--by",
    type=click.Choice(get_args(By)),
    default="cgroup",
    help="What limits the box; none is the machine.",
)
@click.option(
    "--readers",
    type=click.IntRange(1),
    help="A ramp's first; else the knee of the ramp, for a soak 90% of it.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Of all but a ramp. Default: 2, spike 3, soak 30.",
)
@click.option(
    "--stage",
    type=click.FloatRange(min=10),
    help="Seconds of a ramp's stage. Default: 30, of the seed design 90.",
)
@click.option("--length", type=click.IntRange(1), default=128, help="New tokens of a text.")
@click.option(
    "--pause", type=click.Choice(("none", "human")), default="none", help="Between a reader's texts."
)
@click.option(
    "--story",
    multiple=True,
    help="Users of the locustfile. Default: CasualReader; in a spike also Crowd; in a soak all.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=runs.RUNS, help="Where the runs go."
)
def command(
    service: ServiceName,
    checkpoint: tuple[str, ...],
    profile: tuple[str, ...],
    shape: tuple[ShapeName, ...],
    by: By,
    readers: int | None,
    minutes: float | None,
    stage: float | None,
    length: int,
    pause: str,
    story: tuple[str, ...],
    out: Path,
) -> None:
    """Put readers to the service in a box, and write down what they and the box saw.

    Every combination of checkpoints, profiles and shapes is a run with a service of its own. Ctrl-C ends all of it;
    what was seen until then can be reported: python -m loadtest.report.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends everything, as Ctrl-C does
    try:
        for one, size, plan in itertools.product(checkpoint, profile, shape):
            run = Run(out, service, one, PROFILES[size], plan)
            seconds = stage or STAGE_SECONDS[service] if plan == "ramp" else 60 * (minutes or MINUTES[plan])
            knee = functools.partial(_knee, out, service, one, PROFILES[size])
            load = [*_load(plan, service, readers, seconds, knee), "--pause", pause]
            run.go(by, length, load, list(story or STORIES[plan]), None if plan == "ramp" else seconds)
            click.echo(run.folder)
    except (BoxError, OSError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    command()
