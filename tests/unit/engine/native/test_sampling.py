"""The native core draws what the reference draws, from the distribution that the parameters ask for."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.random import default_rng
from numpy.typing import NDArray

from server.engine import MAX_SEED, MAX_TEMPERATURE, Isa, SamplingParams
from server.engine.native import _core
from server.engine.sampling import probabilities, uniform
from tests.unit.engine.native.models import ISAS

Logits = NDArray[np.float32]

GPT2 = 50257

# What the sums of a draw in float32 may be off by, as a share of the whole.
ROUNDING = 1e-5

every_isa = pytest.mark.parametrize("isa", ISAS)


def draw(logits: Logits, params: SamplingParams, isa: Isa, n: int = 1, sample: int = 0) -> list[int]:
    """N tokens, at the positions from 0 on."""
    return _core.draw(logits, params.temperature, params.top_k, params.top_p, params.seed, sample, 0, n, isa)


@given(seed=st.integers(0, 2**64 - 1), sample=st.integers(0, 2**64 - 1), position=st.integers(0, 2**64 - 1))
@example(seed=0, sample=0, position=0)
def test_random_numbers_are_the_references(seed: int, sample: int, position: int) -> None:
    assert _core.uniform(seed=seed, sample=sample, position=position) == uniform(seed, sample, position)


def is_drawn(token: int, at: float, p: NDArray[np.float64]) -> bool:
    """Whether the random number `at` falls into the token's part of the distribution p, or beside it by rounding."""
    end = p.cumsum()[token]
    return bool(p[token] > 0 and end - p[token] - ROUNDING <= at <= end + ROUNDING)


# No two are so close that they would be alike as soon as they are divided by the highest temperature, but many tie.
LOGITS = st.lists(
    st.integers(-20480, 20480).map(lambda n: n / 1024) | st.integers(-3, 3), min_size=1, max_size=200
)
PARAMS = st.builds(
    SamplingParams,
    length=st.just(1),
    temperature=st.floats(0, MAX_TEMPERATURE) | st.sampled_from([1e-30, 0.01, 0.7, 1.0, MAX_TEMPERATURE]),
    top_k=st.just(0) | st.integers(1, 210) | st.just(2**31 - 1),
    top_p=st.just(0.0) | st.floats(0, 1) | st.floats(0.99, 1) | st.sampled_from([1e-300, 0.25, 0.5, 1.0]),
    seed=st.integers(0, MAX_SEED),
)


@settings(max_examples=400, deadline=None)
@given(values=LOGITS, params=PARAMS)
@example(values=[0.0] * 64 + [1.0], params=SamplingParams(1, temperature=1, top_k=1))
@example(values=[1.0, 1.0, 0.0], params=SamplingParams(1, temperature=1, top_p=0.1))
@example(values=list(range(100)), params=SamplingParams(1, temperature=1e-30))
def test_the_token_is_the_references(values: list[float], params: SamplingParams) -> None:
    """Where the probability of what is likelier than a token lies within rounding of top_p, it may be kept or not."""
    logits = np.array(values, np.float32)
    wishes = [params]
    if params.top_p > 0:
        wishes += [
            SamplingParams(1, params.temperature, top_p=min(max(params.top_p + rounding, 1e-300), 1.0))
            for rounding in (-ROUNDING, ROUNDING)
        ]
    for isa in ISAS:
        drawn = draw(logits, params, isa, n=10, sample=3)
        if params.temperature == 0:
            assert set(drawn) == {int(logits.argmax())}
            continue
        allowed = [probabilities(logits, wish) for wish in wishes]
        for position, token in enumerate(drawn):
            at = uniform(params.seed, 3, position)
            assert any(is_drawn(token, at, p) for p in allowed), f"{isa}: {token} at {at}"


@dataclass(frozen=True)
class Case:
    """Logits, what is asked of them, and how many tokens are drawn."""

    name: str
    logits: Logits
    params: SamplingParams
    draws: int = 100_000


def params(temperature: float = 1.0, top_k: int = 0, top_p: float = 0.0) -> SamplingParams:
    return SamplingParams(1, temperature, top_k, top_p, seed=20)


RANDOM = default_rng(5).normal(0, 2, 100).astype(np.float32)
PEAKED = np.where(np.arange(100) == 70, 12, RANDOM).astype(np.float32)
FLAT = np.zeros(100, np.float32)
TIES = np.round(RANDOM)
LARGE = default_rng(6).normal(0, 3, GPT2).astype(np.float32)
MOSTLY_IMPOSSIBLE = np.where(np.arange(100) % 7 == 0, RANDOM, -1e30).astype(np.float32)

CASES = [
    Case("plain", RANDOM, params()),
    Case("cold", RANDOM, params(0.3)),
    Case("hot", RANDOM, params(MAX_TEMPERATURE)),
    Case("top_k", RANDOM, params(0.8, top_k=10)),
    Case("top_p", RANDOM, params(0.8, top_p=0.7)),
    Case("top_p wins over top_k", RANDOM, params(0.8, top_k=2, top_p=0.7)),
    Case("peaked", PEAKED, params()),
    Case("peaked, top_p", PEAKED, params(2.0, top_p=0.95)),
    Case("flat", FLAT, params()),
    Case("flat, top_k", FLAT, params(top_k=5)),
    Case("flat, top_p", FLAT, params(top_p=0.5)),
    Case("ties", TIES, params()),
    Case("ties at top_k", TIES, params(top_k=10)),
    Case("ties at top_p", TIES, params(top_p=0.6)),
    Case("one token", FLAT[:1], params(top_p=0.5)),
    Case("two tokens", np.array([0, 1], np.float32), params()),
    Case("two tokens, top_p", np.array([1, 0], np.float32), params(top_p=0.7)),
    Case("impossible ones", MOSTLY_IMPOSSIBLE, params()),
    Case("impossible ones, top_p", MOSTLY_IMPOSSIBLE, params(top_p=0.9)),
    Case("impossible ones, top_k", MOSTLY_IMPOSSIBLE, params(top_k=50)),
    Case("ties at temperature 1e-30", TIES, params(1e-30)),
    Case("50,257 tokens", LARGE, params(), draws=4_000),
    Case("50,257 tokens, top_k", LARGE, params(top_k=40), draws=4_000),
    Case("50,257 tokens, top_p", LARGE, params(top_p=0.9), draws=4_000),
    Case("50,257 flat tokens, top_p", np.zeros(GPT2, np.float32), params(top_p=0.3), draws=500),
]


@every_isa
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_tokens_are_as_frequent_as_they_are_likely(case: Case, isa: Isa) -> None:
    """Pearson's chi-squared test, which a right sampler fails once in a million; the seed is fixed."""
    p = probabilities(case.logits, case.params)
    counts = np.bincount(draw(case.logits, case.params, isa, case.draws), minlength=len(p))
    assert not counts[p == 0].any()
    # Tokens that are expected less than 10 times are counted together with their neighbours.
    bins = ((p * case.draws).cumsum() // 10).astype(int)
    expected, observed = np.bincount(bins, p * case.draws), np.bincount(bins, counts)
    observed, expected = observed[expected > 1e-9], expected[expected > 1e-9]
    statistic = float(((observed - expected) ** 2 / expected).sum())
    assert statistic <= chi_squared_quantile(len(expected) - 1)


def chi_squared_quantile(degrees: int) -> float:
    """What is exceeded once in a million. Source: Wilson and Hilferty, "The distribution of chi-square", PNAS 1931."""
    if degrees == 0:
        return 1e-9
    variance = 2 / (9 * degrees)
    return float(degrees * (1 - variance + 4.7534 * variance**0.5) ** 3)


@every_isa
@pytest.mark.parametrize("top_p", [1 - 1e-6, 1 - 1e-9, 1 - 2**-53])
def test_a_top_p_that_is_nearly_everything_leaves_nearly_everything(isa: Isa, top_p: float) -> None:
    """Its distance from 1 is less than what rounding takes from the sum of the weights, all of which matter here."""
    for n in (64, 128, 1024, 4096):  # nothing is padded, so that no weight is 0
        for seed in range(10):
            logits = default_rng(seed).uniform(-0.7, 0, n).astype(np.float32)
            p = probabilities(logits, params())
            for position, token in enumerate(draw(logits, params(top_p=top_p), isa, n=20)):
                assert is_drawn(token, uniform(20, 0, position), p)


@every_isa
def test_greedy_is_the_first_of_the_likeliest(isa: Isa) -> None:
    for n, best in [(1, 0), (2, 1), (100, 0), (100, 63), (100, 64), (100, 99), (GPT2, GPT2 - 1)]:
        logits = np.full(n, -1e30, np.float32)
        logits[best:] = -7
        assert draw(logits, params(0), isa) == [best]


@every_isa
def test_the_smallest_top_p_and_top_k_leave_the_likeliest(isa: Isa) -> None:
    logits = RANDOM.copy()
    for wish in (params(MAX_TEMPERATURE, top_k=1), params(MAX_TEMPERATURE, top_p=1e-300)):
        assert set(draw(logits, wish, isa, n=1000)) == {int(logits.argmax())}


@every_isa
@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("wish", [params(0), params(), params(top_k=3), params(top_p=0.5)], ids=str)
def test_logits_that_are_not_finite_draw_nothing(isa: Isa, strange: float, wish: SamplingParams) -> None:
    for n in (1, 63, 64, 65, 100, 1000):
        for at in (0, n // 2, n - 1):
            logits = np.zeros(n, np.float32)
            logits[at] = strange
            assert draw(logits, wish, isa) == [_core.NOT_FINITE]


@every_isa
@pytest.mark.parametrize("wish", [params(), params(MAX_TEMPERATURE, top_k=3), params(top_p=0.5)], ids=str)
def test_no_token_beyond_the_vocabulary_is_drawn_however_low_all_logits_are(
    isa: Isa, wish: SamplingParams
) -> None:
    """The kernels read whole groups of logits, and what stands behind the last one is as low as a float can be."""
    for n in (1, 63, 65, 100):
        logits = np.full(n, np.finfo(np.float32).min)
        assert set(draw(logits, wish, isa, n=1000)) <= set(range(n))
