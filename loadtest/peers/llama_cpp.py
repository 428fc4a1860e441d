"""llama.cpp, its own batches: weights in Q8_0 or Q4_0, keys and values in float16."""

import ctypes
import json
import time
from pathlib import Path

import gguf
import llama_cpp as llama
import numpy as np
from safetensors.numpy import load_file

from loadtest.peers.protocol import SEQUENCE, Sampling, Seconds, Setup, main

WEIGHTS = "model.gguf"

_QUIET = llama.llama_log_callback(lambda level, text, user_data: None)


class LlamaCpp:
    """A context for so many sequences; each step is one batch, and each sequence has a sampler."""

    def __init__(self, model: Path, setup: Setup) -> None:
        llama.llama_log_set(_QUIET, None)
        llama.llama_backend_init()
        self._model = llama.llama_model_load_from_file(
            str(model / WEIGHTS).encode(), llama.llama_model_default_params()
        )
        params = llama.llama_context_default_params()
        params.n_seq_max = setup.sequences
        params.n_ctx = setup.sequences * SEQUENCE
        params.n_batch = 2048
        params.n_threads = params.n_threads_batch = setup.threads
        self._context = llama.llama_init_from_model(self._model, params)
        self._batch = llama.llama_batch_init(params.n_batch, 0, 1)
        self._n_batch = params.n_batch

    def generate(self, prompts: list[list[int]], length: int, sampling: Sampling) -> Seconds:
        """As in `Peer`."""
        llama.llama_memory_clear(llama.llama_get_memory(self._context), True)
        samplers = [_sampler(sampling, seed) for seed in range(len(prompts))]
        began = time.monotonic()
        tokens = self._read(prompts, samplers)
        first = time.monotonic()
        for position in range(len(prompts[0]), len(prompts[0]) + length - 1):
            for sequence, token in enumerate(tokens):
                self._put(sequence, token, position, sequence, draws=True)
            self._decode(len(tokens))
            tokens = [self._draw(sampler, row) for row, sampler in enumerate(samplers)]
        others = time.monotonic() - first
        for sampler in samplers:
            llama.llama_sampler_free(sampler)
        return Seconds(first - began, others)

    def _read(self, prompts: list[list[int]], samplers: list[ctypes.c_void_p]) -> list[int]:
        """The first token of each, whose prompts go through in batches as large as they may be."""
        tokens = []
        length = len(prompts[0])
        at_once = self._n_batch // length
        for begin in range(0, len(prompts), at_once):
            part = range(begin, min(begin + at_once, len(prompts)))
            rows = [(sequence, position) for sequence in part for position in range(length)]
            for row, (sequence, position) in enumerate(rows):
                self._put(row, prompts[sequence][position], position, sequence, draws=position == length - 1)
            self._decode(len(rows))
            tokens += [self._draw(samplers[n], (n - begin + 1) * length - 1) for n in part]
        return tokens

    def _draw(self, sampler: ctypes.c_void_p, row: int) -> int:
        return int(llama.llama_sampler_sample(sampler, self._context, row))

    def _put(self, row: int, token: int, position: int, sequence: int, *, draws: bool) -> None:
        batch = self._batch
        batch.token[row] = token
        batch.pos[row] = position
        batch.n_seq_id[row] = 1
        batch.seq_id[row][0] = sequence
        batch.logits[row] = draws

    def _decode(self, rows: int) -> None:
        self._batch.n_tokens = rows
        if status := llama.llama_decode(self._context, self._batch):
            raise RuntimeError(f"llama_decode returned {status}")


def _sampler(sampling: Sampling, seed: int) -> ctypes.c_void_p:
    chain: ctypes.c_void_p = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    if sampling.temperature:
        parts = [
            llama.llama_sampler_init_temp(sampling.temperature),
            llama.llama_sampler_init_top_p(sampling.top_p, 1),
            llama.llama_sampler_init_dist(seed),
        ]
    else:
        parts = [llama.llama_sampler_init_greedy()]
    for part in parts:
        llama.llama_sampler_chain_add(chain, part)
    return chain


def convert(checkpoint: Path, target: Path, variant: str) -> None:
    """To GGUF in float32, with llama.cpp's own writer, and from there by its own quantiser."""
    whole = target / "float32.gguf"
    _write_gguf(checkpoint, whole)
    params = llama.llama_model_quantize_default_params()
    params.ftype = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{variant}")
    if llama.llama_model_quantize(str(whole).encode(), str(target / WEIGHTS).encode(), ctypes.byref(params)):
        raise RuntimeError(f"llama.cpp could not quantise {whole}")
    whole.unlink()


def _write_gguf(checkpoint: Path, file: Path) -> None:
    """Names and keys are those of gguf.constants. Matrices are (outputs, inputs) there; GPT-2's are the transpose."""
    config = json.loads((checkpoint / "config.json").read_text())
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    writer = gguf.GGUFWriter(file, "gpt2")
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    ids = tokenizer["model"]["vocab"] | {each["content"]: each["id"] for each in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(sorted(ids, key=ids.__getitem__))
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(config["eos_token_id"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, config["n_layer"])
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        matrix = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        writer.add_tensor(
            names.get_name(name, (".weight", ".bias")),
            np.ascontiguousarray(tensor.T) if matrix else tensor,
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(convert, LlamaCpp)
