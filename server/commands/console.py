"""What commands have in common: examples in their help, how an interruption is said, text as UTF-8."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
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


def as_utf8(stream: TextIO) -> TextIO:
    """A standard stream that reads or writes UTF-8 whatever the locale says.

    What is read and is none is kept as surrogates, which `Tokenizer.encode` refuses.
    """
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    return stream


@contextlib.contextmanager
def standard_output() -> Iterator[TextIO]:
    """Where texts go, until whoever reads it through a pipe, such as `head`, has had enough: that is no error."""
    try:
        yield as_utf8(sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def visible(text: str) -> str:
    """The text without control characters, which a terminal would obey."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", text)
