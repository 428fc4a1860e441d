"""What a reader may ask of the sampler, what each field means, and the draw itself.

The meanings are gpt-2-simple's: logits are divided by the temperature; then `top_p`, where it is set, keeps
the nucleus; otherwise `top_k`, where it is set, keeps the k best. This is the reference that a faster sampler
must agree with.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.engine.logprobs import MAX_LOGPROBS

MAX_SEED = 2**32 - 1
MAX_TEMPERATURE = 10.0


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to continue one prompt.

    length: the most new tokens of each sample, at least 1. The engine lowers it to what fits into n_ctx.
    temperature: 0 takes the likeliest token every time; up to `MAX_TEMPERATURE`, higher is wilder.
    top_k: sample among the k likeliest tokens only; 0 means no such limit. Ignored where top_p is set.
    top_p: sample among the likeliest tokens that together reach this probability only; 0 means no such limit,
    1 is the most.
    nsamples: how many continuations, at least 1. Sample i is the same whatever nsamples is.
    first_sample: the number of the first of them, 0 or more: so that any sample can be had without those before it.
    seed: 0 to `MAX_SEED`. The same seed and parameters give the same text.
    stop: strings that end a sample as soon as they appear in it; they are not part of its text.
    ignore_end_of_text: go on after `<|endoftext|>`, as OpenAI's and gpt-2-simple's own samplers do.
    logprobs: keep each token's log-probability, and so many of the likeliest tokens', 0 to `MAX_LOGPROBS`; None keeps
    nothing. They are the model's own: temperature, top_k and top_p do not change them.
    prompt_logprobs: the same for the prompt's tokens; only with logprobs.

    Raises ValueError, naming the field and its limit, for anything outside these ranges.
    """

    length: int
    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 0.0
    nsamples: int = 1
    first_sample: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()
    ignore_end_of_text: bool = False
    logprobs: int | None = None
    prompt_logprobs: bool = False

    def __post_init__(self) -> None:
        _require(self.length >= 1, "length", self.length, "at least 1")
        _require(
            0 <= self.temperature <= MAX_TEMPERATURE,
            "temperature",
            self.temperature,
            f"from 0 to {MAX_TEMPERATURE}",
        )
        _require(self.top_k >= 0, "top_k", self.top_k, "0 (no limit) or more")
        _require(0 <= self.top_p <= 1, "top_p", self.top_p, "from 0 (no limit) to 1")
        _require(self.nsamples >= 1, "nsamples", self.nsamples, "at least 1")
        _require(0 <= self.first_sample < 2**63, "first_sample", self.first_sample, "from 0 to 2**63 - 1")
        _require(0 <= self.seed <= MAX_SEED, "seed", self.seed, f"from 0 to {MAX_SEED}")
        _require(all(self.stop), "stop", self.stop, "without empty strings")
        _require(
            0 <= (self.logprobs or 0) <= MAX_LOGPROBS, "logprobs", self.logprobs, f"from 0 to {MAX_LOGPROBS}"
        )
        _require(
            not self.prompt_logprobs or self.logprobs is not None,
            "prompt_logprobs",
            True,
            "False without logprobs",
        )


def _require(holds: bool, field: str, value: object, limit: str) -> None:
    if not holds:
        raise ValueError(f"{field} is {value!r} and must be {limit}")


def uniform(seed: int, sample: int, position: int) -> float:
    """The random number in [0, 1) for the token at `position` of sample number `sample`.

    It is keyed by its arguments alone, so that a text depends on its own request and on nothing else that
    runs beside it: the first 64-bit word of Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy
    as 1, 2, 3", SC 2011) under the key (seed, 0) at the counter (position, sample, 0, 0), of which the upper
    53 bits are used.
    """
    # NumPy increments the counter before it draws; the difference wraps at 2**256, as the counter itself
    # does.
    counter = (position + (sample << 64) - 1) % (1 << 256)
    word = int(np.random.Philox(key=seed, counter=counter).random_raw())
    return (word >> 11) * 2.0**-53


def probabilities(logits: NDArray[np.float32], params: SamplingParams) -> NDArray[np.float64]:
    """The distribution (V,) that a token with these logits (V,) is drawn from; the temperature must not be 0."""
    # The largest becomes 0, so that however small the temperature is, nothing overflows but what is then impossible.
    with np.errstate(over="ignore"):
        scaled = (logits.astype(np.float64) - float(logits.max())) / params.temperature
    if params.top_p > 0:
        descending = np.sort(scaled)[::-1]
        mass_before = np.cumsum(_softmax(descending)) - _softmax(descending)
        scaled = np.where(scaled < descending[mass_before < params.top_p][-1], -np.inf, scaled)
    elif 0 < params.top_k < len(scaled):
        scaled = np.where(scaled < np.partition(scaled, -params.top_k)[-params.top_k], -np.inf, scaled)
    return _softmax(scaled)


def _softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    e: NDArray[np.float64] = np.exp(x - x.max())
    return e / float(e.sum())


def draw(logits: NDArray[np.float32], params: SamplingParams, sample: int, position: int) -> int:
    """The token for these logits (V,): the likeliest at temperature 0, otherwise drawn from `probabilities`.

    The draw inverts the cumulative distribution in the order of token ids, so that nothing has to be sorted
    for it. Raises ValueError where a logit is not a number, which only a broken checkpoint brings about.
    """
    if not math.isfinite(float(logits.max())):
        raise ValueError("the model's logits are not finite: the checkpoint is damaged")
    if params.temperature == 0:
        return int(logits.argmax())
    cumulative = np.cumsum(probabilities(logits, params))
    threshold = uniform(params.seed, sample, position) * cumulative[-1]
    # The product may round up to the whole sum, and behind that there is no token.
    threshold = min(threshold, np.nextafter(cumulative[-1], 0))
    return int(np.searchsorted(cumulative, threshold, side="right"))
