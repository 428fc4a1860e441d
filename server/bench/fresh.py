"""What only a process of its own can show: how long it takes to start, and the memory it takes (Linux).

`python -m server.bench.fresh JOB`, where JOB is a `Job` as JSON, prints what `_start` reads.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from server.bench.measure import Workload, prompt
from server.engine import EngineName, Isa, create_engine
from server.weights import open_checkpoint

SEQUENCE = 256  # tokens of each sequence where memory is measured, prompt included


@dataclass(frozen=True)
class Job:
    """Load `checkpoint`, make a token, and then run `sequences`, each to 256 tokens."""

    checkpoint: str
    engine: EngineName
    threads: int
    isa: Isa
    work: Workload
    sequences: int


@dataclass(frozen=True)
class Fresh:
    """A process that has done a job.

    first_token_s: seconds from its start to its first token. The others are MiB that were resident, mapped files
    included: loading_mb at most until the first token, idle_mb after it, running_mb with all of the sequences,
    peak_mb at most.
    """

    first_token_s: float
    loading_mb: float
    idle_mb: float
    running_mb: float
    peak_mb: float


@dataclass(frozen=True)
class Starts:
    """The first start of a checkpoint, which leaves a packed cache file, and one that finds it."""

    unpacked: Fresh
    packed: Fresh


def measure_starts(job: Job) -> Starts:
    """Do the job twice, in a folder that has the checkpoint's files and nothing else at first.

    Raises ValueError with a process's last words if it fails.
    """
    with _links(Path(job.checkpoint)) as folder:
        linked = replace(job, checkpoint=str(folder))
        return Starts(unpacked=_start(replace(linked, sequences=1)), packed=_start(linked))


@contextmanager
def _links(checkpoint: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pokegen-bench-") as folder:
        for file in checkpoint.resolve().iterdir():
            if file.suffix != ".packed":
                (Path(folder) / file.name).symlink_to(file)
        yield Path(folder)


def _start(job: Job) -> Fresh:
    began = time.monotonic()  # which all processes of a machine share
    command = [sys.executable, "-m", "server.bench.fresh", json.dumps(asdict(job))]
    process = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if process.returncode:
        last = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"the fresh process ended with status {process.returncode}: {last}")
    said = json.loads(process.stdout)
    return Fresh(first_token_s=said.pop("first_token") - began, **said)


def main(argument: str) -> None:
    """Do the job in this process, and print what `_start` reads."""
    fields = json.loads(argument)
    # The context is here half of a sequence at most, so that most of it is generated.
    work = Workload(**fields["work"])
    work = replace(work, context=min(work.context, SEQUENCE // 2))
    job = Job(**fields | {"work": work})
    with open_checkpoint(Path(job.checkpoint)) as checkpoint:
        engine = create_engine(
            checkpoint,
            job.engine,
            max_running=job.sequences,
            max_waiting=0,
            threads=job.threads,
            isa=job.isa,
        )
    reader = engine.submit(prompt(engine.hparams, work.context, 0), work.params(1))
    reader.result()
    first = {
        "first_token": reader.timing.first_token,
        "loading_mb": _memory("VmHWM"),
        "idle_mb": _memory("VmRSS"),
    }
    length = min(SEQUENCE, engine.hparams.n_ctx) - work.context
    generations = [
        engine.submit(prompt(engine.hparams, work.context, seed), work.params(length, seed))
        for seed in range(job.sequences)
    ]
    for generation in generations:
        generation.result()
    print(json.dumps(first | {"running_mb": _memory("VmRSS"), "peak_mb": _memory("VmHWM")}))
    engine.close()


def _memory(field: str) -> float:
    """VmRSS, resident now, or VmHWM, the most so far, in MiB (man 5 proc, /proc/pid/status: kB are 1024 bytes)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main(sys.argv[1])
