"""Log-probabilities of tokens: of the model's own distribution, before temperature, top_k and top_p change it."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_LOGPROBS = 5


class TokenLogprobs(NamedTuple):
    """How likely a token was where it stands, and which tokens were the likeliest there.

    logprob: natural logarithm of its probability. likeliest: tokens with theirs, the likeliest first.
    """

    token: int
    logprob: float
    likeliest: list[tuple[int, float]]


def token_logprobs(
    logits: Iterable[NDArray[np.float32]], tokens: list[int], n_likeliest: int
) -> list[TokenLogprobs]:
    """What T rows of logits (V,) say of the T tokens that follow, and which `n_likeliest` are the likeliest there.

    Raises ValueError where a logit is not a number, which only a broken checkpoint brings about.
    """
    # Row by row, so that each stays in the processor's cache: all rows in one operation take longer.
    return [_of_one(row, token, n_likeliest) for row, token in zip(logits, tokens, strict=True)]


def _of_one(logits: NDArray[np.float32], token: int, n_likeliest: int) -> TokenLogprobs:
    top = logits.max()
    if not math.isfinite(top):
        raise ValueError("the model's logits are not finite: the checkpoint is damaged")
    # log softmax, with a sum in float64: in float32 the many unlikely tokens would be rounded away.
    total = float(top) + math.log(float(np.exp(logits - top).sum(dtype=np.float64)))
    left = logits.copy()
    likeliest = []
    for _ in range(min(n_likeliest, len(logits))):  # so few that nothing needs to be sorted
        best = int(left.argmax())
        likeliest.append((best, float(logits[best]) - total))
        left[best] = -np.inf
    return TokenLogprobs(token, float(logits[token]) - total, likeliest)
