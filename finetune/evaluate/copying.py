"""How much of some texts stands word for word in others."""

import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from finetune.evaluate.words import split_words
from finetune.files import digest

RUN = 12  # words that two authors hardly ever put in the same order by chance

_UNKNOWN, _END = (
    0,
    1,
)  # numbers of no word; the first stands in texts alone, the second in training text alone


@dataclass(frozen=True)
class Copying:
    """What samples, and beside them held-out texts, have word for word from one training text.

    training: the folder's name; digest: of its texts; documents, words: how many it has
    ..._share_of_12_grams: the share, 0 to 1, of the runs of 12 words that occur in a document of the training text;
        None where no text has 12 words
    ..._longest_run_median, ..._longest_run_max: words of the longest run that a text shares with a document
    """

    training: str
    digest: str
    documents: int
    words: int
    samples_share_of_12_grams: float | None
    samples_longest_run_median: float
    samples_longest_run_max: int
    held_out_share_of_12_grams: float | None
    held_out_longest_run_median: float
    held_out_longest_run_max: int


@dataclass(frozen=True)
class Copied:
    """share: of the texts' runs of RUN words, those that occur, from 0 to 1; None where no text has so many words.

    longest: for each text, the words of its longest run that occurs
    """

    share: float | None
    longest: list[int]


class TrainingText:
    """Documents in which runs of words are looked up.

    documents, words: how many there are
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._numbers: dict[str, int] = {}
        self._text = np.fromiter(self._number(texts), np.int64)
        self.documents, self.words = len(texts), len(self._text) - len(texts)

    def _number(self, texts: Iterable[str]) -> Iterable[int]:
        for text in texts:
            for word in split_words(text):
                yield self._numbers.setdefault(word, len(self._numbers) + 2)
            yield _END

    def copied(self, texts: Sequence[str]) -> Copied:
        """What `texts` have from one document or another.

        Runs grow by a word at a time, and only those that still occur go on: exact, without an index, and with millions
        of words of training text a matter of seconds.
        """
        numbered = [[self._numbers.get(word, _UNKNOWN) for word in split_words(text)] for text in texts]
        text = np.array([number for numbers in numbered for number in [*numbers, _UNKNOWN]], np.int64)
        owners = np.repeat(np.arange(len(texts)), [len(numbers) + 1 for numbers in numbered])
        longest = np.zeros(len(texts), np.int64)
        n_numbers = len(self._numbers) + 2
        # Where runs begin on either side, and a number for each that equal ones have in common.
        places, runs = np.arange(len(text)), np.zeros(len(text), np.int64)
        their_places, their_runs = np.arange(len(self._text)), np.zeros(len(self._text), np.int64)
        n_copied = 0
        for length in itertools.count(1):
            their_keys = their_runs * n_numbers + self._text[their_places + length - 1]
            known, runs = np.unique(runs * n_numbers + text[places + length - 1], return_inverse=True)
            their_runs = np.minimum(np.searchsorted(known, their_keys), len(known) - 1)
            occurs = known[their_runs] == their_keys
            their_places, their_runs = their_places[occurs], their_runs[occurs]
            occurs = np.isin(runs, their_runs)
            places, runs = places[occurs], runs[occurs]
            if not len(places):
                break
            longest[owners[places]] = length
            if length == RUN:
                n_copied = len(places)
        n_runs = sum(max(0, len(numbers) - RUN + 1) for numbers in numbered)
        return Copied(n_copied / n_runs if n_runs else None, longest.tolist())


def copying(samples: Sequence[str], held_out: Sequence[str], training: Sequence[str], name: str) -> Copying:
    """What samples and held-out texts, at least one of each, have from the training texts of the folder `name`."""
    text = TrainingText(training)
    from_samples, from_held_out = text.copied(samples), text.copied(held_out)
    return Copying(
        training=name,
        digest=digest(text.encode() for text in training),
        documents=text.documents,
        words=text.words,
        samples_share_of_12_grams=from_samples.share,
        samples_longest_run_median=statistics.median(from_samples.longest),
        samples_longest_run_max=max(from_samples.longest),
        held_out_share_of_12_grams=from_held_out.share,
        held_out_longest_run_median=statistics.median(from_held_out.longest),
        held_out_longest_run_max=max(from_held_out.longest),
    )
