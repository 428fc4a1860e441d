"""What was typed at a prompt, kept from one session to the next."""

import contextlib
import json
import os
import readline
from collections.abc import Iterator
from pathlib import Path

import click

KEPT = 1000


def history_file() -> Path:
    """The prompts' file in the user's state directory, where the XDG Base Directory Specification has it.

    Raises OSError for a user without a home.
    """
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    try:
        base = state if state.is_absolute() else Path.home() / ".local/state"
    except RuntimeError as error:
        raise OSError("you have no home directory; set HOME, or XDG_STATE_HOME") from error
    return base / "pokegen/prompts.jsonl"


class History:
    """The lines that the arrow keys bring back: a JSON string a line, as a prompt may have several lines.

    Each is written when it is typed, so that sessions side by side keep all of theirs, and only for its user to read.
    Where that fails it is said once, and this session has a memory all the same.
    """

    def __init__(self) -> None:
        self._file: Path | None = None
        self._last: str | None = None
        readline.set_auto_history(False)
        with self._keeping():
            file = history_file()
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            for prompt in read(file):
                self._remember(prompt)
            self._file = file

    def add(self, typed: str) -> None:
        """Keep what was typed, unless it was typed just before."""
        if typed == self._last:
            return
        self._remember(typed)
        if self._file:
            with self._keeping(), self._file.open("a", encoding="utf-8") as file:
                file.write(as_line(typed))

    def _remember(self, typed: str) -> None:
        readline.add_history(typed)
        self._last = typed

    @contextlib.contextmanager
    def _keeping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._file = None
            click.echo(f"pokegen: what you type will not be kept: {error}", err=True)


def read(file: Path) -> list[str]:
    """The last KEPT prompts of the file, which from then on holds nothing else. Raises OSError.

    A line that is no JSON, which a full disk may have cut off, is left out: the next one would be written behind it.
    """
    file.touch(mode=0o600)
    text = file.read_text(encoding="utf-8", errors="replace")
    prompts = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            prompts.append(str(json.loads(line)))
    prompts = prompts[-KEPT:]
    tidy = "".join(map(as_line, prompts))
    if tidy != text:
        new = file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(tidy, encoding="utf-8")
        new.replace(file)
    return prompts


def as_line(prompt: str) -> str:
    """How a prompt stands in the file."""
    return json.dumps(prompt) + "\n"
