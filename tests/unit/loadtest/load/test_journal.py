"""The journal: readers.csv, stages.csv, and whether the service keeps up."""

import csv
import time
from pathlib import Path
from typing import Any

import pytest

from loadtest.load.journal import Journal
from loadtest.load.reading import Reading
from loadtest.load.shapes import Stage


def reading(**seen: Any) -> Reading:  # noqa: ANN401
    """A good text of 128 tokens at 16 tokens a second, but for what is given."""
    usual: dict[str, Any] = {
        "began": time.monotonic(),
        "story": "CasualReader",
        "readers": 4,
        "ending": "complete",
        "status": 200,
        "first_token_s": 0.1,
        "total_s": 8.1,
        "tokens": 128,
        "longest_gap_s": 0.2,
    }
    return Reading(**usual | seen)


def journal_of(*readings: Reading, folder: Path | None = None) -> Journal:
    journal = Journal(folder, time.monotonic())
    journal.begin(Stage("4 readers", 4, 30))
    for each in readings:
        each.began = time.monotonic()
        journal.asked(each)
        journal.ended(each)
    return journal


def test_rows_are_in_the_file_at_once(tmp_path: Path) -> None:
    refused = {
        "ending": "refused",
        "status": 503,
        "tokens": None,
        "first_token_s": None,
        "longest_gap_s": None,
    }
    wanted = reading(error="503: busy", retry_after_s=7.0, **refused)
    journal = journal_of(reading(), wanted, folder=tmp_path)
    with (tmp_path / "readers.csv").open(newline="") as file:
        complete, turned_away = csv.DictReader(file)
    assert complete["ending"] == "complete"
    assert float(complete["at"]) >= 0
    assert complete["tokens"] == "128"
    assert complete["error"] == complete["retry_after_s"] == ""
    assert turned_away["error"] == "503: busy"
    assert turned_away["retry_after_s"] == "7.0"
    assert turned_away["first_token_s"] == turned_away["tokens"] == ""
    journal.begin(Stage("8 readers", 8, 30))
    with (tmp_path / "stages.csv").open(newline="") as file:
        assert [(row["readers"], row["name"]) for row in csv.DictReader(file)] == [
            ("4", "4 readers"),
            ("8", "8 readers"),
        ]


def test_good_texts_are_kept_up_with() -> None:
    assert journal_of(*(reading() for _ in range(20))).keeps_up(0, 128)


@pytest.mark.parametrize(
    ("what", "seen", "too_many", "allowed"),
    [
        ("late", {"first_token_s": 1.1}, 2, 1),
        ("slow", {"total_s": 17.0}, 2, 1),
        ("refused", {"ending": "refused", "first_token_s": None, "tokens": None}, 1, 0),
        ("failed", {"ending": "failed"}, 1, 0),
    ],
)
def test_too_many_bad_ones_are_not(what: str, seen: dict[str, Any], too_many: int, allowed: int) -> None:
    """Of 20 readings."""

    def with_bad(count: int) -> Journal:
        return journal_of(*(reading() for _ in range(20 - count)), *(reading(**seen) for _ in range(count)))

    assert with_bad(allowed).keeps_up(0, 128)
    assert not with_bad(too_many).keeps_up(0, 128), what


def test_who_still_waits_counts() -> None:
    journal = journal_of(*(reading() for _ in range(9)))
    journal.asked(Reading(time.monotonic() - 2, "CasualReader", 4))
    assert not journal.keeps_up(0, 128)


def test_who_still_reads_counts_once_it_takes_too_long() -> None:
    journal = journal_of(*(reading() for _ in range(9)))
    journal.asked(Reading(time.monotonic(), "CasualReader", 4, first_token_s=0.0))
    time.sleep(0.6)
    assert journal.keeps_up(0, 128)
    assert not journal.keeps_up(0, 4)  # less than 8 tokens a second


def test_who_began_in_an_earlier_stage_does_not_count() -> None:
    journal = journal_of(*(reading() for _ in range(9)))
    journal.asked(Reading(time.monotonic() - 20, "CasualReader", 4, first_token_s=0.1))
    assert journal.keeps_up(0, 128)


def test_who_left_counts_for_nothing() -> None:
    left = reading(ending="left", first_token_s=None, tokens=None)
    assert journal_of(*(reading() for _ in range(9)), *[left] * 9).keeps_up(0, 128)


def test_without_a_text_nothing_is_known_to_keep_up() -> None:
    assert not journal_of().keeps_up(0, 128)


def test_a_stage_begins_anew() -> None:
    journal = journal_of(*(reading(ending="failed") for _ in range(9)))
    journal.begin(Stage("8 readers", 8, 30))
    for each in [reading() for _ in range(9)]:
        journal.asked(each)
        journal.ended(each)
    assert journal.keeps_up(0, 128)
