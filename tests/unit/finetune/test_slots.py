"""Names in a text."""

from finetune.compose.slots import is_named


def test_a_name_is_a_word_of_its_own() -> None:
    assert is_named("Mime Jr.", "Mime Jr. dances.")
    assert is_named("May", "Ash and May, too")
    assert not is_named("May", '"May I come in?" asks Ash.')
    assert not is_named("Max", "At the Maximum")
