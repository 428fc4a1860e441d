"""A fuzzer's bytes as a row of choices: the same bytes make the same choices, and other bytes others."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Reads bytes from the front. Where they have come to an end, every choice is the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.chunk(len(self._data))

    def chunk(self, size: int) -> bytes:
        """Up to `size` bytes."""
        chunk = self._data[self._position : self._position + size]
        self._position += len(chunk)
        return chunk

    def between(self, lowest: int, highest: int) -> int:
        """A number from `lowest` to `highest`, both included."""
        count = highest - lowest + 1
        size = max(1, ((count - 1).bit_length() + 7) // 8)
        return lowest + int.from_bytes(self.chunk(size), "little") % count

    def pick(self, values: Sequence[T]) -> T:
        """One of `values`."""
        return values[self.between(0, len(values) - 1)]

    def yes(self) -> bool:
        """True or False."""
        return bool(self.between(0, 1))
