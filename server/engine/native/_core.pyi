"""The C++ in src/, bound by src/binding.cpp. Arrays are C-contiguous.

Whatever is out of range raises ValueError, what does not fit into memory MemoryError, and a thread that can't be
started RuntimeError.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

NOT_FINITE: Final[int]  # what is drawn from logits that are not numbers

class Layout:
    """Where the packed weights of a model lie in its arena, which begins as zeros.

    precision is "int8" or "float32".
    """

    def __init__(
        self, n_vocab: int, n_ctx: int, n_embd: int, n_head: int, n_layer: int, precision: str
    ) -> None: ...
    @property
    def size(self) -> int:
        """Bytes of the arena."""
    @property
    def block_bytes(self) -> int:
        """Bytes of a block of the key/value cache, all layers together."""
    def pack_matrix(
        self,
        arena: NDArray[np.uint8],
        layer: int,
        which: int,
        weights: NDArray[np.float32],
        bias: NDArray[np.float32],
    ) -> None:
        """Pack a matrix (K, N) with its bias (N,). which: 0 attn/c_attn, 1 attn/c_proj, 2 mlp/c_fc, 3 mlp/c_proj."""
    def pack_token_embeddings(self, arena: NDArray[np.uint8], first: int, rows: NDArray[np.float32]) -> None:
        """Pack the embeddings (n, C) of the tokens from `first` on."""
    def pack_position_embeddings(self, arena: NDArray[np.uint8], rows: NDArray[np.float32]) -> None:
        """Pack wpe (n_ctx, C)."""
    def pack_final_norm(self, arena: NDArray[np.uint8], gain_and_bias: NDArray[np.float32]) -> None:
        """Pack ln_f's gain and bias (2, C)."""

class Model:
    """GPT-2 with a key/value cache of `n_blocks` blocks of 16 tokens.

    Threads that call it at once are served one after the other.
    """

    def __init__(
        self, layout: Layout, arena: NDArray[np.uint8], n_blocks: int, threads: int, isa: str
    ) -> None: ...
    def step(
        self,
        tokens: NDArray[np.int32],
        lengths: NDArray[np.int32],
        positions: NDArray[np.int32],
        blocks: NDArray[np.int32],
        n_blocks: NDArray[np.int32],
        draws: NDArray[np.uint8],
        temperature: NDArray[np.float64],
        top_k: NDArray[np.int32],
        top_p: NDArray[np.float64],
        seeds: NDArray[np.uint64],
        samples: NDArray[np.uint64],
        n_logits: NDArray[np.int32],
    ) -> tuple[list[int], NDArray[np.float32]]:
        """Compute B slices and draw a token behind each that `draws`; the others' is -1.

        tokens: of all slices, one behind the other; lengths (B,): how many each has; positions (B,): where its first
        stands. blocks: of all slices; n_blocks (B,): how many each has. n_logits (B,): of how many of its last tokens
        each gets the logits; they are the rows (sum of n_logits, V) of the second result, one slice behind the other.
        The others (B,) are as in SamplingParams; samples: number of the sample in its generation.
        """
    def logits(
        self, tokens: NDArray[np.int32], position: int, blocks: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """The logits (T, V) of the T tokens of one sequence, the first of which stands at `position`."""

def allocate(size: int) -> NDArray[np.uint8]:
    """An arena of `size` zeros, in huge pages where the system has them."""

def draw(
    logits: NDArray[np.float32],
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
    sample: int,
    position: int,
    n: int,
    isa: str,
) -> list[int]:
    """Draw n tokens from the same logits (V,), at the positions from `position` on."""

def uniform(seed: int, position: int, sample: int) -> float:
    """The random number in [0, 1) of server.engine.sampling.uniform."""

def supported_isas() -> list[str]:
    """Of "portable", "avx2" and "avx512-vnni" what this processor has, the best last."""

def ceilings(isa: str, threads: int, seconds: float) -> tuple[float, float]:
    """The int8 multiply-adds, and the bytes read from memory, that the machine reaches a second."""
