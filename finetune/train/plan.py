"""How a training run goes, and who carries it out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from finetune.weights import Weights

IGNORED = -100  # a target that does not count

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """All that is chosen about a run, beside its data and the weights it starts from."""

    steps: int
    learning_rate: float  # on the plateau between warm-up and cool-down
    batch_size: int = 8  # rows whose gradient is computed at once
    accumulate_gradients: int = 1  # such batches a step
    warmup: int = 0  # steps, the first: the rate grows from zero
    cooldown: int = 0  # steps, the last: the rate falls to zero
    seed: int = 1
    optimizer: str = "adam"  # one that the trainer has
    dropout: float = 0.0
    label_smoothing: float = 0.0  # the share of every target that is spread evenly over the vocabulary
    weight_decay: float = 0.0
    averaging: float = 0.99  # how much of the running average of the weights survives a step; 0: no average
    clip: float = 1.0  # the gradient's norm at most
    only_train_transformer_layers: bool = False  # embeddings and the last norm stay as they are
    compiled: bool = False  # the step goes through PyTorch's compiler first
    save_every: int = 100  # steps between saves, each with an evaluation and samples
    patience: int = 5  # evaluations without improvement that end the run
    keep: str = "best"  # the averaged weights that did best on the held-out texts, or the "last"

    def rate(self, step: int) -> float:
        """The learning rate at `step`, which counts from 0."""
        factor = min(1.0, (step + 1) / max(1, self.warmup), (self.steps - step) / max(1, self.cooldown))
        return self.learning_rate * factor


class Trainer(Protocol):
    """A GPT-2 in training, the running average of its weights, and what its optimizer remembers.

    Two trainers given the same weights, plan and batches take the same steps, up to rounding. What a step does depends
    on the trainer's state and the step's number alone, so that a restored trainer goes on exactly.
    """

    def advance(self, batches: list[Tokens], step: int) -> float:
        """One step on batches [B, T + 1] of rows, the gradient averaged over them; their mean loss, nats a token.

        Where targets are smoothed, the loss is that of the smoothed ones.
        """
        ...

    def nats(self, tokens: Tokens) -> float:
        """What the averaged weights pay for [B, T + 1], all tokens but the first of a row, IGNORED ones excepted."""
        ...

    def sample(self, prompt: list[int], length: int, seed: int) -> list[int]:
        """`length` tokens at most after `prompt`, drawn with the averaged weights; ends before `<|endoftext|>`."""
        ...

    def average(self) -> Weights:
        """The averaged weights."""
        ...

    def save(self, folder: Path) -> None:
        """Write all that the next step depends on into `folder`, which is empty."""
        ...

    def restore(self, folder: Path) -> None:
        """Go back to what `save` wrote."""
        ...
