"""`pokegen register`: a checkpoint as a version in an MLflow model registry, with what was measured and its datasheet.

The service starts from it by name: POKEGEN_CHECKPOINT=models:/pokegen/3.
"""

import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from finetune.console import FOLDER
from finetune.evaluate.command import EVALUATION_FILE, Evaluation, read_evaluation
from finetune.publish.export import TRAINING, read_training
from finetune.train.curve import CURVE_TABLE, read_curve
from server.commands.console import examples
from server.settings import PREFIX, Settings
from server.weights import CheckpointError, open_checkpoint
from server.weights.card import CARD, Card, read_card
from server.weights.checkpoint import PACKED_SUFFIX
from server.weights.registry import connect, require_registry_address, sqlite_file

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")
ARTIFACTS = PurePosixPath("checkpoint")  # the folder's name among a run's artifacts
MOST_METRICS = 1000  # that MLflow takes at once


@dataclass(frozen=True)
class Registered:
    """A version in the registry; `new`: it was made now, and had not been there before."""

    name: str
    version: int
    new: bool


@click.command(
    context_settings={"show_default": True},
    epilog=examples(
        (
            "the next version of a model, which is to be the one in use",
            "pokegen register checkpoint/jokes --name jokes --alias champion",
        ),
        ("the service with it", "POKEGEN_CHECKPOINT=models:/jokes@champion make run"),
    ),
)
@click.option("--name", default="pokegen", help="The registered model of which the checkpoint is a version.")
@click.option(
    "--alias", help="Give the version this alias, such as champion; it is taken from any other version."
)
@click.option(
    "--registry",
    default=Settings.model_fields["registry"].default,
    envvar=f"{PREFIX}REGISTRY",
    show_envvar=True,
    help="sqlite:///FILE, with artifacts/ beside it, or the address of an MLflow server.",
)
@click.argument("checkpoint", type=FOLDER)
def command(checkpoint: Path, name: str, alias: str | None, registry: str) -> None:
    """Put CHECKPOINT into a model registry, as a new version.

    With it go its parameters and curve, its evaluation, all its files, and its card's fields as tags. The same files
    are never registered twice.
    """
    from mlflow.exceptions import MlflowException

    for file, maker in ((CARD, "card"), (EVALUATION_FILE, "evaluate"), (TRAINING, "finetune")):
        if not (checkpoint / file).exists():
            click.echo(f"without {file}, which `pokegen {maker}` writes", err=True)
    try:
        made = register(checkpoint, name, registry, alias)
    except (CheckpointError, MlflowException) as error:
        raise click.ClickException(" ".join(str(error).split())) from error
    called = f"models:/{made.name}/{made.version}"
    click.echo(f"{called} is {checkpoint}" if made.new else f"{checkpoint} is there already, as {called}")
    if alias:
        click.echo(f"models:/{made.name}@{alias} is {called}")
    click.echo(f"POKEGEN_CHECKPOINT={called} POKEGEN_REGISTRY={registry} make run")


def register(checkpoint: Path, name: str, registry: str, alias: str | None = None) -> Registered:
    """Make a version of the model `name` of the files in `checkpoint`, or find the version that has the same files.

    Raises ValueError for a name or an alias that models:/NAME@ALIAS can't have and for what is no registry's address,
    CheckpointError for what is no checkpoint or has a broken card, and MlflowException.
    """
    for field, value in (("--name", name), ("--alias", alias)):
        if value is not None and not NAME.fullmatch(value):
            raise ValueError(
                f"{field} is {value!r}: letters, digits, dots, dashes and underscores, 100 at most"
            )
    try:
        require_registry_address(registry)
    except ValueError as error:
        raise ValueError(f"--registry {error}") from None
    open_checkpoint(checkpoint).close()
    card = read_card(checkpoint) if (checkpoint / CARD).exists() else None
    evaluation = read_evaluation(checkpoint) if (checkpoint / EVALUATION_FILE).exists() else None
    digest = digest_of_files(checkpoint)

    file = sqlite_file(registry)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
    client = connect(registry)
    version = _find(client, name, digest)
    new = version is None
    if version is None:
        tags = {"digest": digest} | (datasheet(card) if card else {})
        version = _make(client, checkpoint, name, tags, evaluation, file.parent if file else None)
    if alias:
        client.set_registered_model_alias(name, alias, str(version))
    return Registered(name, version, new)


def _find(client: "MlflowClient", name: str, digest: str) -> int | None:
    found = client.search_model_versions(f"name = '{name}' AND tags.digest = '{digest}'")
    return min((int(version.version) for version in found), default=None)


def _make(
    client: "MlflowClient",
    checkpoint: Path,
    name: str,
    tags: dict[str, str],
    evaluation: Evaluation | None,
    folder: Path | None,
) -> int:
    """The version goes last: what was interrupted leaves a failed run, and no half a version."""
    from mlflow.entities import Metric, Param

    run = client.create_run(_experiment(client, name, folder), run_name=checkpoint.resolve().name).info
    try:
        choices = [Param(key, str(value)) for key, value in read_training(checkpoint).items()]
        client.log_batch(run.run_id, params=choices)
        measured = [*_curve(checkpoint), *(metrics(evaluation) if evaluation else [])]
        now = int(time.time() * 1000)
        numbers = [Metric(_metric_name(key), number, now, step) for step, key, number in measured]
        for first in range(0, len(numbers), MOST_METRICS):
            client.log_batch(run.run_id, metrics=numbers[first : first + MOST_METRICS])
        for file in _files(checkpoint):
            client.log_artifact(run.run_id, str(file), str(ARTIFACTS / file.relative_to(checkpoint).parent))
    except BaseException:
        client.set_terminated(run.run_id, "FAILED")
        raise
    client.set_terminated(run.run_id)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    made = client.create_model_version(
        name, f"{run.artifact_uri}/{ARTIFACTS}", run.run_id, tags=tags, description=tags.get("summary")
    )
    return int(made.version)


def _experiment(client: "MlflowClient", name: str, folder: Path | None) -> str:
    """The experiment of the model's name; a server decides by itself where its artifacts go."""
    if experiment := client.get_experiment_by_name(name):
        return experiment.experiment_id
    artifacts = (folder / "artifacts").resolve().as_uri() if folder else None
    return client.create_experiment(name, artifact_location=artifacts)


def _files(folder: Path) -> list[Path]:
    """All files of a checkpoint, but for those that the engine has made from them."""
    return sorted(file for file in folder.rglob("*") if not file.is_dir() and file.suffix != PACKED_SUFFIX)


def digest_of_files(folder: Path) -> str:
    """A hash of the names and contents of all of a checkpoint's files."""
    sha256 = hashlib.sha256()
    for file in filter(Path.is_file, _files(folder)):
        with file.open("rb") as content:
            inner = hashlib.file_digest(content, "sha256").hexdigest()
        sha256.update(f"{inner}  {file.relative_to(folder).as_posix()}\n".encode())
    return sha256.hexdigest()


def datasheet(card: Card) -> dict[str, str]:
    """What a person says about the model, a tag each."""
    return {
        "title": card.title,
        "summary": card.summary,
        "language": ", ".join(card.language),
        "licence": f"{card.licence.name or card.licence.id}: {card.licence.terms}",
        "base_model": card.base_model or "none",
        "data": "\n".join(f"{each.name}: {each.description} Source: {each.source}." for each in card.data),
        "data_licence": "\n".join(f"{each.name}: {each.licence}" for each in card.data),
        "intended_use": card.intended_use,
        "out_of_scope_use": card.out_of_scope_use,
        "caveats": "\n".join(card.caveats),
        "how_it_was_made": card.how_it_was_made,
    }


def metrics(evaluation: Evaluation) -> Iterator[tuple[int, str, float]]:
    """(step, name, value) of what was measured; step 0. What could not be counted is left out."""
    for i, each in enumerate(evaluation.perplexities):
        # The checkpoint's own have the same names in every version, so that versions can be compared.
        model = "" if i == 0 else f" of {each.model}"
        for name in ("perplexity_per_token", "perplexity_per_byte", "bits_per_byte"):
            yield 0, f"{name}{model}", getattr(each, name)
    parts: dict[str, object] = {
        "samples": evaluation.samples_diversity,
        "held_out": evaluation.held_out_diversity,
        **{f"copying from {each.training}": each for each in evaluation.copying},
    }
    for part, measured in parts.items():
        values: dict[str, Any] = asdict(measured)  # type: ignore[call-overload]
        for name, value in values.items():
            if isinstance(value, int | float):
                yield 0, f"{part} {name}", value
    yield 0, "samples_ended", evaluation.samples_ended


def _curve(checkpoint: Path) -> Iterator[tuple[int, str, float]]:
    if (checkpoint / CURVE_TABLE).exists():
        for point in read_curve(checkpoint):
            yield point.step, "training_loss", point.training_loss
            yield point.step, "held_out_bits_per_byte", point.held_out_bits_per_byte


def _metric_name(name: str) -> str:
    """With nothing in it that MLflow's names may not have."""
    return re.sub(r"[^\w. /-]", "_", name)
