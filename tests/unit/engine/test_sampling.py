"""The sampler draws from exactly the distribution that gpt-2-simple's fields describe."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from server.engine.sampling import MAX_SEED, MAX_TEMPERATURE, SamplingParams, draw, probabilities, uniform

LOGITS = np.array([2.0, 1.0, 0.5, 0.0, -1.0, -3.0], np.float32)


def softmax(x: NDArray[np.float32]) -> NDArray[np.float64]:
    e: NDArray[np.float64] = np.exp(x.astype(np.float64))
    return e / float(e.sum())


def test_temperature_divides_the_logits() -> None:
    p = probabilities(LOGITS, SamplingParams(length=1, temperature=0.5))
    assert p == pytest.approx(softmax(LOGITS / 0.5))


def test_top_k_keeps_the_k_likeliest() -> None:
    p = probabilities(LOGITS, SamplingParams(length=1, temperature=1, top_k=2))
    assert p == pytest.approx([*softmax(LOGITS[:2]), 0, 0, 0, 0])


def test_top_k_beyond_the_vocabulary_is_no_limit() -> None:
    p = probabilities(LOGITS, SamplingParams(length=1, temperature=1, top_k=99))
    assert p == pytest.approx(softmax(LOGITS))


def test_top_p_keeps_tokens_until_their_sum_reaches_p() -> None:
    mass = np.cumsum(softmax(LOGITS))  # of one, two, three... tokens
    p = probabilities(LOGITS, SamplingParams(length=1, temperature=1, top_p=float(mass[1]) + 0.01))
    assert np.count_nonzero(p) == 3, "the token that crosses p is still in, as in gpt-2-simple"


def test_top_p_is_taken_after_the_temperature_and_instead_of_top_k() -> None:
    hot = SamplingParams(length=1, temperature=5, top_p=0.5, top_k=1)
    assert np.count_nonzero(probabilities(LOGITS, hot)) > 1


def test_equal_logits_stand_or_fall_together() -> None:
    tied = np.array([1.0, 1.0, 1.0, 0.0], np.float32)
    assert np.count_nonzero(probabilities(tied, SamplingParams(length=1, temperature=1, top_k=1))) == 3
    assert np.count_nonzero(probabilities(tied, SamplingParams(length=1, temperature=1, top_p=0.01))) == 3


def test_temperature_zero_takes_the_likeliest_and_of_equals_the_first() -> None:
    greedy = SamplingParams(length=1, temperature=0, top_p=0.9)
    assert draw(np.array([0, 3, 3, 1], np.float32), greedy, 0, 0) == 1


@pytest.mark.parametrize("fields", [{}, {"top_k": 3}, {"top_p": 0.8}, {"temperature": 1.7}])
def test_draws_follow_the_exact_distribution(fields: dict[str, float]) -> None:
    params = [SamplingParams(length=1, seed=seed, **fields) for seed in range(20_000)]  # type: ignore[arg-type]
    counts = np.bincount([draw(LOGITS, p, 0, 7) for p in params], minlength=len(LOGITS))
    expected = probabilities(LOGITS, params[0]) * len(params)
    possible = expected > 0
    assert not counts[~possible].any(), "a token that the limits exclude was drawn"
    chi_square = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    assert chi_square < 25, (
        "5 degrees of freedom: chance exceeds this once in 7,000 runs, and the seeds are fixed"
    )


def test_random_numbers_are_those_of_philox_and_keyed_by_all_arguments() -> None:
    # The known answer of Philox4x64-10 for key 0 and counter 0 (Random123's kat_vectors file).
    assert uniform(0, 0, 0) == (0x16554D9ECA36314C >> 11) * 2.0**-53
    keys = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0), (MAX_SEED, 7, 1023)]
    assert len({uniform(*key) for key in keys}) == len(keys)


@given(st.integers(0, MAX_SEED), st.integers(0, 2**20), st.integers(0, 2**20))
def test_random_numbers_lie_in_the_half_open_unit_interval(seed: int, sample: int, position: int) -> None:
    assert 0 <= uniform(seed, sample, position) < 1


@given(
    logits=st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=40),
    temperature=st.floats(0, MAX_TEMPERATURE),  # down to 5e-324
    top_p=st.floats(0, 1),
    top_k=st.integers(0, 50),
    seed=st.integers(0, MAX_SEED),
)
def test_any_logits_give_a_token_that_the_limits_allow(logits: list[float], **limits: float) -> None:
    how = SamplingParams(length=1, **limits)  # type: ignore[arg-type]
    token = draw(np.array(logits, np.float32), how, 0, 0)
    assert 0 <= token < len(logits)
    if how.temperature:
        assert probabilities(np.array(logits, np.float32), how)[token] > 0


def test_the_coldest_temperature_takes_the_likeliest_token() -> None:
    assert {draw(LOGITS, SamplingParams(length=1, temperature=5e-324, seed=s), 0, 0) for s in range(50)} == {
        0
    }


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_the_ends_of_the_unit_interval_give_possible_tokens(
    monkeypatch: pytest.MonkeyPatch, number: float
) -> None:
    monkeypatch.setattr("server.engine.sampling.uniform", lambda *key: number)
    logits = np.array([-100, 0, 1, 0, -100], np.float32)
    assert draw(logits, SamplingParams(length=1, temperature=1, top_k=3), 0, 0) in (1, 2, 3)


def test_logits_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="checkpoint is damaged"):
        draw(np.array([0, np.nan], np.float32), SamplingParams(length=1), 0, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("length", 0),
        ("temperature", -0.1),
        ("temperature", 11),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 1.5),
        ("nsamples", 0),
        ("first_sample", -1),
        ("first_sample", 2**63),
        ("seed", -1),
        ("seed", 2**32),
        ("stop", ("",)),
    ],
)
def test_a_value_out_of_range_is_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field} is .* and must be "):
        SamplingParams(**{"length": 1, field: value})  # type: ignore[arg-type]
