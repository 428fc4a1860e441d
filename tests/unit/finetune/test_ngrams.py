"""The n-gram model: the probabilities that Chen and Goodman's formulas give, which sum to one."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.evaluate.ngrams import NgramModel

N_VOCAB = 4
documents = st.lists(st.integers(1, N_VOCAB - 1), max_size=12).map(lambda tokens: [0, *tokens, 0])
corpora = st.lists(documents, min_size=1, max_size=12)


def probability(model: NgramModel, context: list[int], token: int) -> float:
    return math.exp(model.log_probabilities([*context, token])[-1])


def test_one_document_by_hand() -> None:
    """Every n-gram counts 1, so every discount is 1/2: half of each context's total goes to the shorter context.

    A token alone: 1/2 of 3, and of the other half, which is spread evenly, a third: 1/6 + 1/2 * 1/3 = 1/3.
    """
    model = NgramModel([[0, 1, 2, 0]], n_vocab=3, order=2)
    assert probability(model, [0], 1) == pytest.approx(1 / 2 + 1 / 2 * 1 / 3)
    assert probability(model, [0], 2) == pytest.approx(1 / 2 * 1 / 3)
    assert probability(model, [0, 1], 2) == pytest.approx(1 / 2 + 1 / 2 * 1 / 3)


def test_what_follows_many_different_tokens_is_likelier_after_a_new_one() -> None:
    """Kneser and Ney's point: Francisco is frequent, but only after San."""
    san, francisco, city, other = 1, 2, 3, [4, 5, 6]
    model = NgramModel(
        [[0, *([san, francisco] * 8), 0], *([0, token, city, 0] for token in other)], n_vocab=8, order=2
    )
    assert probability(model, [0, 7], city) > probability(model, [0, 7], francisco)


@given(corpora, st.lists(st.integers(1, N_VOCAB - 1), max_size=8), st.integers(2, 5))
def test_probabilities_sum_to_one_in_any_context(
    corpus: list[list[int]], text: list[int], order: int
) -> None:
    model = NgramModel(corpus, N_VOCAB, order)
    context = [0, *text]
    assert sum(probability(model, context, token) for token in range(N_VOCAB)) == pytest.approx(1)
    assert all(probability(model, context, token) > 0 for token in range(N_VOCAB))


@given(corpora, documents, st.integers(2, 5))
def test_the_formulas_taken_literally_give_the_same(
    corpus: list[list[int]], document: list[int], order: int
) -> None:
    expected = [
        math.log(literally(corpus, order, tuple(document[max(0, i - order + 1) : i]), document[i]))
        for i in range(1, len(document))
    ]
    np.testing.assert_allclose(NgramModel(corpus, N_VOCAB, order).log_probabilities(document), expected)


def literally(corpus: list[list[int]], order: int, context: tuple[int, ...], token: int) -> float:
    """The probability of `token` after `context`, which is shorter than `order`, from the shortest context up."""
    result = 1 / N_VOCAB
    for n in range(1, len(context) + 2):
        counts = literal_counts(corpus, order, n)
        d = literal_discounts(counts)
        here = context[len(context) - n + 1 :]
        after = {ngram[-1]: count for ngram, count in counts.items() if ngram[:-1] == here}
        if total := sum(after.values()):
            count = after.get(token, 0)
            gamma = sum(d[min(c, 3)] for c in after.values()) / total
            result = (count - d[min(count, 3)]) / total + gamma * result
    return result


def literal_counts(corpus: list[list[int]], order: int, n: int) -> Counter[tuple[int, ...]]:
    raw: Counter[tuple[int, ...]] = Counter()
    before: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
    begins: set[tuple[int, ...]] = set()
    for document in corpus:
        for i in range(len(document) - n + 1):
            ngram = tuple(document[i : i + n])
            raw[ngram] += 1
            if i:
                before[ngram].add(document[i - 1])
            elif n > 1:
                begins.add(ngram)
    longest = min(order, max(map(len, corpus)))
    if n == longest:
        return raw
    return Counter({g: raw[g] if g in begins else len(before[g]) for g in begins | before.keys()})


def literal_discounts(counts: Counter[tuple[int, ...]]) -> list[float]:
    n = Counter(counts.values())
    if n[1] and n[2] and n[3]:
        y = n[1] / (n[1] + 2 * n[2])
        found = [k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3)]
        if all(0 < discount < k for k, discount in enumerate(found, start=1)):
            return [0, *found]
    return [0, 0.5, 1, 1.5]


def test_texts_without_a_token_are_refused() -> None:
    with pytest.raises(ValueError, match="no tokens"):
        NgramModel([[0]], n_vocab=3)
