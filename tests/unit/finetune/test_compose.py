"""Base text: one cast from beginning to end, nothing left unfilled, the same seed the same text."""

import itertools
import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from finetune.compose.compose import (
    BEATS_SHARE,
    KINDS_OF_BEATS,
    NobodyFitsError,
    choose_cast,
    command,
    compose,
    compose_from_beats,
    compose_from_storyline,
    fill,
    fits,
    read_beats,
)
from finetune.compose.slots import SLOT, SLOT_NAMES, read_slots
from finetune.compose.storylines import Storyline, read_storylines
from finetune.documents import read_documents
from server.cli import commands

CORPUS = Path(__file__).parents[3] / "corpus"
BEATS = CORPUS / "beats"
SLOTS = read_slots()
REGIONS: list[str] = sorted(SLOTS["regions"])
FOLDERS = ("storylines", "plots/first", "plots/second", "plots/core")
STORYLINES = [storyline for folder in FOLDERS for storyline in read_storylines(CORPUS / folder)]


@pytest.fixture(scope="module")
def episodes() -> list[str]:
    """Both from beats and from storylines."""
    return list(compose(CORPUS, seed=1, count=400, folders=FOLDERS))


@pytest.fixture(scope="module")
def from_beats() -> dict[str, list[str]]:
    """Region -> episodes."""
    beats = read_beats(BEATS)
    return {
        region: [compose_from_beats(region, beats[region], SLOTS, random.Random(seed)) for seed in range(50)]
        for region in REGIONS
    }


def test_the_same_seed_gives_the_same_text_and_another_seed_another(episodes: list[str]) -> None:
    assert list(compose(CORPUS, seed=1, count=40, folders=FOLDERS)) == episodes[:40]
    assert next(compose(CORPUS, seed=2, count=1, folders=FOLDERS)) != episodes[0]
    assert len(set(episodes)) == 400


def test_every_slot_of_every_beat_is_filled(episodes: list[str]) -> None:
    cast = choose_cast(SLOTS, "kanto", random.Random(1))
    assert cast.keys() == set(SLOT_NAMES)
    for beats in read_beats(BEATS).values():
        assert list(beats) == list(KINDS_OF_BEATS)
        for line in itertools.chain.from_iterable(beats.values()):
            assert set(SLOT.findall(line)) <= cast.keys()
    assert not any("{" in text or "}" in text for text in episodes)


def names_in(text: str, names: set[str]) -> set[str]:
    return {name for name in names if re.search(rf"\b{re.escape(name)}\b", text)}


def test_an_episode_keeps_its_cast(from_beats: dict[str, list[str]]) -> None:
    guests = {name for names in SLOTS["guests"].values() for name in names}
    # Not "the Pokémon School" or "the Wild Area", which the beats name too.
    towns = {town for region in SLOTS["regions"].values() for town in region["towns"] if town[0].isupper()}
    for text in itertools.chain.from_iterable(from_beats.values()):
        assert len(guests & set(re.findall(r"\w+", text))) == 1
        assert len(names_in(text, towns)) <= 1


def test_companions_belong_to_the_region(from_beats: dict[str, list[str]]) -> None:
    everybody = {name for region in SLOTS["regions"].values() for name in region["companions"]}
    for region, texts in from_beats.items():
        strangers = everybody - set(SLOTS["regions"][region]["companions"])
        for text in texts:
            assert not [name for name in strangers if re.search(rf"\b{name}\b(?! \w*Trial)", text)]


def test_about_the_share_asked_for_comes_from_beats(episodes: list[str]) -> None:
    endings = {
        max(re.split(r"\{\w+\}|\[[^]]*\]", line), key=len).removesuffix(" a ")
        for storyline in STORYLINES
        for line in storyline.steps[-1]
    }
    told = sum(any(ending in text for ending in endings) for text in episodes)
    assert told / 400 == pytest.approx(1 - BEATS_SHARE, abs=0.1)


def open_slots(text: str) -> list[str]:
    return re.findall(r"[][{}]", text)


@pytest.mark.parametrize("storyline", STORYLINES, ids=lambda storyline: storyline.title)
def test_every_storyline_has_a_region_and_no_slot_stays_open(storyline: Storyline) -> None:
    assert len(compose_from_storyline(storyline, REGIONS, SLOTS, random.Random(1)).split("\n\n")) in (3, 4)
    cast = choose_cast(SLOTS, fitting_region(storyline), random.Random(1), storyline.types)
    for line in itertools.chain.from_iterable(storyline.steps):
        for told in itertools.islice(every_choice(line), 100):
            text = fill(told, cast)
            assert not open_slots(text), line
            assert re.fullmatch(r'["A-Z].*[.!?]["\']?', text), text
            assert not re.search(r"\s[\s.,;:!?]", text), text


def every_choice(line: str) -> Iterator[str]:
    between = re.split(r"\[([^]]*)\]", line)
    for taken in itertools.product(*(choice.split("|") for choice in between[1::2])):
        yield "".join(itertools.chain.from_iterable(itertools.zip_longest(between[::2], taken, fillvalue="")))


def fitting_region(storyline: Storyline) -> str:
    for region in REGIONS:
        try:
            choose_cast(SLOTS, region, random.Random(1), storyline.types)
        except NobodyFitsError:
            continue
        return region
    raise AssertionError(f"no region has {storyline.types}")


def test_the_cast_is_of_the_types_asked_for() -> None:
    wild, partners = (SLOTS["regions"]["kanto"][among] for among in ("wild", "partners"))
    for seed in range(30):
        types = {"mon": ["water", "ghost"], "partner": ["fire"]}
        cast = choose_cast(SLOTS, "kanto", random.Random(seed), types)
        assert cast["mon"] in [*wild["water"], *wild["ghost"]]
        assert cast["partner"] in partners["fire"]
        assert len({cast["mon"], cast["wild"], cast["partner"]}) == 3
        kind = "water" if cast["mon"] in wild["water"] else "ghost"
        assert cast["move"] in SLOTS["moves"][kind]
        assert cast["move2"] in SLOTS["moves"]["fire"]


def test_the_second_guest_is_of_the_other_sex_and_the_second_town_another() -> None:
    suits = {"she": ("she", "her", "her"), "he": ("he", "him", "his")}
    for seed in range(50):
        cast = choose_cast(SLOTS, "kanto", random.Random(seed))
        for number in ("", "2"):
            pronouns = tuple(cast[f"{slot}{number}"] for slot in ("they", "them", "their"))
            assert pronouns == suits[cast[f"they{number}"]]
            assert cast[f"guest{number}"] in SLOTS["guests"][cast[f"they{number}"]]
        assert cast["they"] != cast["they2"]
        assert cast["town"] != cast["town2"]


def test_a_region_without_the_types_is_passed_over_and_named_when_none_is_left() -> None:
    strange = Storyline("Strange", {"mon": ["plasma"]}, [["Ash runs."]] * 6)
    with pytest.raises(NobodyFitsError, match="kanto has no mon of type plasma"):
        choose_cast(SLOTS, "kanto", random.Random(1), strange.types)
    with pytest.raises(NobodyFitsError, match="Strange: no region has"):
        compose_from_storyline(strange, REGIONS, SLOTS, random.Random(1))


def test_a_storyline_whose_types_no_region_has_together_ends_the_command_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "storylines").mkdir()
    plot = "\n\n".join(["# Strange\nmon: fairy\npartner: ice", *["Ash runs."] * 6])
    (tmp_path / "storylines/plots.txt").write_text(plot)
    given = ["compose", "--corpus", tmp_path, "--beats-share", 0, "--out", tmp_path / "out"]
    result = CliRunner().invoke(commands, list(map(str, given)))
    assert result.exit_code == 1
    assert "pokegen: Strange: no region has {'mon': ['fairy'], 'partner': ['ice']}" in result.stderr
    assert not (tmp_path / "out/train.txt").exists()


def test_the_command_writes_documents(tmp_path: Path, episodes: list[str]) -> None:
    arguments = ["--corpus", str(CORPUS), "--count", "10", "--out", str(tmp_path / "base")]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert read_documents(tmp_path / "base/train.txt") == episodes[:10]


def test_the_command_takes_storylines_by_folder_and_beats_by_share(tmp_path: Path) -> None:
    def composed(*arguments: str) -> list[str]:
        given = ["--corpus", str(CORPUS), "--count", "30", "--out", str(tmp_path), *arguments]
        result = CliRunner().invoke(command, given)
        assert result.exit_code == 0, result.output
        return read_documents(tmp_path / "train.txt")

    folders = ("plots/second", "storylines")
    for share in (0.0, 1.0):
        given = [f"--beats-share={share}", *(f"--storylines={folder}" for folder in folders)]
        assert composed(*given) == list(compose(CORPUS, 1, 30, folders, share))
        assert composed(f"--beats-share={share}") == list(compose(CORPUS, 1, 30, ("storylines",), share))
    assert composed("--beats-share=0") != composed("--beats-share=0", "--storylines=plots/second")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--storylines=typo"], "--storylines: no *.txt in"),
        (["--beats-share=1.5"], "'--beats-share': 1.5 is not in the range 0<=x<=1"),
        (["--beats-share=nan"], "the share of beats is nan and may be from 0 to 1"),
        (
            ["--beats-share=1", f"--leads={CORPUS}"],
            "--beats-share: leads come before storylines, and 1 leaves none",
        ),
    ],
)
def test_what_is_wrong_is_named_and_nothing_written(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    given = ["--corpus", str(CORPUS), "--out", str(tmp_path / "out"), "--count=1", *arguments]
    result = CliRunner().invoke(command, given)
    assert message in " ".join(f"{result.output} {result.exception}".replace("│", " ").split())
    assert not (tmp_path / "out/train.txt").exists()


def test_without_a_share_for_them_no_beats_are_read(tmp_path: Path) -> None:
    (tmp_path / "storylines").symlink_to(CORPUS / "storylines")
    assert next(compose(tmp_path, seed=1, count=1, beats_share=0))


def test_a_prepared_data_set_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "held-out.txt").touch()
    result = CliRunner().invoke(command, ["--corpus", str(CORPUS), "--count=1", "--out", str(tmp_path)])
    assert "is a prepared data set: name another folder" in " ".join(result.output.split())
    assert not (tmp_path / "train.txt").exists()


def test_a_folder_without_the_beats_of_a_region_is_named(tmp_path: Path) -> None:
    message = r"no {}\.json in .*: name the folder that holds the beats of every region"
    with pytest.raises(FileNotFoundError, match=message.format("alola")):
        next(compose(tmp_path, seed=1, count=1))
    shutil.copytree(BEATS, tmp_path / "beats")
    (tmp_path / "beats/kanto.json").unlink()
    with pytest.raises(FileNotFoundError, match=message.format("kanto")):
        next(compose(tmp_path, seed=1, count=1))


@pytest.mark.parametrize("kind", KINDS_OF_BEATS)
def test_what_is_wrong_with_the_beats_of_a_region_is_named(tmp_path: Path, kind: str) -> None:
    shutil.copytree(BEATS, tmp_path, dirs_exist_ok=True)
    kanto = read_beats(BEATS)["kanto"]
    (tmp_path / "kanto.json").write_text(json.dumps({**kanto, kind: ["{friend} and {freind} run."]}))
    with pytest.raises(
        ValueError, match=rf"kanto\.json: {kind}: no slot is called {{freind}}: want one of fri"
    ):
        read_beats(tmp_path)
    del kanto[kind]
    (tmp_path / "kanto.json").write_text(json.dumps(kanto))
    with pytest.raises(ValueError, match=rf"kanto\.json: no beats called '{kind}': want all of opening, enc"):
        read_beats(tmp_path)


@pytest.mark.parametrize("kind", ["opening", "plan", "farewell"])
def test_a_region_with_no_beat_that_fits_is_named(kind: str) -> None:
    beats = {**read_beats(BEATS)["kanto"], kind: []}
    with pytest.raises(
        ValueError, match=rf"kanto: no {kind} is left that fits an episode with(out)? Team Rocket: add some"
    ):
        compose_from_beats("kanto", beats, SLOTS, random.Random(1))


def test_team_rocket_stay_out_of_episodes_without_a_scheme() -> None:
    kanto = read_beats(BEATS)["kanto"]
    schemes = [re.compile(SLOT.sub(".+", line.replace("?", r"\?"))) for line in kanto["rocket_scheme"]]
    texts = [compose_from_beats("kanto", kanto, SLOTS, random.Random(seed)) for seed in range(60)]
    without = [text for text in texts if not any(scheme.search(text) for scheme in schemes)]
    assert 15 < len(without) < 45
    assert not [text for text in without if re.search("Team Rocket|Jessie|James|Meowth", text)]


def test_nobody_is_in_a_line_under_two_names() -> None:
    cast = choose_cast(SLOTS, "kanto", random.Random(1))
    line = f"{cast['friend']} smiles at {{friend}}."
    assert not fits(line, cast, ["Misty", "Brock"], team_rocket=False)


def test_what_was_mentioned_goes_on_with_the_definite_article() -> None:
    cast = {"gadget": "an old tank", "job": "the mayor", "guest": "Anya"}
    mentioned: set[str] = set()
    told = [
        fill(line, cast, mentioned) for line in ["{guest}, {job}, sees {gadget}.", "{gadget} stops {job}."]
    ]
    assert told == ["Anya, the mayor, sees an old tank.", "The old tank stops the mayor."]
    assert fill("{gadget} comes, and {gadget} goes.", cast) == "An old tank comes, and the old tank goes."


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("{item} is safe. {they} laughs.", "The golden bell is safe. She laughs."),
        ('"Run!" cries {friend}, and {place} shakes.', '"Run!" cries Misty, and the old mill shakes.'),
        ('{friend} says, "{item} is gone."', 'Misty says, "The golden bell is gone."'),
        ("A {mon} and a {wild} meet a {partner}.", "An Eevee and an Onix meet a Squirtle."),
    ],
)
def test_capitals_and_articles(line: str, text: str) -> None:
    cast = {
        "item": "the golden bell",
        "they": "she",
        "place": "the old mill",
        "friend": "Misty",
        "mon": "Eevee",
        "wild": "Onix",
        "partner": "Squirtle",
    }
    assert fill(line, cast) == text
