"""Words as texts are compared by: without case and punctuation, so that a comma more does not make them one's own."""

import re
from collections.abc import Sequence

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")  # with what an apostrophe joins


def split_words(text: str) -> list[str]:
    """In order."""
    return _WORD.findall(text.casefold())


def count_words(texts: Sequence[str]) -> int:
    """Of all of them together."""
    return sum(len(split_words(text)) for text in texts)
