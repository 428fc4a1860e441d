"""Documents into rows of tokens: what a training step sees, and what an evaluation counts."""

import itertools
import random
from collections.abc import Iterator, Sequence

import numpy as np
from tokenizers import Tokenizer

from finetune.documents import END_OF_TEXT
from finetune.train.plan import IGNORED, Tokens

Document = list[int]  # tokens, <|endoftext|> before and after
Source = tuple[Sequence[Document], int]  # documents, and how many rows of a batch are theirs


def end_of_text(tokenizer: Tokenizer) -> int:
    """The id of `<|endoftext|>`. Raises ValueError when the vocabulary lacks it."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    if end is None:
        raise ValueError(f"the vocabulary has no {END_OF_TEXT}: make one with `pokegen vocabulary`")
    return int(end)


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Document]:
    """Every text as `<|endoftext|>text<|endoftext|>`."""
    end = end_of_text(tokenizer)
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [[end, *encoding.ids, end] for encoding in encodings]


def rows(documents: Sequence[Document], n_ctx: int, seed: str) -> Iterator[list[int]]:
    """Endless rows of n_ctx + 1 tokens, each starting where a document starts, in a new order every epoch.

    Neighbours share a delimiter. A document that the row's end cuts off begins the next row, so that all of it is seen,
    up to n_ctx + 1 tokens.
    """
    row: list[int] = []
    for epoch in itertools.count():
        order = list(range(len(documents)))
        random.Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311 - nothing secret
        for number in order:
            document = documents[number]
            if row and len(row) + len(document) - 1 > n_ctx + 1:
                yield (row + document[1:])[: n_ctx + 1]
                row = []
            row += document[1:] if row else document
            if len(row) > n_ctx:
                yield row[: n_ctx + 1]
                row = []


def batches(sources: Sequence[Source], n_ctx: int, seed: int) -> Iterator[Tokens]:
    """Endless batches [B, n_ctx + 1] with a fixed number of rows from every source."""
    streams = [(rows(documents, n_ctx, f"{seed}/{i}"), count) for i, (documents, count) in enumerate(sources)]
    while True:
        yield np.array(
            [row for stream, count in streams for row in itertools.islice(stream, count)], np.int64
        )


def windows(documents: Sequence[Document], n_ctx: int, batch_size: int = 16) -> Iterator[Tokens]:
    """Padded batches [B, T + 1], T <= n_ctx, in which every token of every document but its first is a target once.

    A document longer than the context is cut into pieces, each of which begins with the last token of the one before.
    """
    pieces = sorted(
        (
            document[start : start + n_ctx + 1]
            for document in documents
            for start in range(0, len(document) - 1, n_ctx)
        ),
        key=len,
    )
    for first in range(0, len(pieces), batch_size):
        part = pieces[first : first + batch_size]
        batch = np.full((len(part), len(part[-1])), IGNORED, np.int64)
        for row, piece in zip(batch, part, strict=True):
            row[: len(piece)] = piece
        yield batch
