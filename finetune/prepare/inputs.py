"""Reading what `pokegen prepare` prepares: .jsonl, .csv and .txt files in UTF-8."""

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ftfy.fixes import fix_surrogates

from finetune.documents import END_OF_TEXT, START_OF_TEXT

ATTRIBUTION = ("title", "source", "revision", "licence")


@dataclass(frozen=True)
class Document:
    """A text as it was found in line `line`, from 1, of `file`; of a CSV, the line that its row begins in.

    `attribution` holds those of `ATTRIBUTION` that the input names and that are not empty. Neither holds half of a
    surrogate pair, which JSON can spell and no file of ours can hold: U+FFFD stands for it.
    """

    file: str
    line: int
    text: str
    attribution: Mapping[str, str]


def read_input(file: Path, column: str | None = None, *, lines: bool = False) -> list[Document]:
    """The documents in `file`, in order; empty lines and rows are none.

    `column` is the column of a CSV to read; one that has a single column needs none. `lines` makes every line of a
    .txt a document, unless it has delimiters. Raises ValueError, naming the line, for what can't be read.
    """
    suffix = file.suffix.lower()
    if suffix not in (".jsonl", ".csv", ".txt"):
        raise ValueError(f"{file}: can't tell its format by its name: want .jsonl, .csv or .txt")
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not UTF-8 at byte {error.start}: convert it, for example with iconv"
        ) from None
    match suffix:
        case ".jsonl":
            documents = list(_read_jsonl(file, text))
        case ".csv":
            documents = list(_read_csv(file, text, column))
        case _:
            documents = list(_read_txt(file, text, lines))
    if not documents:
        raise ValueError(f"{file} is empty: it holds no document")
    return documents


def _read_jsonl(file: Path, text: str) -> Iterator[Document]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{file}:{number}: is not JSON: {error}") from None
        if not isinstance(fields, dict) or not isinstance(fields.get("text"), str):
            raise ValueError(f'{file}:{number}: want an object with a string "text", got {line[:60]!r}')
        yield Document(str(file), number, fix_surrogates(fields["text"]), _attribution(fields))


def _read_csv(file: Path, text: str, column: str | None) -> Iterator[Document]:
    rows = _rows(file, text)
    first_line, first = next(rows, (1, [""]))
    if column is None and len(first) > 1:
        raise ValueError(f"{file} has the columns {', '.join(first)}: name one of them with --column")
    if column is not None and column not in first:
        raise ValueError(f"{file} has no column {column!r}: it has {', '.join(first)}")
    header = first
    # A single word on top of a single column is its name; a name of several words is given by --column.
    if column is None and len(first[0].split()) > 1:
        header = [""]
        yield Document(str(file), first_line, first[0], {})
    wanted = header.index(column) if column is not None else 0
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"{file}:{line}: has {len(row)} fields where the first row has {len(header)}:"
                " put a text that holds a comma in double quotes, and double the quotes within it"
            )
        names = (name.strip().lower() for name in header)
        yield Document(str(file), line, row[wanted], _attribution(dict(zip(names, row, strict=True))))


def _rows(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not empty, with the line that it begins in."""
    csv.field_size_limit(sys.maxsize)  # a text may be a book; the standard limit is 128 KiB
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for row in reader:
            if any(field.strip() for field in row):
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{file}: the row that begins in line {line} is broken: {error}; look for a double quote without its pair"
        ) from None


def _read_txt(file: Path, text: str, lines: bool) -> Iterator[Document]:
    """Documents between delimiters if there is one, else a document a line (`lines`), else the whole."""
    delimited = START_OF_TEXT in text or END_OF_TEXT in text
    pieces = [text]
    if delimited:
        pieces = re.split(f"{re.escape(START_OF_TEXT)}|{re.escape(END_OF_TEXT)}", text)
    elif lines:
        pieces = re.split("(?<=\n)", text)
    number = 1
    for piece in pieces:
        if piece.strip():
            yield Document(str(file), number, piece, {})
        number += piece.count("\n")


def _attribution(fields: Mapping[str, object]) -> dict[str, str]:
    return {
        name: fix_surrogates(str(fields[name])) for name in ATTRIBUTION if fields.get(name) not in (None, "")
    }
