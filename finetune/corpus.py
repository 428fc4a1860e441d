"""The written episodes, and which of them no stage of training ever sees."""

import json
from dataclasses import dataclass
from pathlib import Path

from finetune.held_out import is_held_out


@dataclass(frozen=True)
class Episode:
    """A summary as it was written; `text` alone is trained on."""

    region: str
    title: str
    text: str

    @property
    def held_out(self) -> bool:
        """Decided by the text alone, so that adding episodes never moves one across the split."""
        return is_held_out(self.text)


def read_episodes(folder: Path) -> list[Episode]:
    """Every line `{"title", "text"}` of `folder/REGION.jsonl`, regions in alphabetical order.

    Raises FileNotFoundError when the folder holds no such file, ValueError for a line that is not an episode.
    """
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise FileNotFoundError(f"no REGION.jsonl in {folder}: name the folder that holds the episodes")
    episodes = []
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                fields = json.loads(line)
                episodes.append(Episode(file.stem, fields["title"], fields["text"]))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f'{file}:{number}: want {{"title": ..., "text": ...}}, got {line[:60]!r}'
                ) from error
    return episodes


def split(episodes: list[Episode]) -> tuple[list[Episode], list[Episode]]:
    """(training, held out): disjoint, and together all of them."""
    return [e for e in episodes if not e.held_out], [e for e in episodes if e.held_out]
