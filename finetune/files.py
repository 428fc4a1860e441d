"""Files written whole or not at all, and a hash to know contents by."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def whole(file: Path) -> Iterator[TextIO]:
    """Open a draft beside `file`, as UTF-8, and move it there at the end: an error or a kill leaves what was there."""
    draft = file.with_name(file.name + ".part")
    with draft.open("w", encoding="utf-8", newline="") as out:
        yield out
    draft.replace(file)


def replace(file: Path, text: str) -> None:
    """Make `text` what `file` holds."""
    with whole(file) as out:
        out.write(text)


def digest(parts: Iterable[bytes]) -> str:
    """A short hash of the parts and of where each ends."""
    sha256 = hashlib.sha256()
    for part in parts:
        sha256.update(len(part).to_bytes(8) + part)
    return sha256.hexdigest()[:12]
