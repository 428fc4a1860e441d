"""A core over the C++: slices become arrays, and one call computes them all."""

from collections.abc import Iterator
from itertools import chain, islice
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from server.engine.core import scored
from server.engine.native import _core
from server.engine.native.packed_file import packed_arena
from server.engine.native.packing import layout_of, pack
from server.engine.scheduler import PREFILL_CHUNK, Drawn, Slice
from server.weights import Checkpoint, HParams

# auto is the best of the others that the processor has. A t2.medium has avx2, a newer x86-64 server avx512-vnni;
# portable runs everywhere.
Isa = Literal["auto", "avx512-vnni", "avx2", "portable"]
ISAS: tuple[Isa, ...] = get_args(Isa)


def supported_isas() -> tuple[Isa, ...]:
    """Those of ISAS that this processor can run."""
    found = ("auto", *_core.supported_isas())
    return tuple(isa for isa in ISAS if isa in found)


class NativeCore:
    """A `Core`, for a checkpoint in "int8" or "float32", with a key/value cache for `n_blocks` blocks.

    threads: how many compute, 1 or more. Raises CheckpointError where a tensor can't be read, ValueError for an
    isa that the processor does not have or sizes that the core can't compute, MemoryError, and RuntimeError where a
    thread can't be started.
    """

    def __init__(self, checkpoint: Checkpoint, precision: str, n_blocks: int, threads: int, isa: Isa) -> None:
        layout = layout_of(checkpoint.hparams, precision)
        arena = packed_arena(
            checkpoint, precision, layout.size, lambda arena: pack(checkpoint, layout, arena)
        )
        self._model = _core.Model(layout, arena, n_blocks, threads, isa)

    @staticmethod
    def bytes_needed(hparams: HParams, precision: str, max_running: int) -> int:
        """What the weights take, and the logits of a step: those to draw from, and copies where they are asked for."""
        rows = max(max_running, PREFILL_CHUNK) + max_running + PREFILL_CHUNK
        return layout_of(hparams, precision).size + rows * hparams.n_vocab * np.dtype(np.float32).itemsize

    @staticmethod
    def block_bytes(hparams: HParams, precision: str) -> int:
        """How many bytes one block of the key/value cache takes."""
        return layout_of(hparams, precision).block_bytes

    def step(self, batch: list[Slice]) -> list[Drawn]:
        """As in `Core`."""
        params = [part.params for part in batch]
        drawn, logits = self._model.step(
            np.fromiter(chain.from_iterable(part.tokens for part in batch), np.int32),
            np.array([len(part.tokens) for part in batch], np.int32),
            np.array([part.position for part in batch], np.int32),
            np.fromiter(chain.from_iterable(part.blocks for part in batch), np.int32),
            np.array([len(part.blocks) for part in batch], np.int32),
            np.array([part.draws for part in batch], np.uint8),
            np.array([p.temperature for p in params], np.float64),
            np.array([min(p.top_k, 2**31 - 1) for p in params], np.int32),
            np.array([p.top_p for p in params], np.float64),
            np.array([p.seed for p in params], np.uint64),
            np.array([part.sequence.index for part in batch], np.uint64),
            np.array([part.n_logits for part in batch], np.int32),
        )
        rows = iter(logits)
        return [_outcome(part, token, rows) for part, token in zip(batch, drawn, strict=True)]

    def all_logits(self, tokens: list[int], position: int, blocks: list[int]) -> NDArray[np.float32]:
        """The logits (T, V) of every token; the first stands at `position`, `blocks` take keys and values."""
        return self._model.logits(np.array(tokens, np.int32), position, np.array(blocks, np.int32))


def _outcome(part: Slice, token: int, logits: Iterator[NDArray[np.float32]]) -> Drawn:
    asked_for = list(islice(logits, part.n_logits)) if part.n_logits else None
    if token == _core.NOT_FINITE:
        return ValueError("the model's logits are not finite: the checkpoint is damaged")
    drawn = token if part.draws else None
    return drawn if asked_for is None else scored(part, drawn, asked_for)
