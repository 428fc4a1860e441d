"""Pieces of text never split a character, and a stop string never shows."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from server.engine.detokenizer import Detokenizer, StopString

BYTES = [bytes([i]) for i in range(256)]


def pieces_of(text: bytes, *stop: str) -> list[str]:
    """What a reader is shown, token by token, when each token is one byte."""
    detokenizer, shown, pieces = Detokenizer(BYTES, [StopString(text) for text in stop]), 0, []
    for byte in text:
        stopped = detokenizer.push(byte)
        pieces.append(detokenizer.text[shown : detokenizer.settled])
        shown = max(shown, detokenizer.settled)
        if stopped:
            break
    detokenizer.finish()
    return [*pieces, detokenizer.text[shown:]]


def test_a_character_comes_whole_or_not_yet() -> None:
    assert pieces_of("é!".encode()) == ["", "é", "!", ""]


def test_an_incomplete_character_at_the_end_is_dropped() -> None:
    assert "".join(pieces_of("ab😀".encode()[:-1])) == "ab"


def test_bytes_that_are_not_utf8_become_the_replacement_character() -> None:
    assert "".join(pieces_of(b"a\xffb")) == "a\ufffdb"


def test_text_ends_in_front_of_the_first_stop_string() -> None:
    assert "".join(pieces_of(b"one. two. three", ". t", "wo")) == "one"


def test_a_beginning_that_may_become_a_stop_string_is_held_back() -> None:
    assert pieces_of(b"xEN", "END") == ["x", "", "", "EN"], "and shown when it did not"
    assert pieces_of(b"xENEND", "END") == ["x", "", "", "EN", "", "", ""]


def test_no_more_is_held_back_than_may_become_a_stop_string() -> None:
    assert pieces_of(b"one two", "o" * 300) == ["", "on", "e", " ", "t", "w", "", "o"]


def test_nothing_is_kept_of_stop_strings() -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for character in "abcd":
            Detokenizer(BYTES, [StopString(character * 30_000)])
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 30_000


def test_what_was_shown_is_not_shown_again_when_a_stop_string_ends_the_text() -> None:
    detokenizer = Detokenizer(BYTES, [StopString("END")])
    shown = []
    for byte in b"abcEND":
        detokenizer.push(byte)
        shown.append(detokenizer.settled)
    assert shown == [1, 2, 3, 3, 3, 3]
    assert detokenizer.text == "abc"


@given(st.text(), st.lists(st.text(min_size=1, max_size=3), max_size=3))
def test_pieces_add_up_to_the_text_before_the_first_stop_string(text: str, stop: list[str]) -> None:
    ends = [end for end in range(len(text) + 1) if any(text[:end].endswith(s) for s in stop)]
    if ends:  # the first that is complete ends it; it is cut where the earliest of those ending there begins
        expected = min((text[: ends[0]].find(s) for s in stop if s in text[: ends[0]]), default=len(text))
        assert "".join(pieces_of(text.encode(), *stop)) == text[:expected]
    else:
        assert "".join(pieces_of(text.encode(), *stop)) == text
