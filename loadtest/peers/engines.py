"""The engines that are compared, each run in a process of its own: the peers, and ours."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from loadtest.peers.protocol import SAMPLINGS

ROOT = Path(__file__).parents[2]
LOCKS = Path(__file__).parent / "requirements"
ENVIRONMENTS = ROOT / "run/peers"

# What an engine says, as `protocol` describes it.
Event = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What every engine does.

    sequences: how many run at once, one after the other. samplings: of `SAMPLINGS`. context: tokens of each prompt.
    length: tokens after the first that are measured. seconds: what a measurement of a peer may take, about.
    timeout: seconds that a peer's process may take before it is ended. memory: whether to measure it; ours always is.
    """

    checkpoint: Path
    sequences: tuple[int, ...]
    samplings: tuple[str, ...]
    context: int
    length: int
    threads: int
    seconds: float
    timeout: float
    memory: bool = True


@dataclass(frozen=True)
class Peer:
    """lock: its file in `requirements`, and its environment. package: in there. variant: the kind of its weights."""

    lock: str
    package: str
    module: str
    variant: str

    @property
    def name(self) -> str:
        """Such as `llama.cpp Q8_0`."""
        return f"{self.lock} {self.variant}"

    @property
    def version(self) -> str:
        """The package that is locked, and its version."""
        lock = (LOCKS / f"{self.lock}.txt").read_text()
        found = re.search(rf"^{re.escape(self.package)}==(\S+)", lock, re.MULTILINE)
        if not found:
            raise ValueError(f"{self.lock}.txt has no {self.package}: run loadtest/peers/lock")
        return f"{self.package} {found[1]}"

    @property
    def installed(self) -> bool:
        """Whether it can be run."""
        return (ENVIRONMENTS / self.lock / ".installed").exists()

    @property
    def install(self) -> str:
        """The command that installs it."""
        return f"loadtest/peers/install {self.lock}"

    def convert(self, job: Job) -> None:
        """Make its own copy of the checkpoint, if there is none. Raises CalledProcessError."""
        if not self._model(job).exists():
            subprocess.run(self._command("convert", job), check=True, stdout=sys.stderr, cwd=ROOT)  # noqa: S603

    def run(self, job: Job) -> Iterator[Event]:
        """Measure. What a process said before it took too long counts. Raises CalledProcessError."""
        command = self._command("measure", job)
        command += ["--sequences", ",".join(map(str, job.sequences))]
        command += [part for name in job.samplings for part in ("--sampling", name)]
        command += ["--context", str(job.context), "--length", str(job.length)]
        command += ["--seconds", str(job.seconds), "--threads", str(job.threads)]
        yield from events_of(command + ["--memory"] * job.memory, job.timeout)

    def _command(self, action: str, job: Job) -> list[str]:
        python = str(ENVIRONMENTS / self.lock / "bin/python")
        module = f"loadtest.peers.{self.module}"
        paths = [str(job.checkpoint), str(self._model(job))]
        return [python, "-m", module, action, *paths, "--variant", self.variant]

    def _model(self, job: Job) -> Path:
        return job.checkpoint.with_name(f"{job.checkpoint.name}-{self.lock}-{self.variant}")


PEERS = (
    Peer("gpt-2-simple", "gpt-2-simple", "gpt_2_simple", "float32"),
    Peer("transformers", "transformers", "transformers", "float32"),
    Peer("transformers", "transformers", "transformers", "bfloat16"),
    Peer("ctranslate2", "ctranslate2", "ctranslate2", "int8"),
    Peer("llama.cpp", "llama-cpp-python", "llama_cpp", "Q8_0"),
    Peer("llama.cpp", "llama-cpp-python", "llama_cpp", "Q4_0"),
    Peer("openvino", "openvino-genai", "openvino", "int8"),
)


@dataclass(frozen=True)
class Pokegen:
    """Ours. engine: one of its names."""

    engine: str = "int8"

    @property
    def name(self) -> str:
        """Such as `Pokegen int8`."""
        return f"Pokegen {self.engine}"

    @property
    def version(self) -> str:
        """That of the installed package."""
        return f"pokegen {metadata.version('pokegen')}"

    def run(self, job: Job) -> Iterator[Event]:
        """Measure by `pokegen bench`, which says more: also an event `ceilings`. Raises CalledProcessError."""
        for name in job.samplings:
            sampling = SAMPLINGS[name]
            command = [str(Path(sys.executable).with_name("pokegen")), "bench", "--json", "--repeat", "1"]
            command += ["--checkpoint", str(job.checkpoint), "--engine", self.engine]
            command += ["--sequences", ",".join(map(str, job.sequences)), "--threads", str(job.threads)]
            command += ["--context", str(job.context), "--length", str(job.length)]
            if sampling.temperature:
                command += ["--temperature", str(sampling.temperature), "--top-p", str(sampling.top_p)]
            found = json.loads(subprocess.check_output(command, text=True, cwd=ROOT))  # noqa: S603
            yield {"event": "loaded", "seconds": found["start_s"]["packed"], "rss_mb": found["idle_rss_mb"]}
            for n, rate in found["decode"].items():
                run = {"sequences": int(n), "tokens_per_s": rate, "prefill": found["prefill"]}
                yield {"event": "decode", "sampling": name, **run}
            memory = {"rss_mb": found["rss_mb"], "peak_mb": found["peak_rss_mb"]}
            yield {"event": "memory", "sequences": max(job.sequences), "tokens": 256, **memory}
            yield {"event": "ceilings", "sampling": name, **found["ceilings"]}


def events_of(command: list[str], timeout: float) -> Iterator[Event]:
    """What a command prints, a JSON object a line, until it ends or is ended. Raises CalledProcessError."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:  # noqa: S603
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            for line in process.stdout or ():
                yield json.loads(line)
        except BaseException:
            process.kill()
            raise
        finally:
            on_time = timer.is_alive()
            timer.cancel()
        if process.wait() and on_time:
            raise subprocess.CalledProcessError(process.returncode, command)
