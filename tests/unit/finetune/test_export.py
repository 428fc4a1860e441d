"""The checkpoint directory: complete, and the same model to transformers as to us."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune import card
from finetune.__main__ import main
from finetune.export import export, read_kept
from finetune.train import Plan, Point

PLAN = Plan(steps=2, batch=2, learning_rate=1e-3, warmup=1, cooldown=1, seed=1, every=2)
CORPUS = Path(__file__).parents[3] / "corpus"


@pytest.fixture
def run(tmp_path: Path, train_tiny: Callable[[Path, Plan], list[Point]]) -> Path:
    train_tiny(tmp_path / "run", PLAN)
    return tmp_path / "run"


def test_transformers_loads_what_was_exported(run: Path, vocabulary: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    export(run, vocabulary, checkpoint)

    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert model.dtype == torch.float32
    prompt = AutoTokenizer.from_pretrained(checkpoint)("Ash and Pikachu were", return_tensors="pt")
    assert prompt.input_ids[0, 0] == 399
    ours = read_kept(run).train(False)
    torch.testing.assert_close(model(**prompt).logits, ours(**prompt).logits, atol=1e-3, rtol=1e-2)


def test_the_directory_says_its_shape_and_stores_the_head_once(
    run: Path, vocabulary: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    export(run, vocabulary, checkpoint)
    hparams = json.loads((checkpoint / "hparams.json").read_text())
    assert hparams == {"n_vocab": 400, "n_ctx": 64, "n_embd": 16, "n_head": 2, "n_layer": 2}
    tensors = load_file(checkpoint / "model.safetensors")
    assert "lm_head.weight" not in tensors
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


def test_the_card_has_figures_and_a_sample_for_every_prefix(
    run: Path, vocabulary: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    export(run, vocabulary, checkpoint)
    card.write(CORPUS, run, 1, checkpoint)
    text = (checkpoint / "README.md").read_text()
    assert text.startswith("---\nlanguage: en\n")
    assert card.read_curve(run).best["held_out_bits_per_byte"] in text
    assert all(f"**{prefix}**" in text for prefix in card.PREFIXES if prefix)
    how_it_was_made = re.findall(r"^\.venv/bin/python -m finetune (\w+)", text, re.MULTILINE)
    assert how_it_was_made == [command for command in main.commands if command != "tune"]


def test_a_run_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"kept\.pt is missing"):
        read_kept(tmp_path)
