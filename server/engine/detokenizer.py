"""Tokens of one sample into text, piece by piece."""

import codecs
from collections.abc import Sequence


class Detokenizer:
    """Collects the text of one sample.

    token_bytes: the bytes that each token stands for (V entries).
    stop: strings that end the text where the first of them begins.

    Bytes that are not UTF-8 become U+FFFD, as in OpenAI's own decoder. A character that is still incomplete
    is held back, so no piece ever splits one; and so is an ending that may yet turn out to be the beginning
    of a stop string.
    """

    def __init__(self, token_bytes: Sequence[bytes], stop: Sequence[str] = ()) -> None:
        self.text = ""
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = stop
        self._held = max((len(s) for s in stop), default=1) - 1
        self._done = False

    @property
    def settled(self) -> int:
        """How many characters of `text` are final and may be shown."""
        return len(self.text) if self._done else max(0, len(self.text) - self._held)

    def push(self, token: int) -> bool:
        """Append one token's text. True when a stop string ended the text, which is then cut in front of it."""
        # A stop string that ends in the new text begins at most this far back.
        search_from = max(0, len(self.text) - self._held)
        self.text += self._decoder.decode(self._token_bytes[token])
        found = [at for s in self._stop if (at := self.text.find(s, search_from)) >= 0]
        if found:
            self.text = self.text[: min(found)]
        return bool(found)

    def finish(self) -> None:
        """No more tokens: nothing is held back any longer, and a character left incomplete is dropped."""
        self._done = True
