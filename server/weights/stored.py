"""One tensor where it lies in a file, whatever the file's format."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from server.weights.errors import COPY_AGAIN, CheckpointError
from server.weights.files import DataFile

# What is read at a time, in bytes, so that no tensor is in memory twice. A multiple of every item size.
PIECE = 1 << 20


def _bfloat16(raw: bytes) -> NDArray[np.float32]:
    # bfloat16 is the upper half of a float32.
    return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)


_ITEM_SIZE = {"F32": 4, "F16": 2, "BF16": 2}
_DECODE: dict[str, Callable[[bytes], NDArray[np.floating]]] = {
    "F32": lambda raw: np.frombuffer(raw, "<f4"),
    "F16": lambda raw: np.frombuffer(raw, "<f2"),
    "BF16": _bfloat16,
}


def masked_crc32c(crc: int) -> int:
    """CRC32C as LevelDB's format stores it, so that a checksum of data that holds checksums stays sound.

    Source: github.com/google/leveldb, util/crc32c.h.
    """
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies: `size` bytes from `offset`, row-major little-endian items of F32, F16 or BF16.

    `name` is the file's own name for it. `checksum` is the masked CRC32C of its bytes, None where the format
    has none. Making one raises CheckpointError when the dtype is another, when shape and size contradict each
    other, or when the file is too short.
    """

    name: str
    file: DataFile
    offset: int
    size: int
    dtype: str
    shape: tuple[int, ...]
    checksum: int | None

    def __post_init__(self) -> None:
        if self.dtype not in _ITEM_SIZE:
            raise CheckpointError(
                self.file.path,
                f"tensor {self.name} is stored as {self.dtype:.40}",
                f"save it as one of {', '.join(_ITEM_SIZE)}",
            )
        needed = math.prod(self.shape) * _ITEM_SIZE[self.dtype]
        if self.size != needed:
            raise CheckpointError(
                self.file.path,
                f"tensor {self.name} has {self.size} bytes where {self.dtype} of shape {self.shape} has {needed}",
                COPY_AGAIN,
            )
        if not 0 <= self.offset <= self.file.size - self.size:
            raise CheckpointError(
                self.file.path,
                f"tensor {self.name} ends at byte {self.offset + self.size} of a file of {self.file.size}",
                COPY_AGAIN,
            )

    def pieces(self, size: int = PIECE) -> Iterator[NDArray[np.floating]]:
        """The items in order, `size` bytes at a time. Raises CheckpointError, at the end, for a wrong checksum."""
        crc = 0
        for start in range(0, self.size, size):
            raw = self.file.read(self.offset + start, min(size, self.size - start))
            if self.checksum is not None:
                crc = google_crc32c.extend(crc, raw)
            yield _DECODE[self.dtype](raw)
        if self.checksum is not None and masked_crc32c(crc) != self.checksum:
            raise CheckpointError(
                self.file.path,
                f"tensor {self.name} has a checksum other than the one stored for it",
                COPY_AGAIN,
            )

    def rows(self) -> Iterator[NDArray[np.float32]]:
        """The tensor in slices of whole rows along its first axis, of about `PIECE` bytes; they may be read-only.

        Raises CheckpointError for a shrunk file, and behind the last slice for a wrong checksum, or a number that is
        NaN or infinite: only then are those before it known to be sound.
        """
        # A tensor without axes is one row of one number.
        row = self.size // self.shape[0] if self.shape else self.size
        finite = True
        for piece in self.pieces(max(1, PIECE // row) * row):
            rows = piece.astype(np.float32, copy=False).reshape(-1, *self.shape[1:])
            finite = finite and bool(np.isfinite(rows).all())
            yield rows
        if not finite:  # said after the checksum: what was damaged on the way was sound where it came from
            raise CheckpointError(
                self.file.path,
                f"tensor {self.name} holds NaN or infinite values",
                "its training has failed: take a checkpoint of an earlier step",
            )

    def read(self) -> NDArray[np.float32]:
        """The tensor in an array of its own. Raises CheckpointError as `rows` does."""
        tensor = np.empty(self.shape, np.float32)
        flat = tensor.reshape(-1)
        start = 0
        for rows in self.rows():
            flat[start : start + rows.size] = rows.reshape(-1)
            start += rows.size
        return tensor
