"""Texts that were written before a change of the arithmetic must not be taken for texts written after it."""

import numpy as np
import pytest

from server.engine import ARITHMETIC
from server.weights import HParams
from tests.unit.engine.native.models import RandomCheckpoint, logits, native_model

HPARAMS = HParams(n_vocab=37, n_ctx=8, n_embd=12, n_head=2, n_layer=2)
EXPECTED = {
    "int8": [2.20193, -2.66469, -0.16446, 0.33905, -2.74499],
    "float32": [2.19151, -2.66388, -0.15898, 0.33217, -2.75035],
}


@pytest.mark.parametrize("precision", EXPECTED)
def test_logits_that_change_have_another_number(precision: str) -> None:
    """Whoever changes what comes out of a model raises `ARITHMETIC`, and puts the new logits here."""
    checkpoint = RandomCheckpoint(HPARAMS)
    for number, tensor in enumerate(checkpoint.tensors.values()):
        # Nothing that another version of NumPy would draw otherwise, and about as large as a model's weights are.
        tensor[:] = ((np.arange(tensor.size) * 37 + 11 * number) % 101 - 50).reshape(tensor.shape) / 50
    model = native_model(checkpoint, precision, n_blocks=1, isa="portable")
    found = logits(model, [1, 2, 3, 5, 8, 13], 0, [0])[-1, :5]
    assert ARITHMETIC == 2
    assert found == pytest.approx(EXPECTED[precision], rel=1e-4)
