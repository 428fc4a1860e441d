"""Which documents are kept, as what text, and why the others are not."""

from collections.abc import Iterable
from dataclasses import dataclass

from finetune.cleaning import clean
from finetune.duplicates import NearDuplicates
from finetune.held_out import HELD_OUT_PARTS
from finetune.inputs import Document

REASONS = ("empty", "too short", "too long", "duplicate", "near duplicate")


@dataclass(frozen=True)
class Rules:
    """What is kept, and how it is split.

    min_words, max_words: lengths that are kept, in words between white space; without max_words, any
    similarity: texts this alike are near duplicates, see `finetune.duplicates`
    held_out_parts: one part in this many is held out, 2 or more
    """

    min_words: int = 3
    max_words: int | None = None
    similarity: float = 0.6
    held_out_parts: int = HELD_OUT_PARTS


@dataclass(frozen=True)
class Kept:
    """A document that is trained on or held out, `text` being what cleaning made of it."""

    document: Document
    text: str


@dataclass(frozen=True)
class Dropped:
    """A document that is left out for one of `REASONS`, of which one kept document may be the cause."""

    document: Document
    reason: str
    duplicate_of: Document | None = None
    similarity: float | None = None


def select(documents: Iterable[Document], rules: Rules) -> tuple[list[Kept], list[Dropped]]:
    """Clean every document and tell what is kept from what is dropped; of duplicates, the first is kept.

    No two kept texts are near duplicates, so none can be on both sides of a split.
    """
    kept: list[Kept] = []
    dropped: list[Dropped] = []
    distinct = NearDuplicates(rules.similarity)
    original: dict[str, Document] = {}  # what was kept for a text
    for document in documents:
        text = clean(document.text)
        words = len(text.split())
        if not words:
            dropped.append(Dropped(document, "empty"))
        elif words < rules.min_words:
            dropped.append(Dropped(document, "too short"))
        elif rules.max_words is not None and words > rules.max_words:
            dropped.append(Dropped(document, "too long"))
        elif text in original:
            dropped.append(Dropped(document, "duplicate", original[text], 1.0))
        elif (near := distinct.add(text)) is not None:
            number, similarity = near
            original[text] = kept[number].document
            dropped.append(Dropped(document, "near duplicate", original[text], similarity))
        else:
            original[text] = document
            kept.append(Kept(document, text))
    return kept, dropped
