"""Whole sentences: where one ends, and where a text that was cut off by its length should end."""

import re

# A full stop, question mark, exclamation mark or ellipsis with the quotes and brackets that close behind it,
# before white space or the end; but not the full stop of a title or of an initial ("Mr. Mime", "Mt. Moon",
# "Samuel J. Oak"). A run of marks is looked at once, from its first mark on: from each of them, a page of dots
# would take time that grows with its square.
SENTENCE_END = re.compile(
    r"""(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bProf)(?<!\bSt)(?<!\bMt)(?<!\bJr)(?<!\b[A-Z])
        (?<![.!?…]) [.!?…]++ ["'”’»)\]]*+ (?=\s|\Z)""",  # noqa: RUF001
    re.VERBOSE,
)


def until_last_sentence_end(text: str) -> str:
    """The text up to the end of its last whole sentence; all of it where no sentence ends in it."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else text
