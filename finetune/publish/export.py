"""Weights as a checkpoint directory that our server, transformers and gpt-2-simple each can load."""

import json
import os
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from finetune import vocabulary
from finetune.console import FOLDER
from finetune.evaluate.command import EVALUATION_FILE
from finetune.evaluate.samples import SAMPLES_FILE
from finetune.files import replace
from finetune.train.curve import CURVE_TABLE, write_curve
from finetune.train.rows import end_of_text
from finetune.train.run import RUN_FILE, read_kept, read_progress
from finetune.weights import Weights, read_weights
from server.commands.console import examples
from server.weights import CheckpointError, HParams, open_checkpoint
from server.weights.card import CARD, CURVE, README
from server.weights.files import flush
from server.weights.hugging_face import stored_name

FORMATS = ("transformers", "gpt-2-simple")
DTYPES = ("float32", "float16")
SAFETENSORS = "model.safetensors"
TRAINING = "training.json"
# What `pokegen evaluate` and `pokegen card` write about the weights beside it, and `pokegen finetune`.
ABOUT_WEIGHTS = (EVALUATION_FILE, SAMPLES_FILE, CARD, README, TRAINING, CURVE_TABLE, CURVE)


@click.command(
    context_settings={"show_default": True},
    epilog=examples(
        (
            "for gpt-2-simple and OpenAI's scripts",
            "pokegen export checkpoint/run1 checkpoint/mine --format gpt-2-simple",
        ),
        (
            "for transformers, at half the size",
            "pokegen export checkpoint/jokes checkpoint/jokes-16 --format transformers --dtype float16",
        ),
    ),
)
@click.option(
    "--format",
    "formats",
    type=click.Choice(FORMATS),
    multiple=True,
    default=FORMATS,
    help="Give it once for each.",
)
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default="float32",
    help="Of model.safetensors; float16 is half the size.",
)
@click.argument("source", type=FOLDER)
@click.argument("target", type=FOLDER)
def command(source: Path, target: Path, formats: tuple[str, ...], dtype: str) -> None:
    """Write SOURCE, a checkpoint of whatever format or the state of a run, as the directory TARGET."""
    if source.resolve() == target.resolve():
        raise click.BadParameter(f"{target} is SOURCE: name another directory", param_hint="TARGET")
    if (source / RUN_FILE).exists():
        export_run(source, target, formats=formats, dtype=dtype)
    else:
        hparams, weights = read_weights(source)
        with open_checkpoint(source) as opened:
            begins = opened.tokenizer.encode_prompt("Ash")[0] == opened.tokenizer.end_of_text
        tokenizer = vocabulary.read(source, of_documents=begins)
        export(target, hparams, weights, tokenizer, formats=formats, dtype=dtype)


def export_run(
    run: Path, checkpoint: Path, *, formats: tuple[str, ...] = FORMATS, dtype: str = "float32"
) -> None:
    """Write the weights that `run` kept, and beside them how they came about: training.json, curve.csv and curve.svg.

    Raises FileNotFoundError when nothing was saved in `run` yet.
    """
    progress = read_progress(run)
    hparams, weights = read_kept(run)
    training = progress.description | {"kept step": progress.kept_step}
    export(
        checkpoint,
        hparams,
        weights,
        vocabulary.read(run),
        formats=formats,
        dtype=dtype,
        step=progress.kept_step,
    )
    write_json(checkpoint / TRAINING, training)
    write_curve(checkpoint, progress.curve)


def export(
    checkpoint: Path,
    hparams: HParams,
    weights: Weights,
    tokenizer: Tokenizer,
    *,
    formats: tuple[str, ...] = FORMATS,
    dtype: str = "float32",
    step: int = 0,
) -> None:
    """Write `checkpoint`: the vocabulary's files, hparams.json, and the weights in each of `formats`.

    `transformers`: config.json, generation_config.json and model.safetensors (in `dtype`; the configuration has it
    loaded as float32). `gpt-2-simple`: model-STEP.index and .data, checkpoint and counter, always float32, written by
    TensorFlow. The head is the token embedding, and no format stores it a second time. Weights that the directory had
    in another format are removed: whoever prefers that format would go on with them. So is what it had to say about
    other weights than these: the server would show it for these.
    """
    checkpoint.mkdir(parents=True, exist_ok=True)
    if not _holds(checkpoint, hparams, weights, dtype if "transformers" in formats else "float32"):
        for name in ABOUT_WEIGHTS:
            (checkpoint / name).unlink(missing_ok=True)
    vocabulary.write(tokenizer, checkpoint)
    write_json(
        checkpoint / "hparams.json",
        {name: getattr(hparams, name) for name in ("n_vocab", "n_ctx", "n_embd", "n_head", "n_layer")},
    )
    if "transformers" in formats:
        _write_transformers(checkpoint, hparams, weights, end_of_text(tokenizer), dtype)
    else:
        (checkpoint / SAFETENSORS).unlink(missing_ok=True)
    if "gpt-2-simple" in formats:
        _write_gpt2_simple(checkpoint, weights, step)
    else:
        (checkpoint / "checkpoint").unlink(missing_ok=True)  # without it, the others are no checkpoint
        _remove_bundles(checkpoint)


def _holds(checkpoint: Path, hparams: HParams, weights: Weights, dtype: str) -> bool:
    """Whether these are the sizes and, in `dtype`, the weights that the server would find in `checkpoint`."""
    try:
        with open_checkpoint(checkpoint) as there:
            return there.hparams == hparams and all(
                np.array_equal(there.tensor(name), value.astype(dtype, copy=False))
                for name, value in weights.items()
            )
    except CheckpointError:
        return False


def _write_transformers(
    checkpoint: Path, hparams: HParams, weights: Weights, end_of_text: int, dtype: str
) -> None:
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
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "tie_word_embeddings": True,
        "dtype": "float32",
    }
    write_json(checkpoint / "config.json", config)
    ids = {f"{name}_token_id": end_of_text for name in ("bos", "eos", "pad")}
    write_json(checkpoint / "generation_config.json", {"_from_model_config": False, **ids})
    tensors = {
        f"transformer.{stored_name(name)}": np.ascontiguousarray(value, dtype)
        for name, value in weights.items()
    }
    draft = checkpoint / f"{SAFETENSORS}.part"
    save_file(tensors, draft, metadata={"format": "pt"})
    flush(draft)
    draft.chmod(0o644)  # safetensors gives the file to its owner alone, and a server may be another user
    draft.replace(checkpoint / SAFETENSORS)


def _write_gpt2_simple(checkpoint: Path, weights: Weights, step: int) -> None:
    """As the Saver in gpt_2_simple.finetune names things; what an earlier export left goes last."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is first imported
    import tensorflow as tf

    prefix = f"model-{step}"
    variables = {f"model/{name}": _as_variable(name, value) for name, value in sorted(weights.items())}
    # In a graph, because gpt-2-simple's trainer turns eager execution off; fed, because a graph holds 2 GiB at most.
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tensors = [tf.compat.v1.placeholder(tf.float32, value.shape) for value in variables.values()]
        save = tf.raw_ops.SaveV2(
            prefix=str(checkpoint / prefix),
            tensor_names=list(variables),
            shape_and_slices=[""] * len(variables),
            tensors=tensors,
        )
        session.run(save, dict(zip(tensors, variables.values(), strict=True)))
    # As text, which is all that TensorFlow's own function for it writes before it warns of its age.
    newest = f'model_checkpoint_path: "{prefix}"\nall_model_checkpoint_paths: "{prefix}"\n'
    replace(checkpoint / "checkpoint", newest)
    replace(checkpoint / "counter", f"{step}\n")
    _remove_bundles(checkpoint, but=prefix)


def _remove_bundles(checkpoint: Path, but: str | None = None) -> None:
    """The files of every TensorFlow checkpoint that an export wrote, but those with this prefix."""
    for file in [*checkpoint.glob("model-*.index"), *checkpoint.glob("model-*.data-*")]:
        if file.name.split(".")[0] != but:
            file.unlink()


def _as_variable(name: str, value: NDArray[np.float32]) -> NDArray[np.float32]:
    """GPT-2's matrices are convolutions of width 1: [1, inputs, outputs]."""
    return value[np.newaxis] if name.endswith("/w") else value


def read_training(checkpoint: Path) -> dict[str, Any]:
    """What `export_run` wrote into training.json; empty for a checkpoint that others trained.

    Raises ValueError when it is no JSON.
    """
    file = checkpoint / TRAINING
    try:
        training: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error}): write it again with `pokegen finetune`") from error
    return training


def write_json(file: Path, value: object) -> None:
    """Indented, for people to read."""
    replace(file, json.dumps(value, indent=2) + "\n")
