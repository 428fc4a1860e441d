"""Packed weights in a file beside their checkpoint, so that the next start only reads it.

The file is a header, then the arena as it stands in memory. It is no part of the checkpoint: it may be deleted at any
time, and is made anew where it is not of these weights. It is read and not mapped: a file's pages are small on most
systems, and a step, which reads all weights, takes longer from those; and to touch a mapped file that has shrunk would
end the process.
"""

import errno
import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict
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
FORMAT = 2

HEADER = 4096  # bytes, so that the arena begins at a page
MAGIC = b"Packed weights of Pokegen. May be deleted.\n"  # then a JSON object, and zeros

_PIECE = 1 << 20


def packed_arena(checkpoint: Checkpoint, precision: str, size: int, fill: Callable[[Arena], None]) -> Arena:
    """The packed weights of a checkpoint: `size` bytes, in huge pages where the system has them.

    They are read from `pokegen-PRECISION.packed` in the checkpoint's directory, if that is whole and of these weights.
    If it isn't, `fill` packs them into an arena of zeros, and the file is written: over whatever has the name, as the
    name is the service's own; but what is not a regular file, such as a link to /dev/null, stays. Of two processes at
    once one packs, and the other waits for its file. Where no file can be written, every start packs.

    Raises what `fill` raises, and CheckpointError where the weights can't be read; no file is left then.
    """
    packed = _PackedFile(checkpoint, precision, size)
    if (arena := packed.read()) is not None:
        return arena
    # Taken before the weights are read: if they change in between, the file counts as one of other weights.
    identity = packed.identity()
    try:
        with packed.exclusively() as file:
            if (arena := packed.read()) is not None:  # by whoever was before
                return arena
            arena = _core.allocate(size)
            fill(arena)
            packed.write(file, arena, identity)
    except OSError as error:
        logger.info("the packed weights are not kept: %s can't be written (%s)", packed.path, error)
    if arena is None:
        arena = _core.allocate(size)
        fill(arena)
    return arena


class _PackedFile:
    """The file for one checkpoint and precision, whether it is there or not."""

    def __init__(self, checkpoint: Checkpoint, precision: str, size: int) -> None:
        self.path = checkpoint.directory / f"pokegen-{precision}{PACKED_SUFFIX}"
        self._checkpoint = checkpoint
        self._temporary = self.path.with_suffix(f".tmp{PACKED_SUFFIX}")
        self._size = size
        self._kind = {
            "format": FORMAT,
            "precision": precision,
            "size": size,
            "hparams": asdict(checkpoint.hparams),
        }

    def read(self) -> Arena | None:
        """The file's arena; None unless it is there, whole, and of these weights."""
        try:
            if not self.path.is_file():  # to open a pipe would block
                return None
            with FileIO(self.path) as file:
                header = _read_header(file)
                stamp, digest = self._checkpoint.stamp(), header.get("digest")
                # To read all weights may take longer than all else at a start, so only where their files seem to be
                # others. That they are in every copy of the directory, which is as quick as the original from its
                # second start on.
                copied = header.get("stamp") != stamp
                if header | self._kind != header or not isinstance(digest, str):
                    return None
                if copied and digest != self._checkpoint.digest():
                    return None
                arena = _core.allocate(self._size)
                checksum = _read_arena(file, arena)
            if checksum is None or checksum != header.get("checksum"):
                return None
        except OSError:
            return None
        if copied:
            with suppress(OSError), FileIO(self.path, "r+") as file:
                _write_header(file, self._kind | {"stamp": stamp, "digest": digest, "checksum": checksum})
        else:
            self._checkpoint.know_digest(digest)
        return arena

    def identity(self) -> dict[str, object]:
        """What tells these weights from others."""
        return {"stamp": self._checkpoint.stamp(), "digest": self._checkpoint.digest()}

    def exclusively(self) -> AbstractContextManager[FileIO]:
        """A temporary file for `write`, for one process at a time. Raises OSError where there can be none."""
        if self.path.exists() and not self.path.is_file():
            raise FileExistsError("what is there is not a regular file")
        return _exclusive(self._temporary)

    def write(self, file: FileIO, arena: Arena, identity: dict[str, object]) -> None:
        """Put an arena into the temporary file, and that in its place. Raises OSError where that is impossible."""
        file.truncate(0)  # a process that was killed may have left something in it
        file.seek(HEADER)
        checksum = 0
        for start in range(0, arena.size, _PIECE):
            piece = arena[start : start + _PIECE].tobytes()
            checksum = google_crc32c.extend(checksum, piece)
            if file.write(piece) != len(piece):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        _write_header(file, self._kind | identity | {"checksum": checksum})
        os.fsync(file.fileno())
        self._temporary.replace(self.path)


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
            return


def _is_at(path: Path, file: FileIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _read_arena(file: FileIO, arena: Arena) -> int | None:
    """Fill the arena from behind the header, and return the CRC32C of it; None where the file has another size."""
    if os.fstat(file.fileno()).st_size != HEADER + arena.size:
        return None
    checksum = 0
    for start in range(0, arena.size, _PIECE):
        piece = os.pread(file.fileno(), min(_PIECE, arena.size - start), HEADER + start)
        checksum = google_crc32c.extend(checksum, piece)
        arena[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
    return checksum


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
