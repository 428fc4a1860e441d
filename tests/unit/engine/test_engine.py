"""The engine's promises, kept over a real (tiny) GPT-2."""

import itertools
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from random import Random
from types import FrameType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from server.engine import (
    DeadlineExceededError,
    Engine,
    EngineBusyError,
    EngineClosedError,
    EngineFailedError,
    Generation,
    Piece,
    PromptTooLongError,
    SamplingParams,
)
from server.engine.core import SequentialCore
from server.engine.gpt2 import GPT2
from server.engine.kv_blocks import blocks_for
from server.engine.sampling import draw
from server.engine.scheduler import PREFILL_CHUNK, Drawn, Slice
from server.weights import Checkpoint

PROMPT = "Ash and Pikachu were"
MANY = 10_000  # steps


class RecordingModel(GPT2):
    """The real model, which also keeps the logits that it computed last."""

    last = b""

    def logits(self, tokens: list[int], position: int, blocks: list[int]) -> NDArray[np.float32]:
        logits = super().logits(tokens, position, blocks)
        self.last = logits.tobytes()
        return logits


class Clock:
    """The engine's, in place of the module `time`: it stands still but for steps, which take what a test says."""

    thread_time = staticmethod(time.thread_time)

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("server.engine.engine.time", clock)
    return clock


class RecordingCore(SequentialCore):
    """The real core, which also notes what it was asked and what it computed, and can be held up.

    some_steps: so many steps may be taken; None: as many as there are. takes: how many seconds go by on the clock while
    so many slices are computed.
    """

    def __init__(self, model: RecordingModel) -> None:
        super().__init__(model)
        self.model = model
        self.steps: list[list[Slice]] = []
        self.logits: dict[tuple[Generation, int, int], bytes] = {}  # by generation, sample and position
        self.may_step = threading.Event()
        self.may_step.set()
        self.some_steps: threading.Semaphore | None = None
        self.clock = Clock()
        self.takes: Callable[[int], float] = lambda _: 1e-6

    def step(self, batch: list[Slice]) -> list[Drawn]:
        self.may_step.wait()
        if self.some_steps:
            self.some_steps.acquire()
        self.steps.append(batch)
        self.clock.now += self.takes(len(batch))
        return super().step(batch)

    def go_on(self) -> None:
        """Take as many steps as there are."""
        self.may_step.set()
        if self.some_steps:
            self.some_steps.release(MANY)

    def _compute(self, part: Slice) -> Drawn:
        drawn = super()._compute(part)
        self.logits[part.sequence.generation, part.sequence.index, part.position] = self.model.last
        return drawn


class Bench:
    """An engine with its core and model within reach."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        max_running: int,
        max_waiting: int,
        n_blocks: int,
        max_wait: float,
        pace: float,
    ) -> None:
        self.model = RecordingModel(checkpoint, n_blocks)
        self.core = RecordingCore(self.model)
        self.engine = Engine(
            self.core,
            checkpoint.hparams,
            checkpoint.tokenizer,
            n_blocks=n_blocks,
            max_running=max_running,
            max_waiting=max_waiting,
            max_wait=max_wait,
            pace=pace,
        )

    def text(self, prompt: str | list[int] = PROMPT, **fields: object) -> str:
        return self.submit(prompt, **fields).result(timeout=30)[0].text

    def submit(self, prompt: str | list[int] = PROMPT, **fields: object) -> Generation:
        return self.engine.submit(prompt, SamplingParams(**{"length": 12, "seed": 1} | fields))  # type: ignore[arg-type]

    def wait_until_idle(self) -> None:
        deadline = time.monotonic() + 30
        while list(self.engine._scheduler):
            assert time.monotonic() < deadline, "something still runs or waits"
            time.sleep(0.005)


@pytest.fixture
def make_bench(tiny_checkpoint: Checkpoint) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(
        max_running: int = 8,
        max_waiting: int = 64,
        n_blocks: int | None = None,
        max_wait: float = math.inf,
        pace: float = 0.0,
    ) -> Bench:
        n_blocks = n_blocks or max_running * blocks_for(tiny_checkpoint.hparams.n_ctx)
        benches.append(Bench(tiny_checkpoint, max_running, max_waiting, n_blocks, max_wait, pace))
        return benches[-1]

    yield make
    for bench in benches:
        bench.core.go_on()
        bench.engine.close()
        assert not bench.engine.alive


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


def test_a_seed_decides_the_text(bench: Bench) -> None:
    assert bench.text(seed=1) == bench.text(seed=1) != bench.text(seed=2)


def test_a_text_does_not_depend_on_who_else_reads(make_bench: Callable[..., Bench]) -> None:
    quiet, crowded = make_bench(max_running=1), make_bench(max_running=5)
    random = Random(7)
    wishes: list[dict[str, Any]] = [
        {
            "prompt": PROMPT + " and" * random.randrange(3 * PREFILL_CHUNK),
            "length": random.randrange(1, 20),
            "seed": random.randrange(99),
            "top_p": random.choice([0, 0.9]),
            "nsamples": random.choice([1, 1, 3]),
        }
        for _ in range(40)
    ]
    alone, together = [], []
    for wish in wishes:
        alone.append(quiet.submit(**wish))
        alone[-1].result(timeout=30)
    for wish in wishes:
        together.append(crowded.submit(**wish))
        if random.random() < 0.2:
            crowded.submit(seed=99, length=60).cancel()
        time.sleep(random.random() / 200)
    for one, other in zip(alone, together, strict=True):
        assert texts_of(one) == texts_of(other)
        # A difference in the last bit of the logits changes a text now and then only; here none may exist at all.
        assert logits_of(quiet, one) == logits_of(crowded, other)
    assert max(len(batch) for batch in crowded.core.steps) > 1, "they did run together"


def texts_of(generation: Generation) -> list[str]:
    return [sample.text for sample in generation.result(timeout=30)]


def logits_of(bench: Bench, generation: Generation) -> dict[tuple[int, int], bytes]:
    """By sample and position, each the end of a slice: so the slices are compared as well.

    What the samples have in common is said to be the first one's, whichever computed it.
    """
    shared = (generation.prompt_tokens - 1) // PREFILL_CHUNK * PREFILL_CHUNK
    return {
        (0 if position < shared else sample, position): logits
        for (owner, sample, position), logits in bench.core.logits.items()
        if owner is generation
    }


def test_samples_are_different_and_do_not_depend_on_how_many_there_are(bench: Bench) -> None:
    three = texts_of(bench.submit(nsamples=3))
    assert len(set(three)) == 3
    assert three[0] == bench.text()


def test_any_sample_can_be_had_without_those_before_it(bench: Bench) -> None:
    four = texts_of(bench.submit(LONG_PROMPT, nsamples=4))
    assert texts_of(bench.submit(LONG_PROMPT, nsamples=2, first_sample=2)) == four[2:]
    prompts_read = sum(part.position == 0 for step in bench.core.steps for part in step)
    assert prompts_read == 2, "once for each submission"


# Three whole chunks that samples can share, and a fourth with the last token, which each of them computes.
LONG_PROMPT = [5 + i % 7 for i in range(3 * PREFILL_CHUNK + 1)]


def unshared(checkpoint: Checkpoint, prompt: list[int], params: SamplingParams, sample: int) -> list[int]:
    """A sample's tokens, from a model of its own that computes all of the prompt."""
    model, tokens, computed = GPT2(checkpoint, blocks_for(256)), list(prompt), 0
    while len(tokens) < len(prompt) + params.length:
        chunk = tokens[computed : computed + PREFILL_CHUNK]
        logits = model.logits(chunk, computed, list(range(blocks_for(256))))
        computed += len(chunk)
        if computed == len(tokens):
            tokens.append(draw(logits, params, sample, computed))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("max_running", [1, 2, 8])
@pytest.mark.parametrize("prompt", [LONG_PROMPT, LONG_PROMPT[:-1]], ids=["just over", "whole chunks"])
def test_samples_compute_their_prompt_once(
    make_bench: Callable[..., Bench], tiny_checkpoint: Checkpoint, prompt: list[int], max_running: int
) -> None:
    """Also where some start only when others have ended."""
    bench = make_bench(max_running=max_running)
    params = SamplingParams(length=6, nsamples=5, temperature=2, seed=3, ignore_end_of_text=True)
    samples = bench.engine.submit(prompt, params).result(timeout=30)
    expected = [unshared(tiny_checkpoint, prompt, params, sample) for sample in range(5)]
    assert [sample.tokens for sample in samples] == expected
    computed = [part.position for step in bench.core.steps for part in step if part.position < len(prompt)]
    last = (len(prompt) - 1) // PREFILL_CHUNK * PREFILL_CHUNK
    assert computed == [*range(0, last, PREFILL_CHUNK), *[last] * 5]


def test_samples_reserve_what_they_share_once(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(n_blocks=blocks_for(256))
    generation = bench.submit(LONG_PROMPT, length=15, nsamples=4)  # 12 shared blocks, and 1 for each
    generation.result(timeout=30)
    assert max(len(batch) for batch in bench.core.steps) == 4
    bench.wait_until_idle()
    assert bench.engine.statistics().free_blocks == blocks_for(256)


def test_samples_that_wait_give_their_share_back_when_they_are_cancelled(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench(max_running=1)
    bench.core.some_steps = threading.Semaphore(8)  # or the first might be done before it is cancelled
    generation = bench.submit(LONG_PROMPT, length=40, nsamples=3, ignore_end_of_text=True)
    pieces = generation.stream()
    next(pieces)
    generation.cancel()
    bench.core.go_on()
    assert [sample.finish_reason for sample in generation.result(timeout=30)] == ["cancelled"] * 3
    assert bench.engine.statistics().free_blocks == bench.engine.statistics().total_blocks
    assert bench.text(LONG_PROMPT, length=6) == bench.text(LONG_PROMPT, length=6, nsamples=2)


def pieces_of(generation: Generation) -> list[Piece]:
    return [piece for piece in generation.stream() if piece]


def test_a_stream_gives_the_same_text_in_pieces(bench: Bench) -> None:
    bench.core.some_steps = threading.Semaphore(8)  # or it might be done before anybody reads
    generation = bench.submit(length=40, nsamples=2)
    stream = generation.stream()
    pieces = [next(stream)]
    bench.core.go_on()
    pieces += stream
    assert len(pieces) > 2, "they came one by one"
    for index, sample in enumerate(generation.result()):
        assert "".join(piece.text for piece in pieces if piece and piece.sample == index) == sample.text
    assert pieces_of(generation)[0].text == generation.samples[0].text, "a late reader gets all at once"


def test_a_stream_with_pauses_gives_fewer_pieces_and_the_end_at_once(bench: Bench) -> None:
    bench.core.some_steps = threading.Semaphore(8)
    generation = bench.submit(length=100, ignore_end_of_text=True)
    stream = generation.stream(pause=lambda: 60)
    pieces = [next(stream)]
    bench.core.go_on()
    pieces += stream
    assert len(pieces) == 2, "the first at once, the others together, when the end broke the pause"
    assert "".join(piece.text for piece in pieces if piece) == generation.samples[0].text


def test_a_stream_says_that_nothing_has_come(bench: Bench) -> None:
    bench.core.may_step.clear()
    generation = bench.submit(length=5)
    pieces = generation.stream(idle=0.01)
    assert [next(pieces), next(pieces)] == [None, None]
    bench.core.may_step.set()
    assert "".join(piece.text for piece in pieces if piece) == generation.samples[0].text


def test_closing_a_stream_before_its_end_gives_the_place_up(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_running=1)
    bench.core.some_steps = threading.Semaphore(8)
    generation = bench.submit(length=200, ignore_end_of_text=True)
    pieces = generation.stream()
    next(pieces)
    pieces.close()
    bench.core.go_on()
    [sample] = generation.result(timeout=30)
    assert sample.finish_reason == "cancelled"
    bench.text()


def test_closing_a_stream_behind_its_end_changes_nothing(bench: Bench) -> None:
    generation = bench.submit(length=5)
    generation.result(timeout=30)
    pieces = generation.stream()
    next(pieces)
    pieces.close()
    assert not generation.cancelled


def test_a_text_that_is_done_cannot_be_given_up(bench: Bench) -> None:
    """Its reader may leave before the server has closed the connection."""
    generation = bench.submit(length=5)
    generation.result(timeout=30)
    generation.cancel()
    assert not generation.cancelled


def test_those_who_wait_know_their_place(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_running=1)
    bench.core.may_step.clear()
    running, first, second = (bench.submit(length=20, nsamples=n) for n in (1, 2, 1))
    while not bench.engine.statistics().running:
        time.sleep(0.01)
    places = [bench.engine.place_in_queue(generation) for generation in (running, first, second)]
    assert [place and place.ahead for place in places] == [None, 0, 2]
    bench.core.may_step.set()
    second.result(timeout=30)
    assert bench.engine.place_in_queue(second) is None


def test_a_text_may_be_read_while_it_grows(bench: Bench) -> None:
    bench.core.may_step.clear()
    generation = bench.submit(length=30)
    pieces = generation.stream()
    bench.core.may_step.set()
    assert next(pieces)
    assert generation.samples[0].text


def test_length_counts_new_tokens(bench: Bench) -> None:
    [sample] = bench.submit(length=5, ignore_end_of_text=True).result(timeout=30)
    assert (len(sample.tokens), sample.finish_reason) == (5, "length")


def test_end_of_text_ends_it_unless_asked_to_go_on(bench: Bench, tiny_checkpoint: Checkpoint) -> None:
    end = tiny_checkpoint.tokenizer.end_of_text
    bench.model._weights["ln_f/g"][:] = 0  # now the activations are ln_f's bias whatever the tokens are
    bench.model._weights["ln_f/b"][:] = (
        tiny_checkpoint.tensor("wte")[end] * 100
    )  # and that is the end's embedding
    [sample] = bench.submit(temperature=0).result(timeout=30)
    assert (sample.text, sample.tokens, sample.finish_reason) == ("", [], "stop")
    [sample] = bench.submit(temperature=0, ignore_end_of_text=True).result(timeout=30)
    assert (sample.tokens, sample.finish_reason) == ([end] * 12, "length")


def test_a_stop_string_ends_the_text_before_it(bench: Bench) -> None:
    whole = bench.text(length=40)
    stop = whole[10:13]
    [sample] = bench.submit(length=40, stop=(stop,)).result(timeout=30)
    assert (sample.text, sample.finish_reason) == (whole[: whole.index(stop)], "stop")


def test_what_does_not_fit_into_n_ctx_is_left_away(bench: Bench) -> None:
    n_ctx = bench.engine.hparams.n_ctx
    [sample] = bench.submit([5] * (n_ctx - 3), length=99, ignore_end_of_text=True).result(timeout=30)
    assert (len(sample.tokens), sample.finish_reason) == (3, "length")


def test_a_prompt_without_room_for_a_token_is_refused_with_the_counts(bench: Bench) -> None:
    n_ctx = bench.engine.hparams.n_ctx
    with pytest.raises(PromptTooLongError) as caught:
        bench.submit([5] * n_ctx)
    assert (caught.value.tokens, caught.value.limit) == (n_ctx, n_ctx - 1)


@pytest.mark.parametrize("prompt", [[], [-1], [10**6]])
def test_a_prompt_of_tokens_must_be_tokens(bench: Bench, prompt: list[int]) -> None:
    with pytest.raises(ValueError, match="one or more tokens from 0 to"):
        bench.submit(prompt)


def test_a_long_prompt_is_read_in_chunks_while_others_go_on(bench: Bench) -> None:
    bench.core.may_step.clear()
    running = bench.submit(length=20)
    late = bench.submit([5] * (3 * PREFILL_CHUNK), length=1)
    bench.core.may_step.set()
    running.result(timeout=30)
    late.result(timeout=30)
    both = [{part.sequence.generation: part for part in step} for step in bench.core.steps]
    chunks = [len(step[late].tokens) for step in both if late in step]
    assert chunks == [PREFILL_CHUNK] * 3
    assert all(len(step[running].tokens) == 1 for step in both[1:] if late in step and running in step)


def test_the_first_to_come_is_the_first_to_start(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_running=2)
    generations = [bench.submit(length=3 + i % 4) for i in range(12)]
    for generation in generations:
        generation.result(timeout=30)
    started = [generation.timing.started for generation in generations]
    assert started == sorted(started)


def test_nobody_overtakes_whoever_waits_for_memory(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_running=8, n_blocks=blocks_for(256))
    bench.core.may_step.clear()
    half = bench.submit(length=120)
    big = bench.submit(length=200)  # does not fit beside it
    small = bench.submit(length=1)  # would
    bench.core.may_step.set()
    for generation in (half, big, small):
        generation.result(timeout=30)
    assert half.timing.finished <= big.timing.started <= small.timing.started


def test_a_deadline_ends_it_whether_it_runs_or_waits(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_running=1)
    bench.core.may_step.clear()
    params = SamplingParams(length=200, ignore_end_of_text=True)
    running, waiting = (bench.engine.submit(PROMPT, params, timeout=0.05) for _ in range(2))
    time.sleep(0.1)
    bench.core.may_step.set()
    for generation in (running, waiting):
        with pytest.raises(DeadlineExceededError):
            generation.result(timeout=30)
    assert waiting.timing.started == float("inf")
    bench.text()


def test_who_would_wait_beyond_the_deadline_is_told_at_once(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_running=1)
    bench.text()  # from here on the speed is known
    bench.core.may_step.clear()
    admitted = [bench.submit(length=200) for _ in range(3)]
    with pytest.raises(EngineBusyError):
        bench.engine.submit(PROMPT, SamplingParams(length=1), timeout=1e-6)
    bench.core.may_step.set()
    for generation in admitted:
        generation.result(timeout=30)


def test_who_would_wait_too_long_is_told_at_once_and_the_first_in_the_queue_never(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench(max_running=1, max_wait=1e-6)
    bench.text()  # from here on the speed is known
    bench.core.may_step.clear()
    admitted = [bench.submit(length=200)]
    while not bench.engine.running:
        time.sleep(0.005)
    admitted.append(bench.submit(length=200))
    with pytest.raises(EngineBusyError):
        bench.submit(length=1)
    bench.core.may_step.set()
    for generation in admitted:
        generation.result(timeout=30)


def test_the_prompts_of_a_request_do_not_wait_for_each_other_and_come_all_or_none(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench(max_running=1, max_waiting=8, max_wait=1e-6)
    bench.text()  # from here on the speed is known
    bench.core.may_step.clear()
    params = SamplingParams(length=100, seed=1)
    admitted = bench.engine.submit_all([PROMPT] * 8, params)
    with pytest.raises(EngineBusyError):
        bench.engine.submit_all([PROMPT], params)
    bench.core.may_step.set()
    assert len({generation.result(timeout=30)[0].text for generation in admitted}) == 1
    with pytest.raises(EngineBusyError):
        bench.engine.submit_all([PROMPT] * 10, params)
    with pytest.raises(PromptTooLongError):
        bench.engine.submit_all([PROMPT, PROMPT * 256], params)
    bench.wait_until_idle()


def test_no_more_are_begun_than_keep_the_pace_and_one_always(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_running=4, pace=1e9)
    bench.text()  # from here on the speed is known, and it is less than that
    bench.core.may_step.clear()
    generations = [bench.submit() for _ in range(3)]
    while not bench.engine.running:
        time.sleep(0.005)
    now = bench.engine.statistics()
    assert (now.running, now.waiting, now.batch_limit) == (1, 2, 1)
    bench.core.may_step.set()
    assert len({generation.result(timeout=30)[0].text for generation in generations}) == 1


def test_a_lone_reader_is_no_sign_that_many_would_be_too_slow(
    make_bench: Callable[..., Bench], clock: Clock
) -> None:
    bench = make_bench(max_running=8, pace=5)
    bench.core.clock = clock
    bench.core.takes = lambda _: 0.05  # so one alone has 20 tokens a second, and four together have 80
    assert bench.engine.statistics().batch_limit == 1, "nothing is known yet"
    bench.text()
    assert 1 < bench.engine.statistics().batch_limit < 5
    texts_of(bench.submit(nsamples=4, length=30))
    assert bench.engine.statistics().batch_limit == 8
    bench.text(length=30)
    assert bench.engine.statistics().batch_limit == 8


def test_fewer_are_begun_once_those_who_run_lose_their_pace(
    make_bench: Callable[..., Bench], clock: Clock
) -> None:
    bench = make_bench(max_running=8, pace=5)
    bench.core.clock = clock
    texts_of(bench.submit(nsamples=8))
    assert bench.engine.statistics().batch_limit == 8
    bench.core.takes = lambda slices: 0.05 * slices  # 20 tokens a second, however many run
    texts_of(bench.submit(nsamples=8, length=60, ignore_end_of_text=True))
    assert 2 <= bench.engine.statistics().batch_limit <= 4


def test_a_full_queue_is_said_at_once_with_a_time_to_come_back(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_running=1, max_waiting=2)
    bench.core.may_step.clear()
    admitted = [bench.submit() for _ in range(3)]
    with pytest.raises(EngineBusyError) as caught:
        bench.submit()
    assert 1 <= caught.value.retry_after <= 120
    bench.core.may_step.set()
    for generation in admitted:
        generation.result(timeout=30)
    bench.text()


def test_statistics_say_who_runs_and_who_waits(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_running=2, max_waiting=2)
    total = 2 * blocks_for(256)
    bench.core.may_step.clear()
    generation = bench.submit(length=20, nsamples=4)
    while bench.engine.statistics().running < 2:
        time.sleep(0.005)
    with pytest.raises(EngineBusyError):
        bench.submit()
    now = bench.engine.statistics()
    reserved = 2 * blocks_for(generation.prompt_tokens + 20)
    assert (now.running, now.waiting, now.refused) == (2, 2, 1)
    assert (now.free_blocks, now.total_blocks) == (total - reserved, total)
    bench.core.may_step.set()
    generation.result(timeout=30)
    idle = bench.engine.statistics()
    assert (idle.running, idle.waiting, idle.free_blocks) == (0, 0, total)


def test_statistics_count_tokens_and_endings(bench: Bench) -> None:
    whole = bench.submit(length=20, ignore_end_of_text=True)
    stop = whole.result(timeout=30)[0].text[5:8]
    assert bench.engine.statistics().tokens == 20
    bench.submit(length=20, stop=(stop,), ignore_end_of_text=True).result(timeout=30)
    late = bench.engine.submit(PROMPT, SamplingParams(length=200, nsamples=2), timeout=0)
    bench.core.may_step.clear()
    left = bench.submit(length=200, ignore_end_of_text=True)
    left.cancel()
    bench.core.may_step.set()
    left.result(timeout=30)
    with pytest.raises(DeadlineExceededError):
        late.result()
    bench.model._weights["wpe"][0] = np.nan
    with pytest.raises(EngineFailedError):
        bench.submit(nsamples=3).result(timeout=30)
    found = bench.engine.statistics()
    assert found.ended == {"length": 1, "stop": 1, "deadline": 2, "cancelled": 1, "failed": 3}
    assert found.steps == len(bench.core.steps)


def test_statistics_tell_the_speed(bench: Bench) -> None:
    """Against a step whose time is known: two samples, a token each in 20 ms."""

    def slow(batch: list[Slice]) -> list[Drawn]:
        time.sleep(0.02)
        return [5] * len(batch)

    bench.core.step = slow  # type: ignore[method-assign]
    generation = bench.submit([5], nsamples=2, length=200)
    while bench.engine.statistics().steps < 20:
        time.sleep(0.01)
    found = bench.engine.statistics()
    generation.cancel()
    assert 0.02 <= found.step_seconds < 0.1, "a busy machine sleeps longer"
    assert found.tokens_per_second == pytest.approx(2 / found.step_seconds)
    bench.wait_until_idle()
    assert bench.engine.statistics().tokens_per_second == 0


def test_memory_decides_how_many_run_and_all_blocks_come_back(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_running=8, n_blocks=blocks_for(256))
    generations = [bench.submit(length=200, seed=seed) for seed in range(4)]
    for generation in generations[1:]:
        generation.cancel()
    generations[0].result(timeout=30)
    bench.wait_until_idle()
    assert max(len(batch) for batch in bench.core.steps) == 1, "each reserves more than half of the blocks"
    assert bench.engine.statistics().free_blocks == blocks_for(256)


def test_cancelling_frees_the_place_and_keeps_what_was_written(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_running=1)
    bench.core.some_steps = threading.Semaphore(8)
    generation = bench.submit(length=200, ignore_end_of_text=True)
    pieces = generation.stream()
    next(pieces)
    generation.cancel()
    bench.core.go_on()
    [sample] = generation.result(timeout=30)
    assert sample.finish_reason == "cancelled"
    assert 0 < len(sample.tokens) < 200
    generation.cancel()
    bench.text()


def test_waiting_has_a_limit_of_the_readers_choice(bench: Bench) -> None:
    bench.core.may_step.clear()
    generation = bench.submit()
    with pytest.raises(TimeoutError):
        generation.result(timeout=0.01)
    bench.core.may_step.set()
    assert generation.result(timeout=30)


def test_a_sequence_that_fails_fails_alone(bench: Bench) -> None:
    bench.core.may_step.clear()
    good = bench.submit(length=20)
    bench.model._weights["wpe"][100] = np.nan  # a position that only the other reaches
    bad = bench.submit([5] * 101, nsamples=2)
    bench.core.may_step.set()
    with pytest.raises(EngineFailedError, match="ValueError"):
        bad.result(timeout=30)
    with pytest.raises(EngineFailedError):
        list(bad.stream())
    assert good.result(timeout=30)[0].text
    assert any(len({part.sequence.generation for part in step}) == 2 for step in bench.core.steps)
    bench.wait_until_idle()


def test_a_step_that_fails_as_a_whole_fails_its_generations_and_the_engine_goes_on(bench: Bench) -> None:
    good = bench.text()
    model, bench.core._model = bench.core._model, None  # type: ignore[assignment]
    with pytest.raises(EngineFailedError, match="AttributeError"):
        bench.submit().result(timeout=30)
    bench.core._model = model
    assert bench.text() == good


def test_a_crash_of_the_engines_own_thread_is_told_to_all(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed = threading.Event()
    bench.engine._on_crash = crashed.set
    bench.core.may_step.clear()
    generations = [bench.submit() for _ in range(12)]
    monkeypatch.setattr(bench.engine._scheduler, "advance", None)  # what no code path does on purpose
    bench.core.may_step.set()
    for generation in generations:
        with pytest.raises(EngineFailedError):
            generation.result(timeout=30)
    assert crashed.wait(timeout=30)
    assert not bench.engine.alive
    with pytest.raises(EngineClosedError):
        bench.submit()


def test_closing_fails_what_has_not_ended(bench: Bench) -> None:
    bench.core.may_step.clear()
    generations = [bench.submit(length=200) for _ in range(20)]
    closing = threading.Thread(target=bench.engine.close)
    closing.start()
    bench.core.may_step.set()
    closing.join(timeout=30)
    for generation in generations:
        with pytest.raises(EngineClosedError):
            generation.result(timeout=1)
    with pytest.raises(EngineClosedError):
        bench.submit()


def test_ctrl_c_at_any_moment_leaves_an_engine_that_can_be_closed(tiny_checkpoint: Checkpoint) -> None:
    """In every line of `threading` that asking for a text and waiting for it runs through."""
    struck = set()
    for moment in itertools.count():
        # Not a fixture's: at its end one that cannot be closed would be waited for.
        bench = Bench(tiny_checkpoint, 2, 2, 2 * blocks_for(tiny_checkpoint.hparams.n_ctx), math.inf, 0)
        bench.core.may_step.clear()
        threading.Timer(0.02, bench.core.may_step.set).start()  # long enough for the text to be waited for
        function = interrupted(lambda: bench.submit(length=3).result(timeout=30), moment)  # noqa: B023 - called here
        time.sleep(0.05)  # for what the engine was told of, and to wait again
        closing = threading.Thread(target=bench.engine.close, daemon=True)
        closing.start()
        closing.join(timeout=10)
        assert not closing.is_alive(), f"Ctrl-C in {function} is followed by a wait without end"
        if function is None:
            break
        struck.add(function)
    assert struck >= {"notify_all", "notify", "wait"}


def interrupted(work: Callable[[], object], moment: int) -> str | None:
    """Do it, with Ctrl-C at the moment of this number, counted in the lines of `threading`, whose function is given.

    None where there are fewer moments.
    """
    moments = itertools.count()
    struck = None

    def strike(frame: FrameType, event: str, _: object) -> Any:  # noqa: ANN401 - as typeshed has it
        nonlocal struck
        if frame.f_code.co_filename != threading.__file__:
            return None
        if next(moments) == moment:
            sys.settrace(None)
            struck = frame.f_code.co_name
            raise KeyboardInterrupt
        return strike

    before = sys.gettrace()
    sys.settrace(strike)
    try:
        work()
    except KeyboardInterrupt:
        pass
    except RuntimeError as error:
        if "un-acquired lock" not in str(error):  # Condition.wait, struck while it had let go of its own
            raise
    finally:
        sys.settrace(before)
    return struck


def test_a_close_that_was_interrupted_can_be_repeated(bench: Bench) -> None:
    begun = threading.Event()
    step = bench.core.step

    def held(batch: list[Slice]) -> list[Drawn]:
        begun.set()
        return step(batch)

    bench.core.step = held  # type: ignore[method-assign]
    bench.core.may_step.clear()
    bench.submit(length=200)
    assert begun.wait(timeout=30)
    ctrl_c = threading.Timer(0.1, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    ctrl_c.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            bench.engine.close()
    finally:
        ctrl_c.cancel()
    closing = threading.Thread(target=bench.engine.close)
    closing.start()
    closing.join(timeout=0.1)
    assert closing.is_alive(), "it waits for the step, which may read the weights"
    bench.core.go_on()
    closing.join(timeout=30)
    assert not closing.is_alive()
