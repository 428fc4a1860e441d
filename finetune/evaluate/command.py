"""`pokegen evaluate`: a checkpoint against held-out text, with that text itself as the yardstick."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import click
from pydantic import TypeAdapter, ValidationError

from finetune.console import FOLDER, FiniteRange, aligned
from finetune.documents import read_documents
from finetune.evaluate.copying import RUN, Copying, copying
from finetune.evaluate.diversity import Diversity, compare
from finetune.evaluate.perplexity import Perplexity, from_checkpoint, from_texts, perplexity
from finetune.evaluate.samples import SAMPLES_FILE, Drawing, draw
from finetune.evaluate.words import count_words
from finetune.files import digest, replace
from server.commands.console import Interrupted, examples
from server.engine import MAX_SEED, MAX_TEMPERATURE, EngineError, EngineName
from server.settings import Settings
from server.weights import CheckpointError, open_checkpoint

EVALUATION_FILE = "evaluation.json"

SERVICE = Settings.model_fields  # for its defaults: samples are to be what readers get


@dataclass(frozen=True)
class Evaluation:
    """What `evaluation.json` holds.

    checkpoint: its folder's name; checkpoint_digest: of its weights; engine: what computed it
    dataset: its folder's name; held_out_digest: of its held-out texts (as `held-out texts` in run.json)
    held_out_texts, held_out_words, held_out_bytes: how much of them there is
    samples: how many texts were drawn from the empty prompt; samples_words: their words in all
    samples_ended: the share of them that ended by themselves, before they filled the context or `length`
    temperature, top_k, top_p, seed, length: how they were drawn; sample i with seed + i
    perplexities: the checkpoint first, then other checkpoints, then 5-gram models
    samples_diversity, held_out_diversity: the samples', and for comparison that of as many held-out texts
    copying: one entry for each training text, the data set's own first
    """

    checkpoint: str
    checkpoint_digest: str
    engine: str
    dataset: str
    held_out_digest: str
    held_out_texts: int
    held_out_words: int
    held_out_bytes: int
    samples: int
    samples_words: int
    samples_ended: float
    temperature: float
    top_k: int
    top_p: float
    seed: int
    length: int
    perplexities: list[Perplexity]
    samples_diversity: Diversity
    held_out_diversity: Diversity
    copying: list[Copying]


@click.command(
    context_settings={"show_default": True},
    epilog=examples(
        (
            "a checkpoint beside the one it was made from",
            "pokegen evaluate checkpoint/jokes --dataset run/data/jokes --baseline checkpoint/run1",
        ),
    ),
)
@click.argument("checkpoint", type=FOLDER)
@click.option("--dataset", type=FOLDER, required=True, help="A prepared folder: train.txt and held-out.txt.")
@click.option(
    "--training",
    type=FOLDER,
    multiple=True,
    help="Another folder whose train.txt the checkpoint was trained on; may be repeated.",
)
@click.option(
    "--baseline", type=FOLDER, multiple=True, help="A checkpoint to stand beside this one; may be repeated."
)
@click.option(
    "--engine",
    type=click.Choice(get_args(EngineName)),
    default="float32",
    help="What computes; int8 is measured beside it.",
)
@click.option("--samples", type=click.IntRange(min=2), default=100, help="Texts to draw.")
@click.option(
    "--temperature",
    type=FiniteRange(0, MAX_TEMPERATURE),
    default=SERVICE["temperature"].default,
    help="Of the samples; the default is the service's, as are the next two.",
)
@click.option(
    "--top-k",
    type=click.IntRange(min=0),
    default=SERVICE["top_k"].default,
    help="Of the samples; 0: no limit.",
)
@click.option(
    "--top-p",
    type=FiniteRange(0, 1),
    default=SERVICE["top_p"].default,
    help="Of the samples; 0: no limit.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, MAX_SEED),
    default=1,
    help="Of the first sample; each has its own, one higher.",
)
@click.option(
    "--length",
    type=click.IntRange(min=1),
    show_default="what the context holds",
    help="Tokens of a sample at most.",
)
def command(
    checkpoint: Path,
    dataset: Path,
    training: tuple[Path, ...],
    baseline: tuple[Path, ...],
    **options: Any,  # noqa: ANN401 - those of `evaluate`, under the same names
) -> None:
    """Measure CHECKPOINT against held-out texts, and write CHECKPOINT/evaluation.json.

    What held-out texts cost it, beside other checkpoints and 5-gram models; how diverse its own texts are; and what it
    copies from its training texts, both beside the held-out texts themselves. Ctrl-C: the same command goes on with the
    samples that it has.
    """
    if options["engine"] == "gpt2-simple" and not find_spec("gpt_2_simple"):
        raise click.BadParameter("not installed: run make pipeline", param_hint="--engine")
    try:
        evaluation = evaluate(checkpoint, dataset, training, baseline, **options)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted: the same command goes on from the samples in {checkpoint / SAMPLES_FILE}"
        ) from None
    except (CheckpointError, EngineError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(tables(evaluation))


def evaluate(
    checkpoint: Path,
    dataset: Path,
    training: Sequence[Path] = (),
    baseline: Sequence[Path] = (),
    *,
    engine: EngineName = "float32",
    samples: int = 100,
    temperature: float = SERVICE["temperature"].default,
    top_k: int = SERVICE["top_k"].default,
    top_p: float = SERVICE["top_p"].default,
    seed: int = 1,
    length: int | None = None,
) -> Evaluation:
    """Measure `checkpoint`, write evaluation.json into it and return what that holds; the command's options.

    Raises FileNotFoundError and ValueError for data sets that are missing or empty, CheckpointError, and EngineError.
    """
    held_out = read_documents(dataset / "held-out.txt")
    if not count_words(held_out):
        raise ValueError(f"{dataset / 'held-out.txt'} has no words: make it with `pokegen prepare`")
    folders = list(dict.fromkeys(folder.resolve() for folder in (dataset, *training)))
    texts = {folder: read_documents(folder / "train.txt") for folder in folders}
    with ExitStack() as stack:
        checkpoints = [stack.enter_context(open_checkpoint(folder)) for folder in (checkpoint, *baseline)]
        opened, n_ctx = checkpoints[0], checkpoints[0].hparams.n_ctx
        # The service computes in int8, which must cost next to nothing.
        measured = [(opened, engine), (opened, "int8"), *((each, engine) for each in checkpoints[1:])]
        perplexities = [
            perplexity(from_checkpoint(each, its_engine), held_out)
            for each, its_engine in dict.fromkeys(measured)
        ]
        for part in [folders[:1], folders] if len(folders) > 1 else [folders]:
            read = [text for folder in part for text in texts[folder]]
            name = " and ".join(folder.name for folder in part)
            perplexities.append(perplexity(from_texts(read, name, opened), held_out))
        drawing = Drawing(
            checkpoint_digest=perplexities[0].digest,
            engine=engine,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            length=min(length or n_ctx, n_ctx - 1),
        )
        drawn = draw(opened, drawing, samples)
    ours = [sample.text for sample in drawn]
    ours_compared, held_out_compared = compare(ours, held_out)
    evaluation = Evaluation(
        checkpoint=opened.name,
        dataset=folders[0].name,
        held_out_digest=digest(text.encode() for text in held_out),
        held_out_texts=len(held_out),
        held_out_words=count_words(held_out),
        held_out_bytes=sum(len(text.encode()) for text in held_out),
        samples=len(ours),
        samples_words=count_words(ours),
        samples_ended=sum(sample.ended for sample in drawn) / len(drawn),
        perplexities=perplexities,
        samples_diversity=ours_compared,
        held_out_diversity=held_out_compared,
        copying=[copying(ours, held_out, texts[folder], folder.name) for folder in folders],
        **asdict(drawing),
    )
    replace(checkpoint / EVALUATION_FILE, json.dumps(asdict(evaluation), indent=2) + "\n")
    return evaluation


def read_evaluation(checkpoint: Path) -> Evaluation:
    """What was measured of `checkpoint`.

    Raises FileNotFoundError when nothing was, and ValueError when the file is not what `pokegen evaluate` writes.
    """
    file = checkpoint / EVALUATION_FILE
    if not file.exists():
        raise FileNotFoundError(
            f"{file} is missing: make it with `pokegen evaluate {checkpoint} --dataset FOLDER`"
        )
    try:
        return TypeAdapter(Evaluation).validate_json(file.read_bytes())
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        where = ".".join(map(str, found["loc"])) or "the file"
        raise ValueError(f"{file}: {where}: {found['msg']}; run `pokegen evaluate` again") from error


def tables(evaluation: Evaluation) -> str:
    """A table for each question."""
    costs = [("held-out texts", "perplexity a token", "a byte", "bits a byte")]
    costs += [
        (
            each.model,
            f"{each.perplexity_per_token:.2f}",
            f"{each.perplexity_per_byte:.3f}",
            f"{each.bits_per_byte:.3f}",
        )
        for each in evaluation.perplexities
    ]
    compared = (("samples", evaluation.samples_diversity), ("held-out texts", evaluation.held_out_diversity))
    diversity = [("diversity", *(f"distinct-{n}" for n in (1, 2, 3, 4)), "self-BLEU")]
    diversity += [
        (
            name,
            *(
                _number(value, ".3f")
                for value in (each.distinct_1, each.distinct_2, each.distinct_3, each.distinct_4)
            ),
            _number(each.self_bleu, ".1f"),
        )
        for name, each in compared
    ]
    copied = [("word for word in the training text", f"{RUN}-grams", "longest run: median", "max")]
    for each in evaluation.copying:
        copied += [
            (
                f"{each.training}: samples",
                _number(each.samples_share_of_12_grams, ".2%"),
                f"{each.samples_longest_run_median:g} words",
                f"{each.samples_longest_run_max} words",
            ),
            (
                f"{each.training}: held-out texts",
                _number(each.held_out_share_of_12_grams, ".2%"),
                f"{each.held_out_longest_run_median:g} words",
                f"{each.held_out_longest_run_max} words",
            ),
        ]
    return "\n\n".join(aligned(rows) for rows in (costs, diversity, copied))


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
