"""`pokegen finetune`: what is asked for becomes a Task, a trainer carries it out, and a checkpoint comes of it."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import click

from finetune import vocabulary
from finetune.console import FOLDER, FiniteRange
from finetune.documents import read_documents
from finetune.files import alone_in
from finetune.publish.export import DTYPES, FORMATS, export_run
from finetune.train.plan import Plan, Trainer
from finetune.train.rows import Source, encode, end_of_text
from finetune.train.run import Task, sampler, train
from finetune.weights import fresh_weights, read_weights
from server.commands.console import Interrupted, examples
from server.engine import MAX_SEED
from server.weights import HParams

TRAINERS = ("torch", "gpt-2-simple")

POSITIVE = click.IntRange(min=1)
COUNT = click.IntRange(min=0)
SHARE = FiniteRange(0, 1, max_open=True)


def _run_name(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    """One folder's name: --restore-from fresh removes that folder, and nothing above or beside it."""
    if not re.fullmatch(r"[\w-][\w.-]{0,99}", name):
        raise click.BadParameter(
            f"{name!r} is no name for a folder: letters, digits, dashes, underscores and dots, 100 at most,"
            " and no dot in front"
        )
    return name


def new_trainer(task: Task) -> Trainer:
    """The trainer that the task names; the libraries of the other one are not loaded."""
    arguments = (task.hparams, task.weights, end_of_text(task.tokenizer), task.plan)
    if task.trainer == "torch":
        from finetune.train.torch_trainer import TorchTrainer

        return TorchTrainer(*arguments)
    from finetune.train.gpt2_simple_trainer import Gpt2SimpleTrainer

    return Gpt2SimpleTrainer(*arguments)


@click.command(
    context_settings={"show_default": True},
    epilog=examples(
        (
            "the 124M model on your texts",
            "pokegen finetune --dataset run/data/wiki --run-name wiki \\\n"
            "    --batch-size 1 --accumulate-gradients 5",
        ),
        (
            "the shipped checkpoint on jokes, in minutes",
            "pokegen finetune --dataset run/data/jokes --model-dir checkpoint --model-name run1 \\\n"
            "    --run-name jokes --steps 200",
        ),
        (
            "a small model that starts from nothing",
            "pokegen finetune --dataset run/data/base --vocabulary run/data/vocabulary \\\n"
            "    --run-name base --optimizer muon --learning-rate 4e-3",
        ),
    ),
)
@click.option("--dataset", type=FOLDER, required=True, help="A prepared folder: train.txt and held-out.txt.")
@click.option(
    "--mix",
    type=(FOLDER, POSITIVE),
    multiple=True,
    metavar="FOLDER ROWS",
    help="Take ROWS rows of every batch from another folder's train.txt; may be repeated.",
)
@click.option(
    "--run-name", default="run1", callback=_run_name, help="The checkpoint is CHECKPOINT_DIR/RUN_NAME."
)
@click.option("--checkpoint-dir", type=FOLDER, default=Path("checkpoint"), help="Where checkpoints go.")
@click.option("--state-dir", type=FOLDER, default=Path("run/finetune"), help="Where runs keep their state.")
@click.option("--trainer", type=click.Choice(TRAINERS), default="torch", help="Who trains.")
@click.option("--model-name", default="124M", help="Start from the checkpoint MODEL_DIR/MODEL_NAME.")
@click.option("--model-dir", type=FOLDER, default=Path("models"), help="Where `pokegen download` put it.")
@click.option(
    "--vocabulary",
    "vocabulary_folder",
    type=FOLDER,
    help="Start from nothing instead, with this vocabulary and the sizes below.",
)
@click.option("--n-ctx", type=POSITIVE, default=512, help="A new model's longest text, in tokens.")
@click.option("--n-embd", type=POSITIVE, default=320, help="A new model's width, a multiple of n_head.")
@click.option("--n-head", type=POSITIVE, default=5, help="A new model's attention heads.")
@click.option("--n-layer", type=POSITIVE, default=6, help="A new model's blocks.")
@click.option("--steps", type=POSITIVE, default=1000, help="At most; see --patience.")
@click.option(
    "--batch-size", type=POSITIVE, default=8, help="Rows of n_ctx tokens whose gradient is computed at once."
)
@click.option("--accumulate-gradients", type=POSITIVE, default=1, help="Batches a step.")
@click.option(
    "--learning-rate",
    type=FiniteRange(min=0),
    default=1e-4,
    help="Between warm-up and cool-down; Muon wants about 20 times more.",
)
@click.option("--warmup", type=COUNT, default=20, help="Steps in which the rate grows from zero.")
@click.option(
    "--cooldown",
    type=COUNT,
    show_default="a third of the steps",
    help="Steps, the last, in which the rate falls to zero.",
)
@click.option("--optimizer", default="adam", help="torch: muon, adam or sgd; gpt-2-simple: adam or sgd.")
@click.option(
    "--dropout", type=SHARE, default=0.0, help="torch only: the share of values left out in training."
)
@click.option(
    "--label-smoothing",
    type=SHARE,
    default=0.0,
    help="torch only: the share of every target that is spread evenly over the vocabulary.",
)
@click.option(
    "--weight-decay", type=FiniteRange(min=0), default=0.0, help="Per step and unit of learning rate."
)
@click.option(
    "--averaging", type=SHARE, default=0.99, help="What is left of the weights' running average after a step."
)
@click.option(
    "--clip", type=FiniteRange(min=0, min_open=True), default=1.0, help="The gradient's norm at most."
)
@click.option(
    "--only-train-transformer-layers", is_flag=True, help="Leave embeddings and the last norm as they are."
)
@click.option(
    "--compiled",
    is_flag=True,
    help="torch only: put the step through PyTorch's compiler first. Long runs gain from it; it wants a C++ compiler.",
)
@click.option(
    "--save-every",
    type=POSITIVE,
    default=100,
    help="Steps between saves, each with an evaluation and samples.",
)
@click.option(
    "--patience", type=POSITIVE, default=5, help="Evaluations without improvement that end the run."
)
@click.option(
    "--keep",
    type=click.Choice(["best", "last"]),
    default="best",
    help="The weights that did best on the held-out texts, or the last.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, MAX_SEED),
    default=1,
    help="The same seed gives the same checkpoint, with as many threads on the same processor and compiler.",
)
@click.option(
    "--sample-num", type=COUNT, default=1, help="Texts to draw at every save, into the run's samples/."
)
@click.option("--sample-length", type=POSITIVE, default=256, help="Their tokens at most.")
@click.option("--sample-prefix", default="", help="How they begin.")
@click.option(
    "--restore-from",
    type=click.Choice(["latest", "fresh"]),
    default="latest",
    help="Go on with the run of this name, or start it over.",
)
@click.option(
    "--format",
    "formats",
    type=click.Choice(FORMATS),
    multiple=True,
    default=FORMATS,
    help="Whose files the checkpoint has; give it once for each.",
)
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default="float32",
    help="Of model.safetensors; float16 is half the size.",
)
@click.option(
    "--threads",
    type=POSITIVE,
    default=len(os.sched_getaffinity(0)),
    show_default="every processor",
    help="Threads to compute with.",
)
def command(
    dataset: Path,
    mix: tuple[tuple[Path, int], ...],
    run_name: str,
    checkpoint_dir: Path,
    state_dir: Path,
    trainer: str,
    sample_num: int,
    sample_length: int,
    sample_prefix: str,
    restore_from: str,
    formats: tuple[str, ...],
    dtype: str,
    threads: int,
    **choices: Any,  # noqa: ANN401 - the fields of Plan and the new model's sizes
) -> None:
    """Fine-tune a GPT-2, or train a new one, on prepared texts.

    Ctrl-C, a kill, a power cut: the same command again goes on from the last save, to the same result.
    """
    # Both libraries read it when they are first imported, which happens later.
    os.environ["OMP_NUM_THREADS"] = os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
    # What PyTorch's compiler leaves; no run can have a name with a dot in front.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((state_dir / ".compiled").absolute()))
    checkpoint = checkpoint_dir / run_name
    beginning = choices["model_dir"] / choices["model_name"]
    if not choices["vocabulary_folder"] and checkpoint.resolve() == beginning.resolve():
        raise click.BadParameter(
            f"{checkpoint} is what the run starts from: choose another name", param_hint="--run-name"
        )
    task = new_task(dataset, mix, trainer, choices)
    sample = sampler(task, sample_prefix, sample_length, sample_num) if sample_num else None
    folder = state_dir / run_name
    try:
        train(folder, task, new_trainer, sample, fresh=restore_from == "fresh")
        with alone_in(folder):
            export_run(folder, checkpoint, formats=formats, dtype=dtype)
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted: the same command, with --restore-from latest, goes on from the last save"
        ) from None
    print(f"{checkpoint} is ready: POKEGEN_CHECKPOINT={checkpoint} make run")


def new_task(dataset: Path, mix: tuple[tuple[Path, int], ...], trainer: str, choices: dict[str, Any]) -> Task:
    """The task of these data sets and of the command's other options, by their names.

    Raises ValueError when the rows of `mix` fill the batch, and what reading the data sets and the checkpoint raises.
    """
    if choices["cooldown"] is None:
        choices["cooldown"] = choices["steps"] // 3
    plan = Plan(**{field.name: choices[field.name] for field in dataclasses.fields(Plan)})
    own_rows = plan.batch_size - sum(rows for _, rows in mix)
    if own_rows < 1:
        raise ValueError(
            f"--mix takes all {plan.batch_size} rows of a batch: leave --dataset one, or raise --batch-size"
        )
    if choices["vocabulary_folder"]:
        tokenizer = vocabulary.read(choices["vocabulary_folder"])
        sizes = {name: choices[name] for name in ("n_ctx", "n_embd", "n_head", "n_layer")}
        hparams = HParams(n_vocab=tokenizer.get_vocab_size(), **sizes)
        if hparams.n_embd % hparams.n_head:
            raise ValueError(
                f"--n-head is {hparams.n_head}, which does not divide --n-embd, {hparams.n_embd}"
            )
        weights = fresh_weights(hparams, plan.seed)
    else:
        model = choices["model_dir"] / choices["model_name"]
        if not model.is_dir():
            raise FileNotFoundError(
                f"{model} is missing: fetch OpenAI's models with `pokegen download`, or name a checkpoint with"
                " --model-dir and --model-name"
            )
        tokenizer = vocabulary.read(model)
        hparams, weights = read_weights(model)
    sources: list[Source] = []
    for folder, rows in [(dataset, own_rows), *mix]:
        documents = encode(tokenizer, read_documents(folder / "train.txt"))
        if too_long := sum(len(document) > hparams.n_ctx + 1 for document in documents):
            click.echo(
                f"{folder}: {too_long} of {len(documents)} texts exceed the {hparams.n_ctx} tokens that the model sees"
                " at once; only their beginnings are trained on",
                err=True,
            )
        sources.append((documents, rows))
    return Task(
        plan=plan,
        hparams=hparams,
        weights=weights,
        tokenizer=tokenizer,
        sources=sources,
        held_out=read_documents(dataset / "held-out.txt"),
        trainer=trainer,
    )
