"""The registry: a version has everything that was measured, and the service finds its files again by name."""

import hashlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from finetune.evaluate.command import Evaluation, read_evaluation
from finetune.publish.register import command, metrics, register
from finetune.train.curve import Point, write_curve
from server.weights import Checkpoint, CheckpointError, find_checkpoint, open_checkpoint
from server.weights.registry import connect
from tests.cards import CARD, EVALUATION, write_card

CURVE = [Point(10, 20480, 5.0, 2.1), Point(20, 40960, 4.0, 1.8)]


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the pipeline leaves it, in a folder whose name has a space."""
    directory = tmp_path_factory.mktemp("a folder") / "run9"
    shutil.copytree(tiny_checkpoint.directory, directory)
    (directory / "training.json").write_text(json.dumps(CARD["training"]))
    (directory / "evaluation.json").write_text(json.dumps(EVALUATION))
    write_curve(directory, CURVE)
    write_card(directory)
    return directory


@pytest.fixture(scope="module")
def registry(checkpoint: Path) -> str:
    """A registry that holds the checkpoint as models:/jokes/1 and models:/jokes@champion."""
    registry = f"sqlite:///{checkpoint.parent}/the registry/mlflow.db"
    done = CliRunner().invoke(
        command, [str(checkpoint), "--name", "jokes", "--alias", "champion", "--registry", registry]
    )
    assert done.exit_code == 0, done.output
    assert f"models:/jokes/1 is {checkpoint}" in done.output
    return registry


@pytest.fixture
def client(registry: str) -> MlflowClient:
    return connect(registry)


def test_a_version_has_the_parameters_the_curve_and_the_evaluation(client: MlflowClient) -> None:
    data = client.get_run(client.get_model_version("jokes", "1").run_id or "")
    assert data.info.status == "FINISHED"
    assert data.data.params == {name: str(value) for name, value in CARD["training"].items()}
    for name in ("training_loss", "held_out_bits_per_byte"):
        history = client.get_metric_history(data.info.run_id, name)
        assert [(each.step, each.value) for each in history] == [
            (point.step, getattr(point, name)) for point in CURVE
        ]
    assert data.data.metrics["bits_per_byte"] == 1.7
    assert data.data.metrics["bits_per_byte of 5-gram of jokes"] == 2.5
    assert data.data.metrics["copying from jokes samples_share_of_12_grams"] == 0.01
    assert data.data.metrics["samples distinct_2"] == 0.6


def test_its_tags_are_the_datasheet(client: MlflowClient) -> None:
    tags = client.get_model_version("jokes", "1").tags
    assert tags["licence"] == "mit: As you like."
    assert tags["intended_use"] == "Laughter."
    assert tags["out_of_scope_use"] == "Funerals."
    assert tags["caveats"] == "\n".join(CARD["caveats"])
    assert tags["data"] == "jokes: Short ones. Source: ourselves."
    assert tags["data_licence"] == "jokes: MIT"


@pytest.mark.parametrize("name", ["models:/jokes/1", "models:/jokes@champion"])
def test_its_files_are_found_by_name(name: str, registry: str, checkpoint: Path) -> None:
    found = find_checkpoint(Path(name), registry)
    assert found.name == "jokes/1"
    for file in checkpoint.iterdir():
        if file.suffix != ".packed":
            assert (found.directory / file.name).read_bytes() == file.read_bytes()
    open_checkpoint(found.directory).close()


def test_the_same_files_are_no_second_version_and_others_are(
    registry: str, checkpoint: Path, client: MlflowClient, tmp_path: Path
) -> None:
    assert not register(checkpoint, "jokes", registry).new
    packed = checkpoint / "pokegen-int8.packed"
    packed.write_bytes(b"what the engine keeps beside a checkpoint is no part of it")
    assert not register(checkpoint, "jokes", registry).new
    copied = shutil.copytree(checkpoint, tmp_path / "another name")
    done = CliRunner().invoke(command, [str(copied), "--name", "jokes", "--registry", registry])
    assert f"{copied} is there already, as models:/jokes/1" in done.output

    (copied / "model.safetensors").write_bytes((copied / "model.safetensors").read_bytes())
    assert register(copied, "jokes", registry).version == 1
    (copied / "README.md").write_text("# Another card")
    assert register(copied, "jokes", registry, alias="newest").version == 2
    found = find_checkpoint(Path("models:/jokes@newest"), registry)
    assert found.name == "jokes/2"
    assert (copied / packed.name).exists()
    assert not (found.directory / packed.name).exists()
    assert find_checkpoint(Path("models:/jokes@champion"), registry).name == "jokes/1"
    assert register(checkpoint, "jokes", registry, alias="newest").version == 1
    assert find_checkpoint(Path("models:/jokes@newest"), registry).name == "jokes/1"


def test_reading_changes_nothing_in_the_registry(registry: str) -> None:
    def state() -> dict[str, str]:
        folder = Path(registry.removeprefix("sqlite:///")).parent
        return {
            str(file): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in folder.rglob("*")
            if file.is_file()
        }

    before = state()
    find_checkpoint(Path("models:/jokes@champion"), registry)
    assert state() == before


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("models:/jokes/99", "jokes"),
        ("models:/nothing/1", "nothing"),
        ("models:/jokes@nobody", "nobody"),
    ],
)
def test_a_version_that_is_not_there_is_named_in_one_line(name: str, says: str, registry: str) -> None:
    with pytest.raises(CheckpointError, match=says) as caught:
        find_checkpoint(Path(name), registry)
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


def test_a_registry_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="POKEGEN_REGISTRY"):
        find_checkpoint(Path("models:/jokes/1"), f"sqlite:///{tmp_path}/none/mlflow.db")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_registry_stays_as_it_is(tmp_path: Path) -> None:
    for name, content in (("text", b"no database"), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{name} is no registry"):
            find_checkpoint(Path("models:/jokes/1"), f"sqlite:///{tmp_path}/{name}")
        assert (tmp_path / name).read_bytes() == content


def test_files_that_are_gone_are_missed(registry: str, tmp_path: Path) -> None:
    directory = find_checkpoint(Path("models:/jokes/1"), registry).directory
    directory.rename(tmp_path / "away")
    try:
        with pytest.raises(CheckpointError, match="its files are gone from"):
            find_checkpoint(Path("models:/jokes/1"), registry)
    finally:
        (tmp_path / "away").rename(directory)


def test_a_server_that_does_not_answer_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"can't be had from http://127\.0\.0\.1:9:"):
        find_checkpoint(Path("models:/jokes/1"), "http://127.0.0.1:9")  # where nobody listens


def test_an_interrupted_registration_leaves_no_version(
    registry: str, checkpoint: Path, client: MlflowClient, tmp_path: Path
) -> None:
    copied = shutil.copytree(checkpoint, tmp_path / "run10")
    (copied / "broken").symlink_to("nowhere")  # which can't be copied
    done = CliRunner().invoke(command, [str(copied), "--name", "other", "--registry", registry])
    assert done.exit_code == 1
    assert client.search_model_versions("name = 'other'") == []
    experiment = client.get_experiment_by_name("other")
    assert experiment
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"


def test_what_is_no_checkpoint_is_not_registered(tmp_path: Path) -> None:
    registry = f"sqlite:///{tmp_path}/registry/mlflow.db"
    done = CliRunner().invoke(command, [str(tmp_path), "--registry", registry])
    assert done.exit_code == 1
    assert "model.safetensors" in done.output
    assert not (tmp_path / "registry").exists()


@pytest.mark.parametrize(("name", "alias"), [("a/b", None), ("", None), ("a'b", None), ("jokes", "a@b")])
def test_a_name_that_no_uri_could_have_is_refused(
    name: str, alias: str | None, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"^--(name|alias) is "):
        register(checkpoint, name, f"sqlite:///{tmp_path}/mlflow.db", alias)


@pytest.mark.parametrize("registry", ["", "mlflow.db", "ftp://mlflow", "http://user:secret@mlflow/"])
def test_what_is_no_registry_is_refused_in_one_line(registry: str, checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=r"^--registry must be sqlite:///FILE or [^\n]*$") as refused:
        register(checkpoint, "jokes", registry)
    assert "secret" not in str(refused.value)


def test_every_measured_number_is_a_metric(checkpoint: Path) -> None:
    def count(value: object) -> int:
        if isinstance(value, dict):
            return sum(count(inner) for inner in value.values())
        if isinstance(value, list):
            return sum(map(count, value))
        return isinstance(value, int | float)

    evaluation: Evaluation = read_evaluation(checkpoint)
    parts = ("samples_diversity", "held_out_diversity", "copying", "samples_ended")
    tokens = len(evaluation.perplexities)  # how many there were to predict is no result
    expected = sum(count(EVALUATION[part]) for part in (*parts, "perplexities")) - tokens
    assert len({name for _, name, _ in metrics(evaluation)}) == expected


def test_without_mlflow_a_directory_is_served_and_a_models_name_is_one_line(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['mlflow'] = None\n"
        "from pathlib import Path; from server.weights import find_checkpoint\n"
        f"print(find_checkpoint(Path({str(tmp_path)!r}), '').directory)\n"
        "find_checkpoint(Path('models:/jokes/1'), 'http://127.0.0.1:9')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(tmp_path)
    assert re.search(r"models:/jokes/1: needs MLflow, .* run `make pipeline`", done.stderr.splitlines()[-1])


def test_the_application_imports_no_mlflow() -> None:
    script = "import sys, server.app; print([m for m in ('mlflow', 'sqlalchemy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_registry_of_an_older_mlflow_is_one_line(registry: str, tmp_path: Path) -> None:
    older = tmp_path / "mlflow.db"
    shutil.copy(registry.removeprefix("sqlite:///"), older)
    with sqlite3.connect(older) as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    database.close()
    with pytest.raises(CheckpointError, match="can't be had from"):
        find_checkpoint(Path("models:/jokes/1"), f"sqlite:///{older}")
