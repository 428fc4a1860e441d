"""The format of corpus/storylines/*.txt."""

import random
from pathlib import Path

import pytest

from finetune.compose.storylines import Storyline, choose, read_storylines

PLOT = """# The lost ball
mon: water, ice
partner: fire

Ash has lost it.
It is {friend} who lost it.

Two.

Three.

Four.

Five.

Six.
"""


def read(folder: Path, text: str) -> list[Storyline]:
    (folder / "plots.txt").write_text(text, encoding="utf-8")
    return read_storylines(folder)


def test_a_plot_is_a_title_settings_and_steps_with_alternatives(tmp_path: Path) -> None:
    [storyline] = read(tmp_path, PLOT)
    assert storyline == Storyline(
        "The lost ball",
        {"mon": ["water", "ice"], "partner": ["fire"]},
        [
            ["Ash has lost it.", "It is {friend} who lost it."],
            *([n] for n in ["Two.", "Three.", "Four.", "Five.", "Six."]),
        ],
    )


def test_files_and_plots_stay_in_order(tmp_path: Path) -> None:
    for file, titles in {"b.txt": ["Third"], "a.txt": ["First", "Second"]}.items():
        (tmp_path / file).write_text("\n".join(PLOT.replace("The lost ball", title) for title in titles))
    assert [storyline.title for storyline in read_storylines(tmp_path)] == ["First", "Second", "Third"]


def test_a_plot_is_told_in_order_in_three_or_four_paragraphs_of_a_line_or_more(tmp_path: Path) -> None:
    [storyline] = read(tmp_path, PLOT)
    tellings = [storyline.tell(random.Random(seed)) for seed in range(50)]
    for paragraphs in tellings:
        lines = [line for paragraph in paragraphs for line in paragraph]
        assert lines[1:] == ["Two.", "Three.", "Four.", "Five.", "Six."]
        assert all(paragraphs)
    assert {telling[0][0] for telling in tellings} == set(storyline.steps[0])
    assert {len(telling) for telling in tellings} == {3, 4}


def test_every_choice_within_a_line_is_taken_now_and_then() -> None:
    line = "Ash[ quickly|] takes [a|the other] {item}."
    assert {choose(line, random.Random(seed)) for seed in range(40)} == {
        f"Ash{how} takes {which} {{item}}." for how in (" quickly", "") for which in ("a", "the other")
    }
    assert choose("Nothing to choose.", random.Random(1)) == "Nothing to choose."


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "partner: fire",
            "friend: fire",
            r"plots\.txt: The lost ball: want a setting such as .*'friend: fire'",
        ),
        ("water, ice", "water ice", "got 'mon: water ice'"),
        ("partner: fire\n", "partner: fire\nAsh runs.\n", "got 'Ash runs.'"),
        ("ice", "icy", r"plots\.txt: The lost ball: no mon is of type 'icy': want some of bug, .*, ice, "),
        ("partner: fire", "partner: fairy", "no partner is of type 'fairy': want some of bug, "),
        (
            "{friend}",
            "{freind}",
            r"plots\.txt: The lost ball: no slot is called \{freind\}: want one of friend, ",
        ),
        ("Five.", "It is {the friend}.", r"no slot is called \{the friend\}"),
        ("Five.", "[Five|Fifth.", r"want choices such as '\[this\|that\]', .*, got '\[Five\|Fifth\.'"),
        ("Five.", "[Five|[Fifth|5th]].", "none within another"),
        ("Five.", "[Five].", "The lost ball: want choices"),
        ("Five.", "Five|Fifth.", "The lost ball: want choices"),
        ("Five.", "[Five|Fifth|Five].", "all different"),
        ("Five.\n\n", "Five.\n", "The lost ball: 5 steps; at least 6 are needed, blank lines between them"),
    ],
)
def test_a_plot_that_breaks_the_format_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, PLOT.replace(old, new))


def test_a_folder_without_plots_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no \*\.txt in .*: name the folder that holds the storylines"
    ):
        read_storylines(tmp_path)
