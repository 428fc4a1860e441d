"""How texts are written: each whole to a pipe or a file, and to a terminal while it grows."""

import contextlib
import json
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from server.api.sentences import until_last_sentence_end
from server.commands.console import standard_output, visible
from server.commands.samples import Wish
from server.engine import Generation

# The control characters that json.dumps leaves as they are, and a terminal obeys.
_CONTROL = re.compile(r"[\x7f-\x9f]")


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


@dataclass(frozen=True)
class Form:
    """What a text looks like where it is written; without JSON, `sample_delim` stands behind its line break."""

    include_prefix: bool
    whole_sentences: bool
    as_json: bool
    sample_delim: str

    def record(self, wish: Wish, generation: Generation) -> str:
        """All that is written of a sample, which is waited for: its text is what the service would answer."""
        (sample,) = generation.result()
        prefix, text = str(wish.prompt), sample.text
        if self.whole_sentences and sample.finish_reason == "length":
            text = until_last_sentence_end(text)
        if self.include_prefix:
            text = prefix + text
        if not self.as_json:
            return f"{text}\n{self.sample_delim}"
        fields = {
            "text": text,
            "prefix": prefix,
            "seed": generation.params.seed,
            "sample": wish.number,
            "finish_reason": sample.finish_reason,
            "tokens": len(sample.tokens),
        }
        return _CONTROL.sub(_escaped, json.dumps(fields, ensure_ascii=False)) + "\n"


class Writer:
    """Writes texts one after the other, and counts those that are written.

    grows: they are shown while they grow, which takes a terminal, no JSON and no sentence that may be taken back.
    """

    def __init__(self, out: IO[str], form: Form) -> None:
        self.to_terminal = out.isatty()
        self.written = 0
        self._out = out
        self._form = form
        self._grows = self.to_terminal and not form.as_json and not form.whole_sentences

    def write(self, wish: Wish, generation: Generation) -> None:
        """Write a text to its end. Ctrl-C finds it whole and counted, or neither, except at a terminal."""
        if self._grows:
            self._show(wish, generation)
            return
        record = self._form.record(wish, generation)
        with uninterrupted():
            self._say(record)
            self.written += 1

    def _show(self, wish: Wish, generation: Generation) -> None:
        if self._form.include_prefix:
            self._say(str(wish.prompt))
        for piece in generation.stream():
            if piece:
                self._say(piece.text)
        self._say(f"\n{self._form.sample_delim}")

    def _say(self, text: str) -> None:
        self._out.write(visible(text) if self.to_terminal else text)
        self._out.flush()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C has to wait until this is done."""
    pressed: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        pressed.append(number)

    usual = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if pressed:
        raise KeyboardInterrupt


@contextlib.contextmanager
def opened(destination: Path | None, append: bool) -> Iterator[IO[str]]:
    """Where the texts go, in UTF-8: a file, or standard output."""
    if destination:
        with destination.open("a" if append else "w", encoding="utf-8") as file:
            yield file
    else:
        yield standard_output()
