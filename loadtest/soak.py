"""`python -m loadtest.soak`: far more readers than the machine can serve, for minutes, and nothing may break.

They arrive at random, four times as many as can be served. Most of them leave half-way, give the engine too little
time, or find no room. What must hold nevertheless is what `Soak.faults` looks at.
"""

import contextlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from loadtest.in_process import EngineHost, running_engine
from loadtest.over_http import ServiceHost
from loadtest.readers import STAYS, Conduct, Fault, Host, Request, random_conduct, random_request
from server.engine import EngineError
from server.settings import SHIPPED_CHECKPOINT, Settings
from server.weights import CheckpointError

OVERLOAD = 4  # times what can be served
WARM_UP = 60.0  # seconds in which memory may grow
MEMORY_TOLERANCE = 0.02
KNOWN = 8  # requests whose texts are made beforehand; one reader in so many asks for one of them, and stays
MAX_READERS = 1000  # at once
MALLOC = "glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0"  # as the service is run, for its reason


class Soak:
    """A host, the readers who visit it, and what they saw."""

    def __init__(self, host: Host, longest: int, seed: int) -> None:
        self._host = host
        self._longest = longest
        self._seed = seed
        self._random = np.random.default_rng(seed)
        self._lock = threading.Lock()
        self._endings: Counter[str] = Counter()
        self._broken: Counter[str] = Counter()
        self._tokens = self._compared = 0
        self._seconds = 0.0
        self._memory: list[float] = []  # MiB, once a second
        known = [random_request(self._random, longest) for _ in range(KNOWN)]
        self._texts = {request: host.visit(request).texts for request in known}

    def fill(self, readers: int) -> None:
        """Make as many texts at once, as long as can be: the cache's memory is in use before it is watched."""
        with ThreadPoolExecutor(readers) as pool:
            list(pool.map(lambda seed: self._host.visit(Request("Ash", 65536, seed=seed)), range(readers)))

    def capacity(self, readers: int, seconds: float) -> float:
        """How many requests a second are answered while there are so many readers, all of them patient."""
        began = time.monotonic()

        def read(number: int) -> int:
            random = np.random.default_rng([self._seed, number])
            answered = 0
            while time.monotonic() < began + seconds:
                self._host.visit(random_request(random, self._longest))
                answered += 1
            return answered

        with ThreadPoolExecutor(readers) as pool:
            answered = sum(pool.map(read, range(readers)))
        return answered / (time.monotonic() - began)

    def run(self, rate: float, wait: float, seconds: float) -> None:
        """Let `rate` readers a second arrive, of whom most wait for `wait` seconds at most. Ctrl-C ends it early."""
        began = due = time.monotonic()
        with (
            tqdm(total=round(seconds), unit="s", file=sys.stderr) as bar,
            contextlib.suppress(KeyboardInterrupt),
            ThreadPoolExecutor(MAX_READERS) as pool,
        ):
            while due < began + seconds:
                time.sleep(max(0.0, due - time.monotonic()))
                pool.submit(self._read, *self._next_reader(wait))
                due += self._random.exponential(1 / rate)
                self._seconds = time.monotonic() - began
                if self._seconds >= len(self._memory):
                    self._memory.append(self._host.resident_mb())
                    bar.set_postfix(self._endings, refresh=False)
                    bar.update(min(round(self._seconds), round(seconds)) - bar.n)

    def _next_reader(self, wait: float) -> tuple[Request, Conduct]:
        if self._random.integers(KNOWN) == 0:
            return list(self._texts)[int(self._random.integers(KNOWN))], STAYS
        return random_request(self._random, self._longest), random_conduct(self._random, wait)

    def _read(self, request: Request, conduct: Conduct) -> None:
        try:
            visit = self._host.visit(request, conduct)
        except Exception as error:
            with self._lock:
                self._broken[str(error) if isinstance(error, Fault) else repr(error)] += 1
            return
        with self._lock:
            self._endings[visit.ending] += 1
            self._tokens += visit.tokens
            if visit.ending == "complete" and request in self._texts:
                self._compared += 1
                if visit.texts != self._texts[request]:
                    self._broken["another text than the first time"] += 1

    def faults(self) -> list[str]:
        """What is not as it should be, now that the last reader has gone."""
        faults = [f"{count} times: {what}" for what, count in self._broken.items()]
        if self._drift() > MEMORY_TOLERANCE:
            faults.append(f"memory moved by {self._drift():.1%}, which is more than {MEMORY_TOLERANCE:.0%}")
        return faults + self._host.at_rest()

    def _settled_memory(self) -> list[float]:
        return self._memory[round(WARM_UP) :]

    def _drift(self) -> float:
        settled = self._settled_memory()
        return max((abs(mb / settled[0] - 1) for mb in settled), default=0.0)

    def summary(self) -> Iterator[str]:
        """The figures, a line each."""
        endings = ", ".join(f"{count:,} {ending}" for ending, count in self._endings.most_common())
        readers = self._endings.total() + self._broken.total()
        yield f"time       {self._seconds:.0f} s, {readers / max(self._seconds, 1e-9):.1f} readers a second"
        yield f"readers    {readers:,}: {endings}"
        yield f"tokens     {self._tokens:,} in complete texts"
        yield f"same seed  {self._compared:,} texts compared with those of {KNOWN} requests before the load"
        if settled := self._settled_memory():
            yield (
                f"memory     {settled[0]:.1f} MiB after {WARM_UP:.0f} s, then {min(settled):.1f} to {max(settled):.1f}:"
                f" moved by {self._drift():.2%}"
            )
        else:
            yield f"memory     {self._memory[-1]:.1f} MiB; not judged in the first {WARM_UP:.0f} s"


DEFAULTS = Settings.model_fields


@click.command(context_settings={"show_default": True})
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=10.0, help="Of load.")
@click.option(
    "--measure",
    type=click.FloatRange(min=0.1),
    default=10.0,
    help="Seconds that find out what can be served.",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    default=SHIPPED_CHECKPOINT,
    help="For the engine in this process.",
)
@click.option(
    "--max-running",
    type=click.IntRange(1),
    default=DEFAULTS["max_running"].default,
    help="Samples at once; a service has its own.",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(0),
    default=DEFAULTS["max_waiting"].default,
    help="Samples that wait; a service has its own.",
)
@click.option("--longest", type=click.IntRange(1), default=200, help="New tokens of the longest text.")
@click.option(
    "--url",
    help="A running service instead, such as http://127.0.0.1:8080."
    " Its POKEGEN_ADDRESS_AT_ONCE and POKEGEN_ADDRESS_RATE must be 0.",
)
@click.option(
    "--pid-file",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="With --url: uWSGI's, such as run/8080/uwsgi.pid.",
)
@click.option("--seed", type=int, default=0, help="Other readers.")
def command(
    minutes: float,
    measure: float,
    checkpoint: Path,
    max_running: int,
    max_waiting: int,
    longest: int,
    url: str | None,
    pid_file: Path | None,
    seed: int,
) -> None:
    """Let four times as many readers come as can be served, and see that nothing breaks.

    No answer may be lost, come twice or differ from what the same seed gave before; every block of the cache must come
    back; after the first minute, the resident memory must stay within 2%. Exits with 1 where that is not so.
    """
    if url and not pid_file:
        raise click.UsageError("--url needs --pid-file, for the service's memory")
    try:
        with contextlib.ExitStack() as stack:
            host: Host
            if url and pid_file:
                host = ServiceHost(url, int(pid_file.read_text()))
            else:
                engine = stack.enter_context(running_engine(checkpoint, max_running, max_waiting))
                host = EngineHost(engine)
            soak = Soak(host, longest, seed)
            soak.fill(max_running)
            served = soak.capacity(max_running, measure)
            click.echo(f"served     {served:.1f} requests a second, to {max_running} readers at once")
            soak.run(OVERLOAD * served, wait=(max_running + max_waiting) / served, seconds=60 * minutes)
            for line in soak.summary():
                click.echo(line)
            faults = soak.faults()
    except (CheckpointError, EngineError, Fault, ValueError) as error:
        raise click.ClickException(str(error)) from error
    for fault in faults:
        click.echo(f"NOT SO     {fault}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    if os.environ.get("GLIBC_TUNABLES") != MALLOC:  # it is read when a process starts
        os.environ["GLIBC_TUNABLES"] = MALLOC
        os.execv(sys.executable, [sys.executable, "-m", "loadtest.soak", *sys.argv[1:]])  # noqa: S606
    command()
