"""Plots with alternatives: every step of a storyline can be said in several ways, and any choice fits any other.

The format of `corpus/storylines/*.txt` (corpus/README.md): `# Title`, settings such as `mon: water, ice`, then the
steps, separated by blank lines, an alternative a line. Within a line `[at once|after a while|]` is a choice.
"""

import random
import re
from dataclasses import dataclass
from pathlib import Path

from finetune.compose.slots import TYPED, require_known_slots, types_of

_SETTING = re.compile(rf"({'|'.join(TYPED)}): ([a-z]+(?:, [a-z]+)*)")
_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")


@dataclass(frozen=True)
class Storyline:
    """One plot: `steps` in order, each a list of alternatives; `types` that a slot's Pokémon must be of."""

    title: str
    types: dict[str, list[str]]
    steps: list[list[str]]

    def tell(self, chance: random.Random, openings: int | None = None) -> list[list[str]]:
        """One alternative a step, choices made, in three or four paragraphs; the slots are still open.

        openings: among how many of the first step's alternatives, the first ones, the choice is; None: all.
        """
        steps = [self.steps[0][:openings], *self.steps[1:]]
        lines = [choose(chance.choice(alternatives), chance) for alternatives in steps]
        breaks = sorted(chance.sample(range(2, len(lines) - 1), chance.choice([2, 3])))
        return [lines[start:end] for start, end in zip([0, *breaks], [*breaks, len(lines)], strict=True)]


def choose(line: str, chance: random.Random) -> str:
    """`line` with one of the texts in place of every `[this|that]`."""
    return _CHOICE.sub(lambda choice: chance.choice(choice[1].split("|")), line)


def read_storylines(folder: Path) -> list[Storyline]:
    """The plots of every `*.txt` in `folder`, files in alphabetical order.

    Raises FileNotFoundError when the folder holds no such file, ValueError for a plot with a setting that is none, with
    a type or a slot that nobody knows, with fewer than six steps, or with brackets or bars that make no choice.
    """
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise FileNotFoundError(f"no *.txt in {folder}: name the folder that holds the storylines")
    return [
        _read_storyline(file, plot)
        for file in files
        for plot in re.split(r"^# ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    ]


def _read_storyline(file: Path, plot: str) -> Storyline:
    head, *blocks = re.split(r"\n\s*\n", plot.strip())
    title, *settings = head.split("\n")
    types = {}
    for setting in settings:
        match = _SETTING.fullmatch(setting)
        if match is None:
            raise ValueError(f"{file}: {title}: want a setting such as 'mon: water, ice', got {setting!r}")
        slot, wanted = match[1], match[2].split(", ")
        for kind in wanted:
            if kind not in types_of(slot):
                raise ValueError(
                    f"{file}: {title}: no {slot} is of type {kind!r}: want some of {', '.join(types_of(slot))}"
                )
        types[slot] = wanted
    if len(blocks) < 6:
        raise ValueError(
            f"{file}: {title}: {len(blocks)} steps; at least 6 are needed, blank lines between them"
        )
    for line in "\n".join(blocks).split("\n"):
        require_known_slots(line, f"{file}: {title}")
        options = [choice[1].split("|") for choice in _CHOICE.finditer(line)]
        if set(_CHOICE.sub("", line)) & set("[]|") or any(len(set(each)) < len(each) for each in options):
            raise ValueError(
                f"{file}: {title}: want choices such as '[this|that]', all different and none within another,"
                f" got {line!r}"
            )
    return Storyline(title, types, [block.split("\n") for block in blocks])
