"""`python -m loadtest.report`: what the load tests found, as a page, and as figures for docs/load.md."""

import shlex
import sys
from pathlib import Path

import click
from tqdm import tqdm

from loadtest.report.comparison import Price, settings
from loadtest.report.markdown import write_docs
from loadtest.report.page import page
from loadtest.report.runs import RUNS, Run, RunError, read_run

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/load.md"
PRICE = Price()


@click.command(context_settings={"show_default": True})
@click.argument("runs", nargs=-1, metavar="[RUN_DIR]...", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=RUNS / "report.html", help="The page."
)
@click.option("--docs", is_flag=True, help="Write the figures and pictures of docs/load.md, too.")
@click.option(
    "--price",
    type=click.FloatRange(min=0),
    default=PRICE.per_hour,
    help="US dollars for an hour of the box: a t2.medium, on demand, us-east-1.",
)
@click.option(
    "--surplus",
    type=click.FloatRange(min=0),
    default=PRICE.surplus,
    help=f"US dollars for an hour of each CPU beyond the {PRICE.baseline} that the price includes: T2 Unlimited.",
)
def command(runs: tuple[Path, ...], out: Path, docs: bool, price: float, surplus: float) -> None:
    """Report the load tests in RUN_DIR, all below run/loadtest where none is named.

    What a run lacks, because it was interrupted or came from another version, is said in the report.
    """
    directories = runs or sorted(file.parent for file in RUNS.glob("*/run.json"))
    if not directories:
        raise click.UsageError(f"{RUNS} has no runs: measure first, or name directories with a run.json")
    read: list[Run] = []
    left_out = []
    for directory in tqdm(directories, unit="run", desc="reading", disable=not sys.stderr.isatty()):
        try:
            read.append(read_run(directory))
        except RunError as error:
            left_out.append(f"{error}.")
    for sentence in left_out:
        click.echo(f"left out: {sentence}", err=True)
    if not read:
        raise click.ClickException("none of the directories can be reported")
    found, replaced = settings(read)
    cost = Price(per_hour=price, surplus=surplus)
    asked = shlex.join(["python", "-m", "loadtest.report", *sys.argv[1:]])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page(found, cost, left_out + replaced, asked), encoding="utf-8")
        click.echo(f"{out}: {len(read)} run{'' if len(read) == 1 else 's'}")
        if docs:
            write_docs(DOCUMENT, found, cost)
            click.echo(f"{DOCUMENT.relative_to(ROOT)}: its figures and pictures")
    except OSError as error:
        raise click.ClickException(f"{error.filename} cannot be written ({error.strerror})") from error
    except ValueError as error:
        raise click.ClickException(f"{DOCUMENT}: {error}") from error


if __name__ == "__main__":
    command()
