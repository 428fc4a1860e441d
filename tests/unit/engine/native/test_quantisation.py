"""What the shipped checkpoint loses by int8, measured by the perplexity of texts that it was not trained on."""

import json
from pathlib import Path

import numpy as np
import pytest

from finetune import vocabulary
from finetune.evaluate.perplexity import from_checkpoint, perplexity
from finetune.prepare.cleaning import clean
from finetune.prepare.held_out import is_held_out
from finetune.publish.export import export
from finetune.weights import Weights, read_weights
from server.engine import EngineName
from server.settings import SHIPPED_CHECKPOINT
from server.weights import open_checkpoint
from tests.checkpoints import EPISODES


@pytest.fixture(scope="module")
def held_out() -> list[str]:
    lines = (EPISODES / "kanto.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [clean(json.loads(line)["text"]) for line in lines]
    return [text for text in texts if is_held_out(text)]


def write(directory: Path, *, outliers: bool) -> Path:
    """A copy of the shipped checkpoint, for the engine writes into its directory."""
    hparams, weights = read_weights(SHIPPED_CHECKPOINT)
    if outliers:
        plant_outliers(weights, hparams.n_layer)
    export(directory, hparams, weights, vocabulary.read(SHIPPED_CHECKPOINT), formats=("transformers",))
    return directory


def plant_outliers(weights: Weights, n_layer: int) -> None:
    """Let six channels of every layer norm be 40 times as large, and what is made of them a 40th: the same function.

    OpenAI's own weights have a few channels like that. With activations rounded as they are, six such channels would
    leave the others the worth of a few bits.
    """
    rng = np.random.default_rng(1)
    for layer in range(n_layer):
        for norm, matrix in (("ln_1", "attn/c_attn"), ("ln_2", "mlp/c_fc")):
            gain = weights[f"h{layer}/{norm}/g"]
            channels = rng.choice(len(gain), 6, replace=False)
            gain[channels] *= 40
            weights[f"h{layer}/{norm}/b"][channels] *= 40
            weights[f"h{layer}/{matrix}/w"][channels] /= 40


def measure(directory: Path, engine: EngineName, texts: list[str]) -> float:
    with open_checkpoint(directory) as checkpoint:
        return perplexity(from_checkpoint(checkpoint, engine), texts).perplexity_per_token


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("shipped"), outliers=False)


@pytest.fixture(scope="module")
def in_float32(shipped: Path, held_out: list[str]) -> float:
    return measure(shipped, "float32", held_out)


def test_perplexity_rises_by_half_a_percent_at_most(
    shipped: Path, held_out: list[str], in_float32: float
) -> None:
    assert measure(shipped, "int8", held_out) <= 1.005 * in_float32


def test_outlier_channels_cost_no_more_than_one_percent(
    tmp_path: Path, held_out: list[str], in_float32: float
) -> None:
    planted = write(tmp_path, outliers=True)
    assert measure(planted, "float32", held_out) == pytest.approx(in_float32, rel=1e-4)
    assert measure(planted, "int8", held_out) <= 1.01 * in_float32
