"""Which sequences take part in the next step.

Every step advances all running sequences by one token; a new one joins at the next step. Prompts are read in
chunks, and a step reads about one chunk of prompt, so that those who are running never wait longer than that.

The samples of a generation have their prompt in common. All its chunks but the last, behind which each sample draws
a token of its own, are computed once, into blocks that all of them own. As only whole chunks are shared, the bounds
of every chunk are what they would be without it, and so is every bit of the text.
"""

import heapq
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, takewhile
from typing import Literal, NamedTuple

from server.engine.errors import DeadlineExceededError, EngineError, EngineFailedError
from server.engine.generation import FinishReason, Generation, Sample
from server.engine.kv_blocks import KVBlocks, blocks_for
from server.engine.logprobs import TokenLogprobs
from server.engine.sampling import SamplingParams

logger = logging.getLogger(__name__)

PREFILL_CHUNK = 64


class Scored(NamedTuple):
    """A token, or None, with the log-probabilities of the tokens that follow those whose logits were asked for."""

    token: int | None
    logprobs: list[TokenLogprobs]


# What a step made of a slice: a token, none (the slice ended inside the prompt), or what went wrong.
Drawn = int | None | Scored | Exception

# How a sample ended: by itself or by its reader, or with its generation's time, or because something failed.
Ending = FinishReason | Literal["deadline", "failed"]
ENDINGS: tuple[Ending, ...] = ("stop", "length", "cancelled", "deadline", "failed")


@dataclass(slots=True, eq=False)
class Sequence:
    """One sample on its way: the prompt's tokens with the new ones behind them."""

    generation: Generation
    sample: Sample
    index: int  # the sample's number; a generation's begin at its `first_sample`
    tokens: list[int]
    max_tokens: int  # prompt and new tokens together
    computed: int = 0  # how many of `tokens` the key/value cache holds
    blocks: list[int] = field(default_factory=list)

    @property
    def shared_tokens(self) -> int:
        """How many tokens it has in common with its siblings, the other samples of its generation."""
        return (self.generation.prompt_tokens - 1) // PREFILL_CHUNK * PREFILL_CHUNK


@dataclass(frozen=True, slots=True)
class Slice:
    """One sequence's part in a step: compute `tokens`, the first of which stands at `position`."""

    sequence: Sequence
    tokens: list[int]
    position: int
    draws: bool  # a new token behind it: not while it ends inside the prompt
    n_logits: int = 0  # of how many of its last tokens the logits are asked for

    @property
    def blocks(self) -> list[int]:
        """The sequence's blocks of the key/value cache, in order."""
        return self.sequence.blocks

    @property
    def params(self) -> SamplingParams:
        """How the new token is drawn."""
        return self.sequence.generation.params


class Start(NamedTuple):
    """When a generation is expected to start: how many samples wait in front of it, and in how many steps."""

    ahead: int
    steps: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """When those who wait start, and when somebody would who came now, if no text ends before its length."""

    waiting: dict[Generation, Start]
    newcomer: Start


class Scheduler:
    """Who waits, in order of arrival, and who runs. Not thread-safe: the engine's lock guards it.

    batch_limit: how many sequences may run, 1 to max_running. The engine lowers it while steps take too long; who runs
    already goes on. on_done: is told of each generation that has ended, or failed.
    """

    def __init__(
        self,
        kv_blocks: KVBlocks,
        max_running: int,
        max_waiting: int,
        end_of_text: int,
        on_done: Callable[[Generation], None] = lambda _: None,
    ) -> None:
        self.batch_limit = max_running
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.ended: dict[Ending, int] = dict.fromkeys(ENDINGS, 0)
        self._kv_blocks = kv_blocks
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._end_of_text = end_of_text
        self._on_done = on_done

    def __iter__(self) -> Iterator[Sequence]:
        return chain(self.running, self.waiting)

    def has_room(self, n: int) -> bool:
        """Whether n more sequences may run or wait."""
        if not self.running and not self.waiting:  # then no more could ever come
            return n <= self._max_running + self._max_waiting
        places = max(self.batch_limit - len(self.running), 0) + self._max_waiting
        return len(self.waiting) + n <= places

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
                # A whole chunk takes the whole budget, so two siblings never compute the same one.
                if len(tokens) > prefill_budget:
                    continue
                prefill_budget -= len(tokens)
            draws = sequence.computed + len(tokens) == len(sequence.tokens)
            slices.append(
                Slice(sequence, tokens, sequence.computed, draws, _n_logits(sequence, len(tokens), draws))
            )
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
            if isinstance(outcome, Scored):
                outcome = _keep(sequence, outcome)
            if outcome is not None:
                self._append(sequence, outcome)
            else:  # a chunk that all samples have in common
                for sibling in self._samples_of(sequence.generation):
                    sibling.computed = sequence.computed

    def fail(self, generation: Generation, error: EngineError) -> None:
        """End all samples of a generation with an error."""
        for sequence in self._samples_of(generation):
            self._remove(sequence)
            self.ended["deadline" if isinstance(error, DeadlineExceededError) else "failed"] += 1
        generation.fail(error)
        self._on_done(generation)

    def outlook(self) -> Outlook:
        """When whom starts: places and blocks change hands as they would, and a step reads one chunk of prompt."""
        steps = unread = alone = 0
        seen: set[Generation] = set()
        free_places = self.batch_limit - len(self.running)
        free_blocks = self._kv_blocks.n_free
        ends: list[tuple[int, int]] = []  # of those who run by then: the step, and the blocks they give back
        for sequence in self.running:
            work = _work_left(sequence, seen)
            heapq.heappush(ends, (work.steps, work.blocks))
            unread += work.unread
            alone += work.alone

        def wait_for(places: int, blocks: int) -> None:
            nonlocal steps, free_places, free_blocks
            while ends and (free_places < places or free_blocks < blocks):
                steps, returned = heapq.heappop(ends)
                free_places += 1
                free_blocks += returned

        waiting = {}
        for ahead, sequence in enumerate(self.waiting):
            work = _work_left(sequence, seen)
            owned = len(sequence.blocks)  # those in common with its siblings, if one of them has begun
            needed = min(work.blocks, blocks_for(sequence.max_tokens) - owned)
            wait_for(1, needed)
            start = max(steps, unread // PREFILL_CHUNK, alone)
            if sequence.index == sequence.generation.params.first_sample:
                waiting[sequence.generation] = Start(ahead, start)
            free_places -= 1
            free_blocks -= needed
            heapq.heappush(ends, (start + work.steps, work.blocks))
            unread += work.unread
            alone += work.alone
        wait_for(1, 1)
        return Outlook(waiting, Start(len(self.waiting), max(steps, unread // PREFILL_CHUNK, alone)))

    def _samples_of(self, generation: Generation) -> list[Sequence]:
        return [sequence for sequence in self if sequence.generation is generation]

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
        self.ended[reason] += 1
        sequence.generation.finish(sequence.sample, reason)
        if sequence.generation.done:
            self._on_done(sequence.generation)

    def _drop_those_who_left(self) -> None:
        now = time.monotonic()
        # A reader whose time is over cancels as well; what ended it was the deadline.
        for generation in {s.generation for s in self if s.generation.deadline <= now}:
            self.fail(generation, DeadlineExceededError("the text was not done in time"))
        for sequence in [s for s in self if s.generation.cancelled]:
            self._finish(sequence, "cancelled")

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self.batch_limit:
            sequence = self.waiting[0]
            blocks = self._kv_blocks.reserve(blocks_for(sequence.max_tokens) - len(sequence.blocks))
            if blocks is None:
                return  # in order of arrival: nobody overtakes the first, however small
            sequence.blocks += blocks
            self.running.append(self.waiting.popleft())
            if sequence.index == sequence.generation.params.first_sample:
                self._share_prompt(sequence)
            timing = sequence.generation.timing
            timing.started = min(timing.started, time.monotonic())

    def _share_prompt(self, first: Sequence) -> None:
        """Let the siblings, who stand in the queue right behind the first, own the beginning of its prompt.

        From here on and while they wait, so that it outlives a first sample that ends before they start. Others do
        not wait for these blocks in vain: whoever holds some in the queue stands at its head.
        """
        shared = first.blocks[: blocks_for(first.shared_tokens)]
        for sibling in takewhile(lambda s: s.generation is first.generation, self.waiting):
            sibling.blocks = self._kv_blocks.share(shared)


class _Work(NamedTuple):
    """What a sequence still needs: tokens of prompt to be read, steps until its end, blocks while it runs.

    alone: how many of its chunks are longer than half of what a step reads, so that no two of them share one.
    """

    unread: int
    alone: int
    steps: int
    blocks: int


def _work_left(sequence: Sequence, seen: set[Generation]) -> _Work:
    """`seen` are the generations of those in front, this one's own afterwards: what siblings share counts once."""
    # Without the token behind which it draws: 0 as soon as it draws one at every step.
    unread = len(sequence.tokens) - sequence.computed - 1
    blocks = blocks_for(sequence.max_tokens)
    if sequence.generation in seen:
        unread = min(unread, sequence.generation.prompt_tokens - sequence.shared_tokens - 1)
        blocks -= blocks_for(sequence.shared_tokens)
    seen.add(sequence.generation)
    chunks, rest = divmod(unread + 1, PREFILL_CHUNK)
    alone = chunks + (rest > PREFILL_CHUNK // 2)
    return _Work(unread, alone, unread // PREFILL_CHUNK + sequence.max_tokens - len(sequence.tokens), blocks)


def _n_logits(sequence: Sequence, n_tokens: int, draws: bool) -> int:
    """Of how many of the next `n_tokens` tokens of a sequence, the last ones, the logits are asked for."""
    params = sequence.generation.params
    if params.logprobs is None:
        return 0
    # The prompt is every sample's, and the first sample is the one that reads all of it.
    is_first = sequence.index == params.first_sample
    reads_prompt = sequence.computed < sequence.generation.prompt_tokens
    return n_tokens if params.prompt_logprobs and is_first and reads_prompt else int(draws)


def _keep(sequence: Sequence, scored: Scored) -> int | None:
    """Give the log-probabilities to whom they belong; the token is left."""
    of_prompt = scored.logprobs
    if scored.token is not None:
        *of_prompt, of_token = scored.logprobs
        sequence.sample.logprobs.append(of_token)
    sequence.generation.prompt_logprobs += of_prompt
    return scored.token
