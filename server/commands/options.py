"""The options that `generate` and `interactive` share: which checkpoint runs on what, and how texts are drawn."""

import contextlib
import functools
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import click

from server.commands.console import Text
from server.engine import ISAS, MAX_SEED, MAX_TEMPERATURE, Engine, EngineName, Isa, create_engine
from server.weights import find_checkpoint, open_checkpoint

DIRECTORY = click.Path(file_okay=False, path_type=Path)

Command = Callable[..., None]


def _engine(
    _context: click.Context, _parameter: click.Parameter, name: EngineName | None
) -> EngineName | None:
    if name == "gpt2-simple" and not find_spec("gpt_2_simple"):
        raise click.BadParameter("gpt-2-simple is not installed: run make pipeline")
    return name


_MODEL = (
    click.option(
        "--checkpoint",
        type=DIRECTORY,
        show_default="POKEGEN_CHECKPOINT, or the one that Pokegen comes with",
        help="The checkpoint's directory; or models:/NAME/VERSION or models:/NAME@ALIAS in POKEGEN_REGISTRY.",
    ),
    click.option("--run-name", help="Take CHECKPOINT_DIR/RUN_NAME instead, as gpt-2-simple does."),
    click.option("--checkpoint-dir", type=DIRECTORY, default=Path("checkpoint"), help="Of --run-name."),
    click.option("--model-name", help="Take MODELS_DIR/MODEL_NAME instead, such as 124M."),
    click.option(
        "--models-dir",
        "--model-dir",
        type=DIRECTORY,
        default=Path("models"),
        help="Of --model-name; where `pokegen download` puts them.",
    ),
    click.option(
        "--engine",
        "engine_name",
        type=click.Choice(get_args(EngineName)),
        callback=_engine,
        show_default="POKEGEN_ENGINE, or int8",
        help="What computes.",
    ),
    click.option(
        "--isa",
        type=click.Choice(ISAS),
        show_default="POKEGEN_ISA, or auto",
        help="The instruction set of int8 and float32.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(0, 256),
        show_default="POKEGEN_ENGINE_THREADS, or 0",
        help="Threads that compute; 0: as many as this process may use.",
    ),
)


@dataclass(frozen=True)
class Model:
    """Which checkpoint runs on what; None stands for what the service's settings say."""

    checkpoint: Path | None
    engine_name: EngineName | None
    isa: Isa | None
    threads: int | None

    @contextlib.contextmanager
    def running(self, max_running: int, max_waiting: int) -> Iterator[Engine]:
        """An engine with it. Raises SettingsError, CheckpointError and what `create_engine` raises."""
        from server.settings import (
            load_settings,
        )  # slower to load than all else here, and no shell waits for it

        settings = load_settings()
        found = find_checkpoint(self.checkpoint or settings.checkpoint, settings.registry)
        with open_checkpoint(found.directory) as checkpoint:
            engine = create_engine(
                checkpoint,
                self.engine_name or settings.engine,
                max_running=max_running,
                max_waiting=max_waiting,
                threads=settings.engine_threads if self.threads is None else self.threads,
                isa=self.isa or settings.isa,
            )
        with contextlib.closing(engine):
            yield engine


def with_model(command: Command) -> Command:
    """Give a command the options of `Model`, and that as its argument `model`."""

    @functools.wraps(command)
    def wrapped(
        checkpoint: Path | None,
        run_name: str | None,
        checkpoint_dir: Path,
        model_name: str | None,
        models_dir: Path,
        engine_name: EngineName | None,
        isa: Isa | None,
        threads: int | None,
        **others: Any,  # noqa: ANN401 - the command's own options
    ) -> None:
        named = [
            path
            for path in (
                checkpoint,
                run_name and checkpoint_dir / run_name,
                model_name and models_dir / model_name,
            )
            if path
        ]
        if len(named) > 1:
            raise click.UsageError(
                "--checkpoint, --run-name and --model-name each name one: give one of them"
            )
        command(model=Model(named[0] if named else None, engine_name, isa, threads), **others)

    for option in reversed(_MODEL):
        option(wrapped)
    return wrapped


def _seed(_context: click.Context, _parameter: click.Parameter, seed: int | None) -> int:
    return secrets.randbelow(MAX_SEED + 1) if seed is None else seed


def _stop(_context: click.Context, _parameter: click.Parameter, truncate: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(filter(None, truncate))


with_batch_size = click.option(
    "--batch-size",
    type=click.IntRange(1, 1024),
    default=16,
    help="Texts that are written at once. It costs memory, and changes nothing of any text.",
)

_SAMPLING = (
    click.option(
        "--temperature",
        type=click.FloatRange(0, MAX_TEMPERATURE),
        default=0.7,
        help="Higher is wilder; 0 takes the likeliest token.",
    ),
    click.option(
        "--top-k",
        type=click.IntRange(min=0),
        default=0,
        help="Draw among the k likeliest tokens; 0: no limit.",
    ),
    click.option(
        "--top-p",
        type=click.FloatRange(0, 1),
        default=0.0,
        help="Draw among the likeliest tokens that reach this probability, instead of --top-k; 0: no limit.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, MAX_SEED),
        callback=_seed,
        show_default="random",
        help="The same seed and options give the same texts, here and from the service.",
    ),
    click.option(
        "--truncate",
        "stop",
        type=Text(),
        multiple=True,
        callback=_stop,
        help="End a text in front of the first appearance of this; may be repeated.",
    ),
    click.option(
        "--ignore-end-of-text",
        is_flag=True,
        help="Write on behind <|endoftext|>, as gpt-2-simple and OpenAI's scripts do.",
    ),
)


def with_sampling(command: Command) -> Command:
    """Give a command the options that are fields of SamplingParams: all but `length`, `nsamples` and `first_sample`."""
    for option in reversed(_SAMPLING):
        option(command)
    return command
