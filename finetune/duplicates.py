"""Texts that say nearly the same: Jaccard similarity of their pairs of neighbouring words.

Candidates come from datasketch's MinHash with locality-sensitive hashing (Leskovec, Rajaraman and Ullman, "Mining of
Massive Datasets", chapter 3). Each is then compared exactly, so that no text is called a duplicate by chance.
"""

import re
from itertools import pairwise

from datasketch import MinHash, MinHashLSH

_WORD = re.compile(r"\w+")

# Texts of similarity s are compared with probability 1 - (1 - s^3)^64: all but 2 pairs in ten thousand for 0.5, all but
# 2 in ten million for 0.6.
_BANDS, _ROWS = 64, 3
LOWEST_SIMILARITY = 0.5  # below it, too many pairs would escape comparison


class NearDuplicates:
    """Texts no two of which are near duplicates. The same texts in the same order give the same result every time."""

    def __init__(self, similarity: float) -> None:
        """Near duplicates are texts of this similarity or more, in [LOWEST_SIMILARITY, 1]."""
        self._similarity = similarity
        self._texts: list[str] = []
        self._index = MinHashLSH(num_perm=_BANDS * _ROWS, params=(_BANDS, _ROWS))
        self._empty = MinHash(num_perm=_BANDS * _ROWS, seed=1)

    def add(self, text: str) -> tuple[int, float] | None:
        """Add `text`, unless it is a near duplicate: then the number of the text most like it, and their similarity.

        Texts are numbered from 0 in the order they were added. Case and punctuation count for nothing.
        """
        pairs = _pairs(text)
        sketch = self._empty.copy()
        sketch.update_batch([pair.encode() for pair in pairs])
        alike = [
            (_jaccard(pairs, _pairs(self._texts[number])), number) for number in self._index.query(sketch)
        ]
        similarity, number = max(alike, key=lambda found: (found[0], -found[1]), default=(0.0, 0))
        if similarity >= self._similarity:
            return number, similarity
        self._index.insert(len(self._texts), sketch)
        self._texts.append(text)
        return None


def _pairs(text: str) -> set[str]:
    """The pairs of neighbouring words; of a text of one word, the word."""
    words = _WORD.findall(text.casefold())
    return {f"{first} {second}" for first, second in pairwise(words)} or set(words)


def _jaccard(one: set[str], other: set[str]) -> float:
    """The share of what either has that both have; two empty sets have nothing in common."""
    return len(one & other) / max(1, len(one | other))
