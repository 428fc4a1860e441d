"""An n-gram model of tokens: what is left to be learnt once the nearest words are known.

Interpolated modified Kneser-Ney smoothing, section 3 of Chen and Goodman, "An Empirical Study of Smoothing Techniques
for Language Modeling" (Harvard TR-10-98). As in KenLM, n-grams at a document's beginning, which nothing can precede,
keep their raw counts, and discounts that a small text leaves undefined are 0.5, 1 and 1.5.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

UNSEEN = -1


@dataclass(frozen=True)
class Order:
    """The n-grams of one length. An n-gram's id is its place in `keys`: (id of all but its last token, last token).

    discounted: by n-gram, its count less its discount, divided by the total of its context
    left_over: by context, the share of that total which the discounts took, for the next shorter context
    """

    keys: Ids
    discounted: Floats
    left_over: Floats


class NgramModel:
    """Probabilities of tokens from 0 to n_vocab - 1 after at most `order - 1` others of the same document."""

    def __init__(
        self, documents: Sequence[Sequence[int] | NDArray[np.integer]], n_vocab: int, order: int = 5
    ) -> None:
        """Learn from documents that begin with their delimiter, which is given and not predicted; `order` is 2 or more.

        Raises ValueError when they have nothing to predict.
        """
        self.n_vocab = n_vocab
        lengths = np.array([len(document) for document in documents], np.int64)
        if not np.any(lengths > 1):
            raise ValueError("the training texts have no tokens: give others")
        tokens = np.concatenate([np.asarray(document, np.int64) for document in documents])
        # The place of each token in its document, from 0: where it is n - 1 or more, an n-gram ends.
        places = np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        self._orders = list(_learn(tokens, places, n_vocab, order))

    def log_probabilities(self, document: Sequence[int] | NDArray[np.integer]) -> Floats:
        """Of every token but the first, in nats: (T + 1,) -> (T,)."""
        tokens = np.asarray(document, np.int64)
        contexts = np.zeros(len(tokens) - 1, np.int64)
        probabilities = np.full(len(contexts), 1 / self.n_vocab)
        for order in self._orders:
            ids = _find(order.keys, np.where(contexts < 0, UNSEEN, contexts * self.n_vocab + tokens[1:]))
            discounted = np.where(ids < 0, 0, order.discounted[ids])
            left_over = np.where(contexts < 0, 1, order.left_over[contexts])
            probabilities = discounted + left_over * probabilities
            # The context of the next order ends one token earlier, and is an n-gram of this order.
            first = tokens[0] if order is self._orders[0] else UNSEEN
            contexts = np.concatenate([[first], ids[:-1]])
        log: Floats = np.log(probabilities)
        return log


def _learn(tokens: Ids, places: Ids, n_vocab: int, order: int) -> Iterator[Order]:
    """The n-grams of length 1, 2, ... `order`, or as long as documents are."""
    keys, ids, n_contexts = np.arange(n_vocab), tokens, 1  # ids: of the n-gram that ends at each token
    for n in range(1, order):
        ends = np.flatnonzero(places >= n)  # of those that are a token longer
        if not len(ends):
            break
        longer, first, longer_ids = np.unique(
            ids[ends - 1] * n_vocab + tokens[ends], return_index=True, return_inverse=True
        )
        # An n-gram counts as often as there are different tokens before it: different longer ones that end with it.
        counts = np.bincount(ids[ends[first]], minlength=len(keys))
        if n > 1:
            counts += np.bincount(ids[places == n - 1], minlength=len(keys))
        yield _smooth(keys, counts, n_vocab, n_contexts)
        keys, n_contexts = longer, len(keys)
        ids = np.full(len(tokens), UNSEEN)
        ids[ends] = longer_ids
    yield _smooth(keys, np.bincount(ids[ids != UNSEEN], minlength=len(keys)), n_vocab, n_contexts)


def _smooth(keys: Ids, counts: Ids, n_vocab: int, n_contexts: int) -> Order:
    discounts = np.concatenate([[0], _discounts(counts)])[np.minimum(counts, 3)]
    contexts = keys // n_vocab
    totals = np.bincount(contexts, counts, n_contexts)
    taken = np.bincount(contexts, discounts, n_contexts)
    ends = totals == 0  # contexts that nothing follows: all is left to the shorter one
    return Order(
        keys,
        discounted=(counts - discounts) / np.where(ends, 1, totals)[contexts],
        left_over=np.where(ends, 1, taken / np.where(ends, 1, totals)),
    )


def _discounts(counts: Ids) -> tuple[float, float, float]:
    """For counts of 1, 2, and 3 or more: equation 26 of Chen and Goodman."""
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == count)) for count in (1, 2, 3, 4))
    if n1 and n2 and n3:
        y = n1 / (n1 + 2 * n2)
        found = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
        if all(0 < discount < count for count, discount in enumerate(found, start=1)):
            return found
    return 0.5, 1.0, 1.5


def _find(keys: Ids, wanted: Ids) -> Ids:
    """The place of each of `wanted` in the sorted `keys`, UNSEEN where it is none."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, places, UNSEEN)
