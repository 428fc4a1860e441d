"""The seam between scheduling and arithmetic: a core computes one step for a whole batch."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from server.engine.sampling import draw
from server.engine.scheduler import Drawn, Slice


class Core(Protocol):
    """What the engine needs of a model."""

    def step(self, batch: list[Slice]) -> list[Drawn]:
        """Compute every slice and draw a token behind each that `draws`.

        The result has one entry a slice: the token, None where none was to be drawn, or the exception that kept this
        slice, and only this one, from being computed. What is raised instead concerns the whole batch.
        """
        ...


class Model(Protocol):
    """A model that continues one sequence at a time."""

    def logits(self, tokens: list[int], position: int, blocks: list[int]) -> NDArray[np.float32]:
        """The last token's logits (V,). The first token stands at `position`; `blocks` take keys and values."""
        ...


class SequentialCore:
    """A core from a model, one slice after the other.

    No slice shares an arithmetic operation with another, so a text cannot depend on what runs beside it.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def step(self, batch: list[Slice]) -> list[Drawn]:
        """As in `Core`."""
        return [self._compute(part) for part in batch]

    def _compute(self, part: Slice) -> Drawn:
        try:
            logits = self._model.logits(part.tokens, part.position, part.blocks)
            if not part.draws:
                return None
            return draw(logits, part.params, part.sequence.index, part.position + len(part.tokens))
        except Exception as error:
            return error
