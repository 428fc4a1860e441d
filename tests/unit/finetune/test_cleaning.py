"""What cleaning removes, what it leaves, and that it leaves clean text alone."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.prepare.cleaning import clean
from tests.checkpoints import EPISODES


@pytest.mark.parametrize(
    ("found", "cleaned"),
    [
        pytest.param("PokÃ©mon donâ€™t cry.", "Pokémon don’t cry.", id="mojibake"),
        pytest.param("Poke\u0301mon", "Pokémon", id="NFC"),
        pytest.param("Ash &amp; Misty", "Ash & Misty", id="HTML entities"),
        pytest.param("a\x07b\u200bc\ufeffd\xade", "abcde", id="control and invisible characters"),
        pytest.param("Misty\t  waves \xa0 twice. \r\nAsh", "Misty waves twice.\nAsh", id="white space"),
        pytest.param("One.\n \n\n\nTwo.\r\n\r\nThree.", "One.\n\nTwo.\n\nThree.", id="paragraphs stay"),
        pytest.param("Plot[edit] Ash[1] wins [citation needed].", "Plot Ash wins.", id="a wiki's remarks"),
        pytest.param("He said so[according to whom?][note 2][ 12 ].", "He said so.", id="more of them"),
        pytest.param("One.<|endoftext|><|startoftext|>Two.", "One. Two.", id="delimiters"),
        pytest.param("<|start<|endoftext|>oftext|>", "<|start oftext|>", id="a delimiter in a delimiter"),
        pytest.param("\ud83d lone", "\ufffd lone", id="half a surrogate pair"),
        pytest.param("[ed[1]it] Ash", "Ash", id="a remark in a remark"),
    ],
)
def test_what_is_repaired_or_removed(found: str, cleaned: str) -> None:
    assert clean(found) == cleaned


@pytest.mark.parametrize(
    "notice",
    [
        "This section does not meet the quality standards of Bulbapedia. Please feel free to edit this section to"
        " make it conform to Bulbapedia norms and conventions.",
        "This article is incomplete. Please feel free to edit this article to add missing information.",
        "This episode article is a stub. You can help Bulbapedia by expanding it.",
        "Spoiler warning: this article may contain major plot or ending details.",
        "This article needs additional citations for verification. Please help improve this article by adding"
        " citations to reliable sources. Unsourced material may be challenged and removed.",
        "This section may require cleanup. (Learn how and when to remove this message)",
        "Main article: Mr. Mime",
    ],
)
def test_a_maintenance_notice_goes_and_the_story_around_it_stays(notice: str) -> None:
    assert clean(f"Ash wakes up.\n\n{notice}\n\nHe is late.") == "Ash wakes up.\n\nHe is late."


def test_a_notice_within_a_paragraph_goes() -> None:
    assert clean("Ash wakes up. This section is incomplete. He is late.") == "Ash wakes up. He is late."


@pytest.mark.parametrize(
    "text",
    [
        "ASH SHOUTS: “Pikachu — Thunderbolt!!!” … and it works?!",
        "[at the zoo] Me: is that a Snorlax? [it was a wall]",
        "This article of clothing is missing a button, and so is Brock.",
        "This page is torn, says Misty. You can help me by holding the other half.",
        "Poké Ball ½ ② ♀ 👨‍👩‍👧 日本語",
        "Line one\nLine two",
    ],
)
def test_what_the_author_wrote_stays(text: str) -> None:
    assert clean(text) == text


def test_our_own_episodes_are_clean() -> None:
    for file in EPISODES.glob("*.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            text = json.loads(line)["text"]
            assert clean(text) == text


_PIECES = st.sampled_from(
    ["<|startoftext|>", "<|endoftext|>", "[1]", "[edit]", "Ã©", "\n", " ", ". ", "This section is"]
)


@given(st.lists(_PIECES | st.text(max_size=5)).map("".join))
def test_cleaning_twice_is_cleaning_once(found: str) -> None:
    cleaned = clean(found)
    assert clean(cleaned) == cleaned == cleaned.strip()
    assert unicodedata.is_normalized("NFC", cleaned)
    assert "<|startoftext|>" not in cleaned
    assert "<|endoftext|>" not in cleaned
