"""The native core without a checkpoint's files: weights at random, and its model in one precision on one processor."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from server.engine import supported_isas
from server.engine.native import _core
from server.engine.native.packing import layout_of, pack
from server.weights import Checkpoint, HParams
from tests.checkpoints import random_tensors

ISAS = tuple(isa for isa in supported_isas() if isa != "auto")
PRECISIONS = ("int8", "float32")


class RandomCheckpoint(Checkpoint):
    """What packing, and the reference in NumPy, ask of a checkpoint. `tensors` may be written to."""

    def __init__(self, hparams: HParams, seed: int = 0) -> None:
        self.hparams = hparams
        self.tensors = random_tensors(hparams, seed)

    def tensor(self, name: str) -> NDArray[np.float32]:
        return self.tensors[name].copy()

    def rows(self, name: str) -> Iterator[NDArray[np.float32]]:
        for first in range(0, len(self.tensors[name]), 7):
            yield self.tensors[name][first : first + 7]


def native_model(
    checkpoint: Checkpoint, precision: str, *, n_blocks: int, threads: int = 1, isa: str = "auto"
) -> _core.Model:
    layout = layout_of(checkpoint.hparams, precision)
    arena = _core.allocate(layout.size)
    pack(checkpoint, layout, arena)
    return _core.Model(layout, arena, n_blocks, threads, isa)


def logits(model: _core.Model, tokens: list[int], position: int, blocks: list[int]) -> NDArray[np.float32]:
    """The logits (T, V) of the tokens of one sequence, the first of which stands at `position`."""
    return model.logits(np.array(tokens, np.int32), position, np.array(blocks, np.int32))
