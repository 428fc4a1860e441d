"""Who owns which blocks of the key/value cache.

The cache is cut into blocks of `BLOCK_SIZE` tokens. A sequence reserves all that it can ever need before it
starts, so nothing that runs is ever preempted and memory cannot run out half-way. A block may have several owners,
whose prompts begin alike; it is free again when the last of them has given it back.
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
        self._owners = [0] * n_blocks  # how many, by block

    @property
    def n_free(self) -> int:
        """How many blocks nobody owns."""
        return len(self._free)

    def reserve(self, n: int) -> list[int] | None:
        """Take n blocks, or take none and return None where fewer are free."""
        if n > len(self._free):
            return None
        return self.share([self._free.pop() for _ in range(n)])

    def share(self, blocks: list[int]) -> list[int]:
        """The same blocks for one more owner, who has to give them back as well."""
        for block in blocks:
            self._owners[block] += 1
        return list(blocks)

    def release(self, blocks: list[int]) -> None:
        """Give blocks back and empty the list, so that an owner cannot give them back twice."""
        while blocks:
            block = blocks.pop()
            self._owners[block] -= 1
            if not self._owners[block]:
                self._free.append(block)
