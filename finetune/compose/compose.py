"""Base text without end: episodes composed from storylines and beats, with one cast from beginning to end.

A storyline is a whole plot, each step of which can be said in several ways; a beat is a line that fits many plots.
Both have slots in braces (corpus/README.md lists them), and one cast fills the slots of a whole episode.
"""

import itertools
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from finetune.compose.leads import choose_leads
from finetune.compose.slots import SLOT, TYPED, is_named, read_slots, require_known_slots
from finetune.compose.storylines import Storyline, read_storylines
from finetune.console import FOLDER
from finetune.documents import read_documents, write_documents
from server.commands.console import examples

# Opening a line, a sentence or a quotation.
SENTENCE_START = re.compile(r'(?:^|[.!?]"? |(?:^| )")$')
# Names and props that only make sense once Team Rocket have turned up.
TEAM_ROCKET = re.compile(
    r"Team Rocket|Jessie|James|Meowth|Wobbuffet|Arbok|Weezing|Lickitung|Victreebel|Seviper|Cacnea|Carnivine|Yanmega"
    r"|Mime Jr|Yamask|Woobat|Frillish|Inkay|Pumpkaboo|Mimikyu|Mareanie|Bewear|Matori|Giovanni|Pelipper|Morpeko"
    r"|\{gadget\}|\b(?:the boss|villains?|thie(?:f|ves)|machine|cage|motto|blast(?:ed|ing)? off)\b"
)
# In story order.
KINDS_OF_BEATS = (
    *("opening", "encounter", "problem", "plan", "rocket_scheme"),
    *("rocket_attack", "battle", "turn", "resolution", "farewell"),
)
INDEFINITE = re.compile(r"^an? ")
PRONOUNS = {"she": ("she", "her", "her"), "he": ("he", "him", "his")}
TEAM_ROCKET_SHARE = 0.5
BEATS_SHARE = 0.15
LEADS_SHARE = 0.7
# As many as most steps have alternatives: so the way into a plot is learnt by heart like the rest of it.
OPENINGS_BEHIND_A_LEAD = 2


Beats = dict[str, list[str]]
Cast = dict[str, str]


@click.command(
    context_settings={"show_default": True},
    epilog=examples(
        (
            "from storylines and beats",
            "pokegen compose --count 60000 --out run/data/start",
        ),
        (
            "from whole plots alone, and from more of them",
            "pokegen compose --storylines storylines --storylines plots/first --beats-share 0 \\\n"
            "    --count 60000 --out run/data/composed",
        ),
        (
            "most of them with the beginnings of other texts",
            "pokegen compose --storylines plots/core --beats-share 0 --leads run/data/everything --out run/data/leads",
        ),
    ),
)
@click.option("--corpus", type=FOLDER, default=Path("corpus"), help="The folder of beats and storylines.")
@click.option(
    "--storylines",
    multiple=True,
    default=["storylines"],
    help="A folder of storylines in the corpus; may be repeated.",
)
@click.option(
    "--beats-share",
    type=click.FloatRange(0, 1),
    default=BEATS_SHARE,
    help="The share of the episodes that is made of beats, from 0 to 1.",
)
@click.option(
    "--leads",
    type=FOLDER,
    help=f"A prepared folder: {LEADS_SHARE:.0%} of the episodes from storylines begin as one of its texts does.",
)
@click.option("--count", type=click.IntRange(min=1), default=30_000, help="Episodes to compose.")
@click.option("--seed", default=1, help="The same seed gives the same episodes.")
@click.option("--out", type=FOLDER, required=True, help="The folder to write train.txt into.")
def command(
    corpus: Path,
    storylines: tuple[str, ...],
    beats_share: float,
    leads: Path | None,
    count: int,
    seed: int,
    out: Path,
) -> None:
    """Compose base text from the corpus's storylines and beats."""
    if (out / "held-out.txt").exists():
        raise click.BadParameter(f"{out} is a prepared data set: name another folder", param_hint="--out")
    for folder in storylines:
        if not any((corpus / folder).glob("*.txt")):
            raise click.BadParameter(
                f"no *.txt in {corpus / folder}: name a folder of storylines in {corpus}",
                param_hint="--storylines",
            )
    if leads and beats_share == 1:
        raise click.BadParameter(
            "leads come before storylines, and 1 leaves none", param_hint="--beats-share"
        )
    lead_texts = read_documents(leads / "train.txt") if leads else []
    episodes = compose(corpus, seed, count, storylines, beats_share, lead_texts)
    out.mkdir(parents=True, exist_ok=True)
    write_documents(out / "train.txt", tqdm(episodes, total=count, unit="episode", desc="composing"))


def read_beats(folder: Path) -> dict[str, Beats]:
    """Region -> kind of beat -> lines, from `folder/REGION.json`.

    Raises FileNotFoundError when a region has no such file, ValueError for one that lacks a kind of beat or has a slot
    that nobody knows.
    """
    files = [folder / f"{region}.json" for region in sorted(read_slots()["regions"])]
    for file in files:
        if not file.exists():
            raise FileNotFoundError(
                f"no {file.name} in {folder}: name the folder that holds the beats of every region"
            )
    return {file.stem: _read_region(file) for file in files}


def _read_region(file: Path) -> Beats:
    beats: Beats = json.loads(file.read_text(encoding="utf-8"))
    for kind in KINDS_OF_BEATS:
        if kind not in beats:
            raise ValueError(f"{file}: no beats called {kind!r}: want all of {', '.join(KINDS_OF_BEATS)}")
        for line in beats[kind]:
            require_known_slots(line, f"{file}: {kind}")
    return beats


class NobodyFitsError(ValueError):
    """A region has no Pokémon of the types that a storyline wants."""


def choose_cast(
    slots: dict[str, Any],
    region: str,
    chance: random.Random,
    types: Mapping[str, list[str]] | None = None,
    lead: str = "",
) -> Cast:
    """One value for every slot, all different, with moves that suit the types of those who use them.

    `types` says of which types `mon`, `wild` and `partner` may be. Raises NobodyFitsError when the region has none.
    Where that is possible, the companions, the towns and Ash's Pokémon are those that `lead` names, `wild` is one of
    its others, and `mon`, which is somebody's whom nobody has met yet, is none of them.
    """
    local = slots["regions"][region]

    def two_of(names: list[str]) -> list[str]:
        """Those that the lead names in its order, then others by chance."""
        named = sorted((name for name in names if is_named(name, lead)), key=lead.index)
        others = [name for name in names if name not in named]
        return [*named, *chance.sample(others, min(2, len(others)))][:2]

    friend, friend2 = two_of(local["companions"])
    pronoun = chance.choice(sorted(PRONOUNS))
    pronoun2 = next(other for other in PRONOUNS if other != pronoun)
    they, them, their = PRONOUNS[pronoun]
    they2, them2, their2 = PRONOUNS[pronoun2]
    town, town2 = two_of(local["towns"])
    chosen: dict[str, str] = {}  # name -> type
    for slot, among in TYPED.items():
        wanted = (types or {}).get(slot, local[among])
        fitting = [
            (name, kind)
            for kind, names in local[among].items()
            for name in names
            if kind in wanted and name not in chosen
        ]
        if not fitting:
            raise NobodyFitsError(f"{region} has no {slot} of type {' or '.join(wanted)}")
        preferred = [one for one in fitting if is_named(one[0], lead) is (slot != "mon")]
        name, kind = chance.choice(preferred or fitting)
        chosen[name] = kind
    (partner, partner_type), (mon, mon_type), (other, _) = chosen.items()
    move = chance.choice(slots["moves"][mon_type])
    move2 = chance.choice([name for name in slots["moves"][partner_type] if name != move])
    return {
        "friend": friend,
        "friend2": friend2,
        "guest": chance.choice(slots["guests"][pronoun]),
        "they": they,
        "them": them,
        "their": their,
        # Of the other sex, so that a pronoun says who is meant.
        "guest2": chance.choice(slots["guests"][pronoun2]),
        "they2": they2,
        "them2": them2,
        "their2": their2,
        "mon": mon,
        "wild": other,
        "partner": partner,
        "move": move,
        "move2": move2,
        "town": town,
        "town2": town2,
        "place": chance.choice(slots["places"]),
        "job": chance.choice(slots["jobs"]),
        "item": chance.choice(slots["items"]),
        "gadget": chance.choice(slots["gadgets"]),
    }


def fill(line: str, cast: Cast, mentioned: set[str] | None = None) -> str:
    """The line with its slots filled, `a` turned into `an` and first words into capitals where that is wanted.

    `mentioned`, to which the line's slots are added, are those that the episode has had: of a drilling machine it goes
    on with the drilling machine. Raises KeyError for a slot that the cast does not have.
    """
    mentioned = set() if mentioned is None else mentioned
    text = ""
    end = 0
    for slot in SLOT.finditer(line):
        text += line[end : slot.start()]
        value = cast[slot[1]]
        if slot[1] in mentioned:
            value = INDEFINITE.sub("the ", value)
        mentioned.add(slot[1])
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


def compose_from_beats(region: str, beats: Beats, slots: dict[str, Any], chance: random.Random) -> str:
    """One episode of two to four paragraphs, whose lines share a cast but not always a plot.

    Raises ValueError when no line of a kind fits the episode.
    """
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
    mentioned: set[str] = set()
    written: list[str] = []
    for kinds in paragraphs:
        lines = []
        for kind in kinds:
            fitting = (
                line
                for line in chance.sample(beats[kind], len(beats[kind]))
                if line not in used and fits(line, cast, companions, team_rocket)
            )
            line = next(fitting, None)
            if line is None:
                side = "with" if team_rocket else "without"
                raise ValueError(
                    f"{region}: no {kind} is left that fits an episode {side} Team Rocket: add some to its beats"
                )
            used.add(line)
            lines.append(fill(line, cast, mentioned))
        # Some summaries run two paragraphs together.
        if written and chance.random() < 0.25:
            written[-1] += " " + " ".join(lines)
        else:
            written.append(" ".join(lines))
    return "\n\n".join(written)


def compose_from_storyline(
    storyline: Storyline, regions: list[str], slots: dict[str, Any], chance: random.Random, lead: str = ""
) -> str:
    """One episode of three or four paragraphs, set in one of `regions` that has the Pokémon it needs.

    It begins with `lead` and is set in the region that has most of the companions that it names, or else of the towns,
    or of the Pokémon. Raises NobodyFitsError when no region has the Pokémon that the storyline needs.
    """

    def familiar(region: str) -> list[int]:
        local = slots["regions"][region]
        pokemon = itertools.chain(*local["partners"].values(), *local["wild"].values())
        names = (local["companions"], [*local["towns"], region.capitalize()], pokemon)
        return [sum(is_named(name, lead) for name in each) for each in names]

    for region in sorted(chance.sample(regions, len(regions)), key=familiar, reverse=True):
        try:
            cast = choose_cast(slots, region, chance, storyline.types, lead)
        except NobodyFitsError:
            continue
        mentioned: set[str] = set()
        first, *rest = (
            " ".join(fill(line, cast, mentioned) for line in paragraph)
            for paragraph in storyline.tell(chance, OPENINGS_BEHIND_A_LEAD if lead else None)
        )
        return "\n\n".join([f"{lead} {first}".lstrip(), *rest])
    raise NobodyFitsError(f"{storyline.title}: no region has {storyline.types}")


def compose(
    corpus: Path,
    seed: int,
    count: int,
    folders: Sequence[str] = ("storylines",),
    beats_share: float = BEATS_SHARE,
    lead_texts: Sequence[str] = (),
) -> Iterator[str]:
    """`count` episodes, `beats_share` (0 to 1) of them from beats, by region, the others from storylines, both in turn.

    With `lead_texts`, LEADS_SHARE of the others begin as one of them does, and go on with one of the storylines that
    resemble it, by chance.

    Number i depends on (seed, i) alone: a longer run begins with a shorter one. Raises FileNotFoundError and ValueError
    for what cannot be read (beats are read only if there is a share for them) and for a region whose beats are too few,
    and NobodyFitsError for a storyline that no region has the Pokémon for.
    """
    if not 0 <= beats_share <= 1:
        raise ValueError(f"the share of beats is {beats_share} and may be from 0 to 1")
    beats = read_beats(corpus / "beats") if beats_share else {}
    storylines = [storyline for folder in folders for storyline in read_storylines(corpus / folder)]
    leads = choose_leads(lead_texts, storylines)
    slots = read_slots()
    regions = sorted(slots["regions"])
    for number in range(count):
        chance = random.Random(f"{seed}/{number}")  # noqa: S311 - nothing secret
        if chance.random() < beats_share:
            region = regions[number % len(regions)]
            yield compose_from_beats(region, beats[region], slots, chance)
        elif leads and chance.random() < LEADS_SHARE:
            lead = chance.choice(leads)
            storyline = storylines[chance.choice(lead.plots)]
            yield compose_from_storyline(storyline, regions, slots, chance, lead.tell(chance))
        else:
            yield compose_from_storyline(storylines[number % len(storylines)], regions, slots, chance)
