"""What a peer is asked for, and how that is measured. Runs in the peer's environment: the standard library alone.

    python -m loadtest.peers.NAME convert CHECKPOINT MODEL --variant int8

makes the directory MODEL, the checkpoint in the peer's own format; and

    python -m loadtest.peers.NAME measure CHECKPOINT MODEL --variant int8 --sequences 1,8 --sampling greedy ...

prints a JSON object a line, as soon as it is known:

    {"event": "loaded", "seconds": ..., "rss_mb": ...}
    {"event": "decode", "sampling": "greedy", "sequences": 8, "tokens_per_s": ..., "prefill": ...}
    {"event": "memory", "sequences": 64, "tokens": 256, "rss_mb": ..., "peak_mb": ...}
"""

import argparse
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Sampling:
    """Greedy where the temperature is 0; otherwise the temperature first, and of what it leaves the nucleus `top_p`."""

    temperature: float
    top_p: float


SAMPLINGS = {"greedy": Sampling(0.0, 1.0), "top-p": Sampling(0.8, 0.9)}

# Tokens of each sequence where memory is measured, and how many of them are new: few, because prompts are faster.
SEQUENCE, NEW = 256, 64

# New tokens of the run that comes before those that count.
TRIAL = 4


@dataclass(frozen=True)
class Seconds:
    """How long all sequences together took for their prompts and first tokens, and for the tokens after those."""

    first: float
    others: float


@dataclass(frozen=True)
class Setup:
    """How to load a model: which variant, threads that compute, the most sequences at once, tokens of their prompts."""

    variant: str
    threads: int
    sequences: int
    context: int


class Peer(Protocol):
    """A loaded model, with room for as many sequences of 256 tokens as it was set up for."""

    def generate(self, prompts: list[list[int]], length: int, sampling: Sampling) -> Seconds:
        """Continue every prompt by `length` tokens, at least 2, whatever they are. Prompts are equally long."""
        ...


def main(
    convert: Callable[[Path, Path, str], None],
    load: Callable[[Path, Setup], Peer],
) -> None:
    """What the module docstring says, with what a peer brings.

    convert(checkpoint, draft, variant): write the model into the directory `draft`.
    load(model, setup): load it from the directory where that has become.
    """
    options = _options()
    if options.action == "convert":
        _convert(options, convert)
    else:
        _measure(options, load)


def _convert(options: argparse.Namespace, convert: Callable[[Path, Path, str], None]) -> None:
    draft = options.model.with_name(f"{options.model.name}.part")
    shutil.rmtree(draft, ignore_errors=True)  # what a killed process left
    draft.mkdir(parents=True)
    convert(options.checkpoint, draft, options.variant)
    draft.rename(options.model)


def _measure(options: argparse.Namespace, load: Callable[[Path, Setup], Peer]) -> None:
    say = _speaker()
    began = time.monotonic()
    peer = load(
        options.model, Setup(options.variant, options.threads, max(options.sequences), options.context)
    )
    say("loaded", seconds=time.monotonic() - began, rss_mb=_memory("VmRSS"))
    n_vocab = json.loads((options.checkpoint / "config.json").read_text())["vocab_size"]
    for n in options.sequences:
        prompts = random_prompts(n, options.context, n_vocab)
        # Warms the peer up, and says how long the runs that count may be.
        trial = peer.generate(prompts, 1 + TRIAL, SAMPLINGS[options.sampling[-1]])
        new = max(TRIAL, min(options.length, int(options.seconds * TRIAL / trial.others)))
        for name in options.sampling:
            run = peer.generate(prompts, 1 + new, SAMPLINGS[name])
            prefill = n * options.context / run.first
            say("decode", sampling=name, sequences=n, tokens_per_s=n * new / run.others, prefill=prefill)
    if options.memory:
        prompts = random_prompts(max(options.sequences), SEQUENCE - NEW, n_vocab)
        peer.generate(prompts, NEW, SAMPLINGS["greedy"])
        say(
            "memory",
            sequences=len(prompts),
            tokens=SEQUENCE,
            rss_mb=_memory("VmRSS"),
            peak_mb=_memory("VmHWM"),
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=["convert", "measure"])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--variant", required=True)
    parser.add_argument("--sequences", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--sampling", choices=SAMPLINGS, action="append")
    parser.add_argument("--context", type=int)
    parser.add_argument(
        "--length", type=int, help="tokens that are measured, after a sequence's first, at most"
    )
    parser.add_argument("--seconds", type=float, help="what a measurement may take, about")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--memory", action="store_true", help="measure that, too")
    return parser.parse_args()


def random_prompts(n: int, tokens: int, n_vocab: int) -> list[list[int]]:
    """Prompts of random tokens, the same every time."""
    return [[draw.randrange(n_vocab) for _ in range(tokens)] for draw in map(random.Random, range(n))]


def _speaker() -> Callable[..., None]:
    """What prints an event. From now on stdout is its alone, and what libraries print goes to stderr."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(event: str, **values: object) -> None:
        print(json.dumps({"event": event} | values), file=out, flush=True)

    return say


def _memory(field: str) -> float:
    """VmRSS, resident now, or VmHWM, the most so far, in MiB (man 5 proc, /proc/pid/status: kB are 1024 bytes)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))
