"""Who owns which blocks of the key/value cache.

The cache is cut into blocks of `BLOCK_SIZE` tokens. A sequence reserves all that it can ever need before it
starts, so nothing that runs is ever preempted and memory cannot run out half-way.
"""

BLOCK_SIZE = 16


def blocks_for(tokens: int) -> int:
    """How many blocks hold this many tokens."""
    return -(-tokens // BLOCK_SIZE)


class KVBlocks:
    """A pool of `n_blocks` block numbers, 0 to n_blocks - 1. Not thread-safe: the engine's lock guards it."""

    def __init__(self, n_blocks: int) -> None:
        self.n_blocks = n_blocks
        self._free = list(range(n_blocks - 1, -1, -1))

    @property
    def n_free(self) -> int:
        """How many blocks nobody owns."""
        return len(self._free)

    def reserve(self, n: int) -> list[int] | None:
        """Take n blocks, or take none and return None where fewer are free."""
        if n > len(self._free):
            return None
        return [self._free.pop() for _ in range(n)]

    def release(self, blocks: list[int]) -> None:
        """Give blocks back and empty the list, so that they cannot be given back twice."""
        while blocks:
            self._free.append(blocks.pop())
