"""Keys and values of all sequences, in blocks, in float32: where cores that compute in Python keep them."""

import numpy as np
from numpy.typing import NDArray

from server.engine.kv_blocks import BLOCK_SIZE
from server.weights import HParams


class KVCache:
    """Two arrays of (n_layer, n_blocks, BLOCK_SIZE, C); a sequence's block list says where its tokens are."""

    def __init__(self, hparams: HParams, n_blocks: int) -> None:
        shape = (hparams.n_layer, n_blocks, BLOCK_SIZE, hparams.n_embd)
        # Untouched pages cost no memory: the operating system provides them at the first write.
        self._keys = np.empty(shape, np.float32)
        self._values = np.empty(shape, np.float32)

    @staticmethod
    def block_bytes(hparams: HParams) -> int:
        """How many bytes one block takes, keys and values of all layers together."""
        return 2 * hparams.n_layer * BLOCK_SIZE * hparams.n_embd * np.dtype(np.float32).itemsize

    def write(
        self,
        layer: int,
        blocks: list[int],
        position: int,
        keys: NDArray[np.float32],
        values: NDArray[np.float32],
    ) -> None:
        """Store keys and values (T, C) of the tokens from `position` on."""
        at = np.arange(position, position + len(keys))
        block, offset = np.asarray(blocks)[at // BLOCK_SIZE], at % BLOCK_SIZE
        self._keys[layer, block, offset] = keys
        self._values[layer, block, offset] = values

    def read(
        self, layer: int, blocks: list[int], length: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Keys and values (length, C) of the sequence's first `length` tokens."""
        used = blocks[: -(-length // BLOCK_SIZE)]
        n_embd = self._keys.shape[-1]
        return (
            self._keys[layer, used].reshape(-1, n_embd)[:length],
            self._values[layer, used].reshape(-1, n_embd)[:length],
        )
