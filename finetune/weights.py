"""A GPT-2's weights as plain arrays, under GPT-2's own names: what trainers start from and what they leave.

Names and shapes are those of `server.weights.layout.tensor_shapes`, values are float32.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finetune.files import digest
from server.weights import HParams, open_checkpoint
from server.weights.layout import tensor_shapes

Weights = dict[str, NDArray[np.float32]]


def fresh_weights(hparams: HParams, seed: int) -> Weights:
    """GPT-2's initial weights: normal with a deviation of 0.02, smaller where a block adds to the residual stream.

    Source: section 2.3 of "Language Models are Unsupervised Multitask Learners" (OpenAI, 2019), and OpenAI's code for
    the deviation. The same seed gives the same weights, whatever trainer takes them.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    weights: Weights = {}
    for name, shape in tensor_shapes(hparams).items():
        if name.endswith("/g"):
            weights[name] = np.ones(shape, np.float32)
        elif name.endswith("/b"):
            weights[name] = np.zeros(shape, np.float32)
        else:
            deviation = 0.02 / math.sqrt(2 * hparams.n_layer) if name.endswith("c_proj/w") else 0.02
            weights[name] = deviation * random.standard_normal(shape, np.float32)
    return weights


def weights_digest(hparams: HParams, tensor: Callable[[str], NDArray[np.float32]]) -> str:
    """A hash to know weights by, whatever files they come from. `tensor` gives them by name, one at a time."""
    return digest(tensor(name).tobytes() for name in sorted(tensor_shapes(hparams)))


def read_weights(checkpoint: Path) -> tuple[HParams, Weights]:
    """Every tensor of a checkpoint directory that the server can read. Raises CheckpointError."""
    with open_checkpoint(checkpoint) as opened:
        return opened.hparams, {name: opened.tensor(name) for name in tensor_shapes(opened.hparams)}
