"""The native core computes what the reference in NumPy computes, however the work is cut up."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from server.engine import load_model
from server.engine.gpt2 import GPT2
from server.engine.kv_blocks import blocks_for
from server.engine.native import _core
from server.weights import Checkpoint, HParams
from tests.unit.engine.native.models import ISAS, PRECISIONS, RandomCheckpoint, logits, native_model

# Heads of odd sizes, a vocabulary of a single token, a context of a single position: what no vector or block divides.
SHAPES = st.integers(1, 6).flatmap(
    lambda n_head: st.builds(
        lambda n_vocab, n_ctx, head, n_layer: HParams(n_vocab, n_ctx, n_head * head, n_head, n_layer),
        n_vocab=st.integers(1, 200),
        n_ctx=st.integers(1, 70),
        head=st.integers(1, 96 // n_head),
        n_layer=st.integers(1, 3),
    )
)
SMALL = HParams(n_vocab=70, n_ctx=52, n_embd=33, n_head=3, n_layer=2)

every_isa = pytest.mark.parametrize("isa", ISAS)
every_precision = pytest.mark.parametrize("precision", PRECISIONS)


class Prompt(NamedTuple):
    """Tokens, where their chunks begin, and blocks in no order, a few more than the context needs."""

    tokens: list[int]
    cuts: list[int]
    blocks: list[int]


def random_prompt(rng: Generator, hparams: HParams, length: int) -> Prompt:
    n_blocks = blocks_for(hparams.n_ctx)
    cuts = rng.choice(length, rng.integers(length), replace=False).tolist()
    return Prompt(
        rng.integers(0, hparams.n_vocab, length).tolist(),
        sorted({0, *cuts}),
        rng.permutation(n_blocks + 3)[:n_blocks].tolist(),
    )


def cache_size(hparams: HParams) -> int:
    return blocks_for(hparams.n_ctx) + 3


def logits_in_chunks(model: _core.Model, prompt: Prompt) -> NDArray[np.float32]:
    ends = [*prompt.cuts[1:], len(prompt.tokens)]
    return np.concatenate(
        [
            logits(model, prompt.tokens[begin:end], begin, prompt.blocks)
            for begin, end in zip(prompt.cuts, ends, strict=True)
        ]
    )


def reference(checkpoint: Checkpoint, prompt: Prompt) -> NDArray[np.float32]:
    return GPT2(checkpoint, cache_size(checkpoint.hparams)).all_logits(prompt.tokens, 0, prompt.blocks)


@settings(max_examples=60, deadline=None)
@given(hparams=SHAPES, seed=st.integers(0, 2**32), share=st.floats(0, 1))
@example(hparams=HParams(n_vocab=1, n_ctx=1, n_embd=1, n_head=1, n_layer=1), seed=0, share=1.0)
def test_float32_is_the_reference(hparams: HParams, seed: int, share: float) -> None:
    rng, checkpoint = default_rng(seed), RandomCheckpoint(hparams, seed)
    prompt = random_prompt(rng, hparams, max(1, round(share * hparams.n_ctx)))
    expected = reference(checkpoint, prompt)
    for isa in ISAS:
        for threads in (1, 2):
            model = native_model(
                checkpoint, "float32", n_blocks=cache_size(hparams), threads=threads, isa=isa
            )
            found = logits_in_chunks(model, prompt)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4, err_msg=f"{isa}, {threads}")


@every_isa
@pytest.mark.parametrize("head", [64, 80, 100])
def test_float32_is_the_reference_with_heads_of_gpt2s_sizes(isa: str, head: int) -> None:
    hparams = HParams(n_vocab=321, n_ctx=200, n_embd=head, n_head=1, n_layer=1)
    checkpoint, prompt = RandomCheckpoint(hparams), random_prompt(default_rng(head), hparams, 200)
    model = native_model(checkpoint, "float32", n_blocks=cache_size(hparams), threads=2, isa=isa)
    np.testing.assert_allclose(
        logits_in_chunks(model, prompt), reference(checkpoint, prompt), rtol=0, atol=1e-4
    )


@every_isa
def test_float32_is_the_reference_for_prompts_of_every_length(isa: str) -> None:
    checkpoint = RandomCheckpoint(SMALL)
    model = native_model(checkpoint, "float32", n_blocks=cache_size(SMALL), isa=isa)
    for length in range(1, SMALL.n_ctx + 1):
        prompt = random_prompt(default_rng(length), SMALL, length)
        found = logits(model, prompt.tokens, 0, prompt.blocks)
        np.testing.assert_allclose(found, reference(checkpoint, prompt), rtol=0, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    hparams=SHAPES.filter(lambda h: h.n_vocab >= 16 and h.n_ctx >= 16 and h.n_embd >= 8),
    seed=st.integers(0, 2**32),
)
def test_int8_is_close_to_the_reference(hparams: HParams, seed: int) -> None:
    """Close on the whole, for single logits may be off where attention hangs in the balance.

    Integers of 8 bits are off by up to 1/254 of their row's largest, which is about 1% of what a product adds up to.
    Attention makes more of it: with these weights its scores are off by as much of 10 or so. A row, a column or a scale
    in the wrong place would make the error as large as the logits. Of two channels a layer norm leaves the sign alone,
    which the smallest error may turn: so there are 8 or more.
    """
    checkpoint = RandomCheckpoint(hparams, seed)
    prompt = random_prompt(default_rng(seed), hparams, hparams.n_ctx)
    expected = reference(checkpoint, prompt)
    for isa in ISAS:
        model = native_model(checkpoint, "int8", n_blocks=cache_size(hparams), isa=isa)
        error = logits_in_chunks(model, prompt) - expected
        assert root_mean_square(error) <= 0.1 * root_mean_square(expected), isa


def root_mean_square(x: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


@every_precision
@settings(max_examples=25, deadline=None)
@given(hparams=SHAPES, seed=st.integers(0, 2**32))
def test_chunks_threads_and_blocks_change_no_bit(precision: str, hparams: HParams, seed: int) -> None:
    rng, checkpoint = default_rng(seed), RandomCheckpoint(hparams, seed)
    prompt = random_prompt(rng, hparams, hparams.n_ctx)
    for isa in ISAS:
        alone, *models = (
            native_model(checkpoint, precision, n_blocks=cache_size(hparams), threads=threads, isa=isa)
            for threads in (1, 1, 2, 3)
        )
        expected = logits(alone, prompt.tokens, 0, list(range(cache_size(hparams))))
        assert np.isfinite(expected).all()
        for model in models:
            np.testing.assert_array_equal(logits_in_chunks(model, prompt), expected, err_msg=isa)
            # Again, over a cache that is full of what others left, and by other chunks.
            other = random_prompt(rng, hparams, hparams.n_ctx)
            other = Prompt(prompt.tokens, other.cuts, other.blocks)
            np.testing.assert_array_equal(logits_in_chunks(model, other), expected, err_msg=isa)


class Part(NamedTuple):
    """A sequence in a step: what stands in the cache already, what the step computes, and what follows it."""

    before: list[int]
    tokens: list[int]
    after: int
    draws: bool
    seed: int
    blocks: list[int]


def step(model: _core.Model, parts: list[Part]) -> list[int]:
    n = len(parts)
    drawn, _ = model.step(
        np.concatenate([np.array(part.tokens, np.int32) for part in parts]),
        np.array([len(part.tokens) for part in parts], np.int32),
        np.array([len(part.before) for part in parts], np.int32),
        np.concatenate([np.array(part.blocks, np.int32) for part in parts]),
        np.array([len(part.blocks) for part in parts], np.int32),
        np.array([part.draws for part in parts], np.uint8),
        np.full(n, 10.0),  # so hot that every token is likely, and a small difference tells
        np.zeros(n, np.int32),
        np.zeros(n),
        np.array([part.seed for part in parts], np.uint64),
        np.zeros(n, np.uint64),
        np.zeros(n, np.int32),
    )
    return drawn


@every_isa
@every_precision
@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_gives_what_each_gives_alone(isa: str, precision: str, threads: int) -> None:
    """The tokens drawn, and every bit that the step left in the cache: it shows in the logits of the next token."""
    rng, checkpoint = default_rng(threads), RandomCheckpoint(SMALL)
    most = 20
    n_blocks = most * blocks_for(SMALL.n_ctx)
    alone, crowded = (
        native_model(checkpoint, precision, n_blocks=n_blocks, threads=n, isa=isa) for n in (1, threads)
    )
    for _ in range(15):
        free, parts = rng.permutation(n_blocks).tolist(), []
        for _ in range(rng.integers(2, most + 1)):
            n = int(rng.integers(2, SMALL.n_ctx + 1))
            tokens = rng.integers(0, SMALL.n_vocab, n).tolist()
            begin = n - 2 if rng.random() < 0.5 else int(rng.integers(n - 1))
            blocks = [free.pop() for _ in range(blocks_for(n))]
            draws, seed = bool(rng.random() < 0.8), int(rng.integers(2**63))
            parts.append(Part(tokens[:begin], tokens[begin:-1], tokens[-1], draws, seed, blocks))
        for part in parts:
            for model in (alone, crowded):
                if part.before:
                    logits(model, part.before, 0, part.blocks)
        together = step(crowded, parts)
        for part, token in zip(parts, together, strict=True):
            assert [token] == step(alone, [part])
            assert (token == -1) is not part.draws
            end = len(part.before) + len(part.tokens)
            np.testing.assert_array_equal(
                logits(crowded, [part.after], end, part.blocks),
                logits(alone, [part.after], end, part.blocks),
            )


@every_isa
@every_precision
def test_what_is_no_number_spreads_to_all_that_depends_on_it(isa: str, precision: str) -> None:
    checkpoint = RandomCheckpoint(SMALL)
    checkpoint.tensors["wpe"][20] = np.nan
    model = native_model(checkpoint, precision, n_blocks=cache_size(SMALL), isa=isa)
    blocks = list(range(cache_size(SMALL)))
    tokens = [1] * 50
    finite = np.isfinite(logits(model, tokens, 0, blocks))
    assert finite[:20].all()
    assert not finite[20:].any()
    assert step(model, [Part(tokens[:49], tokens[49:], 0, True, 1, blocks)]) == [_core.NOT_FINITE]


def test_a_checkpoints_files_are_computed_alike(tiny_checkpoint: Checkpoint) -> None:
    n_blocks = blocks_for(tiny_checkpoint.hparams.n_ctx)
    tokens, blocks = tiny_checkpoint.tokenizer.encode("Ash and Pikachu were " * 10), list(range(n_blocks))
    numpy, float32, int8 = (
        load_model(tiny_checkpoint, name, n_blocks).all_logits(tokens, 0, blocks)
        for name in ("numpy", "float32", "int8")
    )
    np.testing.assert_allclose(float32, numpy, rtol=0, atol=1e-4)
    assert 0 < root_mean_square(int8 - numpy) <= 0.1 * root_mean_square(numpy)
