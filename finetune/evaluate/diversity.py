"""How different texts are from each other."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU
from tqdm import tqdm

from finetune.evaluate.words import count_words, split_words


@dataclass(frozen=True)
class Diversity:
    """How different texts are from each other. None: there was nothing to count.

    texts: how many were compared with each other; as many samples as held-out texts
    words: those that distinct-n was counted over, as many of the samples as of the held-out texts
    distinct_1 to distinct_4: the share of word n-grams that are different ones, from 0 to 1; higher is more diverse
    self_bleu: mean BLEU, 0 to 100, of a text against all the others; lower is more diverse
    """

    texts: int
    words: int
    distinct_1: float | None
    distinct_2: float | None
    distinct_3: float | None
    distinct_4: float | None
    self_bleu: float | None


def compare(samples: Sequence[str], held_out: Sequence[str]) -> tuple[Diversity, Diversity]:
    """Of either, by the same number of texts and of words, because the measures depend on both."""
    n_texts = min(len(samples), len(held_out))
    n_words = min(count_words(samples[:n_texts]), count_words(held_out[:n_texts]))
    return _diversity(samples[:n_texts], n_words), _diversity(held_out[:n_texts], n_words)


def _diversity(texts: Sequence[str], n_words: int) -> Diversity:
    of_1, of_2, of_3, of_4 = (distinct(texts, n, n_words) for n in (1, 2, 3, 4))
    return Diversity(len(texts), n_words, of_1, of_2, of_3, of_4, self_bleu(texts))


def distinct(texts: Sequence[str], n: int, n_words: int) -> float | None:
    """The share of the n-grams in the texts' first `n_words` words that are different ones; None where there is none.

    distinct-n of Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models" (2016).
    """
    ngrams: list[tuple[str, ...]] = []
    for text in texts:
        words = split_words(text)[:n_words]
        n_words -= len(words)
        ngrams += zip(*(itertools.islice(words, i, None) for i in range(n)), strict=False)
    return len(set(ngrams)) / len(ngrams) if ngrams else None


def self_bleu(texts: Sequence[str]) -> float | None:
    """The mean BLEU (0 to 100) of each text against all the others; None where there are no others.

    Zhu et al., "Texygen: A Benchmarking Platform for Text Generation Models" (2018), by sacrebleu's BLEU-4 of a
    sentence, without case.
    """
    if len(texts) < 2:
        return None
    bleu = BLEU(lowercase=True, effective_order=True)
    scores = [
        bleu.sentence_score(text, [*texts[:i], *texts[i + 1 :]]).score
        for i, text in enumerate(tqdm(texts, desc="self-BLEU", unit="text", disable=None))
    ]
    return sum(scores) / len(scores)
