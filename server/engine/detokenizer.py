"""Tokens of one sample into text, piece by piece."""

import codecs
from array import array
from collections.abc import Sequence


class StopString:
    """A string that ends a text, and what it takes to look for it, which all samples of a request share."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.borders = _borders(text)


class Detokenizer:
    """Collects the text of one sample.

    token_bytes: the bytes that each token stands for (V entries).
    stop: strings that end the text where the first of them begins.
    settled: how many characters of `text` are final and may be shown; it never falls.

    Bytes that are not UTF-8 become U+FFFD, as in OpenAI's own decoder. A character that is still incomplete
    is held back, so no piece ever splits one; and so is an ending that may yet turn out to be the beginning
    of a stop string.
    """

    def __init__(self, token_bytes: Sequence[bytes], stop: Sequence[StopString] = ()) -> None:
        self.text = ""
        self.settled = 0
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._searches = [_Search(each) for each in stop]

    def push(self, token: int) -> bool:
        """Append one token's text. True when a stop string ended the text, which is then cut in front of it."""
        new = self._decoder.decode(self._token_bytes[token])
        cuts = [
            len(self.text) + end - len(search.string)
            for search in self._searches
            if (end := search.push(new)) is not None
        ]
        self.text += new
        if cuts:
            self.text = self.text[: min(cuts)]
            self.settled = len(self.text)
        else:
            self.settled = len(self.text) - max((search.matched for search in self._searches), default=0)
        return bool(cuts)

    def finish(self) -> None:
        """No more tokens: nothing is held back any longer, and a character left incomplete is dropped."""
        self.settled = len(self.text)


class _Search:
    """Looks for a string in a text that comes in pieces (Knuth, Morris and Pratt, 1977).

    matched: the text so far ends with so many characters of the string's beginning, and with no more.
    """

    def __init__(self, stop: StopString) -> None:
        self.string = stop.text
        self.matched = 0
        self._borders = stop.borders

    def push(self, piece: str) -> int | None:
        """How many characters of the piece belong to the text up to the string's end; None if it is not there yet."""
        for i, character in enumerate(piece):
            self.matched = _advance(self.string, self._borders, self.matched, character)
            if self.matched == len(self.string):
                return i + 1
        return None


def _advance(string: str, borders: Sequence[int], matched: int, character: str) -> int:
    while matched and string[matched] != character:
        matched = borders[matched - 1]
    return matched + (string[matched] == character)


def _borders(string: str) -> Sequence[int]:
    """For every beginning of the string: the longest that it both begins and ends with, but for itself."""
    borders = array("I", [0])  # a string may be as long as a request, and Python's own numbers are large
    for character in string[1:]:
        borders.append(_advance(string, borders, borders[-1], character))
    return borders
