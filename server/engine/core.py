"""The seam between scheduling and arithmetic: a core computes one step for a whole batch."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from server.engine.logprobs import token_logprobs
from server.engine.sampling import draw
from server.engine.scheduler import Drawn, Scored, Slice


class Core(Protocol):
    """What the engine needs of a model."""

    def step(self, batch: list[Slice]) -> list[Drawn]:
        """Compute every slice and draw a token behind each that `draws`.

        The result has one entry a slice: the token, None where none was to be drawn, or the exception that kept this
        slice, and only this one, from being computed. Where the slice asks for logits, the token is `Scored`. What is
        raised instead concerns the whole batch.
        """
        ...


class Model(Protocol):
    """A model that continues one sequence at a time."""

    def logits(self, tokens: list[int], position: int, blocks: list[int]) -> NDArray[np.float32]:
        """The last token's logits (V,). The first token stands at `position`; `blocks` take keys and values."""
        ...

    def all_logits(self, tokens: list[int], position: int, blocks: list[int]) -> NDArray[np.float32]:
        """As `logits`, but of every token: (T, V)."""
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
            token = None
            if part.draws:
                token = draw(logits, part.params, part.sequence.index, part.position + len(part.tokens))
            if part.n_logits == 0:
                return token
            rows = [logits]
            if part.n_logits > 1:
                # The last token's are those from above, which differ in the last bits, whoever asks for the others.
                all_rows = self._model.all_logits(part.tokens, part.position, part.blocks)
                rows = [*all_rows[-part.n_logits : -1], logits]
            return scored(part, token, rows)
        except Exception as error:
            return error


def scored(part: Slice, token: int | None, logits: Iterable[NDArray[np.float32]]) -> Drawn:
    """What the logits, a row (V,) for each that `part` asks for, say of the tokens that follow; `token` is the last."""
    end = part.position + len(part.tokens)
    following = part.sequence.tokens[end - part.n_logits + 1 : end + 1]
    if token is not None:
        following.append(token)
    try:
        return Scored(token, token_logprobs(logits, following, part.params.logprobs or 0))
    except ValueError as error:
        return error
