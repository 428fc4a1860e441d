"""Samples in the order of their numbers, while as many as the engine takes are written at once."""

from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import replace
from typing import NamedTuple

from server.engine import Engine, Generation, SamplingParams

# How many are with the engine for each that runs: enough that one which takes long leaves no place empty.
AHEAD = 8


class Wish(NamedTuple):
    """One sample of a prompt, by its number: the same one that has this number among a request's nsamples."""

    prompt: str | list[int]
    number: int


def in_order(
    engine: Engine, wishes: Iterable[Wish], params: SamplingParams, batch_size: int
) -> Generator[tuple[Wish, Generation]]:
    """A generation of one sample for each wish, in their order; they run while others are waited for.

    The engine must have room for AHEAD times `batch_size`. Whoever closes the iterator gives up what is not done.
    Raises what `Engine.submit` raises.
    """
    submitted: deque[tuple[Wish, Generation]] = deque()
    try:
        for wish in wishes:
            generation = engine.submit(wish.prompt, replace(params, first_sample=wish.number))
            submitted.append((wish, generation))
            if len(submitted) == AHEAD * batch_size:
                yield submitted[0]
                submitted.popleft()
        while submitted:
            yield submitted[0]
            submitted.popleft()
    finally:
        for _, generation in submitted:
            generation.cancel()
