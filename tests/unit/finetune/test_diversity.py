"""Distinct n-grams and self-BLEU."""

import pytest

from finetune.evaluate.diversity import compare, distinct, self_bleu

ONE = "Ash and Pikachu were walking to Viridian City"
TWO = "Meowth spends nine long evenings digging another pit"


def test_distinct_is_the_share_of_different_ngrams() -> None:
    texts = ["a rose is a rose", "Is a rose?"]
    assert distinct(texts, 1, n_words=8) == 3 / 8  # a, rose, is
    assert distinct(texts, 2, n_words=8) == 3 / 6  # a rose, rose is, is a: none of them across two texts
    assert distinct(texts, 1, n_words=3) == 1


def test_texts_too_short_for_an_ngram_have_no_share() -> None:
    assert distinct(["a rose"], 3, n_words=2) is None
    assert distinct([""], 1, n_words=0) is None


def test_self_bleu_goes_from_all_alike_to_nothing_in_common() -> None:
    assert self_bleu([ONE, ONE, ONE]) == pytest.approx(100)
    assert self_bleu([ONE, ONE, TWO]) == pytest.approx((100 + 100 + (self_bleu([ONE, TWO]) or 0)) / 3)
    assert self_bleu([ONE, TWO]) == pytest.approx(0, abs=10)
    assert self_bleu([ONE]) is None


def test_samples_and_held_out_texts_are_compared_by_equal_numbers_of_texts_and_words() -> None:
    """Three samples beside two held-out texts of 3 words: two samples, of which 3 words count for distinct-n."""
    ours, theirs = compare(["a a", "b c", "d e"], ["x y", "z"])
    assert (ours.texts, ours.words) == (theirs.texts, theirs.words) == (2, 3)
    assert ours.distinct_1 == 2 / 3
    assert theirs.distinct_1 == 1
