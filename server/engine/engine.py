"""The engine: prompts in, growing texts out, one thread that computes for everybody."""

import logging
import math
import threading
import time

from server.engine.core import Core
from server.engine.detokenizer import Detokenizer
from server.engine.errors import EngineBusyError, EngineFailedError, PromptTooLongError
from server.engine.generation import Generation, Sample
from server.engine.kv_blocks import KVBlocks
from server.engine.sampling import SamplingParams
from server.engine.scheduler import Scheduler, Sequence, Slice
from server.weights import HParams, Tokenizer

logger = logging.getLogger(__name__)


class Engine:
    """Continues many prompts at once.

    core: computes a step; hparams and tokenizer are those of its checkpoint.
    n_blocks: size of the key/value cache, at least enough for one sequence of n_ctx tokens.
    max_running: how many sequences run at once; what does not fit, or finds no free blocks, waits in order of
    arrival.
    max_waiting: how many may wait; past that, `submit` raises `EngineBusyError` at once.

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
    ) -> None:
        self.hparams = hparams
        self.tokenizer = tokenizer
        self._core = core
        self._scheduler = Scheduler(KVBlocks(n_blocks), max_running, max_waiting, tokenizer.end_of_text)
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._closed = False
        self._tokens_per_second = 0.0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, prompt: str | list[int], params: SamplingParams) -> Generation:
        """Continue a prompt: a text, or its tokens (each 0 to n_vocab - 1).

        A text gets the token that begins a document in front of it where the checkpoint wants that, or where
        it is empty. `params.length` is lowered to what fits into n_ctx. Returns at once.

        Raises PromptTooLongError where not one new token fits, EngineBusyError where the queue is full,
        EngineFailedError after `close`, ValueError for an empty list or a token outside of the vocabulary.
        """
        tokens = self.tokenizer.encode_prompt(prompt) if isinstance(prompt, str) else list(prompt)
        if not tokens or not all(0 <= token < self.hparams.n_vocab for token in tokens):
            raise ValueError(f"a prompt is one or more tokens from 0 to {self.hparams.n_vocab - 1}")
        if len(tokens) >= self.hparams.n_ctx:
            raise PromptTooLongError(len(tokens), self.hparams.n_ctx - 1)

        samples = [
            Sample(Detokenizer(self.tokenizer.token_bytes, params.stop)) for _ in range(params.nsamples)
        ]
        generation = Generation(len(tokens), params, samples)
        max_tokens = min(len(tokens) + params.length, self.hparams.n_ctx)
        with self._work:
            if self._closed:
                raise EngineFailedError("the engine is closed")
            if not self._scheduler.has_room(params.nsamples):
                raise EngineBusyError(self._retry_after())
            for index, sample in enumerate(samples):
                self._scheduler.add(Sequence(generation, sample, index, list(tokens), max_tokens))
            self._work.notify()
        return generation

    @property
    def alive(self) -> bool:
        """Whether the engine's thread is running."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop the thread after its present step; what has not ended fails with EngineFailedError. Harmless twice."""
        with self._work:
            self._closed = True
            self._work.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._work:
                batch = self._next_batch()
            if batch is None:
                return
            started = time.monotonic()
            try:
                drawn = self._core.step(batch)
            except Exception as error:
                logger.exception("a step of %d sequences failed", len(batch))
                with self._lock:
                    self._fail(
                        {part.sequence for part in batch}, f"the engine failed: {type(error).__name__}"
                    )
                continue
            with self._lock:
                self._scheduler.advance(batch, drawn)
                self._measure(sum(token is not None for token in drawn), time.monotonic() - started)

    def _next_batch(self) -> list[Slice] | None:
        """Wait for something to compute; None when the engine is closed."""
        while not self._closed:
            if batch := self._scheduler.schedule():
                return batch
            self._work.wait()
        self._fail(set(self._scheduler), "the engine is closed")
        return None

    def _fail(self, sequences: set[Sequence], reason: str) -> None:
        """End these sequences, and with them the other samples of their generations, with an error."""
        generations = {sequence.generation for sequence in sequences}
        for sequence in [s for s in self._scheduler if s.generation in generations]:
            self._scheduler.remove(sequence)
        for generation in generations:
            generation.fail(EngineFailedError(reason))

    def _measure(self, tokens: int, seconds: float) -> None:
        """Keep the speed of the last dozens of steps, in tokens drawn a second."""
        if tokens:
            speed = tokens / max(seconds, 1e-6)
            self._tokens_per_second += (speed - self._tokens_per_second) * (
                0.05 if self._tokens_per_second else 1
            )

    def _retry_after(self) -> int:
        """Whole seconds until, at the measured speed, all that was admitted is done: 1 to 120."""
        owed = sum(sequence.max_tokens - len(sequence.tokens) for sequence in self._scheduler)
        return min(max(math.ceil(owed / max(self._tokens_per_second, 1.0)), 1), 120)
