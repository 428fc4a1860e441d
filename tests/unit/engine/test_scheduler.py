"""When whom starts, foreseen and counted: on it rests who is let in, and what a reader is told to wait."""

from hypothesis import given, settings
from hypothesis import strategies as st

from server.engine import Generation, Sample, SamplingParams
from server.engine.detokenizer import Detokenizer
from server.engine.kv_blocks import KVBlocks, blocks_for
from server.engine.scheduler import PREFILL_CHUNK, Outlook, Scheduler, Sequence, Start

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


def make(max_running: int, n_blocks: int = 1000, max_waiting: int = 1000) -> Scheduler:
    return Scheduler(KVBlocks(n_blocks), max_running, max_waiting, end_of_text=END_OF_TEXT)


def steps_until_start(scheduler: Scheduler) -> int:
    """How many steps somebody waits who comes now: until it is the turn of the prompt's first chunk."""
    newcomer = submit(scheduler, prompt=PREFILL_CHUNK, length=1)
    steps = 0
    while all(part.sequence.generation is not newcomer for part in scheduler.schedule()):
        step(scheduler)
        steps += 1
    return steps


def test_a_newcomer_starts_when_the_first_place_is_free() -> None:
    scheduler = make(max_running=4)
    for length in (100, 70, 40, 10):
        submit(scheduler, prompt=1, length=length)
    assert scheduler.outlook().newcomer == Start(4, 10), "nobody runs yet"
    step(scheduler)
    assert scheduler.outlook().newcomer == Start(0, 9)
    assert steps_until_start(scheduler) == 9


def test_whoever_waits_in_front_starts_first() -> None:
    scheduler = make(max_running=2)
    waiting = [submit(scheduler, prompt=1, length=length) for length in (30, 20, 50, 5)][2:]
    step(scheduler)
    outlook = scheduler.outlook()
    assert [outlook.waiting[generation] for generation in waiting] == [Start(0, 19), Start(1, 29)]
    assert outlook.newcomer.steps == 34 == steps_until_start(scheduler)


def test_blocks_may_allow_fewer_than_the_places() -> None:
    scheduler = make(max_running=8, n_blocks=2 * blocks_for(200))
    for _ in range(4):
        submit(scheduler, prompt=100, length=100)
    step(scheduler)
    expected = scheduler.outlook().newcomer.steps
    assert expected == 2 * 101 - 1, "two at a time, a step more for the first chunk of each prompt"
    assert expected <= steps_until_start(scheduler) < expected * 1.1


def test_prompts_are_read_a_chunk_at_a_step() -> None:
    scheduler = make(max_running=8)
    for _ in range(16):
        submit(scheduler, prompt=6 * PREFILL_CHUNK, length=1)
    assert scheduler.outlook().newcomer.steps == 16 * 6 == steps_until_start(scheduler)


def test_prompts_longer_than_half_a_chunk_share_no_step() -> None:
    scheduler = make(max_running=8)
    for _ in range(4):
        submit(scheduler, prompt=PREFILL_CHUNK // 2 + 1, length=30)
        submit(scheduler, prompt=10, length=30)
    assert scheduler.outlook().newcomer.steps == steps_until_start(scheduler)


def test_there_is_room_for_those_who_wait_behind_the_limit_of_the_moment() -> None:
    scheduler = make(max_running=8, max_waiting=2)
    scheduler.batch_limit = 3
    assert scheduler.has_room(10), "of one alone all samples have room, or they never had"
    assert not scheduler.has_room(11)
    for _ in range(5):
        assert scheduler.has_room(1)
        submit(scheduler, prompt=1, length=10)
    assert not scheduler.has_room(1)
    step(scheduler)
    scheduler.batch_limit = 1
    assert (len(scheduler.running), len(scheduler.waiting)) == (3, 2)
    assert not scheduler.has_room(1)
    scheduler.batch_limit = 4
    assert scheduler.has_room(1)
    assert not scheduler.has_room(2)


def test_a_prompt_in_common_is_read_once() -> None:
    scheduler = make(max_running=8)
    submit(scheduler, prompt=6 * PREFILL_CHUNK, length=1, nsamples=8)
    assert scheduler.outlook().newcomer.steps <= 5 + 8 == steps_until_done(scheduler)


def test_a_sample_in_the_queue_needs_no_second_copy_of_the_prompt() -> None:
    scheduler = make(max_running=2, n_blocks=blocks_for(301) + blocks_for(210))
    submit(scheduler, prompt=1, length=300)
    pair = submit(scheduler, prompt=200, length=10, nsamples=2)
    while not pair.samples[0].done:
        step(scheduler)
    assert not pair.samples[1].done
    assert scheduler.outlook().newcomer.steps == 10


def test_no_more_are_begun_than_the_limit_of_the_moment_and_who_runs_goes_on() -> None:
    scheduler = make(max_running=4)
    for _ in range(6):
        submit(scheduler, prompt=1, length=10)
    step(scheduler)
    assert len(scheduler.running) == 4
    scheduler.batch_limit = 2
    step(scheduler)
    assert (len(scheduler.running), scheduler.outlook().newcomer) == (4, Start(2, 8 + 10))
    while len(scheduler.running) == 4:
        step(scheduler)
    step(scheduler)
    assert (len(scheduler.running), len(scheduler.waiting)) == (2, 0)


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
def test_nobody_starts_sooner_than_foreseen(
    load: list[tuple[int, int, int]], max_running: int, n_blocks: int, begun: int
) -> None:
    scheduler = make(max_running, n_blocks)
    generations = [submit(scheduler, *each) for each in load]
    for _ in range(begun):
        step(scheduler)
    expected = scheduler.outlook().newcomer.steps
    assert expected <= steps_until_start(scheduler)
    steps_until_done(scheduler)
    assert all(generation.done for generation in generations), "and whoever waits is served"
    assert scheduler.outlook() == Outlook({}, Start(0, 0))
