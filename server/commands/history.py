"""What was typed at a prompt, kept from one session to the next."""

import json
import os
import readline
from pathlib import Path

KEPT = 1000


def history_file() -> Path:
    """The prompts' file in the user's state directory, where the XDG Base Directory Specification has it."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if Path(state).is_absolute() else Path.home() / ".local/state"
    return base / "pokegen/prompts.jsonl"


class History:
    """The lines that the arrow keys bring back: a JSON string a line, as a prompt may have several lines.

    Each is written when it is typed, so that sessions side by side keep all of theirs, and only for its user to read.
    A line that is no JSON, which a full disk may have cut off, is left out. Raises OSError.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._last: str | None = None
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
        readline.set_auto_history(False)
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines()[-KEPT:]:
            try:
                self._remember(str(json.loads(line)))
            except ValueError:
                continue

    def add(self, typed: str) -> None:
        """Keep what was typed, unless it was typed just before."""
        if typed != self._last:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(typed) + "\n")
            self._remember(typed)

    def _remember(self, typed: str) -> None:
        readline.add_history(typed)
        self._last = typed
