"""The checkpoint directory: complete, in both formats, and the same model to everybody."""

import json
from pathlib import Path

import gpt_2_simple  # noqa: F401 - turns TensorFlow's eager execution off, as its trainer does
import numpy as np
import pytest
import tensorflow as tf
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune.publish.export import ABOUT_WEIGHTS, FORMATS, command, export, export_run, read_training
from finetune.train.command import new_trainer
from finetune.train.curve import read_curve
from finetune.train.run import Task, read_kept, train
from finetune.train.torch_trainer import new_model
from finetune.vocabulary import read, write
from finetune.weights import Weights, fresh_weights, read_weights
from server.weights import open_checkpoint
from tests.checkpoints import write_transformers
from tests.unit.finetune.conftest import TINY

BOTH = {
    *("encoder.json", "vocab.bpe", "tokenizer.json", "tokenizer_config.json", "hparams.json"),
    *("config.json", "generation_config.json", "model.safetensors"),
    *("checkpoint", "counter", "model-6.index", "model-6.data-00000-of-00001"),
}


@pytest.fixture(scope="module")
def run(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(folder, task, new_trainer)
    return folder


@pytest.fixture
def checkpoint(run: Path, tmp_path: Path) -> Path:
    export_run(run, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def in_tensorflow(checkpoint: Path) -> Weights:
    reader = tf.train.load_checkpoint(str(checkpoint))
    return {name: reader.get_tensor(f"model/{name}") for name in fresh_weights(TINY, 1)}


def assert_equal(ours: Weights, theirs: Weights, within: float = 0) -> None:
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name].reshape(value.shape), value, rtol=0, atol=within, err_msg=name)


def test_the_directory_has_everybodys_files_and_how_the_weights_came_about(
    run: Path, checkpoint: Path
) -> None:
    history = {"training.json", "curve.csv", "curve.svg"}
    assert {file.name for file in checkpoint.iterdir()} == BOTH | history
    training = json.loads((checkpoint / "training.json").read_text())
    assert training["steps"] == training["kept step"] == 6
    assert training["trainer"] == "torch"
    assert len(training["training texts"]) == 12
    assert read_curve(checkpoint) == read_curve(run)


def test_transformers_loads_it(run: Path, checkpoint: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert model.dtype == torch.float32
    prompt = AutoTokenizer.from_pretrained(checkpoint)("Ash and Pikachu were", return_tensors="pt")
    assert prompt.input_ids[0, 0] == 399
    ours = new_model(*read_kept(run), end_of_text=399).train(False)
    torch.testing.assert_close(model(**prompt).logits, ours(**prompt).logits, atol=0, rtol=1e-6)


def test_tensorflow_and_the_server_read_the_same_weights(run: Path, checkpoint: Path) -> None:
    _, kept = read_kept(run)
    assert_equal(in_tensorflow(checkpoint), kept)
    hparams, weights = read_weights(checkpoint)
    assert hparams == TINY
    assert_equal(weights, kept)


def test_it_says_its_shape_and_stores_the_head_once(checkpoint: Path) -> None:
    hparams = json.loads((checkpoint / "hparams.json").read_text())
    assert hparams == {"n_vocab": 400, "n_ctx": 64, "n_embd": 16, "n_head": 2, "n_layer": 1}
    assert "lm_head.weight" not in load_file(checkpoint / "model.safetensors")
    assert (checkpoint / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_half_precision_halves_the_file_and_is_loaded_as_float32(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path, dtype="float16")
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.float16}
    assert AutoModelForCausalLM.from_pretrained(tmp_path).dtype == torch.float32
    _, kept = read_kept(run)
    assert_equal(in_tensorflow(tmp_path), kept)
    assert_equal(read_weights(tmp_path)[1], kept, within=1e-3)


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("transformers", {"checkpoint", "counter", "model-0.index", "model-0.data-00000-of-00001"}),
        ("gpt-2-simple", {"config.json", "generation_config.json", "model.safetensors"}),
    ],
)
def test_one_format_alone_is_a_checkpoint_too(
    tokenizer: Tokenizer, tmp_path: Path, name: str, others: set[str]
) -> None:
    weights = fresh_weights(TINY, seed=5)
    export(tmp_path, TINY, weights, tokenizer, formats=(name,))
    assert not others & {file.name for file in tmp_path.iterdir()}
    hparams, read = read_weights(tmp_path)
    assert hparams == TINY
    assert_equal(read, weights)


@pytest.mark.parametrize("name", FORMATS)
def test_earlier_weights_in_the_other_format_are_not_left_to_be_served(
    tokenizer: Tokenizer, tmp_path: Path, name: str
) -> None:
    export(tmp_path, TINY, fresh_weights(TINY, seed=1), tokenizer, step=5)
    export(tmp_path, TINY, fresh_weights(TINY, seed=2), tokenizer, formats=(name,), step=6)
    assert_equal(read_weights(tmp_path)[1], fresh_weights(TINY, seed=2))
    weights = {"model.safetensors", "checkpoint", "model-6.index"} & {
        file.name for file in tmp_path.iterdir()
    }
    assert weights == ({"model.safetensors"} if name == "transformers" else {"checkpoint", "model-6.index"})
    assert not list(tmp_path.glob("model-5.*"))


def test_a_checkpoint_is_not_written_over_itself(tmp_path: Path) -> None:
    write_transformers(tmp_path, TINY, seed=3)
    result = CliRunner().invoke(command, [str(tmp_path), f"{tmp_path}/."])
    assert result.exit_code == 2
    assert "is SOURCE: name another directory" in " ".join(result.output.split())


def test_an_earlier_export_leaves_nothing_behind(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """But what is another's: transformers numbers its files in a way that looks much the same."""
    (tmp_path / "model-00001-of-00002.safetensors").touch()
    export(tmp_path, TINY, fresh_weights(TINY, seed=1), tokenizer, step=5)
    export(tmp_path, TINY, fresh_weights(TINY, seed=2), tokenizer, step=6)
    assert {file.name for file in tmp_path.iterdir()} == BOTH | {"model-00001-of-00002.safetensors"}
    assert_equal(in_tensorflow(tmp_path), fresh_weights(TINY, seed=2))
    assert (tmp_path / "counter").read_text() == "6\n"


def invoke(*arguments: object) -> None:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_the_command_turns_one_format_into_another_and_back(tmp_path: Path) -> None:
    write_transformers(tmp_path / "theirs", TINY, seed=3)
    invoke(tmp_path / "theirs", tmp_path / "tensorflow", "--format", "gpt-2-simple")
    invoke(tmp_path / "tensorflow", tmp_path / "back", "--format", "transformers")
    assert not (tmp_path / "tensorflow/model.safetensors").exists()
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "theirs").state_dict()
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "back").state_dict()
    assert theirs.keys() == back.keys()
    assert all(torch.equal(theirs[name], back[name]) for name in theirs)


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_the_command_leaves_it_to_the_checkpoint_how_a_prompt_begins(
    tmp_path: Path, name: str, begins: bool
) -> None:
    write_transformers(tmp_path / "theirs", TINY, seed=3)
    if begins:
        write(read(tmp_path / "theirs"), tmp_path / "theirs")
    invoke(tmp_path / "theirs", tmp_path / "ours", "--format", name)
    with open_checkpoint(tmp_path / "ours") as opened:
        assert (opened.tokenizer.encode_prompt("Ash")[0] == 399) is begins
    assert (AutoTokenizer.from_pretrained(tmp_path / "ours")("Ash").input_ids[0] == 399) is begins


def test_the_command_takes_a_run_in_the_middle(run: Path, checkpoint: Path, tmp_path: Path) -> None:
    invoke(run, tmp_path / "again")
    for file in checkpoint.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def about_weights(checkpoint: Path) -> list[str]:
    return [name for name in ABOUT_WEIGHTS if (checkpoint / name).exists()]


def test_what_was_measured_of_other_weights_goes_with_them(
    run: Path, checkpoint: Path, tmp_path: Path
) -> None:
    for name in ABOUT_WEIGHTS:
        (checkpoint / name).write_text("measured")
    export_run(run, checkpoint)
    invoke(checkpoint, tmp_path / "copy")
    invoke(tmp_path / "copy", checkpoint)
    assert about_weights(checkpoint) == list(ABOUT_WEIGHTS), "they are the same weights"
    export_run(run, checkpoint, dtype="float16")
    assert about_weights(checkpoint) == ["training.json", "curve.csv", "curve.svg"], "the run's own"
    write_transformers(tmp_path / "theirs", TINY, seed=3)
    invoke(tmp_path / "theirs", checkpoint)
    assert about_weights(checkpoint) == []


def test_a_run_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run\.json is missing: nothing was saved there yet"):
        export_run(tmp_path, tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()


def test_how_it_was_made_is_read_again_unknown_or_broken(checkpoint: Path, tmp_path: Path) -> None:
    assert read_training(checkpoint)["kept step"] == 6
    assert read_training(tmp_path) == {}
    (tmp_path / "training.json").write_text('{"steps": ')
    with pytest.raises(ValueError, match=r"training\.json is not JSON"):
        read_training(tmp_path)
