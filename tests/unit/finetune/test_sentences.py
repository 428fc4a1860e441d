"""Where sentences begin."""

import pytest

from finetune.compose.sentences import split_sentences, without_first_sentence


def test_a_quotation_is_not_cut_nor_a_title() -> None:
    told = '"Wear gloves. Be quick!" says Mrs. Bell. Mr. Dobbs and Mime Jr. dance. "No." It rains!'
    assert split_sentences(told) == [
        '"Wear gloves. Be quick!" says Mrs. Bell.',
        "Mr. Dobbs and Mime Jr. dance.",
        '"No."',
        "It rains!",
    ]


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Ash runs. He falls.\n\nIt rains. It stops.", "He falls.\n\nIt rains. It stops."),
        ("Ash runs.\n\nIt rains.", "It rains."),
        ('"Oh! No!" says Ash. He falls.', "He falls."),
        ("Ash runs.", ""),
        ("", ""),
    ],
)
def test_what_is_left_without_the_first(text: str, rest: str) -> None:
    assert without_first_sentence(text) == rest
