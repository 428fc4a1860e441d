"""What texts cost a model: the seam between whatever knows the probability of a token, and what is measured by it."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tqdm import tqdm

from finetune import vocabulary
from finetune.evaluate.ngrams import NgramModel
from finetune.files import digest
from finetune.train.plan import Tokens
from finetune.train.rows import encode, windows
from finetune.weights import weights_digest
from server.engine import EngineName, load_model
from server.engine.kv_blocks import blocks_for
from server.weights import Checkpoint

Kind = Literal["checkpoint", "5-gram"]

# Of every token but the first, in nats, given those before it: (T + 1,) -> (T,).
LogProbabilities = Callable[[Tokens], NDArray[np.floating]]


@dataclass(frozen=True)
class Perplexity:
    """What one model pays for the held-out texts, the `<|endoftext|>` that ends each included.

    model: a checkpoint's name, or a 5-gram model's, such as `5-gram of episodes and base`
    kind: a `checkpoint`, or a `5-gram` model of the tokens of the evaluated checkpoint
    digest: of the checkpoint's weights (as `initial weights` in run.json), or of the texts that the 5-gram counted
    tokens: how many it had to predict, in its own vocabulary
    perplexity_per_token: comparable only between models of one vocabulary
    perplexity_per_byte: 2 ** bits_per_byte, comparable between all models
    bits_per_byte: by the UTF-8 byte of the texts alone, as in a training curve
    """

    model: str
    kind: Kind
    digest: str
    tokens: int
    perplexity_per_token: float
    perplexity_per_byte: float
    bits_per_byte: float


@dataclass(frozen=True)
class Model:
    """What can be measured. `name`, `kind` and `digest` are Perplexity's; n_ctx: tokens that it sees at once."""

    name: str
    kind: Kind
    digest: str
    tokenizer: Tokenizer
    n_ctx: int
    log_probabilities: LogProbabilities


def perplexity(model: Model, texts: Sequence[str]) -> Perplexity:
    """What `texts`, which must not all be empty, cost `model`: counted as in finetune.train.run.bits_per_byte."""
    pieces = [batch[0] for batch in windows(encode(model.tokenizer, texts), model.n_ctx, batch_size=1)]
    nats = -sum(
        float(model.log_probabilities(piece).sum(dtype=np.float64))
        for piece in tqdm(pieces, desc=f"perplexity of {model.name}", unit="text", disable=None)
    )
    n_tokens = sum(len(piece) - 1 for piece in pieces)
    n_bytes = sum(len(text.encode()) for text in texts)
    return Perplexity(
        model=model.name,
        kind=model.kind,
        digest=model.digest,
        tokens=n_tokens,
        perplexity_per_token=math.exp(nats / n_tokens),
        perplexity_per_byte=math.exp(nats / n_bytes),
        bits_per_byte=nats / n_bytes / math.log(2),
    )


def from_checkpoint(checkpoint: Checkpoint, engine: EngineName) -> Model:
    """A checkpoint as the engine computes it."""
    blocks = list(range(blocks_for(checkpoint.hparams.n_ctx)))
    model = load_model(checkpoint, engine, len(blocks))

    def log_probabilities(tokens: Tokens) -> NDArray[np.floating]:
        logits = model.all_logits(tokens[:-1].tolist(), 0, blocks)
        logits -= logits.max(axis=-1, keepdims=True)
        chosen = logits[np.arange(len(logits)), tokens[1:]]
        log_totals: NDArray[np.floating] = np.log(np.exp(logits).sum(axis=-1, dtype=np.float64))
        return chosen - log_totals

    return Model(
        f"{checkpoint.name} in int8" if engine == "int8" else checkpoint.name,
        "checkpoint",
        weights_digest(checkpoint.hparams, checkpoint.tensor),
        vocabulary.read(checkpoint.directory),
        checkpoint.hparams.n_ctx,
        log_probabilities,
    )


def from_texts(texts: Sequence[str], name: str, checkpoint: Checkpoint) -> Model:
    """A 5-gram model of `texts`, which are called `name`, in the tokens of a checkpoint."""
    tokenizer = vocabulary.read(checkpoint.directory)
    documents = [
        np.array(document, np.int32)
        for first in tqdm(range(0, len(texts), 1000), desc=f"5-gram of {name}", unit="k texts", disable=None)
        for document in encode(tokenizer, texts[first : first + 1000])
    ]
    model = NgramModel(documents, checkpoint.hparams.n_vocab, order=5)
    return Model(
        f"5-gram of {name}",
        "5-gram",
        digest(text.encode() for text in texts),
        tokenizer,
        sys.maxsize,  # five tokens are never cut
        model.log_probabilities,
    )
