"""What counts as nearly the same text."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.prepare.duplicates import near_duplicates

STORY = "Ash and Misty walk to the lighthouse, where a Dragonite has been calling across the water since the spring."


def test_a_text_that_differs_in_a_word_is_a_near_duplicate() -> None:
    other = "Brock cooks a stew for the whole town."
    # Of 18 pairs of words, the changed word is in two: 16 of 20 are shared.
    texts = [other, STORY, STORY.replace("calling", "singing")]
    assert list(near_duplicates(texts, 0.6)) == [None, None, (1, 16 / 20)]


def test_case_and_punctuation_make_no_difference() -> None:
    assert list(near_duplicates([STORY, STORY.upper().replace(",", " —")], 1)) == [None, (0, 1)]


def test_the_most_similar_text_is_named() -> None:
    texts = ["a b c d e f g h i j", "a b c d e f g x y z", "a b c d e f g x y j"]
    assert list(near_duplicates(texts, 0.6)) == [None, None, (1, 8 / 10)]


def test_what_is_like_a_dropped_text_alone_is_kept() -> None:
    texts = ["a b c d e f g h", "a b c d e f g x y", "c d e f g x y z"]
    assert list(near_duplicates(texts, 0.6)) == [None, (0, 6 / 9), None]


def test_jokes_of_one_pattern_are_different_jokes() -> None:
    jokes = [
        "What do you call a Psyduck with a map? Still lost.",
        "What do you call a Snorlax with a plan? A dream.",
    ]
    assert list(near_duplicates(jokes, 0.6)) == [None, None]


def test_texts_of_a_word_or_none_are_compared_too() -> None:
    assert list(near_duplicates(["Pikachu!", "pikachu?", "!!!", "???"], 0.6)) == [None, (0, 1), None, None]


@given(st.lists(st.text("abcd ", max_size=16), max_size=12), st.sampled_from([0.1, 0.5, 0.6, 0.7, 0.9, 1.0]))
@pytest.mark.parametrize("spaced", [True, False])
def test_none_escapes(spaced: bool, texts: list[str], similarity: float) -> None:
    """The filter changes nothing: comparing every text with every kept one gives the same."""
    if spaced:
        texts = [" ".join(text) for text in texts]
    kept: list[int] = []
    for position, found in enumerate(near_duplicates(texts, similarity)):
        alike = [(_jaccard(texts[position], texts[other]), -other) for other in kept]
        highest, other = max(alike, default=(0.0, 0))
        assert found == ((-other, highest) if highest >= similarity else None)
        if found is None:
            kept.append(position)


def _jaccard(one: str, other: str) -> float:
    sets = []
    for text in (one, other):
        words = re.findall(r"\w+", text)
        sets.append(set(pairwise(words)) or set(words))
    return len(sets[0] & sets[1]) / max(1, len(sets[0] | sets[1]))
