"""What a GPT-2 consists of: its five sizes, and the name and shape of each of its tensors.

Source: the model of OpenAI's GPT-2 (github.com/openai/gpt-2, src/model.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from server.weights.errors import CheckpointError

# Far above any GPT-2 (XL: 50,257, 1,024, 1,600, 25, 48), and low enough that a hostile file costs nothing.
LIMITS = {"n_vocab": 2**20, "n_ctx": 2**17, "n_embd": 2**15, "n_head": 2**10, "n_layer": 2**10}


@dataclass(frozen=True, slots=True)
class HParams:
    """The sizes of a GPT-2, by its own names: tokens, positions, channels, attention heads, blocks."""

    n_vocab: int
    n_ctx: int
    n_embd: int
    n_head: int
    n_layer: int


def hparams_from(values: Mapping[str, object], path: Path) -> HParams:
    """Check the sizes that `path` holds: `values` maps the names of `HParams` to what the file says.

    Raises CheckpointError when one is missing, not a whole number from 1 to its limit, or when the heads do
    not divide the channels.
    """
    sizes: dict[str, int] = {}
    for name, limit in LIMITS.items():
        value = values.get(name)
        if type(value) is not int or not 1 <= value <= limit:
            found = "missing" if value is None else f"{value!r:.40}"
            raise CheckpointError(
                path,
                f"{name} is {found}, not a whole number from 1 to {limit}",
                "take this file from where the weights were trained",
            )
        sizes[name] = value
    if sizes["n_embd"] % sizes["n_head"]:
        raise CheckpointError(
            path,
            f"n_embd is {sizes['n_embd']}, which n_head, {sizes['n_head']}, does not divide",
            "take this file from where the weights were trained",
        )
    return HParams(**sizes)


def tensor_shapes(hparams: HParams) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor, in the order in which the model uses them.

    The names are GPT-2's without the leading `model/`. Weights are (inputs, outputs): a row of activations is
    multiplied from the left. The head is `wte` transposed.
    """
    channels = hparams.n_embd
    shapes: dict[str, tuple[int, ...]] = {
        "wte": (hparams.n_vocab, channels),
        "wpe": (hparams.n_ctx, channels),
    }
    for layer in range(hparams.n_layer):
        shapes |= {
            f"h{layer}/ln_1/g": (channels,),
            f"h{layer}/ln_1/b": (channels,),
            f"h{layer}/attn/c_attn/w": (channels, 3 * channels),
            f"h{layer}/attn/c_attn/b": (3 * channels,),
            f"h{layer}/attn/c_proj/w": (channels, channels),
            f"h{layer}/attn/c_proj/b": (channels,),
            f"h{layer}/ln_2/g": (channels,),
            f"h{layer}/ln_2/b": (channels,),
            f"h{layer}/mlp/c_fc/w": (channels, 4 * channels),
            f"h{layer}/mlp/c_fc/b": (4 * channels,),
            f"h{layer}/mlp/c_proj/w": (4 * channels, channels),
            f"h{layer}/mlp/c_proj/b": (channels,),
        }
    return shapes | {"ln_f/g": (channels,), "ln_f/b": (channels,)}
