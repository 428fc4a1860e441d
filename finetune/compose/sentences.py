"""Where sentences begin, in the plain prose of the corpus."""

import re

# Behind a full stop or the like and its quotation mark, but not behind the stop of Mr., Mrs., Dr., St. and Jr.
_BETWEEN = re.compile(r'(?:(?<=[.!?])|(?<=[.!?]"))(?<!\b[DJMS][rt]\.)(?<!\bMrs\.) (?=["A-Z])')


def split_sentences(paragraph: str) -> list[str]:
    """Its sentences, a quotation of several being one; joined by blanks they are the paragraph."""
    sentences: list[str] = []
    for part in _BETWEEN.split(paragraph):
        if sentences and sentences[-1].count('"') % 2:
            sentences[-1] += f" {part}"
        else:
            sentences.append(part)
    return sentences
