"""Hugging Face's directory: config.json, model.safetensors (or shards of it), and the tokenizer's files."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from server.weights.errors import COPY_AGAIN, CheckpointError
from server.weights.files import DataFiles, as_object, read_object
from server.weights.layout import HParams, hparams_from, tensor_shapes
from server.weights.safetensors import Entry, read_header
from server.weights.stored import StoredTensor
from server.weights.tokenizer import Tokenizer
from server.weights.vocabulary import read_pair, read_tokenizer_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_PARTS = {"g": "weight", "w": "weight", "b": "bias"}


def read(directory: Path, files: DataFiles) -> tuple[HParams, Tokenizer, dict[str, StoredTensor]]:
    """Sizes, tokenizer, and where each tensor lies. Raises CheckpointError, also if it is no plain GPT-2."""
    config = read_object(directory / "config.json")
    hparams = _read_config(config, directory / "config.json")
    entries = _read_entries(directory, files)
    # A GPT2Model is saved without the prefix that a GPT2LMHeadModel's tensors have.
    prefix = "transformer." if "transformer.wte.weight" in entries else ""
    tensors = {
        name: _find(entries, prefix + stored_name(name), shape, directory)
        for name, shape in tensor_shapes(hparams).items()
    }
    _check_head(config, entries, tensors["wte"], directory)
    return hparams, _read_tokenizer(directory, hparams.n_vocab), tensors


def _read_config(config: Mapping[str, object], path: Path) -> HParams:
    n_inner = config.get("n_inner")
    for name, value, expected in (
        ("model_type", config.get("model_type"), "gpt2"),
        ("activation_function", config.get("activation_function", "gelu_new"), "gelu_new"),
        ("layer_norm_epsilon", config.get("layer_norm_epsilon", 1e-5), 1e-5),
        ("scale_attn_weights", config.get("scale_attn_weights", True), True),
        ("scale_attn_by_inverse_layer_idx", config.get("scale_attn_by_inverse_layer_idx", False), False),
        ("add_cross_attention", config.get("add_cross_attention", False), False),
    ):
        if value != expected:
            raise CheckpointError(
                path,
                f"{name} is {value!r:.80} and not {expected!r}",
                "only GPT-2's own architecture can be served",
            )
    sizes = {
        "n_vocab": config.get("vocab_size"),
        "n_ctx": config.get("n_positions", config.get("n_ctx")),
        "n_embd": config.get("n_embd"),
        "n_head": config.get("n_head"),
        "n_layer": config.get("n_layer"),
    }
    hparams = hparams_from(sizes, path)
    if n_inner not in (None, 4 * hparams.n_embd):
        raise CheckpointError(
            path,
            f"n_inner is {n_inner!r:.80} and not {4 * hparams.n_embd}, 4 times n_embd",
            "only GPT-2's own architecture can be served",
        )
    return hparams


def _read_entries(directory: Path, files: DataFiles) -> dict[str, Entry]:
    if (directory / WEIGHTS).exists():
        return read_header(files.open(directory / WEIGHTS))
    path = directory / INDEX
    places = as_object(read_object(path).get("weight_map"), "weight_map", path)
    headers: dict[str, dict[str, Entry]] = {}
    entries = {}
    for name, shard in places.items():
        if not isinstance(shard, str) or not re.fullmatch(r"[\w.-]+\.safetensors", shard):
            raise CheckpointError(path, f"tensor {name!r:.80} is said to be in {shard!r:.80}", COPY_AGAIN)
        if shard not in headers:
            headers[shard] = read_header(files.open(directory / shard))
        if name not in headers[shard]:
            raise CheckpointError(
                directory / shard, f"tensor {name:.80} is missing, which {INDEX} expects", COPY_AGAIN
            )
        entries[name] = headers[shard][name]
    return entries


def stored_name(name: str) -> str:
    """`h0/attn/c_attn/w` is called `h.0.attn.c_attn.weight`, `wte` is called `wte.weight`."""
    *path, part = name.split("/")
    if not path:
        return f"{name}.weight"
    return ".".join([re.sub(r"^h(\d+)$", r"h.\1", path[0]), *path[1:], _PARTS[part]])


def _find(entries: Mapping[str, Entry], name: str, shape: tuple[int, ...], directory: Path) -> StoredTensor:
    if name not in entries:
        raise CheckpointError(
            directory / WEIGHTS,
            f"tensor {name}, by config.json of shape {shape}, is missing",
            "take config.json from where the weights were trained",
        )
    entry = entries[name]
    if entry.shape != shape:
        raise CheckpointError(
            entry.file.path,
            f"tensor {name} has shape {entry.shape} where config.json calls for {shape}",
            "take config.json from where the weights were trained",
        )
    return entry.stored(name)


def _check_head(
    config: Mapping[str, object], entries: Mapping[str, Entry], wte: StoredTensor, directory: Path
) -> None:
    """Refuse a head that is not `wte`. Usually it is not stored: then nothing of the weights is read here."""
    path = directory / "config.json"
    fix = "only GPT-2's own architecture, whose head is its token embedding, can be served"
    if "lm_head.weight" in entries:
        head = _find(entries, "lm_head.weight", wte.shape, directory)
        pairs = zip(head.pieces(), wte.pieces(), strict=False)
        if head.dtype != wte.dtype or not all(np.array_equal(a, b, equal_nan=True) for a, b in pairs):
            raise CheckpointError(head.file.path, f"tensor lm_head.weight differs from {wte.name}", fix)
    elif config.get("tie_word_embeddings", True) is not True:
        raise CheckpointError(path, "tie_word_embeddings is false and tensor lm_head.weight is missing", fix)


def _read_tokenizer(directory: Path, n_vocab: int) -> Tokenizer:
    if (directory / "tokenizer.json").exists():
        return read_tokenizer_json(directory, n_vocab)
    for encoder, merges in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
        if (directory / encoder).exists():
            return read_pair(directory, encoder, merges, n_vocab)
    raise CheckpointError(
        directory / "tokenizer.json",
        "is missing",
        "copy it, or vocab.json and merges.txt, from where the weights are",
    )
