"""Base text: one cast from beginning to end, nothing left unfilled, the same seed the same text."""

import itertools
import random
import re
from pathlib import Path

import pytest

from finetune.compose import (
    SLOT,
    choose_cast,
    compose,
    compose_episode,
    fill,
    fits,
    read_beats,
    read_slots,
)

BEATS = Path(__file__).parents[3] / "corpus" / "beats"
SLOTS = read_slots()


@pytest.fixture(scope="module")
def episodes() -> list[str]:
    return list(compose(BEATS, seed=1, count=400))


def test_the_same_seed_gives_the_same_text_and_another_seed_another(episodes: list[str]) -> None:
    assert list(compose(BEATS, seed=1, count=40)) == episodes[:40]
    assert next(compose(BEATS, seed=2, count=1)) != episodes[0]


def test_every_slot_of_every_beat_is_filled(episodes: list[str]) -> None:
    cast = choose_cast(SLOTS, "kanto", random.Random(1))
    for beats in read_beats(BEATS).values():
        for line in itertools.chain.from_iterable(beats.values()):
            assert set(SLOT.findall(line)) <= cast.keys()
    assert not any("{" in text or "}" in text for text in episodes)


def test_an_episode_keeps_its_cast(episodes: list[str]) -> None:
    guests = {name for names in SLOTS["guests"].values() for name in names}
    # Not "the Pokémon School" or "the Wild Area", which the beats name too.
    towns = {town for region in SLOTS["regions"].values() for town in region["towns"] if town[0].isupper()}
    for text in episodes:
        assert len(guests & set(re.findall(r"\w+", text))) == 1
        assert len({town for town in towns if re.search(rf"\b{re.escape(town)}\b", text)}) <= 1


def test_companions_belong_to_the_region(episodes: list[str]) -> None:
    everybody = {name for region in SLOTS["regions"].values() for name in region["companions"]}
    for text, region in zip(episodes, itertools.cycle(sorted(SLOTS["regions"])), strict=False):
        strangers = everybody - set(SLOTS["regions"][region]["companions"])
        assert not [name for name in strangers if re.search(rf"\b{name}\b(?! \w*Trial)", text)]


def test_team_rocket_stay_out_of_episodes_without_a_scheme() -> None:
    kanto = read_beats(BEATS)["kanto"]
    schemes = [re.compile(SLOT.sub(".+", line.replace("?", r"\?"))) for line in kanto["rocket_scheme"]]
    texts = [compose_episode("kanto", kanto, SLOTS, random.Random(seed)) for seed in range(60)]
    without = [text for text in texts if not any(scheme.search(text) for scheme in schemes)]
    assert 15 < len(without) < 45
    assert not [text for text in without if re.search("Team Rocket|Jessie|James|Meowth", text)]


def test_nobody_is_in_a_line_under_two_names() -> None:
    cast = choose_cast(SLOTS, "kanto", random.Random(1))
    line = f"{cast['friend']} smiles at {{friend}}."
    assert not fits(line, cast, ["Misty", "Brock"], team_rocket=False)


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
