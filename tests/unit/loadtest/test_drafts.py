"""Guessing the next tokens from n-grams."""

from loadtest.drafts import learn, tokens_per_step

DOCUMENTS = [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6], [9, 2, 7, 7, 7, 7]]


def test_the_longest_known_context_guesses() -> None:
    guess = learn(DOCUMENTS)
    assert guess([1, 2]) == 3
    assert guess([9, 2]) == 7
    assert guess([8, 2]) == 3  # nothing is known of both, and after 2 alone 3 is likelier
    assert guess([8]) == -1


def test_a_step_makes_the_guesses_that_were_right_and_one_more() -> None:
    guess = learn(DOCUMENTS)
    assert tokens_per_step([[1, 2, 3, 4, 5, 6]], 1, guess, drafts=4) == 5
    assert tokens_per_step([[1, 2, 3, 4, 5, 6]], 2, guess, drafts=1) == 2
    assert tokens_per_step([[1, 8, 8, 8]], 1, guess, drafts=4) == 1
