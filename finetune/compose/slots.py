"""What may fill a slot of a storyline or a beat."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("slots.json")

# What stands behind a name, as a regular expression: no letter, and "May I" is nobody.
NAME_END = r"(?!\w| I\b)"


def read_slots() -> dict[str, Any]:
    """Common lists, and per region its companions, towns and Pokémon by type."""
    slots: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return slots


def is_named(name: str, text: str) -> bool:
    """Whether the text has the name, as a word of its own."""
    return name in text and _name(name).search(text) is not None


@cache
def _name(name: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(name)}{NAME_END}")
