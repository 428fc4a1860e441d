"""Base text without end: episodes composed from the beats, with the same characters from beginning to end.

A beat is a line with slots in braces (corpus/README.md lists them). One cast fills the slots of a whole episode.
"""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SLOTS_FILE = Path(__file__).with_name("slots.json")

SLOT = re.compile(r"\{(\w+)\}")
# Opening a line, a sentence or a quotation.
SENTENCE_START = re.compile(r'(?:^|[.!?]"? |(?:^| )")$')
# Names and props that only make sense once Team Rocket have turned up.
TEAM_ROCKET = re.compile(
    r"Team Rocket|Jessie|James|Meowth|Wobbuffet|Arbok|Weezing|Lickitung|Victreebel|Seviper|Cacnea|Carnivine|Yanmega"
    r"|Mime Jr|Yamask|Woobat|Frillish|Inkay|Pumpkaboo|Mimikyu|Mareanie|Bewear|Matori|Giovanni|Pelipper|Morpeko"
    r"|\{gadget\}|\b(?:the boss|villains?|thie(?:f|ves)|machine|cage|motto|blast(?:ed|ing)? off)\b"
)
PRONOUNS = {"she": ("she", "her", "her"), "he": ("he", "him", "his")}
TEAM_ROCKET_SHARE = 0.5

Beats = dict[str, list[str]]
Cast = dict[str, str]


def read_beats(folder: Path) -> dict[str, Beats]:
    """Region -> kind of beat -> lines, from `folder/REGION.json`.

    Raises FileNotFoundError when the folder holds no such file.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise FileNotFoundError(f"no REGION.json in {folder}: name the folder that holds the beats")
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def read_slots() -> dict[str, Any]:
    """What may fill a slot: common lists, and per region its companions, towns and Pokémon by type."""
    slots: dict[str, Any] = json.loads(SLOTS_FILE.read_text(encoding="utf-8"))
    return slots


def choose_cast(slots: dict[str, Any], region: str, chance: random.Random) -> Cast:
    """One value for every slot, all different, with moves that suit the types of those who use them."""
    local = slots["regions"][region]
    friend, friend2 = chance.sample(local["companions"], 2)
    pronoun = chance.choice(sorted(PRONOUNS))
    they, them, their = PRONOUNS[pronoun]
    wild = [(name, kind) for kind, names in local["wild"].items() for name in names]
    partners = [(name, kind) for kind, names in local["partners"].items() for name in names]
    (partner, partner_type) = chance.choice(partners)
    (mon, mon_type), (other, _) = chance.sample([(name, kind) for name, kind in wild if name != partner], 2)
    move = chance.choice(slots["moves"][mon_type])
    move2 = chance.choice([name for name in slots["moves"][partner_type] if name != move])
    return {
        "friend": friend,
        "friend2": friend2,
        "guest": chance.choice(slots["guests"][pronoun]),
        "they": they,
        "them": them,
        "their": their,
        "mon": mon,
        "wild": other,
        "partner": partner,
        "move": move,
        "move2": move2,
        "town": chance.choice(local["towns"]),
        "place": chance.choice(slots["places"]),
        "job": chance.choice(slots["jobs"]),
        "item": chance.choice(slots["items"]),
        "gadget": chance.choice(slots["gadgets"]),
    }


def fill(line: str, cast: Cast) -> str:
    """The line with its slots filled, `a` turned into `an` and first words into capitals where that is wanted.

    Raises KeyError for a slot that the cast does not have.
    """
    text = ""
    end = 0
    for slot in SLOT.finditer(line):
        text += line[end : slot.start()]
        value = cast[slot[1]]
        if SENTENCE_START.search(text):
            value = value[0].upper() + value[1:]
        if text.endswith((" a ", "A ")) and value[0] in "AEIOU":
            text = text[:-1] + "n "
        text += value
        end = slot.end()
    return text + line[end:]


def fits(line: str, cast: Cast, companions: list[str], team_rocket: bool) -> bool:
    """Whether a line belongs in the episode: Team Rocket only where they are, and nobody under two names."""
    if not team_rocket and TEAM_ROCKET.search(line):
        return False
    cast_in_line = {cast[slot] for slot in SLOT.findall(line)}
    return not any(name in cast_in_line and re.search(rf"\b{name}\b", line) for name in companions)


def compose_episode(region: str, beats: Beats, slots: dict[str, Any], chance: random.Random) -> str:
    """One episode of two to four paragraphs."""
    cast = choose_cast(slots, region, chance)
    companions = slots["regions"][region]["companions"]
    team_rocket = chance.random() < TEAM_ROCKET_SHARE
    middle = ["rocket_scheme", "rocket_attack"] if team_rocket else []
    paragraphs = [
        ["opening", "encounter", "problem"],
        ["plan"] * chance.choice([1, 1, 2]) + middle[:1],
        middle[1:] + ["battle"] * chance.choice([1, 1, 2]) + ["turn"],
        ["resolution"] * chance.choice([1, 1, 2]) + ["farewell"],
    ]
    used: set[str] = set()
    written: list[str] = []
    for kinds in paragraphs:
        lines = []
        for kind in kinds:
            line = next(
                line
                for line in chance.sample(beats[kind], len(beats[kind]))
                if line not in used and fits(line, cast, companions, team_rocket)
            )
            used.add(line)
            lines.append(fill(line, cast))
        # Some summaries run two paragraphs together.
        if written and chance.random() < 0.25:
            written[-1] += " " + " ".join(lines)
        else:
            written.append(" ".join(lines))
    return "\n\n".join(written)


def compose(beats_folder: Path, seed: int, count: int) -> Iterator[str]:
    """`count` episodes, regions in turn.

    Number i depends on (seed, i) alone: a longer run begins with a shorter one.
    """
    beats, slots = read_beats(beats_folder), read_slots()
    regions = sorted(beats)
    for number in range(count):
        region = regions[number % len(regions)]
        chance = random.Random(f"{seed}/{number}")  # noqa: S311 - nothing secret
        yield compose_episode(region, beats[region], slots, chance)
