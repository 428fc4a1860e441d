"""A run's weights as a checkpoint directory that our server, transformers and gpt-2-simple's readers know."""

import json
import shutil
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from finetune import vocabulary


def read_kept(run: Path, dropout: float = 0.0) -> GPT2LMHeadModel:
    """The model, in float32, that the run kept.

    Raises FileNotFoundError when nothing has been trained in `run`.
    """
    if not (run / "kept.pt").exists():
        raise FileNotFoundError(f"{run / 'kept.pt'} is missing: train there first, or name another run")
    model = GPT2LMHeadModel(GPT2Config.from_pretrained(run, resid_pdrop=dropout, embd_pdrop=dropout))
    model.load_state_dict(torch.load(run / "kept.pt"))
    return model


def export(run: Path, vocabulary_folder: Path, checkpoint: Path) -> None:
    """Write `checkpoint`: hparams.json, config.json, generation_config.json, model.safetensors, the vocabulary's files.

    Weights are float16 on disk, half the size, and the configuration has transformers load them as float32. The head is
    the token embedding, so it is not stored a second time.
    """
    model = read_kept(run)
    config = model.config
    model.generation_config.pad_token_id = config.eos_token_id
    torch.nn.Module.half(model).save_pretrained(checkpoint)
    # safetensors gives the file to its owner alone, and a server may be another user.
    (checkpoint / "model.safetensors").chmod(0o644)
    write_json(checkpoint / "config.json", config.to_diff_dict() | {"dtype": "float32"})
    hparams = {"n_vocab": config.vocab_size, "n_ctx": config.n_positions}
    write_json(
        checkpoint / "hparams.json",
        hparams | {name: getattr(config, name) for name in ("n_embd", "n_head", "n_layer")},
    )
    for name in vocabulary.FILES:
        shutil.copy(vocabulary_folder / name, checkpoint)


def write_json(file: Path, value: object) -> None:
    """Indented, for people to read."""
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
