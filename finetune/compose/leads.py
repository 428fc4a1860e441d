"""Leads: sentences from elsewhere with which a composed episode begins, before a plot that resembles them.

A reader begins an episode with whatever comes to mind, which no plot foresaw. From leads a model learns the way from
there into a plot, with the names that were brought along.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finetune.compose.recast import recast
from finetune.compose.sentences import split_sentences
from finetune.compose.storylines import Storyline

_WORD = re.compile(r"[a-z]{3,}")
_STEM = 5  # letters: arrest, arrested and arresting are one word
_PLOTS = 5
_RECAST_SHARE = 0.5
_LENGTHS, _LENGTH_WEIGHTS = [1, 2, 3], [7, 2, 1]


@dataclass(frozen=True)
class Lead:
    """A text's first sentences, three at most, and its plots: their numbers, those most like the first sentence."""

    sentences: list[str]
    plots: list[int]

    def tell(self, chance: random.Random) -> str:
        """Mostly one sentence; every other time recast, mostly in another region."""
        [length] = chance.choices(_LENGTHS, _LENGTH_WEIGHTS)
        text = " ".join(self.sentences[:length])
        return recast(text, chance) if chance.random() < _RECAST_SHARE else text


def choose_leads(texts: Sequence[str], storylines: Sequence[Storyline]) -> list[Lead]:
    """One of every text, with the storylines that are most like its first sentence, five at most, or all where none is.

    The measure is the sum of the squares of the inverse document frequencies of the words that they share, a storyline
    being a document, over the norm of the storyline's: proportional to the cosine.
    """
    words = [_words(" ".join(line for step in storyline.steps for line in step)) for storyline in storylines]
    frequency = Counter(word for each in words for word in each)
    column = {word: number for number, word in enumerate(frequency)}
    weight = np.array([np.log(len(storylines) / count) for count in frequency.values()], np.float32)
    vectors = np.zeros((len(storylines), len(column)), np.float32)
    for row, each in zip(vectors, words, strict=True):
        here = [column[word] for word in each]
        row[here] = weight[here]
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    leads = []
    for text in texts:
        sentences = split_sentences(text.split("\n\n")[0])[: max(_LENGTHS)]
        known = [column[word] for word in _words(sentences[0]) if word in column]
        likeness = vectors[:, known] @ weight[known]
        nearest = np.argsort(-likeness, kind="stable")
        alike = [int(number) for number in nearest[:_PLOTS] if likeness[number] > 0]
        leads.append(Lead(sentences, alike or nearest.tolist()))
    return leads


def _words(text: str) -> list[str]:
    """Each once, in an order that is the same in every process."""
    return sorted({word[:_STEM] for word in _WORD.findall(text.lower())})
