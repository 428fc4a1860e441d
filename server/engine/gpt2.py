"""GPT-2 in NumPy, on one page: the reference that every faster path must equal.

Radford et al., "Language Models are Unsupervised Multitask Learners" (2019); the layout is that of OpenAI's
model.py. B, T, C, H, D, V stand for batch, tokens, channels (n_embd), heads, channels a head (C / H) and
vocabulary.
"""

import numpy as np
from numpy.typing import NDArray

from server.engine.kv_cache import KVCache
from server.weights import Checkpoint
from server.weights.layout import tensor_shapes

Array = NDArray[np.float32]

LAYER_NORM_EPSILON = 1e-5


def norm(x: Array, g: Array, b: Array) -> Array:
    """Layer norm over the channels of x (T, C): mean 0, variance 1, then gain g (C,) and bias b (C,)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    normal: Array = centred / np.sqrt(variance + np.float32(LAYER_NORM_EPSILON))
    return normal * g + b


def gelu(x: Array) -> Array:
    """GELU in GPT-2's tanh form: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    gate: Array = 1 + np.tanh(inner)
    return np.float32(0.5) * x * gate


def softmax(x: Array) -> Array:
    """Softmax over the last axis."""
    e: Array = np.exp(x - x.max(axis=-1, keepdims=True))
    total: Array = e.sum(axis=-1, keepdims=True)
    return e / total


def attention(q: Array, k: Array, v: Array, n_head: int) -> Array:
    """Causal attention of the last T of S tokens: q (T, C), k and v (S, C) -> (T, C)."""
    (t, c), s = q.shape, len(k)
    q, k, v = (x.reshape(-1, n_head, c // n_head).swapaxes(0, 1) for x in (q, k, v))  # (H, T or S, D)
    scores = q @ k.swapaxes(1, 2) / np.float32(np.sqrt(c // n_head))  # (H, T, S)
    future = np.arange(s) > np.arange(s - t, s)[:, None]
    weights = softmax(np.where(future, np.float32(-1e10), scores))
    return (weights @ v).swapaxes(0, 1).reshape(t, c)


class GPT2:
    """The model of a checkpoint, in float32, with a key/value cache for `n_blocks` blocks."""

    def __init__(self, checkpoint: Checkpoint, n_blocks: int) -> None:
        self.hparams = checkpoint.hparams
        self.cache = KVCache(self.hparams, n_blocks)
        self._weights = {name: checkpoint.tensor(name) for name in tensor_shapes(self.hparams)}

    def logits(self, tokens: list[int], position: int, blocks: list[int]) -> Array:
        """The last token's logits (V,). The first token stands at `position`; `blocks` take keys and values."""
        logits: Array = self._weights["wte"] @ self.hidden(tokens, position, blocks)[-1]
        return logits

    def all_logits(self, tokens: list[int], position: int, blocks: list[int]) -> Array:
        """As `logits`, but of every token: (T, V)."""
        logits: Array = self.hidden(tokens, position, blocks) @ self._weights["wte"].T
        return logits

    def hidden(self, tokens: list[int], position: int, blocks: list[int]) -> Array:
        """The activations (T, C) after the last layer norm; times the token embeddings they are the logits."""
        x = self._weights["wte"][tokens] + self._weights["wpe"][position : position + len(tokens)]
        for layer in range(self.hparams.n_layer):
            h = f"h{layer}"
            q, k, v = np.split(self._linear(f"{h}/attn/c_attn", self._norm(f"{h}/ln_1", x)), 3, axis=-1)
            self.cache.write(layer, blocks, position, k, v)
            keys, values = self.cache.read(layer, blocks, position + len(tokens))
            x = x + self._linear(f"{h}/attn/c_proj", attention(q, keys, values, self.hparams.n_head))
            x = x + self._linear(
                f"{h}/mlp/c_proj", gelu(self._linear(f"{h}/mlp/c_fc", self._norm(f"{h}/ln_2", x)))
            )
        return self._norm("ln_f", x)

    def _linear(self, name: str, x: Array) -> Array:
        return x @ self._weights[f"{name}/w"] + self._weights[f"{name}/b"]

    def _norm(self, name: str, x: Array) -> Array:
        return norm(x, self._weights[f"{name}/g"], self._weights[f"{name}/b"])
