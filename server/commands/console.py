"""What commands have in common: examples in their help, how an interruption is said, text as UTF-8."""

import io
import re
import sys
from typing import TextIO

import click

from server.cli import INTERRUPTED


def examples(*rows: tuple[str, str]) -> str:
    """A command's epilog: examples, each as (what it is for, a line to copy)."""
    return "\b\nExamples:\n" + "\n".join(f"  # {purpose}\n  {line}" for purpose, line in rows)


class Interrupted(click.ClickException):
    """Ctrl-C ended a command before its work was done; the message says what is left of it and how to go on."""

    exit_code = INTERRUPTED


class Text(click.ParamType[str]):
    """Text that can be said in UTF-8. Bytes of the command line that are none can't be given to a model."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text itself."""
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail(f"{value!r} is not UTF-8", param, ctx)
        return value


def standard_input() -> TextIO:
    """Where prompts come from, in UTF-8 whatever the locale says. Raises ClickException where it is closed.

    What is no UTF-8 is kept as surrogates, which `Tokenizer.encode` refuses.
    """
    return _as_utf8(sys.stdin, "input")


def standard_output() -> TextIO:
    """Where texts go, in UTF-8 whatever the locale says. Raises ClickException where it is closed."""
    return _as_utf8(sys.stdout, "output")


def _as_utf8(stream: TextIO | None, name: str) -> TextIO:
    if stream is None:  # as Python has it after >&- or <&-
        raise click.ClickException(f"standard {name} is closed")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    return stream


def visible(text: str) -> str:
    """The text without control characters, which a terminal would obey."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", text)
