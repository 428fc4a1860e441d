"""The slots of a storyline or a beat, and what may fill them."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("slots.json")

SLOT = re.compile(r"\{([^{}]*)\}")
# All that there are, in groups: what compose.choose_cast gives an episode.
SLOT_NAMES = (
    *("friend", "friend2", "guest", "they", "them", "their", "guest2", "they2", "them2", "their2"),
    *("mon", "wild", "partner", "move", "move2", "town", "town2", "place", "job", "item", "gadget"),
)
# Whom a storyline may want of a type: slot -> the list of a region that it is taken from.
TYPED = {"partner": "partners", "mon": "wild", "wild": "wild"}

# What stands behind a name, as a regular expression: no letter, and "May I" is nobody.
NAME_END = r"(?!\w| I\b)"


def read_slots() -> dict[str, Any]:
    """Common lists, and per region its companions, towns and Pokémon by type."""
    slots: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return slots


@cache
def types_of(slot: str) -> list[str]:
    """The types that `slot`, one of TYPED, has in some region."""
    regions = read_slots()["regions"].values()
    return sorted({kind for region in regions for kind in region[TYPED[slot]]})


def require_known_slots(text: str, where: str) -> None:
    """Raise ValueError, which begins with `where`, for a slot that is none of SLOT_NAMES."""
    for slot in SLOT.findall(text):
        if slot not in SLOT_NAMES:
            raise ValueError(f"{where}: no slot is called {{{slot}}}: want one of {', '.join(SLOT_NAMES)}")


def is_named(name: str, text: str) -> bool:
    """Whether the text has the name, as a word of its own."""
    return name in text and _name(name).search(text) is not None


@cache
def _name(name: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(name)}{NAME_END}")
