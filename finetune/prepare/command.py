"""`pokegen prepare`: text as it was found to a data set: train.txt, held-out.txt and a report of what was dropped."""

import csv
import hashlib
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from finetune.console import FOLDER, FiniteRange, aligned
from finetune.documents import write_documents
from finetune.files import replace, whole
from finetune.prepare.held_out import is_held_out
from finetune.prepare.inputs import ATTRIBUTION, Document, read_input
from finetune.prepare.selection import REASONS, Dropped, Kept, Rules, select
from server.commands.console import Interrupted, examples

TRAIN, HELD_OUT, REPORT, SOURCES = "train.txt", "held-out.txt", "report.json", "sources.csv"

Report = dict[str, Any]  # report.json


@click.command(
    "prepare",
    context_settings={"show_default": True},
    epilog=examples(
        ("what `pokegen crawl` fetched", "pokegen prepare run/crawl/episodes.jsonl --out run/data/wiki"),
        (
            "a column of a table, short texts dropped",
            "pokegen prepare corpus/jokes.csv --column Joke --min-words 5 --out run/data/jokes",
        ),
    ),
)
@click.argument(
    "inputs", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--out", required=True, type=FOLDER, help="The folder to write the data set to.")
@click.option("--column", help="The column of a .csv that holds the text; needed if it has several.")
@click.option("--lines", is_flag=True, help="Every line of a .txt is a document, unless it has delimiters.")
@click.option(
    "--min-words", type=click.IntRange(min=1), default=Rules.min_words, help="Drop texts of fewer words."
)
@click.option(
    "--max-words", type=click.IntRange(min=1), help="Drop texts of more words.  [default: any length]"
)
@click.option(
    "--similarity",
    type=FiniteRange(0, 1, min_open=True),
    default=Rules.similarity,
    help="Drop a text when it shares this part of its pairs of neighbouring words with an earlier one.",
)
@click.option(
    "--held-out-parts",
    type=click.IntRange(min=2),
    default=Rules.held_out_parts,
    help="Hold out one document in this many; which, its text decides.",
)
def command(inputs: tuple[Path, ...], out: Path, column: str | None, lines: bool, **rules: Any) -> None:  # noqa: ANN401
    """Make a data set to train on from INPUTS: .jsonl (a field "text" a line), .csv (a column) or .txt files.

    Repairs the text, removes a wiki's notices and remarks, drops duplicates and near duplicates, and holds a part out.
    Writes train.txt, held-out.txt, report.json (what was dropped, and why) and, where the inputs name their sources,
    sources.csv.
    """
    suffixes = {file.suffix.lower() for file in inputs}
    if column is not None and ".csv" not in suffixes:
        raise click.BadParameter("no input is a .csv: leave it out", param_hint="--column")
    if lines and ".txt" not in suffixes:
        raise click.BadParameter("no input is a .txt: leave it out", param_hint="--lines")
    try:
        report = prepare(list(inputs), out, Rules(**rules), column=column, lines=lines)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted, and {out} may be incomplete: the same command begins anew") from None
    click.echo(table(report))
    click.echo(f"{out}: {_described(report, 'train')} to train on, {_described(report, 'held_out')} held out")


def _described(report: Report, side: str) -> str:
    size = report[side]
    return f"{size['documents']:,} documents ({size['words']:,} words)"


def table(report: Report) -> str:
    """How many documents of each input were read, kept and, for each reason, dropped."""
    rows = [["input", "read", "kept", *REASONS]]
    for entry in [*report["inputs"], {**report, "file": "all"}]:
        numbers = [entry["read"], entry["kept"], *(entry["dropped"][reason] for reason in REASONS)]
        rows.append([entry["file"], *(f"{number:,}" for number in numbers)])
    return aligned(rows)


def prepare(
    inputs: list[Path], out: Path, rules: Rules, *, column: str | None = None, lines: bool = False
) -> Report:
    """Write the data set `out` from `inputs` and return its report; `column` and `lines` as in `read_input`.

    A file that is named twice is read once. Raises ValueError when an input can't be read, when either side of the
    split would be empty, and FileExistsError when `out` holds anything but an earlier data set from the same inputs.
    """
    inputs = list(dict.fromkeys(inputs))
    _require_free(out, inputs)
    documents = [document for file in inputs for document in read_input(file, column, lines=lines)]
    kept, dropped = select(documents, rules)
    held_out = [k for k in kept if is_held_out(k.text, rules.held_out_parts)]
    train = [k for k in kept if not is_held_out(k.text, rules.held_out_parts)]
    report = _report(inputs, rules, documents, train, held_out, dropped)
    if not kept:
        raise ValueError(f"nothing is left: {_reasons(dropped)}; see --min-words and --max-words")
    if not train or not held_out:
        raise ValueError(
            f"all {len(kept)} documents left fall on the same side of the split: give more text,"
            f" split it into more documents (--lines), or change --held-out-parts {rules.held_out_parts}"
        )
    out.mkdir(parents=True, exist_ok=True)
    # A run that ends in the middle must leave neither halves of two splits nor a folder that it would not know again.
    for name in (TRAIN, HELD_OUT, SOURCES):
        (out / name).unlink(missing_ok=True)
    replace(out / REPORT, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    _write_sources(out / SOURCES, {"train": train, "held-out": held_out})
    write_documents(out / HELD_OUT, (k.text for k in held_out))
    write_documents(out / TRAIN, (k.text for k in train))
    return report


def _require_free(out: Path, inputs: list[Path]) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        before = [entry["file"] for entry in json.loads((out / REPORT).read_text(encoding="utf-8"))["inputs"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise FileExistsError(f"{out} exists and is no prepared data set: name another --out") from None
    if before != [str(file) for file in inputs]:
        raise FileExistsError(f"{out} holds what was prepared from {', '.join(before)}: name another --out")


def _reasons(dropped: list[Dropped]) -> str:
    counts = Counter(d.reason for d in dropped)
    return ", ".join(f"{counts[reason]} {reason}" for reason in REASONS if counts[reason])


def _report(
    inputs: list[Path],
    rules: Rules,
    documents: list[Document],
    train: list[Kept],
    held_out: list[Kept],
    dropped: list[Dropped],
) -> Report:
    kept = train + held_out
    read_of = Counter(d.file for d in documents)
    kept_of = Counter(k.document.file for k in kept)
    dropped_of = Counter((d.document.file, d.reason) for d in dropped)
    return {
        "inputs": [
            {
                "file": str(file),
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                "read": read_of[str(file)],
                "kept": kept_of[str(file)],
                "dropped": {reason: dropped_of[str(file), reason] for reason in REASONS},
            }
            for file in inputs
        ],
        "rules": asdict(rules),
        "read": len(documents),
        "kept": len(kept),
        "changed_by_cleaning": sum(k.text != k.document.text for k in kept),
        "dropped": {reason: sum(d.reason == reason for d in dropped) for reason in REASONS},
        "train": _size(train),
        "held_out": _size(held_out),
        "dropped_documents": [_dropped(d) for d in dropped],
    }


def _size(kept: list[Kept]) -> dict[str, int]:
    return {
        "documents": len(kept),
        "words": sum(len(k.text.split()) for k in kept),
        "bytes": sum(len(k.text.encode()) for k in kept),
    }


def _dropped(dropped: Dropped) -> dict[str, object]:
    entry: dict[str, object] = {
        "file": dropped.document.file,
        "line": dropped.document.line,
        "reason": dropped.reason,
        "first_words": " ".join(dropped.document.text.split()[:8])[:80],
    }
    if dropped.duplicate_of is not None:
        entry["duplicate_of"] = {"file": dropped.duplicate_of.file, "line": dropped.duplicate_of.line}
        entry["similarity"] = round(dropped.similarity or 0.0, 3)
    return entry


def _write_sources(file: Path, sides: dict[str, list[Kept]]) -> None:
    """Where each document of each side comes from, in the order it is written in; nothing where nobody said."""
    rows = [
        [side, number, *(k.document.attribution.get(name, "") for name in ATTRIBUTION)]
        for side, kept in sides.items()
        for number, k in enumerate(kept, start=1)
        if k.document.attribution.keys() - {"title"}
    ]
    if not rows:
        return
    with whole(file) as out:
        csv.writer(out, lineterminator="\n").writerows([["side", "number", *ATTRIBUTION], *rows])
