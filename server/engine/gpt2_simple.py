"""The model as gpt-2-simple itself computes it, with TensorFlow: the oracle.

The service this one replaces built a new graph for every request and never let go of it. Here there is one
graph with placeholders for tokens and past, finalised so that nothing can be added to it, and one session for
the life of the process. Needs the optional packages gpt-2-simple and tensorflow (requirements/test.txt).
"""

import numpy as np
import tensorflow as tf
from gpt_2_simple.src import model as gpt2_simple
from numpy.typing import NDArray

from server.engine.kv_cache import KVCache
from server.weights import Checkpoint


class GPT2Simple:
    """The model of a checkpoint in a TensorFlow session, with a key/value cache for `n_blocks` blocks."""

    def __init__(self, checkpoint: Checkpoint, n_blocks: int) -> None:
        self.hparams = hparams = checkpoint.hparams
        self.cache = KVCache(hparams, n_blocks)
        theirs = gpt2_simple.default_hparams()
        for name in ("n_vocab", "n_ctx", "n_embd", "n_head", "n_layer"):
            setattr(theirs, name, getattr(hparams, name))

        graph = tf.Graph()
        with graph.as_default():
            self._tokens = tf.compat.v1.placeholder(tf.int32, [1, None])
            self._past = tf.compat.v1.placeholder(
                tf.float32, gpt2_simple.past_shape(hparams=theirs, batch_size=1)
            )
            self._output = gpt2_simple.model(hparams=theirs, X=self._tokens, past=self._past)
            self._session = tf.compat.v1.Session(graph=graph)
            self._restore(checkpoint)
        graph.finalize()

    def _restore(self, checkpoint: Checkpoint) -> None:
        # Not by TensorFlow's own Saver: `tf.train.latest_checkpoint` follows a path to where a directory was copied
        # from, and the weights would be those that now lie there.
        for variable in tf.compat.v1.global_variables():
            weights = checkpoint.tensor(variable.op.name.removeprefix("model/"))
            self._session.run(variable.initializer, {variable.initial_value: weights.reshape(variable.shape)})

    def logits(self, tokens: list[int], position: int, blocks: list[int]) -> NDArray[np.float32]:
        """The last token's logits (V,). The first token stands at `position`; `blocks` take keys and values."""
        last: NDArray[np.float32] = self.all_logits(tokens, position, blocks)[-1]
        return last

    def all_logits(self, tokens: list[int], position: int, blocks: list[int]) -> NDArray[np.float32]:
        """As `logits`, but of every token: (T, V)."""
        output = self._session.run(
            self._output, feed_dict={self._tokens: [tokens], self._past: self._read(blocks, position)}
        )
        for layer, (keys, values) in enumerate(output["present"][0]):  # each (H, T, D)
            self.cache.write(layer, blocks, position, _merge_heads(keys), _merge_heads(values))
        logits: NDArray[np.float32] = output["logits"][0]
        return logits

    def _read(self, blocks: list[int], length: int) -> NDArray[np.float32]:
        """The first `length` tokens' keys and values in TensorFlow's shape (1, n_layer, 2, H, length, D)."""
        layers = [self.cache.read(layer, blocks, length) for layer in range(self.hparams.n_layer)]
        past = np.stack([np.stack(layer) for layer in layers])  # (n_layer, 2, length, C)
        n_head, d = self.hparams.n_head, self.hparams.n_embd // self.hparams.n_head
        return past.reshape(1, *past.shape[:3], n_head, d).swapaxes(3, 4)


def _merge_heads(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, T, D) -> (T, C)."""
    return x.swapaxes(0, 1).reshape(x.shape[1], -1)
