"""The held-out episodes: chosen once and for all, and never seen."""

from pathlib import Path

import pytest

from finetune.corpus import Episode, read_episodes, split

CORPUS = Path(__file__).parents[3] / "corpus"


def test_the_split_is_disjoint_complete_and_about_a_tenth() -> None:
    episodes = read_episodes(CORPUS / "episodes")
    training, held_out = split(episodes)
    assert {e.text for e in training}.isdisjoint(e.text for e in held_out)
    assert len(training) + len(held_out) == len(episodes) == 1040
    assert 0.08 < len(held_out) / len(episodes) < 0.12


def test_every_region_is_held_out_in_part() -> None:
    _, held_out = split(read_episodes(CORPUS / "episodes"))
    assert {e.region for e in held_out} == {file.stem for file in (CORPUS / "episodes").glob("*.jsonl")}


def test_an_episode_stays_on_its_side_whatever_is_added() -> None:
    episodes = read_episodes(CORPUS / "episodes")
    _, held_out = split([*episodes, Episode("kanto", "New", "Ash is late.")])
    assert [e for e in held_out if e.title != "New"] == split(episodes)[1]


def test_a_line_that_is_no_episode_is_named(tmp_path: Path) -> None:
    (tmp_path / "kanto.jsonl").write_text('{"title": "A", "text": "Ash."}\n{"title": "B"}\n')
    with pytest.raises(ValueError, match=r'kanto\.jsonl:2: want \{"title": \.\.\., "text": \.\.\.\}'):
        read_episodes(tmp_path)


def test_a_folder_without_episodes_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no REGION\.jsonl in "):
        read_episodes(tmp_path)
