"""`pokegen finetune`: options become a task, and what makes no sense is refused before anything is written."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from finetune.documents import write_documents
from finetune.train.command import command
from finetune.train.run import read_progress
from finetune.vocabulary import read
from finetune.weights import read_weights
from server.weights import HParams
from tests.checkpoints import write_transformers
from tests.unit.finetune.conftest import TINY

SIZES = ["--n-ctx=64", "--n-embd=16", "--n-head=2", "--n-layer=1"]


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets them, and this takes that back."""
    for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        monkeypatch.setenv(variable, "1")


@pytest.fixture
def dataset(tmp_path: Path, texts: tuple[list[str], list[str]]) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, part in zip(("train", "held-out"), texts, strict=True):
        write_documents(folder / f"{name}.txt", part)
    return folder


@pytest.fixture
def here(tmp_path: Path) -> list[str]:
    """Where a command writes to, and a plan of next to nothing."""
    places = [f"--state-dir={tmp_path / 'state'}", f"--checkpoint-dir={tmp_path / 'checkpoint'}"]
    return [*places, "--threads=1", "--steps=2", "--batch-size=2", "--sample-num=0", "--format=transformers"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


def test_a_new_model_has_the_sizes_and_the_vocabulary_asked_for(
    tmp_path: Path, dataset: Path, vocabulary: Path, here: list[str]
) -> None:
    result = run(*here, f"--dataset={dataset}", f"--vocabulary={vocabulary}", *SIZES)
    assert result.exit_code == 0, result.output
    hparams, _ = read_weights(tmp_path / "checkpoint/run1")
    assert hparams == TINY
    assert read(tmp_path / "checkpoint/run1").to_str() == read(vocabulary).to_str()
    assert f"POKEGEN_CHECKPOINT={tmp_path / 'checkpoint/run1'} make run" in result.output


def test_a_short_run_cools_down_in_its_last_third(
    tmp_path: Path, dataset: Path, vocabulary: Path, here: list[str]
) -> None:
    run(*here, "--steps=6", f"--dataset={dataset}", f"--vocabulary={vocabulary}", *SIZES)
    assert read_progress(tmp_path / "state/run1").description["cooldown"] == 2


def test_texts_that_exceed_the_context_are_counted_aloud(
    dataset: Path, vocabulary: Path, here: list[str], texts: tuple[list[str], list[str]]
) -> None:
    result = run(*here, f"--dataset={dataset}", f"--vocabulary={vocabulary}", *SIZES)
    said = f"{len(texts[0])} of {len(texts[0])} texts exceed the 64 tokens that the model sees at once"
    assert said in result.output


def test_another_folder_takes_its_rows_of_every_batch(
    tmp_path: Path, dataset: Path, vocabulary: Path, here: list[str]
) -> None:
    arguments = [*here, f"--vocabulary={vocabulary}", *SIZES, f"--dataset={dataset}"]
    run(*arguments, "--run-name=alone")
    run(*arguments, "--run-name=mixed", "--mix", dataset, 1)
    alone, mixed = (read_progress(tmp_path / "state" / name).description for name in ("alone", "mixed"))
    assert {name for name in alone if alone[name] != mixed[name]} == {"training texts"}

    with pytest.raises(ValueError, match="--mix takes all 2 rows of a batch: leave --dataset one, or raise"):
        run(*arguments, "--run-name=full", "--mix", dataset, 2)
    assert not (tmp_path / "state/full").exists()


def test_a_checkpoint_brings_its_sizes_and_its_vocabulary(
    tmp_path: Path, dataset: Path, here: list[str]
) -> None:
    hparams = HParams(n_vocab=300, n_ctx=32, n_embd=8, n_head=2, n_layer=1)
    write_transformers(tmp_path / "models/tiny", hparams, seed=1)
    result = run(
        *here, f"--dataset={dataset}", f"--model-dir={tmp_path / 'models'}", "--model-name=tiny", *SIZES
    )
    assert result.exit_code == 0, result.output
    assert read_weights(tmp_path / "checkpoint/run1")[0] == hparams


def test_a_run_is_gone_on_with_or_started_over(
    tmp_path: Path, dataset: Path, vocabulary: Path, here: list[str]
) -> None:
    arguments = [*here, f"--dataset={dataset}", f"--vocabulary={vocabulary}", *SIZES]
    run(*arguments)
    first = read_weights(tmp_path / "checkpoint/run1")[1]
    with pytest.raises(ValueError, match="holds another run, with seed 1 and not 2"):
        run(*arguments, "--seed=2")
    run(*arguments, "--seed=2", "--restore-from=fresh")
    assert not np.array_equal(read_weights(tmp_path / "checkpoint/run1")[1]["wte"], first["wte"])


def test_an_interrupt_says_how_to_go_on(
    dataset: Path, vocabulary: Path, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("finetune.train.run.Run.save", interrupt)
    result = run(*here, f"--dataset={dataset}", f"--vocabulary={vocabulary}", *SIZES)
    assert result.exit_code == 130
    assert (
        "interrupted: the same command, with --restore-from latest, goes on from the last save"
        in result.output
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-head=3"], "--n-head is 3, which does not divide --n-embd, 16"),
        (["--optimizer=lion"], "optimizer 'lion' is none of muon, adam, sgd"),
        (["--trainer=gpt-2-simple", "--dropout=0.1"], r"dropout is 0\.1, and gpt-2-simple's model has none"),
        (
            ["--trainer=gpt-2-simple", "--label-smoothing=0.1"],
            r"label_smoothing is 0\.1, and gpt-2-simple's loss",
        ),
        (["--sample-num=1", f"--sample-prefix={'Pikachu! ' * 60}"], "n_ctx 64 leaves room for 62 at most"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    tmp_path: Path, dataset: Path, vocabulary: Path, here: list[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(*here, f"--dataset={dataset}", f"--vocabulary={vocabulary}", *SIZES, *arguments)
    assert not (tmp_path / "state").exists()
    assert not (tmp_path / "checkpoint").exists()


def test_starting_over_with_what_makes_no_sense_leaves_the_run_that_was(
    tmp_path: Path, dataset: Path, vocabulary: Path, here: list[str]
) -> None:
    arguments = [*here, f"--dataset={dataset}", f"--vocabulary={vocabulary}", *SIZES]
    assert run(*arguments).exit_code == 0
    before = read_progress(tmp_path / "state/run1")
    with pytest.raises(ValueError, match="optimizer 'lion' is none of"):
        run(*arguments, "--restore-from=fresh", "--optimizer=lion")
    assert read_progress(tmp_path / "state/run1") == before
    assert run(*arguments, "--restore-from=fresh", "--seed=2").exit_code == 0
    assert read_progress(tmp_path / "state/run1") != before


def test_a_run_does_not_overwrite_what_it_starts_from(tmp_path: Path, dataset: Path, here: list[str]) -> None:
    write_transformers(tmp_path / "checkpoint/run1", TINY)
    refused = run(*here, f"--dataset={dataset}", f"--model-dir={tmp_path}/checkpoint", "--model-name=run1")
    assert refused.exit_code == 2
    assert "is what the run starts from: choose another name" in " ".join(refused.output.split())
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "option", ["--learning-rate", "--weight-decay", "--clip", "--dropout", "--averaging"]
)
@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_choice_is_a_finite_number(dataset: Path, here: list[str], option: str, number: str) -> None:
    refused = run(*here, f"--dataset={dataset}", option, number)
    assert refused.exit_code == 2
    assert f"Invalid value for '{option}': {number} is n" in " ".join(refused.output.split())


@pytest.mark.parametrize("name", ["", ".", "..", "/", "others/run1", "../run1"])
def test_starting_over_removes_nothing_but_a_run(
    tmp_path: Path, dataset: Path, vocabulary: Path, here: list[str], name: str
) -> None:
    (tmp_path / "state/others").mkdir(parents=True)
    arguments = [f"--dataset={dataset}", f"--vocabulary={vocabulary}", *SIZES, "--restore-from=fresh"]
    result = run(*here, *arguments, f"--run-name={name}")
    assert f"'--run-name': {name!r} is no name for a folder" in " ".join(result.output.split())
    assert (tmp_path / "state/others").exists()


def test_a_missing_checkpoint_is_named(dataset: Path, here: list[str], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"models/124M is missing: fetch .* with `pokegen download`"):
        run(*here, f"--dataset={dataset}", f"--model-dir={tmp_path}/models")


def test_a_missing_data_set_is_named(tmp_path: Path, vocabulary: Path, here: list[str]) -> None:
    with pytest.raises(FileNotFoundError, match=r"train\.txt is missing: make it with `pokegen prepare`"):
        run(*here, f"--dataset={tmp_path}", f"--vocabulary={vocabulary}", *SIZES)
