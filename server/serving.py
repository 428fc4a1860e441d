"""Which checkpoint answers, and how another takes its place while those who read the old one read on."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from flask import current_app

from server.engine import Engine, EngineClosedError, MemoryPlan, Statistics

if TYPE_CHECKING:
    from server.api.card import Forms

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Served:
    """A checkpoint that answers.

    plan: what memory its engine may take. model: its name. created: when it was loaded, in seconds since 1970. stamp:
    another one, when its files change. fingerprint: what a text depends on beside its request, of the files' content.
    card_forms: what /model shows.
    """

    engine: Engine
    plan: MemoryPlan
    model: str
    created: int
    stamp: str
    fingerprint: str
    card_forms: "Forms"


# Loads what is to be served and proves it by making tokens: beside what is served now, which goes on with a part of the
# memory, or at the start beside nothing. What is served now is the answer where nothing has changed; where only its
# name or its card has, that with the same engine.
Load = Callable[[Served | None], Served]


class ReloadRunsError(Exception):
    """Another checkpoint is being loaded already."""


class Serving:
    """What is served, and how it is replaced. Safe to use from every thread.

    closed: set by `close`. replaced, refused: how often `reload` took another checkpoint, and how often it raised.
    Raises what `load` raises.
    """

    def __init__(self, load: Load) -> None:
        self.closed = threading.Event()
        self.replaced = 0
        self.refused = 0
        self._load = load
        self._current = load(None)
        self._reload = threading.Lock()
        self._lock = threading.Lock()  # guards the next two
        self._retiring: Engine | None = None
        self._past: Statistics | None = None  # of those who have retired
        self._retirement = threading.Thread()

    @property
    def current(self) -> Served:
        """What answers new requests."""
        return self._current

    def ask(self, question: Callable[[Served], Answer]) -> Answer:
        """Ask what is served; and what has taken its place, if that happened in between."""
        while True:
            served = self._current
            try:
                return question(served)
            except EngineClosedError:
                if served is self._current:
                    raise

    def reload(self) -> bool:
        """Load what is to be served, if that has changed, and let it answer from here on: whether it did.

        The same content is not loaded again: under another name it answers, and another card is shown.
        Who has been admitted gets the text of the checkpoint that admitted them, and memory for both is found before
        anything is loaded. Where the new one cannot be had, the old one stays: raises what `load` raises, and
        ReloadRunsError while another call is at it.
        """
        if not self._reload.acquire(blocking=False):
            raise ReloadRunsError("another checkpoint is being loaded: wait until that is done")
        try:
            if self._retirement.ident:
                self._retirement.join()  # of three at once, memory would be needed for all
            old = self._current
            new = old
            try:
                new = self._load(old)
            except BaseException:
                self.refused += 1
                raise
            finally:
                if new is old:
                    old.engine.limit_blocks(old.plan.n_blocks)
            if new.engine is old.engine:
                self._current = new
                if new.model != old.model:
                    logger.info(
                        "%s answers (%s), which has the weights of %s", new.model, new.fingerprint, old.model
                    )
                return new.model != old.model
            with self._lock:
                if not self.closed.is_set():
                    self._current, self._retiring = new, old.engine
            if self._current is not new:
                new.engine.close()
                raise EngineClosedError("the service stops")
            self.replaced += 1
            self._retirement = threading.Thread(target=self._retire, args=(old, new), daemon=True)
            self._retirement.start()
            logger.info("%s answers (%s)", new.model, new.fingerprint)
            return True
        finally:
            self._reload.release()

    def statistics(self) -> Statistics:
        """Of all engines together, so that no count goes back. Blocks, limit and step time are the current one's."""
        with self._lock:
            now = self._current.engine.statistics()
            if self._retiring:
                now = _together(now, self._retiring.statistics())
            return _together(now, self._past) if self._past else now

    def close(self) -> None:
        """Stop at once, as Engine.close."""
        self.closed.set()
        with self._lock:
            engines = [self._current.engine, *([self._retiring] if self._retiring else [])]
        for engine in engines:
            engine.close()

    def _retire(self, old: Served, new: Served) -> None:
        old.engine.retire()
        with self._lock:
            done = old.engine.statistics()
            self._past, self._retiring = _together(done, self._past) if self._past else done, None
        new.engine.limit_blocks(new.plan.n_blocks)
        logger.info("the last text of %s (%s) is done", old.model, old.fingerprint)


def get_serving() -> Serving:
    """The application's."""
    serving: Serving = current_app.extensions["serving"]
    return serving


def _together(one: Statistics, other: Statistics) -> Statistics:
    """What both do and did; what cannot be added up is the one's."""
    return replace(
        one,
        running=one.running + other.running,
        waiting=one.waiting + other.waiting,
        tokens_per_second=one.tokens_per_second + other.tokens_per_second,
        steps=one.steps + other.steps,
        tokens=one.tokens + other.tokens,
        ended={reason: count + other.ended[reason] for reason, count in one.ended.items()},
        refused=one.refused + other.refused,
    )
