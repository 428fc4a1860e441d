"""gpt-2-simple on TensorFlow, in float32: the graph of its `generate`, static batches."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import gpt_2_simple
import numpy as np
import tensorflow as tf
from gpt_2_simple.src import model, sample
from numpy.typing import NDArray
from safetensors.numpy import load_file

from loadtest.peers.protocol import Sampling, Seconds, Setup, main

RUN = "run1"

Array = NDArray[np.int64]


class GPT2Simple:
    """A session, and the graph of each kind of run, which its own `generate` builds anew for every call."""

    def __init__(self, directory: Path, setup: Setup) -> None:
        self._session = gpt_2_simple.start_tf_sess(threads=setup.threads)
        gpt_2_simple.load_gpt2(self._session, run_name=RUN, checkpoint_dir=str(directory))
        self._hparams = model.default_hparams()
        self._hparams.override_from_dict(json.loads((directory / RUN / "hparams.json").read_text()))
        self._graphs: dict[tuple[int, Sampling], Callable[[Array, Array], Array]] = {}

    def generate(self, prompts: list[list[int]], length: int, sampling: Sampling) -> Seconds:
        """As in `Peer`. A graph tells nothing before it ends, so the first tokens are timed in a run of their own."""
        kind = len(prompts), sampling
        if kind not in self._graphs:
            self._graphs[kind] = self._graph(*kind)
            self._graphs[kind](np.array([prompt[:2] for prompt in prompts]), np.array(1))  # optimises it
        times = [time.monotonic()]
        for new in (1, length):
            self._graphs[kind](np.array(prompts), np.array(new))
            times.append(time.monotonic())
        first = times[1] - times[0]
        return Seconds(first, times[2] - times[1] - first)

    def _graph(self, sequences: int, sampling: Sampling) -> Callable[[Array, Array], Array]:
        """From prompts (B, T) and a length (), all the tokens (B, T + length)."""
        context = tf.compat.v1.placeholder(tf.int32, [sequences, None])
        length = tf.compat.v1.placeholder(tf.int32, [])
        tokens = sample.sample_sequence(
            hparams=self._hparams,
            length=length,
            context=context,
            batch_size=sequences,
            temperature=sampling.temperature or 1.0,
            top_k=0 if sampling.temperature else 1,
            top_p=sampling.top_p if sampling.temperature else 0.0,
        )
        run: Callable[[Array, Array], Array] = self._session.make_callable(tokens, [context, length])
        return run


def convert(checkpoint: Path, target: Path, _: str) -> None:
    """As its `finetune` saves a run: TensorFlow's checkpoint of variables model/..., matrices [1, inputs, outputs]."""
    run = target / RUN
    run.mkdir()
    config = json.loads((checkpoint / "config.json").read_text())
    hparams = {name: config[name] for name in ("n_embd", "n_head", "n_layer")}
    hparams |= {"n_vocab": config["vocab_size"], "n_ctx": config["n_positions"]}
    (run / "hparams.json").write_text(json.dumps(hparams))
    variables = {}
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        matrix = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        variables[_variable(name)] = tensor[np.newaxis] if matrix else tensor
    # Fed, because a graph holds 2 GiB at most.
    tensors = [tf.compat.v1.placeholder(tf.float32, value.shape) for value in variables.values()]
    save = tf.raw_ops.SaveV2(
        prefix=str(run / "model-0"),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=tensors,
    )
    with tf.compat.v1.Session() as session:
        session.run(save, dict(zip(tensors, variables.values(), strict=True)))
    (run / "checkpoint").write_text(
        'model_checkpoint_path: "model-0"\nall_model_checkpoint_paths: "model-0"\n'
    )


def _variable(name: str) -> str:
    """`transformer.h.0.ln_1.weight` is `model/h0/ln_1/g`; a matrix's part is `w`, an embedding has none."""
    *path, part = name.removeprefix("transformer.").replace("h.", "h", 1).split(".")
    if path[0] in ("wte", "wpe"):
        return f"model/{path[0]}"
    norm = path[-1].startswith("ln_")
    return "/".join(["model", *path, {"bias": "b", "weight": "g" if norm else "w"}[part]])


if __name__ == "__main__":
    main(convert, GPT2Simple)
