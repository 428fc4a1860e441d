"""Files of packed weights that were made before a change of the layout must not be taken for files made after it."""

import hashlib

import numpy as np
import pytest

from server.engine.native import _core
from server.engine.native.packed_file import FORMAT
from server.engine.native.packing import layout_of, pack
from server.weights import HParams
from tests.unit.engine.native.models import RandomCheckpoint

HPARAMS = HParams(n_vocab=37, n_ctx=5, n_embd=12, n_head=2, n_layer=2)


@pytest.mark.parametrize(
    ("precision", "digest"), [("int8", "bd9e94a0cf200f3e"), ("float32", "87f2eb5d6f1039b7")]
)
def test_an_arena_that_changes_has_another_format(precision: str, digest: str) -> None:
    """Whoever changes where or how weights are packed raises `FORMAT`, and puts the new digests here."""
    checkpoint = RandomCheckpoint(HPARAMS)
    for number, tensor in enumerate(checkpoint.tensors.values()):
        # Nothing that another version of NumPy would draw or round otherwise.
        tensor[:] = ((np.arange(tensor.size) * 37 + number) % 101 - 50).reshape(tensor.shape) / 64
    layout = layout_of(HPARAMS, precision)
    arena = _core.allocate(layout.size)
    pack(checkpoint, layout, arena)
    assert (FORMAT, hashlib.blake2b(arena.data, digest_size=8).hexdigest()) == (2, digest)
