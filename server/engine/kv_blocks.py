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
    """A pool of `n_blocks` block numbers, 0 to n_blocks - 1. Not thread-safe: the engine's lock guards it.

    A block takes no memory before it is first used, and keeps it from then on: so a new one is used only where none has
    come back.
    """

    def __init__(self, n_blocks: int) -> None:
        self.n_blocks = n_blocks
        self._usable = n_blocks
        self._used = 0  # all before this one have been used at some time
        self._returned: list[int] = []
        self._owners = [0] * n_blocks  # how many, by block

    @property
    def n_free(self) -> int:
        """How many usable blocks nobody owns."""
        return len(self._returned) + self._usable - self._used

    @property
    def n_used(self) -> int:
        """How many have ever been used, and so take memory."""
        return self._used

    def limit(self, n: int) -> int:
        """Use n blocks at most, 0 to n_blocks, or as many as have been used already; which of the two it is."""
        self._usable = min(max(n, self._used), self.n_blocks)
        return self._usable

    def reserve(self, n: int) -> list[int] | None:
        """Take n blocks, or take none and return None where fewer are free."""
        if n > self.n_free:
            return None
        blocks = [self._returned.pop() for _ in range(min(n, len(self._returned)))]
        new = n - len(blocks)
        blocks += range(self._used, self._used + new)
        self._used += new
        return self.share(blocks)

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
                self._returned.append(block)
