"""The engine: prompts in, growing texts out, one thread that computes for everybody."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from server.engine.core import Core
from server.engine.demand import Demand
from server.engine.detokenizer import Detokenizer, StopString
from server.engine.errors import (
    EngineBusyError,
    EngineClosedError,
    EngineError,
    EngineFailedError,
    PromptTooLongError,
)
from server.engine.generation import Generation, Sample
from server.engine.kv_blocks import KVBlocks, blocks_for
from server.engine.sampling import SamplingParams
from server.engine.scheduler import Drawn, Ending, Outlook, Scheduler, Sequence, Slice, Start
from server.weights import HParams, Tokenizer

logger = logging.getLogger(__name__)

OUTLOOK_COST = 0.05  # the share of the time that may go into looking ahead


@dataclass(frozen=True, slots=True)
class Statistics:
    """What an engine is doing, and what it has done since it was made.

    running, waiting: how many samples.
    batch_limit: how many samples may run at present, so that each keeps its pace.
    free_blocks, total_blocks: of the key/value cache; a waiting sample may own some, if its siblings run.
    step_seconds: how long the last steps took, in the mean, those that read prompts among them; 0 before the second.
    tokens_per_second: how fast all texts together grew in these steps; 0 while nothing runs.
    steps, tokens: how many were computed and drawn.
    ended: how many samples, by reason: how they finished, or `deadline` and `failed` where their generation raises.
    refused: how many submissions found no room, or would have waited for too long.
    """

    running: int
    waiting: int
    batch_limit: int
    free_blocks: int
    total_blocks: int
    step_seconds: float
    tokens_per_second: float
    steps: int
    tokens: int
    ended: Mapping[Ending, int]
    refused: int


@dataclass(frozen=True, slots=True)
class Place:
    """A generation's place in the queue.

    ahead: how many samples wait in front of its first. seconds: about how long it waits, at the measured speed.
    """

    ahead: int
    seconds: float


class Engine:
    """Continues many prompts at once.

    core: computes a step; hparams and tokenizer are those of its checkpoint.
    n_blocks: size of the key/value cache, at least enough for one sequence of n_ctx tokens.
    max_running: how many sequences run at once; what does not fit, or finds no free blocks, waits in order of arrival.
    max_waiting: how many may wait; past that, `submit` raises `EngineBusyError` at once.
    max_wait: seconds that a generation may be expected to wait; past that, likewise.
    pace: tokens a second that each running text is to keep: no more are begun than the measured speed allows, one at
    least; 0 does without. What runs already goes on.
    on_done: called with each generation that has ended or failed, by the engine's own thread: it should be quick.
    on_crash: called if the engine's own thread ends by an error, when everybody who waited has been told.

    Its thread starts here, so create it after a fork, never before.
    """

    def __init__(
        self,
        core: Core,
        hparams: HParams,
        tokenizer: Tokenizer,
        *,
        n_blocks: int,
        max_running: int,
        max_waiting: int,
        max_wait: float = math.inf,
        pace: float = 0.0,
        on_done: Callable[[Generation], None] = lambda _: None,
        on_crash: Callable[[], None] = lambda: None,
    ) -> None:
        self.hparams = hparams
        self.tokenizer = tokenizer
        self._core = core
        self._kv_blocks = KVBlocks(n_blocks)
        end_of_text = tokenizer.end_of_text
        self._scheduler = Scheduler(self._kv_blocks, max_running, max_waiting, end_of_text, on_done)
        if pace:
            self._scheduler.batch_limit = 1  # until it is known what more would cost
        self._max_running = max_running
        self._max_wait = max_wait
        self._pace = pace
        self._demand = Demand()
        self._lock = threading.Lock()
        # Ctrl-C may strike within the Python code of `threading`, which leaves things half done. A Condition may stay
        # locked: hence always `with self._lock`, which is written in C. A notify may leave a waiter behind that has
        # woken up, and the next one may spend itself on that: hence notify_all. And a thread that was being joined may
        # count as ended while it runs: hence a lock, held until its end.
        self._work = threading.Condition(self._lock)
        self._at_work = threading.Lock()
        self._closed = False
        self._retired = False
        self._on_crash = on_crash
        self._steps = 0
        self._tokens = 0
        self._refused = 0
        self._step_seconds = 0.0  # means of the last steps
        self._step_tokens = 0.0
        self._outlook = Outlook({}, Start(0, 0))
        self._outlook_holds_until = -math.inf
        self._at_work.acquire()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(
        self, prompt: str | list[int], params: SamplingParams, timeout: float = math.inf
    ) -> Generation:
        """Continue a prompt, as `submit_all` does."""
        [generation] = self.submit_all([prompt], params, timeout)
        return generation

    def submit_all(
        self, prompts: Iterable[str | list[int]], params: SamplingParams, timeout: float = math.inf
    ) -> list[Generation]:
        """Continue prompts: texts, or their tokens (each 0 to n_vocab - 1). All are taken, or none.

        A text gets the token that begins a document in front of it where the checkpoint wants that, or where it is
        empty. `params.length` is lowered to what fits into n_ctx. Returns at once; after `timeout` seconds the
        generation ends with DeadlineExceededError.

        Raises PromptTooLongError where not one new token fits; EngineBusyError where the queue is full, or where
        others wait and it would wait longer than `timeout` or `max_wait` at the measured speed; EngineClosedError after
        `retire` or `close`; ValueError for an empty list or a token outside of the vocabulary.
        """
        stops = [StopString(text) for text in params.stop]
        prepared = [self._prepare(prompt, params, stops, timeout) for prompt in prompts]
        with self._lock:
            if not self.alive:
                raise EngineClosedError("the engine is closed")
            has_room = self._scheduler.has_room(len(prepared) * params.nsamples)
            # Whoever finds nobody waiting is the first in the queue: no promise is at stake.
            wait = self._expected_wait() if self._scheduler.waiting or not has_room else 0.0
            if wait > min(timeout, self._max_wait) or not has_room:
                self._refused += 1
                raise EngineBusyError(self._demand.refuse(wait))
            self._demand.admit()
            for generation, tokens in prepared:
                most = min(len(tokens) + params.length, self.hparams.n_ctx)
                for index, sample in enumerate(generation.samples, params.first_sample):
                    self._scheduler.add(Sequence(generation, sample, index, list(tokens), most))
            self._work.notify_all()
        return [generation for generation, _ in prepared]

    def _prepare(
        self, prompt: str | list[int], params: SamplingParams, stops: list[StopString], timeout: float
    ) -> tuple[Generation, list[int]]:
        """What one prompt becomes, and its tokens."""
        tokens = self.tokenizer.encode_prompt(prompt) if isinstance(prompt, str) else list(prompt)
        if not tokens or not all(0 <= token < self.hparams.n_vocab for token in tokens):
            raise ValueError(f"a prompt is one or more tokens from 0 to {self.hparams.n_vocab - 1}")
        if len(tokens) >= self.hparams.n_ctx:
            raise PromptTooLongError(len(tokens), self.hparams.n_ctx - 1)
        samples = [Sample(Detokenizer(self.tokenizer.token_bytes, stops)) for _ in range(params.nsamples)]
        return Generation(len(tokens), params, samples, timeout), tokens

    @property
    def alive(self) -> bool:
        """Whether the engine takes submissions."""
        return not self._closed and not self._retired

    @property
    def running(self) -> int:
        """How many samples run at this moment, without a lock: for those who ask often."""
        return len(self._scheduler.running)

    def statistics(self) -> Statistics:
        """What it is doing at this moment. Waits for no step."""
        with self._lock:
            busy = self._scheduler.running and self._step_seconds
            return Statistics(
                running=len(self._scheduler.running),
                waiting=len(self._scheduler.waiting),
                batch_limit=self._scheduler.batch_limit,
                free_blocks=self._kv_blocks.n_free,
                total_blocks=self._kv_blocks.n_blocks,
                step_seconds=self._step_seconds,
                tokens_per_second=self._step_tokens / self._step_seconds if busy else 0.0,
                steps=self._steps,
                tokens=self._tokens,
                ended=dict(self._scheduler.ended),
                refused=self._refused,
            )

    def place_in_queue(self, generation: Generation) -> Place | None:
        """Where a generation stands, as of a moment ago; None once it runs, or has ended."""
        if generation.done or generation.timing.started < math.inf:
            return None
        with self._lock:
            start = self._current_outlook().waiting.get(generation)
            return Place(start.ahead, start.steps * self._step_seconds) if start else None

    def limit_blocks(self, n: int) -> int:
        """Let the key/value cache use n blocks at most, or as many as it has used already; enough for n_ctx tokens.

        Says how many that are now.
        """
        with self._lock:
            usable = self._kv_blocks.limit(max(n, blocks_for(self.hparams.n_ctx)))
            self._work.notify_all()
        return usable

    @property
    def used_blocks(self) -> int:
        """How many blocks of the cache have ever been used, and so take memory."""
        return self._kv_blocks.n_used

    def retire(self) -> None:
        """Take nothing new, finish what was begun, also what waits, and stop the thread. Harmless twice."""
        with self._lock:
            self._retired = True
            self._work.notify_all()
        self._wait_for_the_thread()

    def close(self) -> None:
        """Stop the thread after its present step; what has not ended fails with EngineClosedError. Harmless twice."""
        with self._lock:
            self._closed = True
            self._work.notify_all()
        self._wait_for_the_thread()

    def _wait_for_the_thread(self) -> None:
        with self._at_work:
            pass

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                started = time.monotonic()
                drawn = self._step(batch)
                with self._lock:
                    self._scheduler.advance(batch, drawn)
                    tokens = sum(
                        part.draws and not isinstance(outcome, Exception)
                        for part, outcome in zip(batch, drawn, strict=True)
                    )
                    self._measure(tokens, time.monotonic() - started)
            self._fail_all(EngineClosedError("the engine is closed"))
        except BaseException:
            self._closed = True  # first of all: what follows may fail as well, where there is no memory
            try:
                logger.critical("the engine's thread ends by an error", exc_info=True)
                self._fail_all(EngineFailedError("the engine's thread ended by an error"))
            finally:
                self._on_crash()
        finally:
            self._at_work.release()

    def _next_batch(self) -> list[Slice]:
        """Wait for something to compute; an empty list when the engine is closed."""
        with self._lock:
            while not self._closed:
                if batch := self._scheduler.schedule():
                    return batch
                if self._retired:
                    break
                self._work.wait()
            return []

    def _step(self, batch: list[Slice]) -> list[Drawn]:
        try:
            return self._core.step(batch)
        except Exception as error:
            return [error] * len(batch)

    def _fail_all(self, error: EngineError) -> None:
        with self._lock:
            self._closed = True
            for generation in {sequence.generation for sequence in self._scheduler}:
                self._scheduler.fail(generation, error)

    def _measure(self, tokens: int, seconds: float) -> None:
        """Count a step that drew so many tokens, and keep the means of the last 20 or so."""
        self._tokens += tokens
        self._steps += 1
        if self._steps > 1:  # the first finds cold caches, and is no measure of those that follow
            weight = max(1 / 20, 1 / (self._steps - 1))
            self._step_seconds += (seconds - self._step_seconds) * weight
            self._step_tokens += (tokens - self._step_tokens) * weight
            if self._pace:
                self._scheduler.batch_limit = self._batch_limit()

    def _batch_limit(self) -> int:
        """How many may run, by the speed of those who do.

        Many together are faster than one alone. So a measured speed shows that as many can keep the pace, but that no
        more can it only shows where not even twice as many as run would.
        """
        keep_pace = max(int(self._step_tokens / self._step_seconds / self._pace), 1)
        limit = self._scheduler.batch_limit
        return min(
            keep_pace if keep_pace < 2 * self._step_tokens else max(keep_pace, limit), self._max_running
        )

    def _expected_wait(self) -> float:
        """Seconds until a newcomer starts, if steps go on as they did and no text ends early.

        Counted in steps and not in tokens: one sample alone gets far less tokens a second than many do together.
        """
        return self._current_outlook().newcomer.steps * self._step_seconds

    def _current_outlook(self) -> Outlook:
        """The scheduler's, which goes through all who run and wait, and so is kept for a while: hundreds ask for it."""
        if time.monotonic() > self._outlook_holds_until:
            began = time.thread_time()  # the clock on the wall also counts what other threads do meanwhile
            self._outlook = self._scheduler.outlook()
            cost = time.thread_time() - began
            self._outlook_holds_until = time.monotonic() + cost / OUTLOOK_COST
        return self._outlook
