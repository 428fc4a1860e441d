"""Which sequences take part in the next step.

Every step advances all running sequences by one token; a new one joins at the next step. Prompts are read in
chunks, and a step reads about one chunk of prompt, so that those who are running never wait longer than that.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from server.engine.errors import DeadlineExceededError, EngineError, EngineFailedError
from server.engine.generation import FinishReason, Generation, Sample
from server.engine.kv_blocks import KVBlocks, blocks_for
from server.engine.sampling import SamplingParams

logger = logging.getLogger(__name__)

PREFILL_CHUNK = 64

# What a step made of a slice: a token, none (the slice ended inside the prompt), or what went wrong.
Drawn = int | None | Exception


@dataclass(slots=True, eq=False)
class Sequence:
    """One sample on its way: the prompt's tokens with the new ones behind them."""

    generation: Generation
    sample: Sample
    index: int  # among the generation's samples
    tokens: list[int]
    max_tokens: int  # prompt and new tokens together
    computed: int = 0  # how many of `tokens` the key/value cache holds
    blocks: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Slice:
    """One sequence's part in a step: compute `tokens`, the first of which stands at `position`."""

    sequence: Sequence
    tokens: list[int]
    position: int
    draws: bool  # a new token behind it: not while it ends inside the prompt

    @property
    def blocks(self) -> list[int]:
        """The sequence's blocks of the key/value cache, in order."""
        return self.sequence.blocks

    @property
    def params(self) -> SamplingParams:
        """How the new token is drawn."""
        return self.sequence.generation.params


class Scheduler:
    """Who waits, in order of arrival, and who runs. Not thread-safe: the engine's lock guards it."""

    def __init__(self, kv_blocks: KVBlocks, max_running: int, max_waiting: int, end_of_text: int) -> None:
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._kv_blocks = kv_blocks
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._end_of_text = end_of_text

    def __iter__(self) -> Iterator[Sequence]:
        yield from self.running
        yield from self.waiting

    def has_room(self, n: int) -> bool:
        """Whether n more sequences may run or wait."""
        return len(self.running) + len(self.waiting) + n <= self._max_running + self._max_waiting

    def add(self, sequence: Sequence) -> None:
        """Put a sequence at the end of the queue."""
        self.waiting.append(sequence)

    def schedule(self) -> list[Slice]:
        """The slices of the next step; empty when nothing is left to do."""
        self._drop_those_who_left()
        self._admit()
        slices, prefill_budget = [], PREFILL_CHUNK
        for sequence in self.running:
            # A chunk's bounds depend on the sequence alone. They decide which products are rounded together,
            # so with chunks cut to the load a text could depend on who else is reading.
            tokens = sequence.tokens[sequence.computed : sequence.computed + PREFILL_CHUNK]
            if len(tokens) > 1:
                if len(tokens) > prefill_budget:
                    continue
                prefill_budget -= len(tokens)
            draws = sequence.computed + len(tokens) == len(sequence.tokens)
            slices.append(Slice(sequence, tokens, sequence.computed, draws))
        return slices

    def advance(self, slices: list[Slice], drawn: list[Drawn]) -> None:
        """Take in what the step made of each slice."""
        for part, outcome in zip(slices, drawn, strict=True):
            sequence = part.sequence
            if sequence.generation.done:  # another of its samples failed in this very step
                continue
            if isinstance(outcome, Exception):
                logger.error("a sequence failed", exc_info=outcome)
                self.fail(
                    sequence.generation, EngineFailedError(f"the engine failed: {type(outcome).__name__}")
                )
                continue
            sequence.computed += len(part.tokens)
            if outcome is not None:
                self._append(sequence, outcome)

    def fail(self, generation: Generation, error: EngineError) -> None:
        """End all samples of a generation with an error."""
        for sequence in [s for s in self if s.generation is generation]:
            self._remove(sequence)
        generation.fail(error)

    def _remove(self, sequence: Sequence) -> None:
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self._kv_blocks.release(sequence.blocks)

    def _append(self, sequence: Sequence, token: int) -> None:
        params = sequence.generation.params
        if token == self._end_of_text and not params.ignore_end_of_text:
            self._finish(sequence, "stop")
            return
        sequence.tokens.append(token)
        if sequence.generation.push(sequence.sample, token):
            self._finish(sequence, "stop")
        elif len(sequence.tokens) == sequence.max_tokens:
            self._finish(sequence, "length")

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        self._remove(sequence)
        sequence.generation.finish(sequence.sample, reason)

    def _drop_those_who_left(self) -> None:
        for sequence in [s for s in self if s.generation.cancelled]:
            self._finish(sequence, "cancelled")
        now = time.monotonic()
        for generation in {s.generation for s in self if s.generation.deadline <= now}:
            self.fail(generation, DeadlineExceededError("the text was not done in time"))

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self._max_running:
            sequence = self.waiting[0]
            blocks = self._kv_blocks.reserve(blocks_for(sequence.max_tokens))
            if blocks is None:
                return  # in order of arrival: nobody overtakes the first, however small
            sequence.blocks = blocks
            self.running.append(self.waiting.popleft())
            timing = sequence.generation.timing
            timing.started = min(timing.started, time.monotonic())
