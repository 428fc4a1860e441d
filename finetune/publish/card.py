"""`pokegen card`: the model card beside the weights, from a file of prose and from what was measured.

README.md is in the ecosystem's format (source: "Model Cards" in Hugging Face's Hub documentation, and Mitchell et al.,
"Model Cards for Model Reporting", 2019); card.json is the same content for programs, and what our server shows.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import click
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import Field, ValidationError
from tqdm import tqdm

from finetune.console import FOLDER
from finetune.evaluate.command import Evaluation, read_evaluation
from finetune.files import replace
from finetune.publish.export import read_training
from finetune.train.curve import CURVE_TABLE, read_curve
from finetune.weights import weights_digest
from server.commands.console import examples
from server.engine import MAX_SEED, EngineError, PromptTooLongError, SamplingParams, create_engine
from server.settings import Settings
from server.weights import Checkpoint, CheckpointError, open_checkpoint
from server.weights.card import CARD, CURVE, README, Card, CardFields, CurvePoint, Sample, Samples
from server.weights.layout import tensor_shapes

FIELDS = Path(__file__).parent / "cards" / "pokegen.yaml"
SERVICE = Settings.model_fields  # for its defaults: samples are to be drawn as readers' texts are
ROWS_OF_A_CURVE = 12


class CardFile(CardFields):
    """The file of fields: what a person says, and the prefixes that samples are drawn for; "" is none."""

    prefixes: Annotated[list[str], Field(min_length=1, max_length=100)]


@click.command(
    context_settings={"show_default": True},
    epilog=examples(
        ("the shipped checkpoint's", "pokegen card checkpoint/run1"),
        ("that of a model of your own", "pokegen card checkpoint/jokes --fields my-model.yaml"),
    ),
)
@click.option(
    "--fields",
    type=click.Path(dir_okay=False, path_type=Path),
    default=FIELDS,
    show_default="finetune/publish/cards/pokegen.yaml",
    help="What a person has to say about the model, as YAML; copy the default for a model of your own.",
)
@click.option(
    "--seed", type=click.IntRange(0, MAX_SEED), default=1, help="That each of the samples is drawn with."
)
@click.argument("checkpoint", type=FOLDER)
def command(checkpoint: Path, fields: Path, seed: int) -> None:
    """Write CHECKPOINT's model card: README.md and card.json.

    Its figures come from training.json and curve.csv, which `pokegen finetune` wrote, and from evaluation.json, which
    `pokegen evaluate` wrote; its samples are drawn now, as the service draws by default, but to their ends.
    """
    try:
        card = write_card(checkpoint, read_fields(fields), seed)
    except (CheckpointError, EngineError) as error:
        raise click.ClickException(str(error)) from error
    if fields == FIELDS and checkpoint.name != "run1":
        click.echo(
            f"its prose is that of checkpoint/run1: give your own with --fields, a copy of {FIELDS.name}",
            err=True,
        )
    click.echo(f"{checkpoint / README} and {CARD}: {card.title}; {len(card.samples.texts)} samples")


def read_fields(file: Path) -> CardFile:
    """The fields in a YAML file. Raises FileNotFoundError, and ValueError that names the field which is wrong."""
    try:
        return CardFile.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in found["loc"]) or "the file"
        raise ValueError(f"{file}: {where}: {found['msg']}; {FIELDS.name} is an example") from error


def write_card(checkpoint: Path, fields: CardFile, seed: int) -> Card:
    """Write README.md and card.json into `checkpoint` and return what they hold.

    Raises FileNotFoundError when it was not evaluated; ValueError when its evaluation is of other weights, or when a
    prefix is too long for it; CheckpointError; and EngineError.
    """
    evaluation = read_evaluation(checkpoint)
    with open_checkpoint(checkpoint) as opened:
        if evaluation.checkpoint_digest != weights_digest(opened.hparams, opened.tensor):
            raise ValueError(
                f"{checkpoint} holds other weights than those that were evaluated: run `pokegen evaluate` again"
            )
        card = Card(
            **fields.model_dump(exclude={"prefixes"}),
            name=opened.name,
            parameters=sum(math.prod(shape) for shape in tensor_shapes(opened.hparams).values()),
            hparams=asdict(opened.hparams),
            training=read_training(checkpoint),
            curve=_read_curve(checkpoint),
            evaluation=asdict(evaluation),
            samples=draw(opened, fields.prefixes, seed),
        )
    has_picture = (checkpoint / CURVE).exists()
    replace(checkpoint / README, str(readme(card, evaluation, has_picture)).rstrip() + "\n")
    replace(checkpoint / CARD, card.model_dump_json(indent=2) + "\n")
    return card


def draw(checkpoint: Checkpoint, prefixes: Sequence[str], seed: int) -> Samples:
    """The first text for each prefix, with the service's defaults but as long as the model goes on.

    Raises ValueError and EngineError.
    """
    names = ("temperature", "top_k", "top_p")
    choices: dict[str, Any] = {name: SERVICE[name].default for name in names}
    choices |= {"seed": seed, "length": checkpoint.hparams.n_ctx - 1}
    engine = create_engine(checkpoint, SERVICE["engine"].default, max_running=8, max_waiting=len(prefixes))
    generations = []
    texts = []
    try:
        for prefix in prefixes:
            try:
                generations.append((prefix, engine.submit(prefix, SamplingParams(**choices))))
            except PromptTooLongError as error:
                raise ValueError(
                    f"prefixes: {prefix[:30]!r}... has {error.tokens} tokens and may have {error.limit} at most:"
                    " shorten it in the file of fields"
                ) from error
        for prefix, generation in tqdm(generations, desc="samples", unit="text", disable=None):
            (sample,) = generation.result()
            texts.append(Sample(prefix=prefix, text=sample.text, finish_reason=sample.finish_reason))
    finally:
        engine.close()
    return Samples(**choices, texts=texts)


def readme(card: Card, evaluation: Evaluation, has_picture: bool) -> ModelCard:
    """The card as Markdown under the metadata that model hubs read."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        autoescape=False,  # noqa: S701 - Markdown; what the model wrote goes through `quoted`
    )
    templates.filters |= {"quoted": quoted, "cell": _escaped, "share": _share}
    body = templates.get_template("card.md.jinja").render(
        card=card,
        evaluation=evaluation,
        curve=_thinned(card.curve),
        picture=CURVE if has_picture else None,
    )
    return ModelCard(f"---\n{metadata(card, evaluation).to_yaml()}\n---\n\n{body}")


def metadata(card: Card, evaluation: Evaluation) -> ModelCardData:
    """What model hubs read: licence, languages, data, and what was measured of this checkpoint."""
    own = evaluation.perplexities[0]
    copied = max(evaluation.copying, key=lambda each: each.samples_share_of_12_grams or 0)
    measured = [
        ("perplexity", "Perplexity per token", own.perplexity_per_token),
        ("perplexity", "Perplexity per byte", own.perplexity_per_byte),
        ("bits_per_byte", "Bits per byte", own.bits_per_byte),
        (
            "copied_12_grams",
            f"Share of 12-grams copied from the training text {copied.training}, the most of any",
            copied.samples_share_of_12_grams,
        ),
    ]
    return ModelCardData(
        language=card.language,
        license=card.licence.id,
        license_name=card.licence.name,
        license_link=card.licence.link,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=card.tags,
        base_model=card.base_model,
        datasets=[data.name for data in card.data],
        model_name=card.name,
        eval_results=[
            EvalResult(
                task_type="text-generation",
                dataset_type=evaluation.dataset,
                dataset_name=f"{evaluation.dataset}, held-out texts",
                dataset_split="held-out",
                metric_type=kind,
                metric_name=name,
                metric_value=round(value, 4),
            )
            for kind, name, value in measured
            if value is not None
        ],
    )


def quoted(sample: Sample) -> str:
    """A sample as a block quote in Markdown, its prefix in bold; what Markdown would take for its own is escaped."""
    prefix = sample.prefix.lstrip()
    bold = re.sub(
        r"[\W_]+\Z", "", prefix
    )  # a closing ** right between a full stop and a letter would close nothing
    rest = _escaped(prefix[len(bold) :] + sample.text)
    marked = f"**{_escaped(bold)}**{rest}" if bold else rest
    return "\n".join(f"> {line.strip()}".rstrip() for line in marked.strip().split("\n"))


def _escaped(text: str) -> str:
    """With a backslash before Markdown's marks, and before what begins a list or underlines a heading."""
    text = re.sub(r"([\\`*_\[\]<>&#|~])", r"\\\1", text)
    text = re.sub(r"(?m)^([ \t]*)(?=[-+=])", r"\1\\", text)
    return re.sub(r"(?m)^([ \t]*\d+)(?=[.)](?:\s|$))", r"\1\\", text)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"  # noqa: RUF001 - a dash for what can't be counted


def _thinned(curve: list[CurvePoint]) -> list[CurvePoint]:
    """At most about ROWS_OF_A_CURVE points, evenly spaced, the last among them."""
    return curve[::-1][:: -(-len(curve) // ROWS_OF_A_CURVE) or 1][::-1]


def _read_curve(checkpoint: Path) -> list[CurvePoint]:
    """Empty for a checkpoint that others trained."""
    if not (checkpoint / CURVE_TABLE).exists():
        return []
    return [CurvePoint(**asdict(point)) for point in read_curve(checkpoint)]
