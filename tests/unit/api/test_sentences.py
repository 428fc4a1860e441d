"""A text that was cut off by its length ends with its last whole sentence, if it has one."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.api.sentences import until_last_sentence_end


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("They win. They go", "They win."),
        ('"We win!" shouts Ash, and', '"We win!"'),
        ("“We win!” he says. And", "“We win!” he says."),
        ("Where is it?", "Where is it?"),
        ("They wait… and wait", "They wait…"),
        ("They wait... and wait", "They wait..."),
        ("First.\n\nSecond", "First."),
        ("They win. Mr. Mime and Dr. Lund", "They win."),
        ("They win. Samuel J. Oak", "They win."),
        ("It costs 3.50 and", "It costs 3.50 and"),
        ("no end in sight", "no end in sight"),
        ("", ""),
    ],
)
def test_where_a_text_ends(text: str, expected: str) -> None:
    assert until_last_sentence_end(text) == expected


@given(st.text())
def test_nothing_is_added_or_lost_but_the_end(text: str) -> None:
    cut = until_last_sentence_end(text)
    assert text.startswith(cut)
    assert cut or not text
    assert until_last_sentence_end(cut) == cut


@pytest.mark.parametrize("run", ["." * 40_000, '."' * 20_000, "." + '"' * 40_000, "Mr." * 15_000])
def test_the_time_does_not_grow_with_the_square_of_a_run_of_marks(run: str) -> None:
    started = time.thread_time()
    assert until_last_sentence_end(run + "x") == run + "x"
    assert time.thread_time() - started < 0.5
