"""The same episode in another region."""

import random
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner

from finetune.compose.recast import command, recast
from finetune.compose.slots import read_slots
from finetune.documents import read_documents, write_documents

SLOTS = read_slots()
TEXT = "Misty sees an Onix near Pewter City. The Onix likes Misty, and Brock gives a Squirtle to an old man."


def recasts(text: str, count: int = 40) -> list[str]:
    return [recast(text, random.Random(seed)) for seed in range(count)]


def test_a_name_is_replaced_the_same_way_throughout_and_no_two_by_the_same() -> None:
    pattern = re.compile(
        r"(\w+) sees an? (.+) near (.+)\. The (.+) likes (\w+), and (\w+) gives an? (.+) to an old man\."
    )
    for text in recasts(TEXT):
        told = pattern.fullmatch(text)
        assert told, text
        she, seen, town, again, her, he, given = told.groups()
        assert (seen, she) == (again, her)
        assert len({she, seen, town, he, given}) == 5
    assert len(set(recasts(TEXT))) > 30


def test_all_companions_are_of_one_region_that_has_enough_of_either_sex() -> None:
    companions = {name: set(region["companions"]) for name, region in SLOTS["regions"].items()}

    def taken(text: str) -> set[str]:
        written = [
            set(re.findall(r"\w+", copy)) & set().union(*companions.values()) for copy in recasts(text)
        ]
        assert all(any(names <= region for region in companions.values()) for names in written)
        return {name for name, region in companions.items() if any(names <= region for names in written)}

    assert taken("Misty and Brock run.") == set(companions)
    assert taken("Serena and Bonnie run after Clemont.") == {"kalos", "alola"}
    assert taken("Lana, Lillie and Mallow run.") == {"alola"}


def test_all_that_a_region_has_comes_from_it() -> None:
    text = "Misty and Professor Oak see a Slowpoke near Pewter City in Kanto."
    for copy in recasts(text):
        told = re.fullmatch(r"(\w+) and (Professor \w+) see an? (.+) near (.+) in (\w+)\.", copy)
        assert told, copy
        she, professor, seen, town, name = told.groups()
        region = SLOTS["regions"][name.lower()]
        assert she in region["companions"]
        assert professor == region["professor"]
        assert seen in region["wild"]["water"] + region["partners"].get("water", [])
        assert town in region["towns"]


def test_where_no_region_has_as_many_companions_they_come_from_several() -> None:
    everybody = set().union(*(region["companions"] for region in SLOTS["regions"].values()))
    for copy in recasts("Misty, May, Dawn, Iris and Serena run."):
        assert len(everybody & set(re.findall(r"\w+", copy))) == 5


def test_names_keep_their_kind() -> None:
    regions = SLOTS["regions"].values()
    rock = {
        name for region in regions for among in ("wild", "partners") for name in region[among].get("rock", [])
    }
    towns = {town for region in regions for town in region["towns"]}
    assert {text.split()[0] for text in recasts("Misty runs.")} <= {
        *("Misty", "May", "Dawn", "Iris", "Serena", "Bonnie", "Lana", "Lillie", "Mallow", "Chloe")
    }
    assert {text.removesuffix(" runs.") for text in recasts("Geodude runs.")} <= rock
    assert {text.removesuffix(" is quiet.") for text in recasts("Pewter City is quiet.")} <= towns


def test_the_article_follows_the_name() -> None:
    for text in recasts("A Geodude meets a Geodude. An Onix meets an Onix."):
        for article, initial in re.findall(r"\b([Aa]n?) (\w)", text):
            assert (len(article) == 2) == (initial in "AEIOU"), text


@pytest.mark.parametrize(
    "text", ["Ash and Pikachu run.", "Team Rocket laugh.", "Mistyville, Onixes", "May I?", ""]
)
def test_who_is_no_part_of_the_cast_stays(text: str) -> None:
    assert recasts(text, 5) == [text] * 5


def test_the_command_adds_copies_and_leaves_what_is_held_out(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    texts = [TEXT, "Brock cooks."]
    write_documents(tmp_path / "data/train.txt", texts)
    write_documents(tmp_path / "data/held-out.txt", ["Misty sings."])
    arguments = ["--dataset", tmp_path / "data", "--copies", 3, "--out"]

    def run(out: Path) -> list[str]:
        result = CliRunner().invoke(command, [*map(str, arguments), str(out)])
        assert result.exit_code == 0, result.output
        return read_documents(out / "train.txt")

    written = run(tmp_path / "out")
    assert written[:2] == texts
    assert len(written) == 2 + 3 * 2
    assert len({*written[0::2]}) == 4
    assert read_documents(tmp_path / "out/held-out.txt") == ["Misty sings."]
    assert run(tmp_path / "out") == run(tmp_path / "again") == written
    result = CliRunner().invoke(command, [*map(str, arguments), str(tmp_path / "data")])
    assert "is --dataset: name another folder" in " ".join(result.output.split())
    assert read_documents(tmp_path / "data/train.txt") == texts


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """For a small data set, `tmp_path/data`, to be written to `tmp_path/out`."""
    (tmp_path / "data").mkdir()
    write_documents(tmp_path / "data/train.txt", [TEXT])
    write_documents(tmp_path / "data/held-out.txt", ["Misty sings."])
    return ["--dataset", str(tmp_path / "data"), "--out", str(tmp_path / "out")]


def test_a_prepared_data_set_is_not_written_over(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "out").mkdir()
    for name in ("train.txt", "held-out.txt", "report.json", "sources.csv"):
        (tmp_path / "out" / name).write_text("Of a wiki.")
    result = CliRunner().invoke(command, arguments)
    assert "is a prepared data set: name another folder" in " ".join(result.output.split())
    assert {file.read_text() for file in (tmp_path / "out").iterdir()} == {"Of a wiki."}


def test_an_interrupted_run_leaves_no_halves_of_two_data_sets(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CliRunner().invoke(command, arguments).exit_code == 0
    write_documents(tmp_path / "data/held-out.txt", ["Brock sings."])

    def write_one(file: Path, texts: Iterable[str]) -> None:
        write_documents(file, texts)
        raise KeyboardInterrupt

    monkeypatch.setattr("finetune.compose.recast.write_documents", write_one)
    assert CliRunner().invoke(command, arguments).exit_code == 1
    assert read_documents(tmp_path / "out/held-out.txt") == ["Brock sings."]
    assert not (tmp_path / "out/train.txt").exists()
