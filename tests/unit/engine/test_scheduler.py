"""How many steps the admitted work takes, foreseen and counted: on it rests what a reader is told to wait."""

from hypothesis import given, settings
from hypothesis import strategies as st

from server.engine import Generation, Sample, SamplingParams
from server.engine.detokenizer import Detokenizer
from server.engine.kv_blocks import KVBlocks, blocks_for
from server.engine.scheduler import PREFILL_CHUNK, Scheduler, Sequence

N_CTX = 512
END_OF_TEXT = 9


def submit(scheduler: Scheduler, prompt: int, length: int, nsamples: int = 1) -> Generation:
    """What the engine does for a prompt and texts of so many tokens."""
    params = SamplingParams(length=length, nsamples=nsamples)
    samples = [Sample(Detokenizer([b" word"] * 10)) for _ in range(nsamples)]
    generation = Generation(prompt, params, samples)
    for index, sample in enumerate(samples):
        scheduler.add(Sequence(generation, sample, index, [5] * prompt, prompt + length))
    return generation


def step(scheduler: Scheduler) -> bool:
    """Let every slice that draws draw a token. False when there is nothing left to do."""
    slices = scheduler.schedule()
    scheduler.advance(slices, [5 if part.draws else None for part in slices])
    return bool(slices)


def steps_until_done(scheduler: Scheduler) -> int:
    steps = 0
    while step(scheduler):
        steps += 1
    return steps


def make(max_running: int, n_blocks: int = 1000) -> Scheduler:
    return Scheduler(KVBlocks(n_blocks), max_running, max_waiting=1000, end_of_text=END_OF_TEXT)


def test_places_are_filled_at_every_step() -> None:
    scheduler = make(max_running=4)
    for _ in range(16):
        submit(scheduler, prompt=1, length=100)
    assert scheduler.steps_owed() == 16 * 100 / 4 == steps_until_done(scheduler)


def test_blocks_may_allow_fewer_than_the_places() -> None:
    scheduler = make(max_running=8, n_blocks=2 * blocks_for(200))
    for _ in range(16):
        submit(scheduler, prompt=100, length=100)
    owed = scheduler.steps_owed()
    assert owed == 8 * (100 + 1), "two at a time, a step more for the first chunk of each prompt"
    assert owed <= steps_until_done(scheduler) < owed * 1.1


def test_prompts_are_read_a_chunk_at_a_step() -> None:
    scheduler = make(max_running=8)
    for _ in range(16):
        submit(scheduler, prompt=6 * PREFILL_CHUNK, length=1)
    assert scheduler.steps_owed() == 16 * 6 - 1
    assert steps_until_done(scheduler) == 16 * 6


def test_a_prompt_in_common_is_read_once() -> None:
    scheduler = make(max_running=8)
    submit(scheduler, prompt=6 * PREFILL_CHUNK, length=1, nsamples=8)
    assert scheduler.steps_owed() <= 5 + 8 == steps_until_done(scheduler)


LOAD = st.lists(
    st.tuples(st.integers(1, 300), st.integers(1, 200), st.integers(1, 4)), min_size=1, max_size=12
)


@settings(deadline=None)
@given(
    load=LOAD,
    max_running=st.integers(1, 8),
    n_blocks=st.integers(blocks_for(N_CTX), 200),
    begun=st.integers(0, 50),
)
def test_what_is_foreseen_is_never_more_than_it_takes(
    load: list[tuple[int, int, int]], max_running: int, n_blocks: int, begun: int
) -> None:
    scheduler = make(max_running, n_blocks)
    generations = [submit(scheduler, *each) for each in load]
    for _ in range(begun):
        step(scheduler)
    owed = scheduler.steps_owed()
    assert owed <= steps_until_done(scheduler)
    assert all(generation.done for generation in generations), "and whoever waits is served"
    assert scheduler.steps_owed() == 0
