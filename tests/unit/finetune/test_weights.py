"""Fresh weights, and weights read from whatever wrote them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from finetune.weights import fresh_weights, read_weights
from server.weights import CheckpointError, HParams
from server.weights.layout import tensor_shapes
from tests.checkpoints import TINY, random_tensors, write_gpt2_simple, write_transformers

HPARAMS = HParams(n_vocab=500, n_ctx=300, n_embd=64, n_head=2, n_layer=8)


def test_fresh_weights_are_gpt2s() -> None:
    weights = fresh_weights(HPARAMS, seed=1)
    assert {name: value.shape for name, value in weights.items()} == tensor_shapes(HPARAMS)
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}
    for name, value in weights.items():
        if name.endswith("/g"):
            assert (value == 1).all()
        elif name.endswith("/b"):
            assert (value == 0).all()
        else:
            # Two additions a block to the residual stream, whose deviation would grow by the root of their number.
            expected = 0.02 / (2 * 8) ** 0.5 if name.endswith("c_proj/w") else 0.02
            assert value.std() == pytest.approx(expected, rel=0.05)
            assert abs(value.mean()) < 4 * expected / value.size**0.5


def test_the_seed_decides_them() -> None:
    once, again, other = (fresh_weights(HPARAMS, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(once[name], again[name]) for name in once)
    assert not np.array_equal(once["wte"], other["wte"])


@pytest.mark.parametrize("write", [write_gpt2_simple, write_transformers])
def test_a_checkpoint_of_either_format_is_read_whole(tmp_path: Path, write: Callable[..., None]) -> None:
    write(tmp_path, TINY, seed=3)
    hparams, weights = read_weights(tmp_path)
    assert hparams == TINY
    expected = random_tensors(TINY, seed=3)
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, expected[name])


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        read_weights(tmp_path)
