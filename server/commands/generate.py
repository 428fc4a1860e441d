"""`pokegen generate`: texts to the terminal, to a pipe or to a file, as gpt-2-simple and OpenAI's script write them."""

import itertools
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import click
from click.core import ParameterSource
from tqdm import tqdm

from server.commands.console import Interrupted, Text, examples
from server.commands.options import Model, with_batch_size, with_model, with_sampling
from server.commands.samples import AHEAD, Wish, in_order
from server.commands.writer import Form, Writer, opened
from server.engine import Engine, SamplingParams


@click.command(
    context_settings={"show_default": True},
    epilog=examples(
        ("one text, as it is written", 'pokegen generate --prefix "Ash and Pikachu were"'),
        (
            "100 texts into a file, 32 at once",
            "pokegen generate --nsamples 100 --batch-size 32 --destination-path texts.txt",
        ),
        (
            "texts without end, as JSON, until the reader has had enough",
            "pokegen generate --nsamples 0 --json | head -n 20",
        ),
        (
            "three texts for each line of a file",
            "pokegen generate --prefixes openings.txt --nsamples 3 --json > texts.jsonl",
        ),
        (
            "a whole file as the prefix, from standard input",
            "pokegen generate --prefixes - --prefix-delim '' --length 200 < chapter.txt",
        ),
        ("one of OpenAI's models", "pokegen generate --model-name 124M --top-k 40 --length 100"),
    ),
)
@click.option("--prefix", type=Text(), default="", help="How each text begins; empty: the model begins.")
@click.option(
    "--prefixes",
    "prefix_file",
    type=click.File(encoding="utf-8"),
    metavar="FILE",
    help="Prefixes instead, one a line; - is standard input. --nsamples counts for each.",
)
@click.option(
    "--prefix-delim",
    type=Text(),
    default="\n",
    show_default="the end of the line",
    help="What stands between two --prefixes; '': the whole file is one.",
)
@click.option("--nsamples", type=click.IntRange(min=0), default=1, help="Texts; 0: without end.")
@with_batch_size
@click.option(
    "--length",
    type=click.IntRange(min=1),
    default=1023,
    help="New tokens at most; what does not fit into n_ctx is left away.",
)
@with_sampling
@click.option(
    "--include-prefix/--no-include-prefix", default=True, help="Whether the texts begin with the prefix."
)
@click.option(
    "--whole-sentences",
    is_flag=True,
    help="End a text that --length cuts off at the end of its last whole sentence, as the service does.",
)
@click.option(
    "--json",
    "--return-as-list",
    "as_json",
    is_flag=True,
    help="Write a JSON object a line, with the text and where it comes from.",
)
@click.option(
    "--sample-delim",
    type=Text(),
    default="=" * 20,
    help="The line behind each of several texts; '': none.",
)
@click.option(
    "--destination-path",
    type=click.Path(dir_okay=False, path_type=Path),
    show_default="standard output",
    help="Write to this file, text by text.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@click.option("--append", is_flag=True, help="Write behind what is in the file.")
@click.option(
    "--skip",
    type=click.IntRange(min=0),
    default=0,
    help="Leave the first so many texts out, which an interrupted run has written.",
)
@with_model
@click.pass_context
def command(
    context: click.Context,
    /,
    model: Model,
    prefix: str,
    prefix_file: IO[str] | None,
    prefix_delim: str,
    nsamples: int,
    batch_size: int,
    length: int,
    include_prefix: bool,
    whole_sentences: bool,
    as_json: bool,
    sample_delim: str,
    destination_path: Path | None,
    overwrite: bool,
    append: bool,
    skip: int,
    **sampling: Any,  # noqa: ANN401 - fields of SamplingParams
) -> None:
    """Write texts: to the terminal while they grow, to a pipe or a file one by one.

    Options have gpt-2-simple's names, meanings and defaults (--batch-size excepted, which changes no text here), and
    with them OpenAI's --model-name, --models-dir and --nsamples 0. Text number i depends on its options and its seed
    alone, and is the i-th of what the service's /generate gives for the same. Ctrl-C leaves whole texts in the file.
    """
    if prefix and prefix_file:
        raise click.UsageError("--prefix and --prefixes: give one of them")
    require_free(destination_path, overwrite, append)
    prefixes = read_prefixes(prefix_file, prefix_delim) if prefix_file else [prefix]
    if not nsamples and len(prefixes) > 1:
        raise click.BadParameter("0 is without end: give one prefix, or a number", param_hint="--nsamples")
    numbers = range(nsamples) if nsamples else itertools.count()
    wishes = (Wish(each, number) for each in prefixes for number in numbers)
    total = max(0, nsamples * len(prefixes) - skip) if nsamples else None
    if total:
        batch_size = min(batch_size, total)
    if nsamples * len(prefixes) == 1:
        sample_delim = ""  # as gpt-2-simple has it
    elif sample_delim and not sample_delim.endswith("\n"):
        sample_delim += "\n"
    form = Form(include_prefix, whole_sentences, as_json, sample_delim)
    params = SamplingParams(length=length, **sampling)

    with model.running(batch_size, max_waiting=AHEAD * batch_size) as engine:
        require_room(engine, prefixes, "--prefixes" if prefix_file else "--prefix")
        if not as_json and context.get_parameter_source("seed") is ParameterSource.DEFAULT:
            click.echo(f"--seed {params.seed} gives the same again", err=True)
        samples = in_order(engine, itertools.islice(wishes, skip, None), params, batch_size)
        with closing(samples), opened(destination_path, append) as out:
            writer = Writer(out, form)
            try:
                for wish, generation in tqdm(
                    samples, total=total, unit="text", disable=True if writer.to_terminal else None
                ):
                    writer.write(wish, generation)
            except KeyboardInterrupt:
                if not destination_path:
                    raise
                in_place = " in place of --overwrite" if overwrite else ""
                raise Interrupted(
                    f"interrupted: {writer.written} whole texts were written; the same command goes on with"
                    f" --seed {params.seed} --skip {skip + writer.written} --append{in_place}"
                ) from None


def require_free(destination: Path | None, overwrite: bool, append: bool) -> None:
    """Raise UsageError where the file is there and was not meant to be, or was not said to be replaced."""
    if overwrite and append:
        raise click.UsageError("--overwrite and --append: give one of them")
    if (overwrite or append) and not destination:
        raise click.UsageError("--overwrite and --append concern a file: give --destination-path")
    if destination and destination.exists() and not (overwrite or append):
        raise click.BadParameter(
            f"{destination} exists: give --overwrite, or --append to write behind it",
            param_hint="--destination-path",
        )


def read_prefixes(file: IO[str], delimiter: str) -> list[str]:
    """What stands between the delimiters, but for what is blank; all of it where the delimiter is empty.

    Raises BadParameter where that is nothing, or no UTF-8.
    """
    try:
        text = file.read()
    except UnicodeDecodeError as error:
        raise click.BadParameter(
            f"{file.name} is not UTF-8: {error.reason}", param_hint="--prefixes"
        ) from None
    parts = text.split(delimiter) if delimiter else [text]
    prefixes = [part for part in parts if part.strip()]
    if not prefixes:
        raise click.BadParameter(f"{file.name} has no prefix", param_hint="--prefixes")
    return prefixes


def require_room(engine: Engine, prefixes: list[str], option: str) -> None:
    """Raise BadParameter where a prefix leaves no room for a new token: before anything is written."""
    limit = engine.hparams.n_ctx - 1
    for number, prefix in enumerate(prefixes, start=1):
        tokens = len(engine.tokenizer.encode_prompt(prefix))
        if tokens > limit:
            raise click.BadParameter(
                f"number {number}, {prefix[:30]!r}..., is {tokens} tokens long and may be {limit} at most"
                f" (n_ctx {engine.hparams.n_ctx}, one of them for the text): shorten it",
                param_hint=option,
            )
