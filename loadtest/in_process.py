"""Readers of an engine in this very process, which therefore sees all of it."""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtest.readers import LOST_AFTER, STAYS, Conduct, Fault, Request, Visit, resident_mb
from server.engine import (
    DeadlineExceededError,
    Engine,
    EngineBusyError,
    Generation,
    SamplingParams,
    create_engine,
)
from server.weights import open_checkpoint


@contextmanager
def running_engine(directory: Path, max_running: int, max_waiting: int) -> Iterator[Engine]:
    """The service's engine for a checkpoint, closed at the end. Raises what `create_engine` raises."""
    with open_checkpoint(directory) as checkpoint:
        engine = create_engine(checkpoint, "int8", max_running=max_running, max_waiting=max_waiting)
    try:
        yield engine
    finally:
        engine.close()


class EngineHost:
    """A `Host`; nobody else may use the engine meanwhile."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._before = engine.statistics()
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()  # samples that were admitted, and requests that were refused

    def visit(self, request: Request, conduct: Conduct = STAYS) -> Visit:
        """As in `Host`."""
        params = SamplingParams(
            length=request.length,
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            nsamples=request.nsamples,
            seed=request.seed,
            stop=(request.truncate,) if request.truncate else (),
        )
        try:
            generation = self._engine.submit(request.prefix, params, conduct.deadline)
        except EngineBusyError:
            self._count("refused", 1)
            return Visit("refused")
        self._count("admitted", request.nsamples)
        try:
            stayed = _stream(generation, conduct) if conduct.streams else _wait(generation, conduct)
            if not stayed:
                generation.cancel()
            return _ended(generation, request, stayed)
        except DeadlineExceededError:
            return Visit("deadline")

    def resident_mb(self) -> float:
        """As in `Host`; the readers' own memory is in it."""
        return resident_mb(os.getpid())

    def at_rest(self) -> list[str]:
        """As in `Host`: nothing runs or waits, every block is free, and each sample has ended exactly once."""
        # What passed its deadline leaves with the next step.
        for _ in range(100):
            now = self._engine.statistics()
            if not now.running and not now.waiting:
                break
            time.sleep(0.1)
        ended = sum(now.ended.values()) - sum(self._before.ended.values())
        expected = {
            "samples that run": (now.running, 0),
            "samples that wait": (now.waiting, 0),
            "free blocks": (now.free_blocks, now.total_blocks),
            "samples that ended": (ended, self._seen["admitted"]),
            "samples that failed": (now.ended["failed"], self._before.ended["failed"]),
            "refused requests": (now.refused - self._before.refused, self._seen["refused"]),
        }
        return [
            f"{what}: {is_} and not {should}" for what, (is_, should) in expected.items() if is_ != should
        ]

    def _count(self, what: str, n: int) -> None:
        with self._lock:
            self._seen[what] += n


def _wait(generation: Generation, conduct: Conduct) -> bool:
    """Whether the reader was still there when it was done."""
    try:
        generation.result(min(conduct.patience, LOST_AFTER))
    except TimeoutError:
        if conduct.patience > LOST_AFTER:
            raise Fault(f"no answer after {LOST_AFTER:.0f} s") from None
        return False
    return True


def _stream(generation: Generation, conduct: Conduct) -> bool:
    """As `_wait`, piece by piece, which together must be the texts."""
    leaves_at = time.monotonic() + conduct.patience
    texts = [""] * len(generation.samples)
    for piece in generation.stream(idle=conduct.patience):
        if piece:
            texts[piece.sample] += piece.text
        if time.monotonic() > leaves_at:
            return False
    if texts != [sample.text for sample in generation.samples]:
        raise Fault("the pieces of a text are not the text")
    return True


def _ended(generation: Generation, request: Request, stayed: bool) -> Visit:
    """What came of it: once it is done, or cancelled, it ends within a step, and then nothing changes any more."""
    try:
        samples = generation.result(LOST_AFTER)
    except TimeoutError:
        raise Fault("a cancelled text does not end") from None
    for sample in samples:
        if len(sample.tokens) > request.length:
            raise Fault(f"{len(sample.tokens)} tokens instead of {request.length}")
        if stayed and sample.finish_reason == "cancelled":
            raise Fault("a text was cancelled that its reader waited for")
    if not stayed:
        return Visit("left")
    return Visit("complete", tuple(s.text for s in samples), sum(len(s.tokens) for s in samples))
