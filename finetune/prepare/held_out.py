"""Which documents no stage of training ever sees."""

import hashlib

HELD_OUT_PARTS = 10  # one part in this many is held out


def is_held_out(text: str, parts: int = HELD_OUT_PARTS) -> bool:
    """Whether `text` is in the one part of `parts` (2 or more) that is held out.

    Decided by the text alone, so that adding documents never moves one across the split.
    """
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") % parts == 0
