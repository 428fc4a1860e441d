"""The sampler keeps the tokens that gpt-2-simple's own code keeps, with the same probabilities.

gpt-2-simple computes in float32, we in float64. Where the probability of all that is likelier than a token lies
within float32's rounding of top_p, that token, and only such a token, may be kept by one and not by the other.
"""

import numpy as np
import pytest
import tensorflow as tf
from gpt_2_simple.src import sample
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from server.engine.sampling import SamplingParams, probabilities

Logits = NDArray[np.float32]

# Sixteenths often tie; two floats hardly ever do. Below 2**-20, floats could differ by less than even float64 can tell
# once the largest is subtracted from them.
SIXTEENTHS = st.integers(-640, 640).map(lambda n: n / 16)
FLOATS = st.floats(-40, 40, width=32).filter(lambda x: abs(x) >= 2**-20)
LOGITS = st.lists(st.one_of(SIXTEENTHS, FLOATS), min_size=1, max_size=40).map(
    lambda values: np.array(values, np.float32)
)
TOP_P = st.one_of(
    st.floats(1e-30, 1),
    st.floats(0.99, 1),
    st.sampled_from([1e-30, 2**-24, 1e-6, 0.25, 0.5, 0.75, 1 - 2**-24, 1.0]),
)
TEMPERATURE = st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0])  # float32 divides by these without rounding

GPT2 = 50257


class Theirs:
    """`body` of gpt-2-simple's sample_sequence, from the logits to what tf.random.categorical draws from."""

    def __init__(self) -> None:
        graph = tf.Graph()
        with graph.as_default():
            self._logits = tf.compat.v1.placeholder(tf.float32, [1, None])
            self._temperature = tf.compat.v1.placeholder(tf.float32, [])
            self._top_k = tf.compat.v1.placeholder(tf.int32, [])
            self._top_p = tf.compat.v1.placeholder(tf.float32, [])
            scaled = self._logits / self._temperature
            self._of_top_k = sample.top_k_logits(scaled, k=self._top_k)
            self._of_top_p = sample.top_p_logits(scaled, p=self._top_p)
        self._session = tf.compat.v1.Session(graph=graph)

    def probabilities(self, logits: Logits, params: SamplingParams) -> NDArray[np.float64]:
        """The distribution (V,) that gpt-2-simple draws from, given logits (V,)."""
        truncated: NDArray[np.float64] = self._session.run(
            self._of_top_p if params.top_p > 0 else self._of_top_k,
            {
                self._logits: logits[None],
                self._temperature: params.temperature,
                self._top_k: params.top_k,
                self._top_p: params.top_p,
            },
        )[0].astype(np.float64)
        return softmax(truncated)


@pytest.fixture(scope="module")
def theirs() -> Theirs:
    return Theirs()


def softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    e: NDArray[np.float64] = np.exp(x - x.max())
    return e / float(e.sum())


def mass_above(logits: Logits, temperature: float) -> NDArray[np.float64]:
    """For each token, the probability of all that are likelier: below top_p exactly where it is kept."""
    p = softmax(logits.astype(np.float64) / temperature)
    values, group = np.unique(-logits, return_inverse=True)
    of_value = np.zeros(len(values))
    np.add.at(of_value, group, p)
    above: NDArray[np.float64] = (np.cumsum(of_value) - of_value)[group]
    return above


def assert_same(ours: NDArray[np.float64], theirs: NDArray[np.float64], undecided: NDArray[np.bool_]) -> None:
    """The same tokens are kept but for `undecided` ones, and those that both keep are as likely to one another."""
    np.testing.assert_array_equal((ours > 0)[~undecided], (theirs > 0)[~undecided])
    both = (ours > 0) & (theirs > 0)
    assert both[ours.argmax()]
    np.testing.assert_allclose(ours[both] / ours[both].sum(), theirs[both] / theirs[both].sum(), rtol=1e-6)


def assert_same_top_p(theirs: Theirs, logits: Logits, top_p: float, temperature: float) -> None:
    params = SamplingParams(length=1, temperature=temperature, top_p=top_p)
    ours = probabilities(logits, params)
    above = mass_above(logits, temperature)
    kept = above < top_p
    # Each of V additions, whose sum stays below 1, is rounded by half a unit in the last place at most; top_p and the
    # softmax are rounded as well. Above the likeliest there is nothing, and to that all arithmetic agrees.
    additions = len(logits) + 16
    undecided = (abs(above - top_p) < additions * 2**-25) & (above > 0)
    assert_same(ours, theirs.probabilities(logits, params), undecided)
    undecided = (abs(above - top_p) < additions * 2**-54) & (above > 0)
    np.testing.assert_array_equal((ours > 0)[~undecided], kept[~undecided])


@settings(max_examples=400, deadline=None)
@given(logits=LOGITS, top_p=TOP_P, temperature=TEMPERATURE)
@example(logits=np.zeros(4, np.float32), top_p=0.25, temperature=1.0)  # ties are kept, or not, together
@example(logits=np.array([0, 1, 1, 1], np.float32), top_p=1e-30, temperature=1.0)
@example(logits=np.array([3, 2, 1, 0], np.float32), top_p=1.0, temperature=1.0)
def test_top_p(theirs: Theirs, logits: Logits, top_p: float, temperature: float) -> None:
    assert_same_top_p(theirs, logits, top_p, temperature)


@settings(max_examples=400, deadline=None)
@given(logits=LOGITS, top_k=st.integers(0, 40), temperature=TEMPERATURE)
@example(logits=np.array([1, 2, 2, 2, 0], np.float32), top_k=2, temperature=1.0)  # all three that tie
def test_top_k(theirs: Theirs, logits: Logits, top_k: int, temperature: float) -> None:
    params = SamplingParams(length=1, temperature=temperature, top_k=min(top_k, len(logits)))
    nothing = np.zeros(len(logits), np.bool_)
    assert_same(probabilities(logits, params), theirs.probabilities(logits, params), nothing)


def test_top_k_beyond_the_vocabulary_is_no_limit(theirs: Theirs) -> None:
    """gpt-2-simple fails there."""
    logits = np.array([1, 2, 3], np.float32)
    params = SamplingParams(length=1, temperature=1, top_k=4)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"at least k columns\. Had 3, needed 4"):
        theirs.probabilities(logits, params)
    np.testing.assert_allclose(probabilities(logits, params), softmax(logits.astype(np.float64)))


def test_top_p_wins_over_top_k(theirs: Theirs) -> None:
    params = SamplingParams(length=1, temperature=1, top_k=1, top_p=0.9)
    logits = np.array([1, 2, 3, -4], np.float32)
    ours = probabilities(logits, params)
    assert np.count_nonzero(ours) == 2
    np.testing.assert_allclose(ours, theirs.probabilities(logits, params), rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_vocabulary_of_gpt2s_size(theirs: Theirs, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, GPT2).astype(np.float32)
    for top_p in (0.1, 0.5, 0.9, 0.95):
        assert_same_top_p(theirs, logits, top_p, 1.0)
    for top_k in (1, 40, GPT2 - 1, GPT2):
        params = SamplingParams(length=1, temperature=1, top_k=top_k)
        nothing = np.zeros(GPT2, np.bool_)
        assert_same(probabilities(logits, params), theirs.probabilities(logits, params), nothing)
