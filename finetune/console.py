"""What commands have in common: a type of option, and tables."""

from collections.abc import Sequence
from pathlib import Path

import click

FOLDER = click.Path(file_okay=False, path_type=Path)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table, a line a row: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]) for first, *rest in rows
    )
