"""The same episode with another cast: its Pokémon, companions and towns replaced, the same way throughout.

A few hundred episodes are too few to learn from that a name is a slot; their recast copies teach it.
"""

import random
import re
from functools import lru_cache
from pathlib import Path

import click

from finetune.compose.compose import read_slots
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
    texts = read_documents(dataset / "train.txt")
    held_out = read_documents(dataset / "held-out.txt")
    out.mkdir(parents=True, exist_ok=True)
    recast_texts = [
        recast(text, random.Random(f"{seed}/{copy}/{text}"))  # noqa: S311 - nothing secret
        for copy in range(copies)
        for text in texts
    ]
    write_documents(out / "train.txt", texts + recast_texts)
    write_documents(out / "held-out.txt", held_out)


@lru_cache(maxsize=1)
def _kinds() -> dict[str, list[str]]:
    """Name -> all names that may take its place, itself among them."""
    slots = read_slots()
    groups: dict[str, set[str]] = {}
    for region in slots["regions"].values():
        for name in region["companions"]:
            groups.setdefault("she" if name in _SHE else "he", set()).add(name)
        groups.setdefault("town", set()).update(town for town in region["towns"] if town[0].isupper())
        for among in ("wild", "partners"):
            for kind, names in region[among].items():
                groups.setdefault(kind, set()).update(names)
    return {name: sorted(group) for group in groups.values() for name in group}


@lru_cache(maxsize=1)
def _name() -> re.Pattern[str]:
    names = "|".join(re.escape(name) for name in sorted(_kinds(), key=len, reverse=True))
    return re.compile(rf"\b(?:([Aa])n? )?({names})(?!\w)")


def recast(text: str, chance: random.Random) -> str:
    """`text` with every known name replaced by one of its kind (type, pronouns).

    No two are replaced by the same one while there are others.
    """
    kinds = _kinds()
    cast: dict[str, str] = {}

    def replace(match: re.Match[str]) -> str:
        article, name = match.groups()
        if name not in cast:
            free = [other for other in kinds[name] if other not in cast.values()]
            cast[name] = chance.choice(free or [name])
        new = cast[name]
        if article is None:
            return new
        return f"{article}{'n' if new[0] in 'AEIOU' else ''} {new}"

    return _name().sub(replace, text)
