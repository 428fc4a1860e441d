"""Texts that say nearly the same: Jaccard similarity of their pairs of neighbouring words.

Exact and not estimated, so that no near duplicate escapes. Source of the prefix filter, which spares nearly all
comparisons: Chaudhuri, Ganti and Kaushik, "A Primitive Operator for Similarity Joins in Data Cleaning" (ICDE 2006).
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

_WORD = re.compile(r"\w+")


def near_duplicates(texts: Sequence[str], similarity: float) -> Iterator[tuple[int, float] | None]:
    """For each text in turn: None if it is kept, else the position of the kept text most like it, and their similarity.

    A text is a near duplicate when its similarity to one kept before is `similarity` or more, in (0, 1]. Case and
    punctuation count for nothing.
    """
    frequency = Counter(pair for text in texts for pair in _pairs(text))
    kept: dict[int, set[str]] = {}
    having: defaultdict[str, list[int]] = defaultdict(
        list
    )  # a rare pair -> the kept texts among whose rarest it is
    for position, text in enumerate(texts):
        pairs = _pairs(text)
        # Texts of similarity s share s * n of the n pairs of either, so each has one of them among its first
        # n - s * n + 1, in any order that is the same for all. With the rarest first, few others have it.
        rarest = sorted(pairs, key=lambda pair: (frequency[pair], pair))
        shared = math.ceil(similarity * len(pairs) - 1e-9)  # 0.7 * 10 is a little over 7
        rarest = rarest[: len(pairs) - shared + 1]
        candidates = {other for pair in rarest for other in having.get(pair, ())}
        alike = ((_jaccard(pairs, kept[other]), -other) for other in candidates)
        highest, other = max(alike, default=(0.0, 0))
        if highest >= similarity:
            yield -other, highest
        else:
            kept[position] = pairs
            for pair in rarest:
                having[pair].append(position)
            yield None


def _pairs(text: str) -> set[str]:
    """The pairs of neighbouring words; of a text of one word, the word."""
    words = _WORD.findall(text.casefold())
    return {f"{first} {second}" for first, second in pairwise(words)} or set(words)


def _jaccard(one: set[str], other: set[str]) -> float:
    """The share of what either has that both have. Not both may be empty."""
    return len(one & other) / len(one | other)
