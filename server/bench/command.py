"""`pokegen bench`: what the engine does on this machine, beside what the machine could do."""

import sys
from pathlib import Path
from typing import get_args

import click

from server.bench.ceilings import Machine, measure_machine
from server.bench.checkpoint import SHAPES, random_checkpoint
from server.bench.fresh import Job, measure_starts
from server.bench.measure import Decode, Workload, decode, first_token, prefill
from server.bench.report import Findings, summarise
from server.commands.console import examples
from server.engine import ISAS, MAX_TEMPERATURE, EngineError, EngineName, Isa, create_engine
from server.engine.cpus import usable_cpus
from server.settings import Settings
from server.weights import Checkpoint, CheckpointError, HParams, open_checkpoint


class Counts(click.ParamType[tuple[int, ...]]):
    """Different whole numbers from 1 to 1024, in ascending order, separated by commas."""

    name = "N,N,..."

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The numbers."""
        if isinstance(value, tuple):
            return value
        try:
            counts = tuple(sorted({int(part) for part in value.split(",")}))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers such as 1,8,64", param, ctx)
        if not 1 <= counts[0] <= counts[-1] <= 1024:
            self.fail(f"{value!r} has a number that is not from 1 to 1024", param, ctx)
        return counts


@click.command(
    context_settings={"show_default": True},
    epilog=examples(
        ("what the machine does with 124M's shape", "pokegen bench"),
        (
            "the shipped checkpoint, with as many readers at once as asked for",
            "pokegen bench --checkpoint checkpoint/run1 --sequences 1,16,64",
        ),
        ("another instruction set, one thread, for a script", "pokegen bench --isa avx2 --threads 1 --json"),
    ),
)
@click.option(
    "--checkpoint",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="What to run, instead of random weights.",
)
@click.option(
    "--shape",
    type=click.Choice(list(SHAPES)),
    default="124M",
    help="Random weights of this shape, written to run/bench once.",
)
@click.option(
    "--engine",
    type=click.Choice(get_args(EngineName)),
    default=Settings.model_fields["engine"].default,
    help="What computes.",
)
@click.option("--isa", type=click.Choice(ISAS), default="auto", help="The instruction set.")
@click.option(
    "--threads",
    type=click.IntRange(0, 256),
    default=0,
    help="Threads that compute; 0: as many as this process may use.",
)
@click.option(
    "--sequences",
    type=Counts(),
    default="1,2,4,8,16,32,64",
    help="How many run at once, one after the other.",
)
@click.option("--context", type=click.IntRange(min=1), default=64, help="Prompt tokens of each sequence.")
@click.option(
    "--length",
    type=click.IntRange(min=1),
    default=32,
    help="New tokens of each sequence while all run, which are measured.",
)
@click.option(
    "--temperature", type=click.FloatRange(0, MAX_TEMPERATURE), default=0.0, help="0: the likeliest token."
)
@click.option("--top-k", type=click.IntRange(min=0), default=0, help="0: no limit.")
@click.option("--top-p", type=click.FloatRange(0, 1), default=0.0, help="0: no limit.")
@click.option("--repeat", type=click.IntRange(min=1), default=3, help="Times that each is measured.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(
    directory: Path | None,
    shape: str,
    engine: EngineName,
    isa: Isa,
    threads: int,
    sequences: tuple[int, ...],
    context: int,
    length: int,
    temperature: float,
    top_k: int,
    top_p: float,
    repeat: int,
    as_json: bool,
) -> None:
    """Measure the engine on this machine, and what share of the machine's speed it reaches.

    Decode (all sequences past their prompts), prefill, the first token of a new reader while others run, start, memory.
    The machine should have nothing else to do. A share is that of the most that the machine's multiply-adds and its
    memory allow; both are measured, too.
    """
    work = Workload(context, length, temperature, top_k, top_p)
    if directory is None:
        _require_fitting(SHAPES[shape], work, sequences[-1])
        directory = random_checkpoint(shape)
    try:
        with open_checkpoint(directory) as checkpoint:
            _require_fitting(checkpoint.hparams, work, sequences[-1])
            report = summarise(
                measure(checkpoint, work, engine, isa, threads or usable_cpus(), sequences, repeat)
            )
    except (CheckpointError, EngineError, ValueError, OSError, RuntimeError, MemoryError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(report.as_json() if as_json else report.table())


def _require_fitting(hparams: HParams, work: Workload, sequences: int) -> None:
    """Raises BadParameter unless the longest sequence of each measurement fits into n_ctx."""
    tokens = work.context + work.steps(sequences)
    if tokens > hparams.n_ctx:
        raise click.BadParameter(
            f"{sequences} sequences, --context {work.context} and --length {work.length} make {tokens} tokens of the"
            f" first sequence until the last one is measured, and n_ctx is {hparams.n_ctx}: lower one of the three",
            param_hint="--context",
        )


def measure(
    checkpoint: Checkpoint,
    work: Workload,
    engine_name: EngineName,
    isa: Isa,
    threads: int,
    sequences: tuple[int, ...],
    repeat: int,
) -> Findings:
    """Measure everything, with progress on stderr. Raises what the engine and `measure_starts` raise."""
    most = sequences[-1]
    machines: list[Machine] = []
    decodes: dict[int, list[Decode]] = {n: [] for n in sequences}
    prefills: list[float] = []
    waits: list[float] = []
    rounds = 1 + repeat * (len(sequences) + 3)
    with click.progressbar(length=rounds, file=sys.stderr, item_show_func=_text) as progress:
        progress.update(1, "starts and memory")
        starts = measure_starts(Job(str(checkpoint.directory), engine_name, threads, isa, work, most))
        engine = create_engine(
            checkpoint, engine_name, max_running=most, max_waiting=0, threads=threads, isa=isa
        )
        try:
            for _ in range(repeat):
                progress.update(1, "the machine")
                machines.append(measure_machine(isa, threads))
                for n in sequences:
                    progress.update(1, f"decode, {n}")
                    decodes[n].append(decode(engine, work, n))
                progress.update(1, "prefill")
                prefills.append(prefill(engine, work))
                progress.update(1, "first token")
                waits.append(first_token(engine, work, most - 1))
        finally:
            engine.close()
    return Findings(
        checkpoint=checkpoint.name,
        hparams=checkpoint.hparams,
        engine=engine_name,
        isa=isa,
        threads=threads,
        work=work,
        machines=machines,
        decodes=decodes,
        prefills=prefills,
        others=most - 1,
        first_tokens=waits,
        starts=starts,
    )


def _text(item: str | None) -> str:
    return item or ""
