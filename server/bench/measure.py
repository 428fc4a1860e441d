"""The measurements themselves, through the engine as the service uses it."""

import math
import time
from dataclasses import dataclass

import numpy as np

from server.engine import Engine, Generation, SamplingParams
from server.engine.scheduler import PREFILL_CHUNK
from server.weights import HParams

ATTEMPTS = 10


@dataclass(frozen=True)
class Workload:
    """What every sequence does.

    context: tokens of its prompt. length: new tokens that are measured, while all sequences run.
    temperature, top_k, top_p: as in `SamplingParams`.
    """

    context: int = 64
    length: int = 32
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 0.0

    def params(self, length: int, seed: int = 0) -> SamplingParams:
        """How sequence number `seed` makes `length` tokens."""
        return SamplingParams(
            length=length,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            seed=seed,
            ignore_end_of_text=True,
        )

    def steps(self, sequences: int) -> int:
        """How many steps go by until the last of them has read its prompt and made `length` tokens more.

        Prompts are read one chunk a step, and those whose prompt is read go on meanwhile.
        """
        return sequences * math.ceil(self.context / PREFILL_CHUNK) + self.length


@dataclass(frozen=True)
class Decode:
    """Sequences that ran together, none of which was reading its prompt.

    tokens_per_s: of all of them together. context: the mean number of tokens that a sequence attended to.
    """

    tokens_per_s: float
    context: float


def prompt(hparams: HParams, tokens: int, seed: int) -> list[int]:
    """Random tokens, the same for the same seed."""
    return [int(token) for token in np.random.default_rng(seed).integers(0, hparams.n_vocab, tokens)]


def decode(engine: Engine, work: Workload, sequences: int) -> Decode:
    """Run `sequences` of them, and measure from the last one's first token to its end; the others go on until then.

    If they did not, because a step of a small model is shorter than it takes to submit them all, it is tried again.
    Raises ValueError if that does not help.
    """
    for _ in range(ATTEMPTS):
        others = submit(engine, work, sequences - 1)
        last = engine.submit(prompt(engine.hparams, work.context, 0), work.params(1 + work.length))
        last.result()
        made = [len(each.samples[0].tokens) for each in (last, *others)]
        stop(others)
        if all(each.samples[0].finish_reason == "cancelled" for each in others):
            timing = last.timing
            return Decode(
                tokens_per_s=sequences * work.length / (timing.finished - timing.first_token),
                context=work.context + sum(made) / sequences - (work.length + 1) / 2,
            )
    raise ValueError(
        f"so small a model ends some of {sequences} sequences before the others have begun: lower --sequences"
    )


def prefill(engine: Engine, work: Workload) -> float:
    """Tokens a second of one prompt that is half as long as n_ctx."""
    tokens = engine.hparams.n_ctx // 2
    generation = engine.submit(prompt(engine.hparams, tokens, 0), work.params(1))
    generation.result()
    return tokens / (generation.timing.first_token - generation.timing.started)


def first_token(engine: Engine, work: Workload, others: int) -> float:
    """Seconds from a reader's request to the first token, while `others` run."""
    running = submit(engine, work, others)
    while any(each.timing.first_token == math.inf and not each.done for each in running):
        time.sleep(0.001)
    reader = engine.submit(prompt(engine.hparams, work.context, 0), work.params(1))
    reader.result()
    stop(running)
    return reader.timing.first_token - reader.timing.submitted


def submit(engine: Engine, work: Workload, sequences: int) -> list[Generation]:
    """Start sequences that last longer than anything that is measured while they run."""
    length = min(4 * work.steps(sequences + 1), engine.hparams.n_ctx - work.context)
    prompts = [prompt(engine.hparams, work.context, 1 + number) for number in range(sequences)]
    return [engine.submit(tokens, work.params(length, seed)) for seed, tokens in enumerate(prompts)]


def stop(generations: list[Generation]) -> None:
    """Give them up, and wait until the engine has nothing left to do for them. Raises what they failed with."""
    for generation in generations:
        generation.cancel()
    for generation in generations:
        generation.result()
