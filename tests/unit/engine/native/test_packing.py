"""Weights that are finite in their file, and no longer when they are packed."""

from pathlib import Path

import numpy as np
import pytest

from server.engine.native import _core
from server.weights import CheckpointError, HParams
from tests.unit.engine.native.models import PRECISIONS, RandomCheckpoint, native_model

HPARAMS = HParams(n_vocab=100, n_ctx=32, n_embd=24, n_head=2, n_layer=2)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("norm", "part"), [("ln_1", "g"), ("ln_2", "b")])
def test_a_layer_norm_that_takes_the_weights_beyond_float32(precision: str, norm: str, part: str) -> None:
    checkpoint = RandomCheckpoint(HPARAMS)
    checkpoint.directory = Path("run1")
    checkpoint.tensors[f"h1/{norm}/{part}"][3] = np.finfo(np.float32).max
    matrix = "attn/c_attn" if norm == "ln_1" else "mlp/c_fc"
    checkpoint.tensors[f"h1/{matrix}/w"][3] = 100
    with pytest.raises(
        CheckpointError, match=f"^run1: tensors h1/{norm} times h1/{matrix}/w are beyond what a float32"
    ):
        native_model(checkpoint, precision, n_blocks=2)


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_not_hidden_by_integers(strange: float) -> None:
    """No reader lets them through; whoever packs something else is told when a token is drawn."""
    layout = _core.Layout(100, 32, 24, 2, 1, "int8")
    arena = _core.allocate(layout.size)
    rows = np.ones((100, 24), np.float32)
    rows[7, 3] = strange
    layout.pack_token_embeddings(arena, 0, rows)
    model = _core.Model(layout, arena, 2, 1, "auto")
    for token in (7, 8):
        found = model.logits(np.array([token], np.int32), 0, np.array([0], np.int32))
        assert not np.isfinite(found[0, 7])
