"""Packed weights in a file beside their checkpoint, so that the next start only maps it.

The file is a header, then the arena as it stands in memory; all processes that map it share one copy. It is no part of
the checkpoint: it may be deleted at any time, and is made anew where it is not of these weights. What must not happen
to it is to be written to in place: that changes the weights of whoever runs, and to cut it short ends the process.
"""

import fcntl
import json
import logging
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import cached_property
from io import FileIO
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from server.engine.native import _core
from server.weights import Checkpoint
from server.weights.checkpoint import PACKED_SUFFIX

logger = logging.getLogger(__name__)

Arena = NDArray[np.uint8]

# To be raised with every change of what `_core.Layout` puts where: a file of another format is made anew.
FORMAT = 1

HEADER = 4096  # bytes, so that the arena begins at a page
MAGIC = b"Packed weights of Pokegen. May be deleted.\n"  # then a JSON object, and zeros

_PIECE = 1 << 20


def packed_arena(checkpoint: Checkpoint, precision: str, size: int, fill: Callable[[Arena], None]) -> Arena:
    """The packed weights of a checkpoint: `size` bytes that begin at a page, and may be read-only.

    They are mapped from `pokegen-PRECISION.packed` in the checkpoint's directory, if that is whole and of these
    weights. If it isn't, `fill` packs them into an arena of zeros: the new file itself, mapped, so that they are in
    memory once. It replaces whatever file has the name, as the name is the service's own; what is not a regular file,
    such as a link to /dev/null, stays. Of two processes at once one packs, and the other waits for its file.

    Where no file can be written, the arena is memory of this process alone. Raises what `fill` raises, and
    CheckpointError where the weights can't be read; no file is left then.
    """
    packed = _PackedFile(checkpoint, precision, size)
    if (arena := packed.find()) is not None:
        return arena
    try:
        return packed.make(fill)
    except OSError as error:
        logger.info("the packed weights are kept in memory: %s can't be written (%s)", packed.path, error)
    arena = _core.allocate(size)
    fill(arena)
    return arena


class _PackedFile:
    """The file for one checkpoint and precision, whether it is there or not."""

    def __init__(self, checkpoint: Checkpoint, precision: str, size: int) -> None:
        self.path = checkpoint.directory / f"pokegen-{precision}{PACKED_SUFFIX}"
        self._checkpoint = checkpoint
        self._length = HEADER + size
        self._kind = {
            "format": FORMAT,
            "precision": precision,
            "size": size,
            "hparams": asdict(checkpoint.hparams),
        }

    def find(self) -> Arena | None:
        """The file's arena; None unless it is there, whole, and of these weights."""
        try:
            if not self.path.is_file():  # to open a pipe would block
                return None
            with FileIO(self.path) as file:
                header = _read_header(file)
                length = os.fstat(file.fileno()).st_size
                if length != self._length or header | self._kind != header:
                    return None
                arena = _map(file.fileno(), length, prot=mmap.PROT_READ)[HEADER:]
        except OSError:
            return None
        return (
            arena
            if header.get("checksum") == _checksum(arena) and self._is_of_these_weights(header)
            else None
        )

    def _is_of_these_weights(self, header: dict[str, object]) -> bool:
        # To read all weights may take longer than all else at a start, so only where their files seem to be others.
        # That they are in every copy of the directory, which is as quick as the original from its second start on.
        stamp = self._checkpoint.stamp()
        if header.get("stamp") == stamp:
            return True
        if header.get("digest") != self._digest:
            return False
        with suppress(OSError), FileIO(self.path, "r+") as file:
            _write_header(file, header | {"stamp": stamp})
        return True

    @cached_property
    def _digest(self) -> str:
        return self._checkpoint.digest()

    def make(self, fill: Callable[[Arena], None]) -> Arena:
        """Write the file, and map it. Raises OSError where that is impossible."""
        if self.path.exists() and not self.path.is_file():
            raise FileExistsError("what is there is not a regular file")
        temporary = self.path.with_suffix(f".tmp{PACKED_SUFFIX}")
        with _exclusive(temporary) as file:
            if (arena := self.find()) is not None:  # by whoever had the temporary file before
                return arena
            # Taken before the weights are read: if they change in between, the file counts as one of other weights.
            header = self._kind | {"stamp": self._checkpoint.stamp(), "digest": self._digest}
            file.truncate(0)  # a process that was killed may have left something in it
            # A disk that is full would otherwise end the process at a write to mapped memory.
            os.posix_fallocate(file.fileno(), 0, self._length)
            arena = _map(file.fileno(), self._length)[HEADER:]
            fill(arena)
            _write_header(file, header | {"checksum": _checksum(arena)})
            os.fsync(file.fileno())
            temporary.replace(self.path)
            return _map(file.fileno(), self._length, prot=mmap.PROT_READ)[HEADER:]


@contextmanager
def _exclusive(path: Path) -> Iterator[FileIO]:
    """The file at `path`, made if it is missing, for one process at a time; removed unless it has got another name.

    Raises OSError.
    """
    while True:
        # Through no link, lest the file that it leads to is overwritten.
        with FileIO(
            os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666), "r+"
        ) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(path, file):  # but renamed or removed by whoever had it before
                continue
            try:
                yield file
            finally:
                if _is_at(path, file):
                    path.unlink()
                fcntl.flock(file, fcntl.LOCK_UN)  # a mapping would keep it locked
            return


def _is_at(path: Path, file: FileIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _map(file: int, length: int, prot: int = mmap.PROT_READ | mmap.PROT_WRITE) -> Arena:
    mapping = mmap.mmap(file, length, prot=prot)
    # Memory is read faster in large pages. Not every kernel and file system has them.
    with suppress(OSError):
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapping, np.uint8)


def _checksum(arena: Arena) -> int:
    """CRC32C of the arena."""
    crc = 0
    for start in range(0, arena.size, _PIECE):
        crc = google_crc32c.extend(crc, arena[start : start + _PIECE].tobytes())
    return crc


def _read_header(file: FileIO) -> dict[str, object]:
    """What the header says; nothing where there is none."""
    raw = file.read(HEADER)
    try:
        header = json.loads(raw.removeprefix(MAGIC).rstrip(b"\0"))
    except (ValueError, RecursionError):
        return {}
    return header if raw.startswith(MAGIC) and isinstance(header, dict) else {}


def _write_header(file: FileIO, header: dict[str, object]) -> None:
    os.pwrite(file.fileno(), (MAGIC + json.dumps(header).encode()).ljust(HEADER, b"\0"), 0)
