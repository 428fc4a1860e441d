"""Composed episodes that begin as another text does."""

import random
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from finetune.compose.compose import LEADS_SHARE, choose_cast, command, compose, compose_from_storyline
from finetune.compose.leads import choose_leads
from finetune.compose.slots import is_named, read_slots
from finetune.compose.storylines import Storyline, read_storylines
from finetune.documents import read_documents, write_documents

CORPUS = Path(__file__).parents[3] / "corpus"
FOLDERS = ("plots/core",)
STORYLINES = read_storylines(CORPUS / FOLDERS[0])
SLOTS = read_slots()
REGIONS: list[str] = sorted(SLOTS["regions"])
TEXTS = [
    "Jessie has not paid her taxes, and the tax office is angry.\n\nShe runs.",
    'Dawn and Piplup have quarrelled. "Go away!" says Dawn. Nobody speaks. Then it rains.',
    "Zzzz.",
]


def strangers(text: str, region: str) -> list[str]:
    """Companions and towns of other regions."""

    def names(of: str) -> set[str]:
        return {*SLOTS["regions"][of]["companions"], *SLOTS["regions"][of]["towns"]}

    return [name for other in REGIONS for name in names(other) - names(region) if is_named(name, text)]


def test_a_lead_is_the_beginning_of_a_texts_first_paragraph() -> None:
    taxes, quarrel, snore = choose_leads(TEXTS, STORYLINES)
    assert taxes.sentences == ["Jessie has not paid her taxes, and the tax office is angry."]
    assert quarrel.sentences == [
        "Dawn and Piplup have quarrelled.",
        '"Go away!" says Dawn.',
        "Nobody speaks.",
    ]
    assert snore.sentences == ["Zzzz."]


def test_it_goes_with_the_plots_whose_words_it_shares() -> None:
    taxes, _, snore = choose_leads(TEXTS, STORYLINES)
    assert STORYLINES[taxes.plots[0]].title == "Team Rocket pay their taxes"
    assert len(set(taxes.plots)) == 5
    assert snore.plots == list(range(len(STORYLINES))), "it has no word of any, and so goes with every one"


def test_mostly_one_sentence_is_told_and_every_other_time_as_it_stands() -> None:
    [lead] = choose_leads(TEXTS[1:2], STORYLINES)
    told = [lead.tell(random.Random(seed)) for seed in range(1000)]
    for length, share in ((1, 0.7), (2, 0.2), (3, 0.1)):
        same = told.count(" ".join(lead.sentences[:length])) / 1000
        assert 0.4 * share < same < 0.7 * share
    assert len(set(told)) > 20, "recast, it has other names"


def test_most_episodes_begin_with_one_and_the_same_seed_gives_the_same() -> None:
    texts = ["There was never a sentence like this."]
    episodes = list(compose(CORPUS, 1, 400, FOLDERS, 0, texts))
    with_lead = sum(text.startswith(texts[0] + " ") for text in episodes)
    assert with_lead / 400 == pytest.approx(LEADS_SHARE, abs=0.07)
    assert episodes[:40] == list(compose(CORPUS, 1, 40, FOLDERS, 0, texts))


def test_behind_a_lead_a_plot_begins_with_one_of_its_first_openings() -> None:
    storyline = Storyline(
        "Ten openings", {}, [[f"Ash has {n} coins." for n in range(10)], *[["Ash runs."]] * 6]
    )

    def coins(lead: str) -> set[str]:
        texts = [
            compose_from_storyline(storyline, REGIONS, SLOTS, random.Random(seed), lead)
            for seed in range(300)
        ]
        return set(re.findall(r"\d", "".join(texts)))

    assert coins("") == set("0123456789")
    assert coins("It rains.") == {"0", "1"}


def test_whom_a_lead_names_the_episode_keeps() -> None:
    lead = "Dawn rests in Oreburgh City, and Buizel swims after a Shellos."
    for seed in range(30):
        chance = random.Random(seed)
        cast = choose_cast(SLOTS, "sinnoh", chance, lead=lead)
        assert (cast["friend"], cast["town"], cast["partner"]) == ("Dawn", "Oreburgh City", "Buizel")
        assert cast["wild"] == "Shellos"
        assert cast["mon"] != "Shellos", "whose Pokémon is met later is another one"
        text = compose_from_storyline(chance.choice(STORYLINES), REGIONS, SLOTS, chance, lead)
        assert text.startswith(lead + " ")
        assert not strangers(text, "sinnoh")


@pytest.mark.parametrize(
    ("lead", "region"),
    [
        ("A scarecrow near Fortree City cannot sleep.", "hoenn"),
        ("A Flaaffy runs the smallest railway in Johto.", "johto"),
        ("Serena has never seen Goldenrod City.", "kalos"),
    ],
)
def test_it_is_set_where_its_lead_is(lead: str, region: str) -> None:
    for seed in range(30):
        chance = random.Random(seed)
        text = compose_from_storyline(chance.choice(STORYLINES), REGIONS, SLOTS, chance, lead)
        assert not strangers(text.removeprefix(lead), region)


def test_a_type_that_the_plot_wants_comes_before_a_name_that_the_lead_has() -> None:
    for seed in range(30):
        types = {"partner": ["grass"]}
        cast = choose_cast(SLOTS, "sinnoh", random.Random(seed), types, "Buizel swims.")
        assert cast["partner"] in SLOTS["regions"]["sinnoh"]["partners"]["grass"]


def test_the_command_takes_them_from_a_prepared_folder(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    write_documents(tmp_path / "texts/train.txt", TEXTS)
    given = ["--corpus", CORPUS, "--count", 30, "--storylines", FOLDERS[0], "--beats-share", 0]
    given += ["--leads", tmp_path / "texts", "--out", tmp_path / "out"]
    result = CliRunner().invoke(command, list(map(str, given)))
    assert result.exit_code == 0, result.output
    assert read_documents(tmp_path / "out/train.txt") == list(compose(CORPUS, 1, 30, FOLDERS, 0, TEXTS))


def test_without_a_text_there_is_no_lead() -> None:
    assert choose_leads([], STORYLINES) == []
    assert list(compose(CORPUS, 1, 5, FOLDERS, 0, [])) == list(compose(CORPUS, 1, 5, FOLDERS, 0))
