"""A checkpoint's tensors into the arena that the native core computes from."""

import numpy as np
from numpy.typing import NDArray

from server.engine.native._core import Layout
from server.engine.native.packed_file import Arena
from server.weights import Checkpoint, CheckpointError, HParams

Array = NDArray[np.float32]

# In the order of the core's, each with the layer norm before it.
_MATRICES = (("attn/c_attn", "ln_1"), ("attn/c_proj", None), ("mlp/c_fc", "ln_2"), ("mlp/c_proj", None))


def layout_of(hparams: HParams, precision: str) -> Layout:
    """Where the weights of such a model lie. Raises ValueError for sizes that the core can't compute."""
    return Layout(hparams.n_vocab, hparams.n_ctx, hparams.n_embd, hparams.n_head, hparams.n_layer, precision)


def pack(checkpoint: Checkpoint, layout: Layout, arena: Arena) -> None:
    """Fill an arena of zeros, tensor by tensor. Raises CheckpointError where one can't be read."""
    first = 0
    for rows in checkpoint.rows("wte"):
        layout.pack_token_embeddings(arena, first, rows)
        first += len(rows)
    layout.pack_position_embeddings(arena, checkpoint.tensor("wpe"))
    layout.pack_final_norm(arena, np.stack([checkpoint.tensor("ln_f/g"), checkpoint.tensor("ln_f/b")]))
    for layer in range(checkpoint.hparams.n_layer):
        for which in range(len(_MATRICES)):
            _pack_matrix(checkpoint, layout, arena, layer, which)


def _pack_matrix(checkpoint: Checkpoint, layout: Layout, arena: Arena, layer: int, which: int) -> None:
    # In a function of its own, behind which nothing of the matrix stays in memory.
    name, norm = _MATRICES[which]
    weights = checkpoint.tensor(f"h{layer}/{name}/w")
    bias = checkpoint.tensor(f"h{layer}/{name}/b")
    if norm:
        gain, shift = checkpoint.tensor(f"h{layer}/{norm}/g"), checkpoint.tensor(f"h{layer}/{norm}/b")
        fold(gain, shift, weights, bias)
        if not (np.isfinite(bias).all() and all(np.isfinite(row).all() for row in weights)):
            raise CheckpointError(
                checkpoint.directory,
                f"tensors h{layer}/{norm} times h{layer}/{name}/w are beyond what a float32 holds",
                "their training has failed: take a checkpoint of an earlier step",
            )
    layout.pack_matrix(arena, layer, which, weights, bias)


def fold(gain: Array, shift: Array, weights: Array, bias: Array) -> None:
    """Put a layer norm's gain and shift (K,) into the matrix (K, N) and the bias (N,) behind it, in place.

    (x * gain + shift) @ weights + bias = x @ (gain * weights) + (shift @ weights + bias). The core's activations then
    all have the variance 1, and a channel whose gain is large takes nothing from the precision of the others.
    """
    # Row by row, in double precision: no library's threads, and no second matrix.
    total = bias.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks for what is not finite
        for row, factor, offset in zip(weights, gain, shift, strict=True):
            total += np.float64(offset) * row
            row *= factor
        bias[:] = total
