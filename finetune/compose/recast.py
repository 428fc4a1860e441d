"""The same episode in another region: its Pokémon, companions and towns replaced, the same way throughout.

A thousand episodes are too few to learn from that a name is a slot; their recast copies teach it.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import click

from finetune.compose.slots import NAME_END, read_slots
from finetune.console import FOLDER
from finetune.documents import read_documents, write_documents
from server.commands.console import examples

# Companions change places only with those whom the same pronouns suit.
_SHE = {"Misty", "May", "Dawn", "Iris", "Serena", "Bonnie", "Lana", "Lillie", "Mallow", "Chloe"}


@click.command(
    context_settings={"show_default": True},
    epilog=examples(
        (
            "three copies of each training text",
            "pokegen recast --dataset run/data/episodes --out run/data/recast",
        ),
    ),
)
@click.option("--dataset", type=FOLDER, required=True, help="A prepared folder.")
@click.option(
    "--copies", type=click.IntRange(min=1), default=3, help="Of every training text, beside itself."
)
@click.option("--seed", default=1, help="The same seed gives the same copies.")
@click.option(
    "--out", type=FOLDER, required=True, help="The folder to write; its held-out.txt is the data set's."
)
def command(dataset: Path, copies: int, seed: int, out: Path) -> None:
    """Add to every training text copies of it with other Pokémon, companions and towns."""
    if out.resolve() == dataset.resolve():
        raise click.BadParameter(f"{out} is --dataset: name another folder", param_hint="--out")
    if (out / "report.json").exists():
        raise click.BadParameter(f"{out} is a prepared data set: name another folder", param_hint="--out")
    texts = read_documents(dataset / "train.txt")
    held_out = read_documents(dataset / "held-out.txt")
    out.mkdir(parents=True, exist_ok=True)
    recast_texts = [
        recast(text, random.Random(f"{seed}/{copy}/{text}"))  # noqa: S311 - nothing secret
        for copy in range(copies)
        for text in texts
    ]
    # A run that ends in the middle must not leave halves of two data sets.
    (out / "train.txt").unlink(missing_ok=True)
    write_documents(out / "held-out.txt", held_out)
    write_documents(out / "train.txt", texts + recast_texts)


ByKind = dict[str, list[str]]  # kind (a sex, "town", "region", "professor", a type of Pokémon) -> names
Substitutes = dict[str, list[str]]  # name -> all names that may take its place


@lru_cache(maxsize=1)
def _regions() -> dict[str, Any]:
    regions: dict[str, Any] = read_slots()["regions"]
    return regions


def _sex(companion: str) -> str:
    return "she" if companion in _SHE else "he"


def _by_kind(regions: Iterable[str]) -> ByKind:
    groups: dict[str, set[str]] = {}
    for name in regions:
        region = _regions()[name]
        groups.setdefault("region", set()).add(name.capitalize())
        groups.setdefault("professor", set()).add(region["professor"])
        for companion in region["companions"]:
            groups.setdefault(_sex(companion), set()).add(companion)
        groups.setdefault("town", set()).update(town for town in region["towns"] if town[0].isupper())
        for among in ("wild", "partners"):
            for kind, names in region[among].items():
                groups.setdefault(kind, set()).update(names)
    return {kind: sorted(names) for kind, names in groups.items()}


@lru_cache(maxsize=1)
def _everywhere() -> Substitutes:
    return {name: names for names in _by_kind(_regions()).values() for name in names}


@lru_cache
def _here(region: str) -> Substitutes:
    """Names of this one region, where it has the kind."""
    here = _by_kind([region])
    return {name: here.get(kind, names) for kind, names in _by_kind(_regions()).items() for name in names}


@lru_cache(maxsize=1)
def _any_name() -> re.Pattern[str]:
    names = "|".join(re.escape(name) for name in sorted(_everywhere(), key=len, reverse=True))
    return re.compile(rf"\b(?:([Aa])n? )?({names}){NAME_END}")


def _regions_with_room(text: str) -> list[str]:
    """The regions that have at least as many companions of either sex as the text names; every one if none has."""
    companions = {name: set(region["companions"]) for name, region in _regions().items()}
    everybody = set().union(*companions.values())
    wanted = Counter(map(_sex, {match[2] for match in _any_name().finditer(text)} & everybody))
    return [name for name in companions if wanted <= Counter(map(_sex, companions[name]))] or list(companions)


def recast(text: str, chance: random.Random) -> str:
    """`text` moved to one region, every known name replaced by one of its kind (type, pronouns).

    Names that the region lacks come from others: Pokémon of a type, and companions where no region has as many as the
    text. No two are replaced by the same one while there are others.
    """
    here = _here(chance.choice(_regions_with_room(text)))
    cast: dict[str, str] = {}

    def free(names: list[str]) -> list[str]:
        return [name for name in names if name not in cast.values()]

    def replace(match: re.Match[str]) -> str:
        article, name = match.groups()
        if name not in cast:
            cast[name] = chance.choice(free(here[name]) or free(_everywhere()[name]) or [name])
        new = cast[name]
        if article is None:
            return new
        return f"{article}{'n' if new[0] in 'AEIOU' else ''} {new}"

    return _any_name().sub(replace, text)
