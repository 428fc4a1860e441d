"""`pokegen generate` in gpt-2-simple's place: the same checkpoint, the same options, the same files."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import gpt_2_simple
import pytest
import tensorflow as tf
from click.testing import CliRunner

from server.cli import commands
from server.commands import generate
from server.weights import HParams
from tests.checkpoints import write_gpt2_simple

HPARAMS = HParams(n_vocab=300, n_ctx=256, n_embd=48, n_head=3, n_layer=2)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose run1 gpt-2-simple has written."""
    folder = tmp_path_factory.mktemp("checkpoint")
    write_gpt2_simple(folder / "run1", HPARAMS, seed=1)
    return folder


@pytest.fixture(scope="module")
def session(checkpoints: Path) -> Iterator[tf.compat.v1.Session]:
    with tf.Graph().as_default():
        session = gpt_2_simple.start_tf_sess()
        gpt_2_simple.load_gpt2(session, checkpoint_dir=str(checkpoints))
        yield session


@pytest.mark.parametrize("prefix", ["", "Ash and Pikachu were"])
@pytest.mark.parametrize(
    "options",
    [
        {"nsamples": 1},
        {"nsamples": 3, "batch_size": 3},
        {"nsamples": 2, "sample_delim": ""},
        {"nsamples": 1, "truncate": "9"},
        {"nsamples": 1, "truncate": "9", "include_prefix": False},
    ],
    ids=str,
)
def test_a_file_is_what_generate_to_file_makes(
    session: tf.compat.v1.Session,
    checkpoints: Path,
    tmp_path: Path,
    prefix: str,
    options: dict[str, object],
) -> None:
    """Of the likeliest tokens, which no seed decides. gpt-2-simple begins a text behind its first line breaks."""
    theirs, ours = tmp_path / "theirs.txt", tmp_path / "ours.txt"
    gpt_2_simple.generate_to_file(
        session,
        checkpoint_dir=str(checkpoints),
        destination_path=str(theirs),
        prefix=prefix,
        length=60,
        top_k=1,
        **options,
    )
    arguments = [f"--prefix={prefix}", "--length=60", "--top-k=1", "--ignore-end-of-text", "--engine=float32"]
    for name, value in options.items():
        option = name.replace("_", "-")
        arguments.append(f"--no-{option}" if value is False else f"--{option}={value}")
    done = CliRunner().invoke(
        commands,
        [
            "generate",
            f"--checkpoint-dir={checkpoints}",
            "--run-name=run1",
            *arguments,
            f"--destination-path={ours}",
        ],
    )
    assert done.exit_code == 0, done.output
    assert ours.read_text() == theirs.read_text()


def test_options_have_the_defaults_of_gpt2_simple() -> None:
    theirs = {name: p.default for name, p in inspect.signature(gpt_2_simple.generate).parameters.items()}
    values = generate.command.make_context("generate", []).params
    ours = {
        name.removeprefix("--").replace("-", "_"): plain(values[str(option.name)])
        for option in generate.command.params
        for name in option.opts
    }
    shared = theirs.keys() & ours.keys()
    assert theirs.keys() - shared == {"sess", "sample_dir"}, "a session, and what it has no use for itself"
    different = {name for name in shared if (theirs[name] or None) != (ours[name] or None)}
    assert different == {"batch_size", "run_name", "seed", "sample_delim"}
    assert theirs["sample_delim"] == f"{ours['sample_delim']}\n", "a line, which no shell needs to be told"
    assert isinstance(ours["seed"], int), "theirs is random, too, but nobody learns which it was"


def plain(value: object) -> object:
    """A value as gpt-2-simple writes it."""
    return str(value) if isinstance(value, Path) else value
