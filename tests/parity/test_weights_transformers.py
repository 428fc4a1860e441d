"""Every tensor of a Hugging Face directory is read as transformers itself reads it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from server.weights import HParams, open_checkpoint
from server.weights.layout import tensor_shapes
from tests.checkpoints import transformers_model, transformers_name, write_transformers

SHAPES = [
    HParams(n_vocab=257, n_ctx=1, n_embd=1, n_head=1, n_layer=1),
    HParams(n_vocab=300, n_ctx=64, n_embd=24, n_head=3, n_layer=2),
    HParams(n_vocab=701, n_ctx=33, n_embd=80, n_head=5, n_layer=11),
    HParams(n_vocab=5000, n_ctx=128, n_embd=128, n_head=8, n_layer=3),  # tensors of several MiB
]
SMALL = SHAPES[1]


def assert_read_as_transformers_does(directory: Path, hparams: HParams) -> None:
    oracle = GPT2LMHeadModel.from_pretrained(directory).transformer.state_dict()
    with open_checkpoint(directory) as checkpoint:
        assert checkpoint.hparams == hparams
        for name, shape in tensor_shapes(hparams).items():
            ours = checkpoint.tensor(name)
            assert ours.shape == shape
            assert ours.dtype == np.float32
            np.testing.assert_array_equal(ours, oracle[transformers_name(name)].float().numpy(), name)


@pytest.mark.parametrize("hparams", SHAPES, ids=str)
def test_one_file(tmp_path: Path, hparams: HParams) -> None:
    write_transformers(tmp_path, hparams, seed=1)
    assert_read_as_transformers_does(tmp_path, hparams)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_several_files(tmp_path: Path, dtype: str) -> None:
    write_transformers(tmp_path, SMALL, dtype=dtype, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert_read_as_transformers_does(tmp_path, SMALL)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(tmp_path: Path, dtype: str) -> None:
    write_transformers(tmp_path, SMALL, dtype=dtype)
    assert_read_as_transformers_does(tmp_path, SMALL)


def test_a_model_without_its_head_is_saved_without_the_prefix(tmp_path: Path) -> None:
    write_transformers(tmp_path, SMALL)
    transformers_model(SMALL, 0).transformer.save_pretrained(tmp_path)
    assert "wte.weight" in load_file(tmp_path / "model.safetensors")
    assert_read_as_transformers_does(tmp_path, SMALL)


def test_the_masks_and_the_tied_head_that_old_versions_stored(tmp_path: Path) -> None:
    write_transformers(tmp_path, SMALL)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    for layer in range(SMALL.n_layer):
        tensors[f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, 64, 64, dtype=torch.bool).tril()
        tensors[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()
    save_file(tensors, path, metadata={"format": "pt"})
    assert_read_as_transformers_does(tmp_path, SMALL)


def test_the_configuration_that_old_versions_wrote(tmp_path: Path) -> None:
    write_transformers(tmp_path, SMALL)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    needed = ("model_type", "n_embd", "n_head", "n_layer", "vocab_size", "layer_norm_epsilon")
    old = {name: config[name] for name in needed} | {"n_ctx": SMALL.n_ctx, "n_positions": SMALL.n_ctx}
    (tmp_path / "config.json").write_text(json.dumps(old), encoding="utf-8")
    assert_read_as_transformers_does(tmp_path, SMALL)
