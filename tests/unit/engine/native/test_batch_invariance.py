"""A text depends on its own request alone: not on who else reads, who comes or leaves when, or how many threads work.

The same requests are put to an engine one after the other, and then all at once by schedules that are drawn at random:
who comes at which step, who is cancelled at which, how many may run, for how many there are blocks. All of it happens
between the engine's own steps, so a schedule that fails fails again.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import partial

import pytest
from numpy.random import Generator, default_rng

from server.engine import Engine, Generation, Isa, SamplingParams
from server.engine.core import Core
from server.engine.native import NativeCore
from server.engine.scheduler import PREFILL_CHUNK, Drawn, Slice
from server.weights import Checkpoint
from tests.unit.engine.native.models import ISAS, PRECISIONS

SCHEDULES = 200  # for every instruction set and precision
REQUESTS = 63  # and one that is there from the first step to the last
LAST_STEP = 40  # at which somebody comes or leaves
BLOCKS = 600  # enough for all who run at once

Request = tuple[list[int], SamplingParams]
Event = Callable[[], None]


class EventfulCore:
    """A core to which things happen before its steps: the events by the step's number."""

    def __init__(self, core: Core, events: dict[int, list[Event]]) -> None:
        self._core = core
        self._events = events
        self._steps = 0

    def step(self, batch: list[Slice]) -> list[Drawn]:
        for event in self._events[self._steps]:
            event()
        self._steps += 1
        return self._core.step(batch)


def random_request(rng: Generator, n_vocab: int) -> Request:
    """Mostly short ones; some prompts are longer than a chunk, so that their samples share blocks."""
    longest = int(2.5 * PREFILL_CHUNK) if rng.random() < 0.2 else 12
    params = SamplingParams(
        length=int(rng.integers(1, 13)),
        temperature=float(rng.choice([0, 0.5, 1, 2])),
        top_k=int(rng.choice([0, 0, 1, 40])),
        top_p=float(rng.choice([0, 0, 0.5, 0.9])),
        nsamples=int(rng.choice([1, 1, 1, 2, 3])),
        seed=int(rng.integers(2**32)),
        ignore_end_of_text=True,
    )
    return rng.integers(0, n_vocab, rng.integers(1, longest)).tolist(), params


def make_engine(core: Core, checkpoint: Checkpoint, max_running: int, n_blocks: int) -> Engine:
    return Engine(
        core,
        checkpoint.hparams,
        checkpoint.tokenizer,
        n_blocks=n_blocks,
        max_running=max_running,
        max_waiting=4 * REQUESTS,
    )


def tokens_of(generation: Generation) -> list[list[int]]:
    """The tokens of each sample."""
    return [sample.tokens for sample in generation.result(timeout=60)]


class Crowd:
    """The requests, and who computes them."""

    def __init__(self, checkpoint: Checkpoint, precision: str, isa: Isa) -> None:
        rng = default_rng(4)
        self._checkpoint = checkpoint
        self._requests = [random_request(rng, checkpoint.hparams.n_vocab) for _ in range(REQUESTS)]
        self._cores = [NativeCore(checkpoint, precision, BLOCKS, threads, isa) for threads in (1, 2)]

    def one_by_one(self) -> list[Generation]:
        """The requests' generations, each of which had the engine for itself."""
        engine = make_engine(self._cores[0], self._checkpoint, max_running=1, n_blocks=BLOCKS)
        generations = []
        for request in self._requests:
            generations.append(engine.submit(*request))
            generations[-1].result(timeout=60)
        engine.close()
        return generations

    def together(self, seed: int) -> list[Generation]:
        """The requests' generations by the schedule of this seed."""
        rng = default_rng(seed)
        events: dict[int, list[Event]] = defaultdict(list)
        n_blocks = int(rng.choice([60, 200, BLOCKS]))
        engine = make_engine(
            EventfulCore(self._cores[seed % 2], events),
            self._checkpoint,
            max_running=int(rng.choice([5, 16, 64, 128])),
            n_blocks=n_blocks,
        )
        generations: dict[int, Generation] = {}

        def submit(number: int) -> None:
            generations[number] = engine.submit(*self._requests[number])

        def cancel(number: int) -> None:
            generations[number].cancel()

        for number in rng.permutation(REQUESTS).tolist():
            comes = int(rng.integers(LAST_STEP)) if rng.random() < 0.7 else 0
            events[comes].append(partial(submit, number))
            if rng.random() < 0.25:
                events[int(rng.integers(comes, LAST_STEP))].append(partial(cancel, number))
        # While it runs, the engine goes from step to step, and no event is missed.
        engine.submit([0], SamplingParams(LAST_STEP + 1, ignore_end_of_text=True)).result(timeout=60)
        for generation in generations.values():
            generation.result(timeout=60)
        assert engine.statistics().free_blocks == n_blocks
        engine.close()
        return [generations[number] for number in range(REQUESTS)]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_requests_get_in_a_crowd_what_each_gets_alone(
    tiny_checkpoint: Checkpoint, precision: str, isa: Isa
) -> None:
    crowd = Crowd(tiny_checkpoint, precision, isa)
    alone = [tokens_of(generation) for generation in crowd.one_by_one()]
    cut_short = 0
    for seed in range(SCHEDULES):
        for number, (expected, generation) in enumerate(zip(alone, crowd.together(seed), strict=True)):
            found = tokens_of(generation)
            if generation.cancelled and found != expected:
                cut_short += 1
                expected = [e[: len(f)] for e, f in zip(expected, found, strict=True)]
            assert found == expected, f"request {number} in schedule {seed}"
    assert cut_short > 1000, "the cancellations come too late to mean anything"
