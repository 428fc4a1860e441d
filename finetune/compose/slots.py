"""What may fill a slot of a storyline or a beat."""

import json
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("slots.json")


def read_slots() -> dict[str, Any]:
    """Common lists, and per region its companions, towns and Pokémon by type."""
    slots: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return slots
