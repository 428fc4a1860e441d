"""`python -m loadtest.peers`: Pokegen and every peer that is installed, in turns."""

import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from loadtest.peers.engines import PEERS, ROOT, Event, Job, Peer, Pokegen
from loadtest.peers.picture import draw
from loadtest.peers.protocol import SAMPLINGS
from loadtest.peers.results import Comparison, Missing, summarise, write
from loadtest.peers.table import table
from server.bench.checkpoint import CACHE, SHAPES, random_checkpoint
from server.bench.command import Counts
from server.engine.cpus import usable_cpus


@click.command(context_settings={"show_default": True})
@click.option(
    "--json",
    "out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The file to write; a table, .md, and a picture, .svg, go beside it.",
)
@click.option("--shape", type=click.Choice(list(SHAPES)), default="124M", help="Of the random weights.")
@click.option("--only", multiple=True, help="Part of the names of those to measure; may be repeated.")
@click.option(
    "--sequences", type=Counts(), default="1,8,16,64", help="How many run at once, one after the other."
)
@click.option("--context", type=click.IntRange(2, 128), default=64, help="Tokens of each prompt.")
@click.option("--length", type=click.IntRange(4, 64), default=32, help="Tokens of each that are measured.")
@click.option(
    "--threads", type=click.IntRange(1, 256), default=usable_cpus, show_default="all", help="That compute."
)
@click.option("--rounds", type=click.IntRange(min=1), default=2, help="Turns that each engine has.")
@click.option("--seconds", type=float, default=1.5, help="What a measurement of a peer may take, about.")
@click.option(
    "--timeout",
    type=float,
    default=50.0,
    help="Seconds that a peer's turn may take; what it measured by then counts.",
)
def main(
    out: Path,
    shape: str,
    only: tuple[str, ...],
    sequences: tuple[int, ...],
    context: int,
    length: int,
    threads: int,
    rounds: int,
    seconds: float,
    timeout: float,
) -> None:
    """Measure Pokegen and every peer that is installed, in turns: decode rates, memory, and how long they load.

    All compute the same model of random weights, each in its own format. The machine should have nothing else to do.
    """
    job = Job(
        checkpoint=random_checkpoint(shape, ROOT / CACHE),
        sequences=sequences,
        samplings=tuple(SAMPLINGS),
        context=context,
        length=length,
        threads=threads,
        seconds=seconds,
        timeout=timeout,
    )
    peers = [peer for peer in PEERS if not only or any(part in peer.name for part in only)]
    missing = [Missing(peer.name, f"not installed: {peer.install}") for peer in peers if not peer.installed]
    for each in missing:
        click.echo(f"{each.name} is {each.why}", err=True)
    installed = [peer for peer in peers if peer.installed]
    for peer in installed:
        peer.convert(job)
    engines: list[Pokegen | Peer] = [Pokegen(), *installed]
    for events, failures in take_turns(engines, job, rounds):
        ceilings = [event for event in events[engines[0]] if event["event"] == "ceilings"]
        comparison = Comparison(
            command=shlex.join(["python", "-m", "loadtest.peers", *sys.argv[1:]]),
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            machine=describe_machine(threads, ceilings),
            results=[summarise(engine.name, engine.version, said) for engine, said in events.items()],
            missing=missing + failures,
            ceilings={n: max(each["decode"][n] for each in ceilings) for n in map(str, sequences)},
        )
        write(comparison, out)  # after every turn: whoever interrupts it has what was measured
    out.with_suffix(".md").write_text(table(comparison), encoding="utf-8")
    draw(comparison, out.with_suffix(".svg"))
    click.echo(table(comparison))


Events = dict[Pokegen | Peer, list[Event]]


def take_turns(
    engines: Sequence[Pokegen | Peer], job: Job, rounds: int
) -> Iterator[tuple[Events, list[Missing]]]:
    """After every engine's turn, what each has said so far, and which failed; those have no further turn.

    Raises ClickException if Pokegen fails.
    """
    events: Events = {}
    failures: dict[Pokegen | Peer, Missing] = {}
    turns = [(turn, engine) for turn in range(rounds) for engine in engines]
    with click.progressbar(
        length=len(turns), file=sys.stderr, item_show_func=lambda name: name or ""
    ) as progress:
        for turn, engine in turns:
            progress.update(1, engine.name)
            if engine in failures:
                continue
            try:
                said = events.setdefault(engine, [])
                said.extend(engine.run(replace(job, memory=turn == 0)))  # once, for it takes long
            except subprocess.CalledProcessError as error:
                if isinstance(engine, Pokegen):
                    raise click.ClickException(str(error)) from error
                failures[engine] = Missing(engine.name, f"ended with status {error.returncode}")
            yield events, list(failures.values())


def describe_machine(threads: int, ceilings: Sequence[Event]) -> str:
    """Its processor, the threads that computed, and the highest ceilings that were measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    macs = max(each["int8_macs_per_s"] for each in ceilings)
    read = max(each["bytes_per_s"] for each in ceilings)
    return f"{processor}, {threads} threads, {macs / 1e9:,.0f} G int8 multiply-adds/s, {read / 1e9:.1f} GB/s read"


if __name__ == "__main__":
    main()
