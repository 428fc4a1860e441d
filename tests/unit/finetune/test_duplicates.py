"""What counts as nearly the same text."""

from finetune.duplicates import NearDuplicates

STORY = "Ash and Misty walk to the lighthouse, where a Dragonite has been calling across the water since the spring."


def test_a_text_that_differs_in_a_word_is_a_near_duplicate() -> None:
    distinct = NearDuplicates(0.6)
    assert distinct.add("Brock cooks a stew for the whole town.") is None
    assert distinct.add(STORY) is None
    # 18 pairs of words, two of which the changed word is in: 16 of 20 are shared.
    assert distinct.add(STORY.replace("calling", "singing")) == (1, 16 / 20)


def test_case_and_punctuation_make_no_difference() -> None:
    distinct = NearDuplicates(1)
    distinct.add(STORY)
    assert distinct.add(STORY.upper().replace(",", " —")) == (0, 1)


def test_the_most_similar_text_is_named() -> None:
    distinct = NearDuplicates(0.6)
    distinct.add("one two three four five six seven eight nine ten")
    assert distinct.add("one two three four five six seven x y z") is None
    found = distinct.add("one two three four five six seven x y ten")
    assert found is not None
    assert found[0] == 1


def test_jokes_of_one_pattern_are_different_jokes() -> None:
    distinct = NearDuplicates(0.6)
    assert distinct.add("What do you call a Psyduck with a map? Still lost.") is None
    assert distinct.add("What do you call a Snorlax with a plan? A dream.") is None


def test_texts_of_a_word_or_none_are_compared_too() -> None:
    distinct = NearDuplicates(0.6)
    assert distinct.add("Pikachu!") is None
    assert distinct.add("pikachu?") == (0, 1)
    assert distinct.add("!!!") is None
    assert distinct.add("???") is None
