"""`python -m tests.fuzz.replay TARGET [--runs N] PATH...`: every input once, then N mutations of them, without a guide.

The mutations are the same in every run. The first breach ends it with the exception; the input that made it is the file
that was read last, or is written to run/fuzz/findings.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import click

from tests.fuzz.readers import TARGETS

FINDINGS = Path("run/fuzz/findings")
LONGEST = 1 << 13  # bytes of a mutation


def inputs_in(paths: tuple[Path, ...]) -> Iterator[Path]:
    """The files that are named, and those in the folders that are, in alphabetical order."""
    for path in paths:
        yield from sorted(path.iterdir()) if path.is_dir() else [path]


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Some bytes of `data` changed, taken out, added or moved."""
    content = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randint(0, len(content))
        size = rng.choice((1, 1, 2, 4, 8, 32))
        match rng.randint(0, 3):
            case 0:
                content[at : at + size] = rng.randbytes(min(size, len(content) - at))
            case 1:
                del content[at : at + size]
            case 2:
                content[at:at] = rng.randbytes(size)
            case _:
                begin = rng.randint(0, len(content))
                content[at:at] = content[begin : begin + size]
    return bytes(content[:LONGEST])


@click.command()
@click.argument("target", type=click.Choice(sorted(TARGETS)))
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--runs", type=click.IntRange(min=0), default=0, help="How many mutations.")
def main(target: str, paths: tuple[Path, ...], runs: int) -> None:
    """Run TARGET with every input of PATHS, then with mutations of them."""
    run = TARGETS[target]
    corpus = []
    for path in inputs_in(paths):
        corpus.append(path.read_bytes())
        try:
            run(corpus[-1])
        except BaseException:
            click.echo(f"{target}: {path}", err=True)
            raise
    rng = random.Random(1)
    for number in range(runs):
        data = mutated(rng, rng.choice(corpus))
        try:
            run(data)
        except BaseException:
            FINDINGS.mkdir(parents=True, exist_ok=True)
            found = FINDINGS / f"{target}-mutation-{number}"
            found.write_bytes(data)
            click.echo(f"{target}: {found}", err=True)
            raise
    click.echo(f"{target}: {len(corpus)} inputs, {runs} mutations")


if __name__ == "__main__":
    main()
