"""Files written whole or not at all, a folder that one process has to itself, and a hash to know contents by."""

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def whole(file: Path) -> Iterator[TextIO]:
    """Open a draft beside `file`, as UTF-8, and move it there at the end: an error or a kill leaves what was there.

    After a power cut, too, it is the one or the other: the draft is on the disk before it is moved.
    """
    draft = file.with_name(file.name + ".part")
    try:
        with draft.open("w", encoding="utf-8", newline="") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def replace(file: Path, text: str) -> None:
    """Make `text` what `file` holds."""
    with whole(file) as out:
        out.write(text)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make `folder`, and keep every other process out of it that asks for the same.

    The kernel lets go of it when this process ends, however that comes. Raises ValueError when another has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is at work in {folder}: wait until it has ended") from None
        yield
    finally:
        os.close(lock)


def digest(parts: Iterable[bytes]) -> str:
    """A short hash of the parts and of where each ends."""
    sha256 = hashlib.sha256()
    for part in parts:
        sha256.update(len(part).to_bytes(8) + part)
    return sha256.hexdigest()[:12]
