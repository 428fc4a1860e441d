"""Small checkpoints with random weights, written by those whose files the service reads.

    write_vocabulary(directory, n_vocab)                          encoder.json and vocab.bpe, as GPT-2 names them
    write_gpt2_simple(directory, hparams, seed=0)                 as gpt-2-simple's finetune saves it
    write_transformers(directory, hparams, seed=0, *, dtype="float32", max_shard_size="5GB", add_bos=False)
                                                                  as save_pretrained saves model and tokenizer
    random_tensors(hparams, seed)                                 the weights that both writers save

`hparams.n_vocab` must be 257 or more; the vocabulary is a real one, learnt from the corpus. Directories are made.
TensorFlow, torch and transformers are imported only by the writer that needs them.
"""

import functools
import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from server.weights import HParams
from server.weights.layout import tensor_shapes

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

# They read these when they are first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# For tests to which the shape does not matter.
TINY = HParams(n_vocab=280, n_ctx=4, n_embd=6, n_head=2, n_layer=1)

END_OF_TEXT = "<|endoftext|>"
EPISODES = Path(__file__).parents[1] / "corpus/episodes"


@functools.cache
def _texts() -> list[str]:
    lines = (EPISODES / "kanto.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


@functools.cache
def learn_vocabulary(n_vocab: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Ids by token and merges by rank, as in GPT-2: 256 bytes, then merges, `<|endoftext|>` last."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        _texts(),
        trainers.BpeTrainer(vocab_size=n_vocab - 1, initial_alphabet=alphabet, show_progress=False),
    )
    model = json.loads(tokenizer.to_str())["model"]
    ids = model["vocab"]
    return ids | {END_OF_TEXT: len(ids)}, [(left, right) for left, right in model["merges"]]


def write_vocabulary(directory: Path, n_vocab: int) -> None:
    ids, merges = learn_vocabulary(n_vocab)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "encoder.json").write_text(json.dumps(ids), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (directory / "vocab.bpe").write_text("\n".join(lines) + "\n", encoding="utf-8")


def random_tensors(hparams: HParams, seed: int) -> dict[str, NDArray[np.float32]]:
    """Each tensor of `tensor_shapes`: large enough that attention and the gelu leave their linear part."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in tensor_shapes(hparams).items():
        mean = 1.0 if name.endswith("/g") else 0.0
        tensors[name] = rng.normal(mean, 0.2, shape).astype(np.float32)
    return tensors


def write_gpt2_simple(directory: Path, hparams: HParams, seed: int = 0) -> None:
    """As `gpt_2_simple.finetune` does: its graph, and a Saver of its trainable variables."""
    import tensorflow as tf
    from gpt_2_simple.src import model

    write_vocabulary(directory, hparams.n_vocab)
    (directory / "hparams.json").write_text(json.dumps(asdict(hparams)), encoding="utf-8")
    tensors = random_tensors(hparams, seed)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tokens = tf.compat.v1.placeholder(tf.int32, [1, None])
        model.model(hparams=model.HParams(**asdict(hparams)), X=tokens)
        variables = [v for v in tf.compat.v1.trainable_variables() if "model" in v.name]
        values = [tensors[v.op.name.removeprefix("model/")].reshape(v.shape) for v in variables]
        feed = {v.initial_value: value for v, value in zip(variables, values, strict=True)}
        session.run([v.initializer for v in variables], feed)
        saver = tf.compat.v1.train.Saver(var_list=variables, max_to_keep=1)
        saver.save(session, str(directory / "model"), global_step=1000)


def write_transformers(
    directory: Path,
    hparams: HParams,
    seed: int = 0,
    *,
    dtype: str = "float32",
    max_shard_size: str = "5GB",
    add_bos: bool = False,
) -> None:
    """By `save_pretrained` of a GPT2LMHeadModel, and the same of its tokenizer."""
    import torch
    import transformers

    ids, merges = learn_vocabulary(hparams.n_vocab)
    tokenizer = transformers.GPT2Tokenizer(ids, merges, add_bos_token=add_bos)  # type: ignore[arg-type]
    tokenizer.save_pretrained(directory)
    model = transformers_model(hparams, seed)
    model.to(getattr(torch, dtype))
    model.save_pretrained(directory, max_shard_size=max_shard_size)


def transformers_model(hparams: HParams, seed: int) -> "GPT2LMHeadModel":
    """A model that holds `random_tensors(hparams, seed)`."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    end_of_text = learn_vocabulary(hparams.n_vocab)[0][END_OF_TEXT]
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=hparams.n_vocab,
            n_positions=hparams.n_ctx,
            n_embd=hparams.n_embd,
            n_head=hparams.n_head,
            n_layer=hparams.n_layer,
            bos_token_id=end_of_text,
            eos_token_id=end_of_text,
        )
    )
    parameters = dict(model.transformer.named_parameters())
    with torch.no_grad():
        for name, value in random_tensors(hparams, seed).items():
            parameters[transformers_name(name)].copy_(torch.from_numpy(value))
    return model


def transformers_name(name: str) -> str:
    """What a GPT2Model calls a tensor: `h0/attn/c_attn/w` is `h.0.attn.c_attn.weight`, `wte` is `wte.weight`."""
    *path, part = name.split("/")
    if not path:
        return f"{part}.weight"
    path[0] = re.sub(r"^h(\d+)$", r"h.\1", path[0])
    return ".".join([*path, {"g": "weight", "w": "weight", "b": "bias"}[part]])
