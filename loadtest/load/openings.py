"""What readers begin with: the first words of the corpus's episodes."""

import json
from functools import cache
from pathlib import Path
from random import Random

EPISODES = Path(__file__).parents[2] / "corpus/episodes"

WORDS = (3, 14)  # of an opening, at least and at most


@cache
def _texts() -> list[list[str]]:
    lines = [
        line for file in sorted(EPISODES.glob("*.jsonl")) for line in file.read_text("utf-8").splitlines()
    ]
    return [json.loads(line)["text"].split()[: WORDS[1]] for line in lines]


def opening(random: Random) -> str:
    """The first words of some episode, more or fewer."""
    return " ".join(random.choice(_texts())[: random.randint(*WORDS)])
