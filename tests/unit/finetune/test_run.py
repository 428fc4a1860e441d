"""A run in its folder: one that was interrupted, wherever it was, ends like one that was not."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tokenizers import Tokenizer

from finetune.train.command import new_trainer
from finetune.train.plan import Trainer
from finetune.train.rows import encode
from finetune.train.run import Task, bits_per_byte, read_kept, read_progress, sampler, train
from finetune.vocabulary import learn
from finetune.weights import fresh_weights
from tests.unit.finetune.conftest import PLAN, TINY


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def change_plan(task: Task, **fields: Any) -> Task:  # noqa: ANN401 - fields of Plan
    return dataclasses.replace(task, plan=dataclasses.replace(task.plan, **fields))


class Interrupted:
    """A trainer that is interrupted when it has just done something, `what`, for the count-th time."""

    def __init__(self, trainer: Trainer, what: str, count: int) -> None:
        self._trainer, self._what, self._left = trainer, what, count

    def __getattr__(self, name: str) -> Callable[..., object]:
        method: Callable[..., object] = getattr(self._trainer, name)

        def then_interrupt(*arguments: object) -> object:
            result = method(*arguments)
            if name == self._what:
                self._left -= 1
                if self._left == 0:
                    raise KeyboardInterrupt
            return result

        return then_interrupt


def interrupted(what: str, count: int) -> Callable[[Task], Trainer]:
    return lambda task: cast(Trainer, Interrupted(new_trainer(task), what, count))


def sample(task: Task) -> Callable[[Trainer], str]:
    return sampler(task, "Ash", length=5, count=2)


@pytest.fixture(scope="module")
def whole(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an uninterrupted run of a trainer."""
    folders: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("whole") / name
            train(folders[name], dataclasses.replace(task, trainer=name), new_trainer, sample(task))
        return folders[name]

    return folder


@pytest.mark.parametrize(
    ("what", "count"),
    [
        ("advance", 1),  # before anything was saved
        ("advance", 5),  # the last save was after step 4
        ("nats", 2),  # in the second evaluation
        ("average", 2),  # before its weights were written
        ("sample", 3),  # when the curve has its point
        ("save", 1),  # when the state is written, and run.json does not name it
        ("save", 3),
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_end(
    tmp_path: Path, task: Task, whole: Callable[[str], Path], what: str, count: int
) -> None:
    assert_ends_alike(tmp_path, task, whole("torch"), what, count)


def test_so_does_one_of_gpt2_simples_trainer(
    tmp_path: Path, task: Task, whole: Callable[[str], Path]
) -> None:
    task = dataclasses.replace(task, trainer="gpt-2-simple")
    assert_ends_alike(tmp_path, task, whole("gpt-2-simple"), "advance", 5)


def assert_ends_alike(folder: Path, task: Task, whole: Path, what: str, count: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(folder, task, interrupted(what, count), sample(task))
    curve = train(folder, task, new_trainer, sample(task))
    assert [point.step for point in curve] == [2, 4, 6]
    assert curve[-1].held_out_bits_per_byte < curve[0].held_out_bits_per_byte

    ours, theirs = contents(folder), contents(whole)
    assert ours.keys() == theirs.keys()
    for name in ("run.json", "curve.csv", "curve.svg", "weights-6.npz", "samples/step-6.txt"):
        assert ours[name] == theirs[name], name
    for name in ours:  # TensorFlow's index holds no times, PyTorch's archive none either
        assert ours[name] == theirs[name], name


def test_what_a_kill_left_half_written_is_written_anew(
    tmp_path: Path, task: Task, whole: Callable[[str], Path]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, task, interrupted("advance", 3), sample(task))
    (tmp_path / "state-4").mkdir()
    for name in ("state-4/state.pt", "state-4/other", "weights-4.npz", "weights-6.npz", "run.json.part"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "curve.csv").write_bytes(b"step,tok")
    train(tmp_path, task, new_trainer, sample(task))
    assert contents(tmp_path) == contents(whole("torch"))


def test_a_finished_run_is_not_repeated(task: Task, whole: Callable[[str], Path]) -> None:
    folder = whole("torch")
    before = contents(folder)
    assert train(folder, task, interrupted("nats", 1)) == read_progress(folder).curve
    assert contents(folder) == before


def test_two_processes_do_not_share_a_run(tmp_path: Path, task: Task) -> None:
    def meanwhile(trainer: Trainer) -> str:
        with pytest.raises(ValueError, match="another process is at work in"):
            train(tmp_path, task, new_trainer)
        return sample(task)(trainer)

    train(tmp_path, task, new_trainer, meanwhile)
    train(tmp_path, task, new_trainer)


def test_progress_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").touch()
    with pytest.raises(ValueError, match=r"run\.json is not JSON .*: start over with --restore-from fresh"):
        read_progress(tmp_path)


def test_a_run_from_before_there_was_a_choice_goes_on(
    tmp_path: Path, task: Task, whole: Callable[[str], Path]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, task, interrupted("advance", 5), sample(task))
    progress = json.loads((tmp_path / "run.json").read_text())
    assert progress["description"].pop("compiled") is False
    (tmp_path / "run.json").write_text(json.dumps(progress))
    with pytest.raises(ValueError, match="compiled False and not True"):
        train(
            tmp_path,
            dataclasses.replace(task, plan=dataclasses.replace(task.plan, compiled=True)),
            new_trainer,
        )
    train(tmp_path, task, new_trainer, sample(task))
    assert read_progress(tmp_path).curve == read_progress(whole("torch")).curve


def test_only_the_newest_state_and_the_kept_weights_stay(whole: Callable[[str], Path]) -> None:
    names = {file.name for file in whole("torch").iterdir()}
    assert {name for name in names if name.startswith(("state-", "weights-"))} == {"state-6", "weights-6.npz"}
    assert not [name for name in names if name.endswith(".part")]


HASHES = r"\w{12} and not \w{12}"

# Every choice of a plan, and what the refusal says of it.
PLANS: dict[str, tuple[object, str]] = {
    "steps": (8, "steps 6 and not 8"),
    "learning_rate": (2e-3, r"learning_rate 0\.001 and not 0\.002"),
    "batch_size": (3, "batch_size 2 and not 3"),
    "accumulate_gradients": (2, "accumulate_gradients 1 and not 2"),
    "warmup": (3, "warmup 2 and not 3"),
    "cooldown": (3, "cooldown 2 and not 3"),
    "seed": (2, "seed 1 and not 2"),
    "optimizer": ("sgd", "optimizer adam and not sgd"),
    "dropout": (0.1, r"dropout 0\.0 and not 0\.1"),
    "label_smoothing": (0.1, r"label_smoothing 0\.0 and not 0\.1"),
    "compiled": (True, r"compiled False and not True"),
    "weight_decay": (0.1, r"weight_decay 0\.0 and not 0\.1"),
    "averaging": (0.5, r"averaging 0\.99 and not 0\.5"),
    "clip": (2.0, r"clip 1\.0 and not 2\.0"),
    "only_train_transformer_layers": (True, "only_train_transformer_layers False and not True"),
    "save_every": (3, "save_every 2 and not 3"),
    "patience": (4, "patience 5 and not 4"),
    "keep": ("last", "keep best and not last"),
}


def wider(task: Task) -> Task:
    hparams = dataclasses.replace(TINY, n_embd=32)
    return dataclasses.replace(task, hparams=hparams, weights=fresh_weights(hparams, seed=1))


def other_vocabulary(task: Task) -> Task:
    tokenizer = learn(task.held_out, TINY.n_vocab)
    return dataclasses.replace(task, tokenizer=tokenizer)


def documents(task: Task) -> Any:  # noqa: ANN401 - a sequence of them
    return task.sources[0][0]


OTHERS: dict[str, tuple[Callable[[Task], Task], str]] = {
    "trainer": (
        lambda task: dataclasses.replace(task, trainer="gpt-2-simple"),
        "trainer torch and not gpt-2-simple",
    ),
    "sizes": (wider, f"n_embd 16 and not 32, initial weights {HASHES}"),
    "rows": (
        lambda task: dataclasses.replace(task, sources=[(documents(task), 1)]),
        f"training texts {HASHES}",
    ),
    "training texts": (
        lambda task: dataclasses.replace(task, sources=[(documents(task)[:-1], 2)]),
        f"training texts {HASHES}",
    ),
    "held-out texts": (
        lambda task: dataclasses.replace(task, held_out=task.held_out[:-1]),
        f"held-out texts {HASHES}",
    ),
    "vocabulary": (other_vocabulary, f"vocabulary {HASHES}"),
    "the weights it starts from": (
        lambda task: dataclasses.replace(task, weights=fresh_weights(TINY, seed=2)),
        f"initial weights {HASHES}",
    ),
}


def assert_refused(folder: Path, task: Task, difference: str) -> None:
    before = contents(folder)
    fix = "give the same options again, choose another --run-name, or start over with --restore-from fresh"
    with pytest.raises(ValueError, match=rf"holds another run, with {difference}: {fix}$"):
        train(folder, task, new_trainer)
    assert contents(folder) == before


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(PLAN)])
def test_a_folder_with_another_plan_is_refused_and_left_as_it_is(
    task: Task, whole: Callable[[str], Path], field: str
) -> None:
    value, difference = PLANS[field]
    assert_refused(whole("torch"), change_plan(task, **{field: value}), difference)


@pytest.mark.parametrize("what", OTHERS)
def test_a_folder_with_another_run_is_refused_and_left_as_it_is(
    task: Task, whole: Callable[[str], Path], what: str
) -> None:
    change, difference = OTHERS[what]
    assert_refused(whole("torch"), change(task), difference)


def test_all_that_differs_is_named(task: Task, whole: Callable[[str], Path]) -> None:
    another = change_plan(dataclasses.replace(task, trainer="gpt-2-simple"), seed=2)
    assert_refused(whole("torch"), another, "trainer torch and not gpt-2-simple, seed 1 and not 2")


def test_a_run_that_no_longer_improves_stops(tmp_path: Path, task: Task) -> None:
    hopeless = change_plan(task, steps=40, learning_rate=0.0, save_every=1, patience=3)
    assert len(train(tmp_path, hopeless, new_trainer)) == 4
    assert len(train(tmp_path, hopeless, new_trainer)) == 4, "and stays stopped"


@pytest.mark.parametrize(("keep", "is_the_last"), [("best", False), ("last", True)])
def test_what_is_kept_is_the_best_or_the_last(
    tmp_path: Path, task: Task, keep: str, is_the_last: bool
) -> None:
    worsening = change_plan(
        task, steps=3, learning_rate=0.5, warmup=0, cooldown=0, averaging=0.0, save_every=1, keep=keep
    )
    measured = [point.held_out_bits_per_byte for point in train(tmp_path, worsening, new_trainer)]
    assert measured[-1] > min(measured), measured

    hparams, weights = read_kept(tmp_path)
    assert hparams == TINY
    progress = read_progress(tmp_path)
    assert (progress.kept_step == 3) is is_the_last
    assert measured[progress.kept_step - 1] == (measured[-1] if is_the_last else min(measured))
    trainer = new_trainer(dataclasses.replace(worsening, weights=weights))
    assert round(bits_per_byte(trainer, task), 4) == measured[progress.kept_step - 1]


DIVERGING = {"learning_rate": 1e30, "warmup": 0, "cooldown": 0}
FIX = r"start over with --restore-from fresh and a lower --learning-rate than 1e\+30"


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, task: Task, trainer_name: str) -> None:
    task = change_plan(dataclasses.replace(task, trainer=trainer_name), **DIVERGING)
    with pytest.raises(ValueError, match=f"the loss is nan at step 1: {FIX}"):
        train(tmp_path, task, new_trainer)
    assert not (tmp_path / "run.json").exists()


def test_weights_that_are_no_numbers_are_not_kept(tmp_path: Path, task: Task) -> None:
    with pytest.raises(ValueError, match=f"held-out bits per byte is nan at step 1: {FIX}"):
        train(tmp_path, change_plan(task, **DIVERGING, steps=1), new_trainer)
    assert not (tmp_path / "run.json").exists()


def test_a_folder_in_which_nothing_was_saved_is_named(tmp_path: Path) -> None:
    for read in (read_progress, read_kept):
        with pytest.raises(FileNotFoundError, match=r"run\.json is missing: nothing was saved there yet"):
            read(tmp_path)


def test_the_curve_says_what_was_seen(whole: Callable[[str], Path]) -> None:
    curve = read_progress(whole("torch")).curve
    assert [point.tokens for point in curve] == [2 * 2 * 64, 4 * 2 * 64, 6 * 2 * 64]
    assert all(0 < point.training_loss < math.log(400) + 0.1 for point in curve)


def test_the_samples_begin_with_the_prefix_and_are_not_alike(whole: Callable[[str], Path]) -> None:
    text = (whole("torch") / "samples/step-2.txt").read_text()
    first, second = text.removeprefix("======== SAMPLE 1 ========\n").split(
        "\n\n======== SAMPLE 2 ========\n"
    )
    assert first.startswith("Ash")
    assert second.startswith("Ash")
    assert first != second


def test_a_prefix_that_fills_the_context_is_refused(task: Task) -> None:
    with pytest.raises(
        ValueError, match=r"--sample-prefix is \d+ tokens long, and n_ctx 64 leaves room for 62"
    ):
        sampler(task, "Pikachu! " * 60, length=5, count=1)


def test_a_model_that_knows_nothing_pays_for_every_token_alike(task: Task, tokenizer: Tokenizer) -> None:
    ignorant = {**task.weights, "wte": np.zeros_like(task.weights["wte"])}
    texts = ["Pokémon were here.", "Ash runs."]
    task = dataclasses.replace(task, weights=ignorant, held_out=texts)
    n_targets = sum(len(document) - 1 for document in encode(tokenizer, texts))  # the ends among them
    n_bytes = sum(len(text.encode()) for text in texts)
    measured = bits_per_byte(new_trainer(task), task)
    assert measured == pytest.approx(n_targets * math.log2(400) / n_bytes, rel=1e-4)
