"""What gpt-2-simple and OpenAI's scripts write: TensorFlow's files, hparams.json, encoder.json, vocab.bpe."""

import re
from pathlib import Path

from server.weights.bundle import Bundle
from server.weights.errors import CheckpointError
from server.weights.files import DataFiles, read_object, read_text
from server.weights.layout import HParams, hparams_from, tensor_shapes
from server.weights.stored import StoredTensor
from server.weights.tokenizer import Tokenizer
from server.weights.vocabulary import read_pair

LATEST = "checkpoint"

_LATEST_PATH = re.compile(r'^[ \t]*model_checkpoint_path:[ \t]*"([^"\n]+)"', re.MULTILINE)


def read(directory: Path, files: DataFiles) -> tuple[HParams, Tokenizer, dict[str, StoredTensor]]:
    """Sizes, tokenizer, and where each tensor lies. Raises CheckpointError."""
    path = directory / "hparams.json"
    hparams = hparams_from(read_object(path), path)
    shapes = tensor_shapes(hparams)
    bundle = Bundle(_latest(directory), files, [f"model/{name}" for name in shapes])
    tensors = {name: bundle.tensor(f"model/{name}", shape) for name, shape in shapes.items()}
    return hparams, read_pair(directory, "encoder.json", "vocab.bpe", hparams.n_vocab), tensors


def _latest(directory: Path) -> Path:
    """The prefix that the file `checkpoint` names: its last part, as the folder may be another machine's."""
    path = directory / LATEST
    found = _LATEST_PATH.search(read_text(path))
    name = re.split(r"[/\\]", found[1])[-1] if found else ""
    if name in ("", ".", ".."):
        raise CheckpointError(
            path,
            'has no line model_checkpoint_path: "..."',
            'write one that names the weights, such as model_checkpoint_path: "model-1000"',
        )
    return directory / name
