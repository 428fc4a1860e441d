"""`scripts/fuzz`: every target in turn, for as long as is asked for, with a corpus that is kept."""

import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from tests.fuzz.targets import BUILD, CORPUS, NATIVE, ROOT, TARGETS, Target

RUN = ROOT / "run" / "fuzz"
MEMORY = Path("/dev/shm")  # noqa: S108 - where no disk is waited for
LEDGER = RUN / "ledger.jsonl"  # a line for every turn of a target

TURN = 300  # seconds at most, so that who interrupts has had something of every target
LEAST = 10  # seconds, of which a target in Python needs the first to start
SLOWEST = 60  # seconds for one input; the targets in Python are stricter, see bounds.py
MEGABYTES = 2048

_PULSE = re.compile(
    r"^#(?P<executions>\d+)\s.*?(?:cov: (?P<cov>\d+) )?ft: (?P<features>\d+) corp: (?P<corpus>\d+)/"
)
_FINDING = re.compile(r"Test unit written to (\S+)")
_DONE = re.compile(r"^stat::number_of_executed_units:\s+(\d+)")


@dataclass
class Turn:
    """What a target did in its turn. features: of libFuzzer, edges and how often each was taken; since the start."""

    target: str
    started: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    executions: int = 0
    features: int = 0
    corpus: int = 0
    finding: str | None = None


class Fuzzing:
    """The turns of all targets, several at once. scratch: for their temporary files, which they leave behind."""

    def __init__(self, names: list[str], seconds: float, jobs: int, scratch: str) -> None:
        self._jobs = jobs
        self._scratch = scratch
        share = max(LEAST, seconds * jobs / len(names))  # of each target
        turns = max(1, round(share / TURN))
        self._queue = [(TARGETS[name], share / turns) for _ in range(turns) for name in names]
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.turns: list[Turn] = []

    def run(self, console: Console) -> None:
        """Returns when all have had their turns; KeyboardInterrupt ends those that are running."""
        with ThreadPoolExecutor(self._jobs) as pool:
            turns = [pool.submit(self._take_turn, target, seconds) for target, seconds in self._queue]
            try:
                with Live(console=console, get_renderable=self._table, refresh_per_second=1):
                    while not all(turn.done() for turn in turns):
                        time.sleep(0.2)
            finally:
                self._stop()
        for turn in turns:
            turn.result()

    def _stop(self) -> None:
        self._stopped.set()
        with self._lock:
            for process in self._running.values():
                process.send_signal(signal.SIGINT)

    def _take_turn(self, target: Target, seconds: float) -> None:
        turn = Turn(target.name, datetime.now(UTC).isoformat(timespec="seconds"))
        with self._lock:
            found = any(other.finding for other in self.turns if other.target == target.name)
            if found or self._stopped.is_set():  # the same would be found again
                return
            self.turns.append(turn)
            process = self._running[target.name] = self._start(target, seconds)
        began = time.monotonic()
        with (RUN / f"{target.name}.log").open("w") as log:
            assert process.stderr
            for line in process.stderr:
                log.write(line)
                if pulse := _PULSE.match(line):
                    turn.executions = int(pulse["executions"])
                    turn.features, turn.corpus = int(pulse["features"]), int(pulse["corpus"])
                elif done := _DONE.match(line):
                    turn.executions = int(done[1])
                elif finding := _FINDING.search(line):
                    turn.finding = os.path.relpath(finding[1], ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        with self._lock:
            del self._running[target.name]
        turn.seconds = round(time.monotonic() - began, 1)
        turn.cpu_seconds = round(usage.ru_utime + usage.ru_stime, 1)
        if process.returncode and not turn.finding and not self._stopped.is_set():
            turn.finding = (
                f"none: it ended with {process.returncode}, see {RUN.relative_to(ROOT)}/{target.name}.log"
            )
        with self._lock, LEDGER.open("a") as ledger:
            ledger.write(f"{json.dumps(asdict(turn))}\n")

    def _start(self, target: Target, seconds: float) -> "subprocess.Popen[str]":
        kept, known = RUN / "corpus" / target.name, CORPUS / target.name
        kept.mkdir(parents=True, exist_ok=True)
        options = {
            "max_total_time": int(seconds),
            "timeout": SLOWEST,
            "rss_limit_mb": MEGABYTES,
            "max_len": 1 << 14,
            "print_final_stats": 1,
            "artifact_prefix": f"{RUN}/findings/{target.name}-",
        }
        return subprocess.Popen(
            [
                *target.program,
                *(f"-{name}={value}" for name, value in options.items()),
                f"{kept}",
                f"{known}",
            ],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": self._scratch, "UBSAN_OPTIONS": "print_stacktrace=1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C comes here first
        )

    def _table(self) -> Table:
        return table([*self.turns])


def table(turns: list[Turn]) -> Table:
    """The sums of each target's turns, and of all."""
    shown = Table("target", "CPU minutes", "executions", "features", "corpus", "finding")
    for column in shown.columns[1:5]:
        column.justify = "right"
    for name in TARGETS:
        own = [turn for turn in turns if turn.target == name]
        if own:
            minutes, executions = (
                sum(turn.cpu_seconds for turn in own) / 60,
                sum(turn.executions for turn in own),
            )
            findings = " ".join(turn.finding for turn in own if turn.finding)
            features, corpus = max(turn.features for turn in own), max(turn.corpus for turn in own)
            shown.add_row(name, f"{minutes:.1f}", f"{executions:,}", f"{features:,}", f"{corpus:,}", findings)
    minutes, executions = sum(turn.cpu_seconds for turn in turns) / 60, sum(turn.executions for turn in turns)
    shown.add_section()
    shown.add_row("all", f"{minutes:.1f}", f"{executions:,}")
    return shown


def build() -> None:
    """The programs in C++, with libFuzzer. Raises ClickException where something is missing for it."""
    library = f"lib/clang/*/lib/linux/libclang_rt.fuzzer-{platform.machine()}.a"
    libraries = sorted(Path("/usr/lib").glob(f"llvm-*/{library}"))
    if not libraries:
        raise click.ClickException("libFuzzer is missing: apt-get install libclang-rt-14-dev, or a newer one")
    tools = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    options = ["POKEGEN_TESTS=ON", "POKEGEN_SANITIZE=address,undefined", f"POKEGEN_LIBFUZZER={libraries[-1]}"]
    for command in (
        ["cmake", "-S", f"{ROOT}", "-B", f"{BUILD}", "-G", "Ninja", *(f"-D{option}" for option in options)],
        ["cmake", "--build", f"{BUILD}", "--target", *(f"fuzz_{name}" for name in NATIVE)],
    ):
        done = subprocess.run(command, env=tools, capture_output=True, text=True)
        if done.returncode:
            raise click.ClickException(f"the targets can't be compiled:\n{done.stdout}{done.stderr}")


def past() -> list[Turn]:
    """All turns that the ledger knows."""
    with suppress(FileNotFoundError):
        return [Turn(**json.loads(line)) for line in LEDGER.read_text().splitlines()]
    return []


@click.command()
@click.argument("names", nargs=-1, metavar="[TARGET]...", type=click.Choice(sorted(TARGETS)))
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=60, show_default=True)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=len(os.sched_getaffinity(0)),
    show_default="the processors",
    help="How many targets run at once.",
)
@click.option("--ledger", is_flag=True, help="Run nothing: show what all runs so far have done.")
def main(names: tuple[str, ...], minutes: float, jobs: int, ledger: bool) -> None:
    """Fuzz every TARGET, or all: the minutes are shared out among them.

    Inputs that reach new code are kept in run/fuzz/corpus, and the next run goes on with them. Findings are in
    run/fuzz/findings. Ctrl-C ends it early. Exits with 1 if anything was found.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    console = Console()
    if ledger:
        console.print(table(past()))
        return
    (RUN / "findings").mkdir(parents=True, exist_ok=True)
    build()
    had: Counter[str] = Counter()  # seconds; who has had least comes first, in case this is interrupted too
    for turn in past():
        had[turn.target] += int(turn.cpu_seconds)
    hungriest = sorted(names or TARGETS, key=lambda name: had[name])
    with tempfile.TemporaryDirectory(
        prefix="pokegen-fuzz-", dir=MEMORY if MEMORY.is_dir() else None
    ) as scratch:
        fuzzing = Fuzzing(hungriest, minutes * 60, jobs, scratch)
        with suppress(KeyboardInterrupt):
            fuzzing.run(console)
    findings = [turn for turn in fuzzing.turns if turn.finding]
    for turn in findings:
        finding = str(turn.finding)
        console.print(f"{turn.target}: {finding}", style="bold red", soft_wrap=True)
        if not finding.startswith("none"):
            console.print(f"  {TARGETS[turn.target].reproduce(Path(finding))}", soft_wrap=True)
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
