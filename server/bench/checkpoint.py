"""Checkpoints of GPT-2's shapes with random weights: as much work as real ones, and nothing to fetch."""

import json
import math
import shutil
from collections.abc import Iterable, Iterator
from itertools import count, islice, product
from pathlib import Path
from string import ascii_lowercase

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from server.weights import HParams
from server.weights.hugging_face import WEIGHTS, stored_name
from server.weights.layout import tensor_shapes
from server.weights.tokenizer import END_OF_TEXT

# OpenAI's four (the hparams.json of each), and one for tests.
SHAPES = {
    "124M": HParams(n_vocab=50257, n_ctx=1024, n_embd=768, n_head=12, n_layer=12),
    "355M": HParams(n_vocab=50257, n_ctx=1024, n_embd=1024, n_head=16, n_layer=24),
    "774M": HParams(n_vocab=50257, n_ctx=1024, n_embd=1280, n_head=20, n_layer=36),
    "1558M": HParams(n_vocab=50257, n_ctx=1024, n_embd=1600, n_head=25, n_layer=48),
    "tiny": HParams(n_vocab=512, n_ctx=256, n_embd=64, n_head=4, n_layer=2),
}

CACHE = Path("run/bench")


def random_checkpoint(shape: str, cache: Path = CACHE) -> Path:
    """The directory `cache/SHAPE` in transformers' format, written now if it is not there; always the same weights.

    Its tensors are written one by one, so the largest of them is all that is in memory. Raises OSError.
    """
    checkpoint = cache / shape
    if not checkpoint.exists():
        draft = cache / f"{shape}.part"
        shutil.rmtree(draft, ignore_errors=True)  # what a killed run left
        draft.mkdir(parents=True)
        hparams = SHAPES[shape]
        _write_config(draft / "config.json", hparams)
        _write_tokenizer(draft, hparams.n_vocab)
        _write_weights(draft / WEIGHTS, hparams)
        draft.rename(checkpoint)
    return checkpoint


def _write_config(file: Path, hparams: HParams) -> None:
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "vocab_size": hparams.n_vocab,
        "n_positions": hparams.n_ctx,
        "n_embd": hparams.n_embd,
        "n_head": hparams.n_head,
        "n_layer": hparams.n_layer,
        "bos_token_id": hparams.n_vocab - 1,
        "eos_token_id": hparams.n_vocab - 1,
        "tie_word_embeddings": True,
        "dtype": "float32",
    }
    file.write_text(json.dumps(config, indent=2) + "\n")


def _write_tokenizer(folder: Path, n_vocab: int) -> None:
    """tokenizer.json: GPT-2's byte-level BPE, whose merges make every word of a, b, c ..., the short ones first."""
    merges = list(islice(_merges(), n_vocab - 257))
    tokens = [*sorted(ByteLevel.alphabet()), *(left + right for left, right in merges)]
    ids = {token: token_id for token_id, token in enumerate(tokens)}
    tokenizer = Tokenizer(BPE(ids | {END_OF_TEXT: len(ids)}, merges))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([END_OF_TEXT])
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {f"{name}_token": END_OF_TEXT for name in ("bos", "eos", "unk")}
    config = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def _merges() -> Iterator[tuple[str, str]]:
    for length in count(1):
        for left in product(ascii_lowercase, repeat=length):
            for right in ascii_lowercase:
                yield "".join(left), right


def _write_weights(file: Path, hparams: HParams) -> None:
    """A safetensors file (format: github.com/huggingface/safetensors, README), float32, one tensor after the other."""
    header, end = {}, 0
    for name, shape in tensor_shapes(hparams).items():
        begin, end = end, end + 4 * math.prod(shape)
        header[f"transformer.{stored_name(name)}"] = {
            "dtype": "F32",
            "shape": shape,
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors are aligned
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for tensor in _initial_weights(hparams):
            out.write(tensor.astype("<f4", copy=False).tobytes())


def _initial_weights(hparams: HParams) -> Iterable[NDArray[np.float32]]:
    """GPT-2's initial weights, but the same deviation everywhere: normal, 0.02; gains 1, biases 0."""
    random = np.random.Generator(np.random.PCG64(0))
    for name, shape in tensor_shapes(hparams).items():
        if name.endswith(("/g", "/b")):
            yield np.full(shape, float(name.endswith("/g")), np.float32)
        else:
            yield random.standard_normal(shape, np.float32) * np.float32(0.02)
