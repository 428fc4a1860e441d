"""Which documents are kept, as what text, and why the others are not."""

from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from finetune.prepare.cleaning import clean
from finetune.prepare.duplicates import near_duplicates
from finetune.prepare.held_out import HELD_OUT_PARTS
from finetune.prepare.inputs import Document

REASONS = ("empty", "too short", "too long", "duplicate", "near duplicate")


@dataclass(frozen=True)
class Rules:
    """What is kept, and how it is split.

    min_words, max_words: lengths that are kept, in words between white space; without max_words, any
    similarity: texts this alike are near duplicates, see `finetune.prepare.duplicates`; in (0, 1]
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


def select(documents: Sequence[Document], rules: Rules) -> tuple[list[Kept], list[Dropped]]:
    """Clean every document and tell what is kept from what is dropped, both in order; of duplicates, the first is kept.

    No two kept texts are near duplicates, so none can be on both sides of a split.
    """
    texts = [clean(d.text) for d in tqdm(documents, desc="clean", unit="document", disable=None)]
    distinct = [text for text in dict.fromkeys(texts) if _unfit(text, rules) is None]
    compared = tqdm(
        near_duplicates(distinct, rules.similarity),
        desc="compare",
        total=len(distinct),
        unit="document",
        disable=None,
    )
    near = dict(zip(distinct, compared, strict=True))
    kept: list[Kept] = []
    dropped: list[Dropped] = []
    original: dict[str, Document] = {}  # what was kept for a text
    for document, text in zip(documents, texts, strict=True):
        if reason := _unfit(text, rules):
            dropped.append(Dropped(document, reason))
        elif text in original:
            dropped.append(Dropped(document, "duplicate", original[text], 1.0))
        elif found := near[text]:
            position, similarity = found
            original[text] = original[distinct[position]]
            dropped.append(Dropped(document, "near duplicate", original[text], similarity))
        else:
            original[text] = document
            kept.append(Kept(document, text))
    return kept, dropped


def _unfit(text: str, rules: Rules) -> str | None:
    """Why a text is dropped whatever the others are, if it is."""
    words = len(text.split())
    if not words:
        return "empty"
    if words < rules.min_words:
        return "too short"
    if rules.max_words is not None and words > rules.max_words:
        return "too long"
    return None
