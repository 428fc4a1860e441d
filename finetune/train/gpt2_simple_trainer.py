"""The gpt-2-simple trainer: its own graph of the model, in TensorFlow and float32, with the optimizers of its finetune.

Importing gpt_2_simple turns TensorFlow's eager execution off for the whole process.
"""

import math
import os
import weakref
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is first imported

import gpt_2_simple
import tensorflow as tf
from gpt_2_simple.src import model as gpt2_simple
from gpt_2_simple.src.sample import top_k_logits

from finetune.train.plan import IGNORED, Plan, Tokens
from finetune.weights import Weights
from server.weights import HParams
from server.weights.layout import tensor_shapes

OPTIMIZERS = ("adam", "sgd")
STATE = "state"  # the prefix of its files

BETA1, BETA2, EPSILON = 0.9, 0.95, 1e-8  # Adam's, as the PyTorch trainer has them

Variables = dict[str, Any]  # TensorFlow's, under the names of finetune.weights


class Gpt2SimpleTrainer:
    """See finetune.train.plan.Trainer. Its state is what TensorFlow's Saver writes.

    With the same number of threads, the same steps give the same bits. Raises ValueError for a plan with an optimizer
    that is none of OPTIMIZERS, with dropout or label smoothing, or compiled.
    """

    def __init__(self, hparams: HParams, weights: Weights, end_of_text: int, plan: Plan) -> None:
        if plan.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"optimizer {plan.optimizer!r} is none of {', '.join(OPTIMIZERS)}, which gpt-2-simple's trainer has"
            )
        if plan.dropout:
            raise ValueError(
                f"dropout is {plan.dropout}, and gpt-2-simple's model has none: set it to 0, or take --trainer torch"
            )
        if plan.label_smoothing:
            raise ValueError(
                f"label_smoothing is {plan.label_smoothing}, and gpt-2-simple's loss has none: set it to 0, or take"
                " --trainer torch"
            )
        if plan.compiled:
            raise ValueError("compiled is for --trainer torch alone: leave it out, or take that")
        self.hparams, self.plan, self.end_of_text = hparams, plan, end_of_text
        self._theirs = gpt2_simple.HParams(**asdict(hparams))
        with tf.Graph().as_default() as graph:
            self._tokens = tf.compat.v1.placeholder(tf.int32, [None, None])  # [B, T + 1]
            self._model, logits = self._new_model("model")
            self._add_step(logits)
            self._averaged, logits = self._new_model("average")
            self._nats = tf.reduce_sum(self._cross_entropy(logits)[0])
            self._add_averaging()
            self._add_sampling()
            self._saver = tf.compat.v1.train.Saver(
                [*self._model.values(), *self._averaged.values(), *self._optimizer.variables()]
            )
            initialise = tf.compat.v1.global_variables_initializer()
            self._session = gpt_2_simple.start_tf_sess()
        graph.finalize()
        weakref.finalize(self, self._session.close)
        self._session.run(
            initialise,
            {
                variable.initial_value: weights[name].reshape(variable.shape)
                for variables in (self._model, self._averaged)
                for name, variable in variables.items()
            },
        )

    def advance(self, batches: list[Tokens], step: int) -> float:
        """See Trainer."""
        loss = 0.0
        for number, batch in enumerate(batches):
            feed = {self._tokens: batch, self._share: 1 / len(batches)}
            part, _ = self._session.run([self._loss, self._add if number else self._begin], feed)
            loss += float(part)
        rate = self.plan.rate(step)
        # TensorFlow's Adam adds epsilon before it corrects the second moment's bias; this makes up for it.
        epsilon = EPSILON * math.sqrt(1 - BETA2 ** (step + 1))
        self._session.run(self._apply, {self._rate: rate, self._epsilon: epsilon})
        # The average follows closely at first, while the weights still change a great deal.
        weight = max(1 - self.plan.averaging, 1 / (step + 2)) if self.plan.averaging else 1.0
        self._session.run(self._follow, {self._weight: weight})
        return loss

    def nats(self, tokens: Tokens) -> float:
        """See Trainer."""
        return float(self._session.run(self._nats, {self._tokens: tokens}))

    def sample(self, prompt: list[int], length: int, seed: int) -> list[int]:
        """See Trainer. Among the 40 likeliest, as gpt_2_simple.finetune samples."""
        text: list[int] = []
        tokens = prompt
        shape = gpt2_simple.past_shape(hparams=self._theirs, batch_size=1, sequence=0)
        past = np.empty(shape, np.float32)  # keys and values of what was read so far
        while len(text) < length and len(prompt) + len(text) < self.hparams.n_ctx:
            feed = {self._context: [tokens], self._past: past, self._seed: [seed, len(text)]}
            token, present = self._session.run([self._next, self._present], feed)
            if token == self.end_of_text:
                break
            text.append(int(token))
            tokens, past = text[-1:], np.concatenate([past, present], axis=-2)
        return text

    def average(self) -> Weights:
        """See Trainer."""
        values = self._session.run(self._averaged)
        return {name: values[name].reshape(shape) for name, shape in tensor_shapes(self.hparams).items()}

    def save(self, folder: Path) -> None:
        """See Trainer."""
        self._saver.save(self._session, str(folder / STATE), write_meta_graph=False, write_state=False)

    def restore(self, folder: Path) -> None:
        """See Trainer."""
        self._saver.restore(self._session, str(folder / STATE))

    def _new_model(self, scope: str) -> tuple[Variables, Any]:
        """The variables of a model of its own, and its logits [B, T, V] for all tokens but a row's last."""
        inputs = tf.maximum(self._tokens[:, :-1], 0)
        logits = gpt2_simple.model(hparams=self._theirs, X=inputs, scope=scope)["logits"]
        variables = tf.compat.v1.trainable_variables(scope=f"{scope}/")
        return {variable.op.name.removeprefix(f"{scope}/"): variable for variable in variables}, logits

    def _cross_entropy(self, logits: Any) -> tuple[Any, Any]:  # noqa: ANN401 - TensorFlow has no types
        """Of every target, 0 for IGNORED ones; and which of them count, as zeros and ones. Each [B, T]."""
        targets = self._tokens[:, 1:]
        counts = tf.cast(tf.not_equal(targets, IGNORED), tf.float32)
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.maximum(targets, 0), logits=logits)
        return nats * counts, counts

    def _add_step(self, logits: Any) -> None:  # noqa: ANN401
        """`begin` and `add` sum gradients up over a step's batches; `apply` clips their sum and takes the step."""
        plan = self.plan
        self._share = tf.compat.v1.placeholder(tf.float32, [])  # of the step's loss that is this batch's
        self._rate = tf.compat.v1.placeholder(tf.float32, [])
        self._epsilon = tf.compat.v1.placeholder(tf.float32, [])
        self._trained = {
            name: variable
            for name, variable in self._model.items()
            if name.startswith("h") or not plan.only_train_transformer_layers
        }
        variables = list(self._trained.values())
        nats, counts = self._cross_entropy(logits)
        self._loss = self._share * tf.reduce_sum(nats) / tf.reduce_sum(counts)
        gradients = [tf.convert_to_tensor(gradient) for gradient in tf.gradients(self._loss, variables)]
        sums = [tf.Variable(tf.zeros(variable.shape), trainable=False) for variable in variables]
        self._begin = tf.group(*[total.assign(new) for total, new in zip(sums, gradients, strict=True)])
        self._add = tf.group(*[total.assign_add(new) for total, new in zip(sums, gradients, strict=True)])

        if plan.optimizer == "adam":
            self._optimizer = tf.compat.v1.train.AdamOptimizer(self._rate, BETA1, BETA2, self._epsilon)
        else:
            self._optimizer = tf.compat.v1.train.GradientDescentOptimizer(self._rate)
        clipped, _ = tf.clip_by_global_norm(sums, plan.clip)
        # Decoupled from the gradient (arXiv:1711.05101), and of matrices and embeddings alone.
        keep = 1 - self._rate * plan.weight_decay
        decay = [v.assign(v * keep) for v in variables if plan.weight_decay and v.shape.ndims > 1]
        with tf.control_dependencies(decay):
            self._apply = self._optimizer.apply_gradients(zip(clipped, variables, strict=True))

    def _add_averaging(self) -> None:
        """`follow` moves the average towards the weights."""
        self._weight = tf.compat.v1.placeholder(tf.float32, [])  # of the new weights
        pairs = [(self._averaged[name], value) for name, value in self._trained.items()]
        self._follow = tf.group(
            *[mean.assign((1 - self._weight) * mean + self._weight * value) for mean, value in pairs]
        )

    def _add_sampling(self) -> None:
        """`next` is a token drawn by the averaged weights, `present` the keys and values of those before it."""
        self._context = tf.compat.v1.placeholder(tf.int32, [1, None])
        self._past = tf.compat.v1.placeholder(
            tf.float32, gpt2_simple.past_shape(hparams=self._theirs, batch_size=1)
        )
        self._seed = tf.compat.v1.placeholder(tf.int32, [2])
        output = gpt2_simple.model(
            hparams=self._theirs, X=self._context, past=self._past, scope="average", reuse=True
        )
        self._present = output["present"]
        logits = top_k_logits(output["logits"][:, -1], k=40)
        self._next = tf.random.stateless_categorical(logits, 1, seed=self._seed)[0, 0]
