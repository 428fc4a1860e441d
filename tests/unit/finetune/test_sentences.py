"""Where sentences begin."""

from finetune.compose.sentences import split_sentences


def test_a_quotation_is_not_cut_nor_a_title() -> None:
    told = '"Wear gloves. Be quick!" says Mrs. Bell. Mr. Dobbs and Mime Jr. dance. "No." It rains!'
    assert split_sentences(told) == [
        '"Wear gloves. Be quick!" says Mrs. Bell.',
        "Mr. Dobbs and Mime Jr. dance.",
        '"No."',
        "It rains!",
    ]


def test_nothing_is_lost_of_a_quotation_that_nobody_closes() -> None:
    assert split_sentences('It rains. "Stay! says Ash. He goes.') == [
        "It rains.",
        '"Stay! says Ash. He goes.',
    ]
    assert split_sentences("") == [""]
