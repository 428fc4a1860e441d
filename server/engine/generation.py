"""What a submission gives back: the samples as they grow, and a handle to wait for them or give them up."""

import math
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from server.engine.detokenizer import Detokenizer
from server.engine.errors import DeadlineExceededError, EngineError
from server.engine.logprobs import TokenLogprobs
from server.engine.sampling import SamplingParams

# stop: the model ended the text, or a stop string did. length: `length` tokens were made. cancelled: the
# reader left.
FinishReason = Literal["stop", "length", "cancelled"]


class Piece(NamedTuple):
    """Some new text of one sample."""

    sample: int
    text: str


@dataclass(slots=True)
class Sample:
    """One continuation, written by the engine. `finish_reason` means nothing before `done`.

    logprobs: of each token, where they were asked for; and of the `<|endoftext|>` that ended it, which `tokens` lacks.
    """

    detokenizer: Detokenizer
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish_reason: FinishReason = "cancelled"
    done: bool = False

    @property
    def text(self) -> str:
        """The text so far, without the prompt."""
        return self.detokenizer.text


@dataclass(slots=True)
class Timing:
    """When things happened, in seconds of `time.monotonic`; infinity where they have not happened."""

    submitted: float = field(default_factory=time.monotonic)
    started: float = math.inf
    first_token: float = math.inf
    finished: float = math.inf


class Generation:
    """The samples of one submission.

    `stream` gives the texts as they grow, `result` waits for all of it; both may be used from any thread. Both raise
    EngineFailedError, DeadlineExceededError or EngineClosedError where that is how it ended.
    prompt_logprobs: of each of the prompt's tokens but the first, where they were asked for; complete with the first
    new token.
    cancelled: whether it was given up before it was done.
    """

    def __init__(
        self, prompt_tokens: int, params: SamplingParams, samples: list[Sample], timeout: float = math.inf
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.prompt_logprobs: list[TokenLogprobs] = []
        self.params = params
        self.samples = samples
        self.timing = Timing()
        self.deadline = self.timing.submitted + timeout
        self.cancelled = False
        self._error: EngineError | None = None
        # `with self._changed` would stay locked where Ctrl-C strikes in its Python code. Reentrant, because `_wait`
        # cancels, which holds it.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._awaiting_piece = 0  # how many readers want to be woken by the next piece

    @property
    def done(self) -> bool:
        """Whether every sample has ended, or all of them failed."""
        return self._error is not None or all(sample.done for sample in self.samples)

    def result(self, timeout: float = math.inf) -> list[Sample]:
        """Wait until it is done. Raises TimeoutError after `timeout` seconds; the generation then goes on."""
        give_up = time.monotonic() + timeout
        with self._lock:
            while not self.done:
                if time.monotonic() >= give_up:
                    raise TimeoutError(f"not done after {timeout} s")
                self._wait(until=give_up)
            if self._error:
                raise self._error
            return self.samples

    def stream(
        self, idle: float = math.inf, pause: Callable[[], float] = lambda: 0.0
    ) -> Generator[Piece | None]:
        """The texts from their beginning, as they grow; None whenever `idle` seconds have gone by without a piece.

        pause: gives the seconds between what comes together and what comes next. Meanwhile the text grows without
        waking its reader, which at hundreds of readers costs more than the text; only the end does.
        Whoever closes the iterator before its end has left: the generation is cancelled.
        """
        shown = [0] * len(self.samples)
        ended = False
        try:
            while not ended:
                with self._lock:
                    settled = self._wait_for_more_than(shown, idle)
                    ended, error = self.done, self._error
                    pieces = [
                        Piece(i, sample.text[shown[i] : settled[i]])
                        for i, sample in enumerate(self.samples)
                        if settled[i] > shown[i]
                    ]
                yield from pieces
                shown = settled
                if error:
                    raise error
                if not pieces and not ended:
                    yield None
                if (seconds := pause()) and not ended:
                    with self._lock:
                        self._changed.wait_for(lambda: self.done, seconds)
        finally:
            if not ended:
                self.cancel()

    def _wait_for_more_than(self, shown: list[int], idle: float) -> list[int]:
        """How many characters of each sample may be shown, once that is more, or all is done, or `idle` seconds on."""
        give_up = time.monotonic() + idle
        self._awaiting_piece += 1
        try:
            while (settled := self._settled()) == shown and not self.done and time.monotonic() < give_up:
                self._wait(until=give_up)
            return settled
        finally:
            self._awaiting_piece -= 1

    def _wait(self, until: float = math.inf) -> None:
        """Wait for a change, at most until the deadline: a reader's time is over even while a step does not end."""
        seconds = min(until, self.deadline) - time.monotonic()
        self._changed.wait(seconds if seconds < threading.TIMEOUT_MAX else None)
        if not self.done and time.monotonic() >= self.deadline:
            self.cancel()
            raise DeadlineExceededError("the text was not done in time")

    def _settled(self) -> list[int]:
        return [sample.detokenizer.settled for sample in self.samples]

    def cancel(self) -> None:
        """Give it up: its places are free from the next step on. Changes nothing once it is done."""
        with self._lock:
            self.cancelled |= not self.done

    # What follows is for the engine.

    def push(self, sample: Sample, token: int) -> bool:
        """Append a token to a sample. True when a stop string has ended the sample's text.

        Only those are woken who wait for the next piece: the others wait for the end, and waking them would
        cost every step.
        """
        with self._lock:
            self.timing.first_token = min(self.timing.first_token, time.monotonic())
            sample.tokens.append(token)
            stopped = sample.detokenizer.push(token)
            if self._awaiting_piece:
                self._changed.notify_all()
            return stopped

    def finish(self, sample: Sample, reason: FinishReason) -> None:
        """End a sample."""
        with self._lock:
            sample.detokenizer.finish()
            sample.finish_reason = reason
            sample.done = True
            if self.done:
                self.timing.finished = time.monotonic()
                self.timing.first_token = min(
                    self.timing.first_token, self.timing.finished
                )  # of an empty text
            self._changed.notify_all()

    def fail(self, error: EngineError) -> None:
        """End all of it with an error, which every reader is given."""
        with self._lock:
            self._error = error
            self._changed.notify_all()
