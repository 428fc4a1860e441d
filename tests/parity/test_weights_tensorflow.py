"""Every tensor of a TensorFlow checkpoint is read as TensorFlow itself reads it."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import gpt_2_simple
import numpy as np
import pytest
import tensorflow as tf

from server.weights import CheckpointError, HParams, open_checkpoint
from server.weights.bundle import Bundle
from server.weights.files import DataFiles
from server.weights.layout import tensor_shapes
from tests.checkpoints import random_tensors, write_gpt2_simple, write_vocabulary

SHAPES = [
    HParams(n_vocab=257, n_ctx=1, n_embd=1, n_head=1, n_layer=1),
    HParams(n_vocab=300, n_ctx=64, n_embd=24, n_head=3, n_layer=2),
    HParams(n_vocab=701, n_ctx=33, n_embd=80, n_head=5, n_layer=3),
    HParams(n_vocab=5000, n_ctx=128, n_embd=128, n_head=8, n_layer=3),  # tensors of several MiB
]


def assert_read_as_tensorflow_does(directory: Path, hparams: HParams) -> None:
    oracle = tf.train.load_checkpoint(str(directory))
    with open_checkpoint(directory) as checkpoint:
        assert checkpoint.hparams == hparams
        for name, shape in tensor_shapes(hparams).items():
            ours = checkpoint.tensor(name)
            theirs = oracle.get_tensor(f"model/{name}")
            assert ours.shape == shape
            assert ours.dtype == np.float32
            assert theirs.shape in (shape, (1, *shape))
            np.testing.assert_array_equal(ours, theirs.astype(np.float32).reshape(shape), name)


@pytest.mark.parametrize("hparams", SHAPES, ids=str)
def test_what_gpt2_simple_saves(tmp_path: Path, hparams: HParams) -> None:
    write_gpt2_simple(tmp_path, hparams, seed=1)
    assert_read_as_tensorflow_does(tmp_path, hparams)


def test_what_a_real_fine_tuning_leaves_behind(tmp_path: Path) -> None:
    hparams = HParams(
        n_vocab=300, n_ctx=1024, n_embd=8, n_head=2, n_layer=2
    )  # it samples 1,024 tokens a step
    write_gpt2_simple(tmp_path / "models/base", hparams)
    (tmp_path / "episodes.txt").write_text("Ash and Pikachu were walking. " * 200, encoding="utf-8")
    with tf.Graph().as_default():
        session = gpt_2_simple.start_tf_sess()
        gpt_2_simple.finetune(
            session,
            str(tmp_path / "episodes.txt"),
            steps=2,
            model_name="base",
            model_dir=str(tmp_path / "models"),
            checkpoint_dir=str(tmp_path / "checkpoint"),
            accumulate_gradients=1,
            sample_length=1,
        )
        session.close()
    run1 = tmp_path / "checkpoint/run1"
    assert_read_as_tensorflow_does(run1, hparams)
    with open_checkpoint(run1) as tuned, open_checkpoint(tmp_path / "models/base") as base:
        assert not np.array_equal(tuned.tensor("wte"), base.tensor("wte"))


SMALL = HParams(n_vocab=300, n_ctx=16, n_embd=12, n_head=2, n_layer=2)


def write_bundle(
    directory: Path, prefix: str, dtype: tf.DType = tf.float32, shards: int = 1, optimizer: bool = False
) -> None:
    """What other scripts save of GPT-2's variables: other names, types, devices, more variables."""
    write_vocabulary(directory, SMALL.n_vocab)
    (directory / "hparams.json").write_text(json.dumps(asdict(SMALL)), encoding="utf-8")
    two_devices = tf.compat.v1.ConfigProto(device_count={"CPU": shards})
    with tf.Graph().as_default(), tf.compat.v1.Session(config=two_devices) as session:
        for number, (name, value) in enumerate(random_tensors(SMALL, 5).items()):
            with tf.device(f"/cpu:{number % shards}"):
                stored = value[np.newaxis] if name.endswith("/w") else value
                variable = tf.compat.v1.get_variable(f"model/{name}", initializer=tf.cast(stored, dtype))
                for slot in ("Adam", "Adam_1") if optimizer else ():
                    tf.compat.v1.get_variable(f"model/{name}/{slot}", initializer=tf.ones_like(variable))
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(sharded=shards > 1).save(session, str(directory / prefix))


def save_variables(
    session: tf.compat.v1.Session, prefix: Path, names: list[str], slices: list[str], tensors: list[tf.Tensor]
) -> None:
    """What a Saver does in the end."""
    session.run(
        tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=slices, tensors=tensors)
    )


def test_openais_own_file_names(tmp_path: Path) -> None:
    write_bundle(tmp_path, "model.ckpt")
    assert (tmp_path / "model.ckpt.data-00000-of-00001").exists()
    assert_read_as_tensorflow_does(tmp_path, SMALL)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16], ids=lambda dtype: dtype.name)
def test_half_precision(tmp_path: Path, dtype: tf.DType) -> None:
    write_bundle(tmp_path, "model-7", dtype)
    assert_read_as_tensorflow_does(tmp_path, SMALL)


def test_several_data_files(tmp_path: Path) -> None:
    write_bundle(tmp_path, "model-7", shards=2)
    assert (tmp_path / "model-7.data-00001-of-00002").exists()
    assert_read_as_tensorflow_does(tmp_path, SMALL)


def test_the_optimizers_variables_are_passed_over(tmp_path: Path) -> None:
    write_bundle(tmp_path, "model-7", optimizer=True)
    assert tf.train.load_checkpoint(str(tmp_path)).has_tensor("model/wte/Adam")
    assert_read_as_tensorflow_does(tmp_path, SMALL)


def test_an_index_of_several_blocks(tmp_path: Path) -> None:
    names = [f"model/{number}/" + "x" * 60 for number in range(6000)]
    prefix = tmp_path / "many"
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        values = [tf.constant(number, tf.float32) for number in range(100)]
        tensors = [values[number % 100] for number in range(6000)]
        save_variables(session, prefix, names, [""] * 6000, tensors)
    assert prefix.with_suffix(".index").stat().st_size > 262_144  # TensorFlow begins a new block there
    files = DataFiles()
    bundle = Bundle(prefix, files, names)
    assert [float(bundle.tensor(name, ()).read()) for name in names] == [
        number % 100 for number in range(6000)
    ]
    files.close()


@pytest.mark.parametrize("folder", ["/home/ash/models/", "C:\\\\\\\\models\\\\\\\\", "run1/"])
def test_a_path_of_another_machine(tmp_path: Path, folder: str) -> None:
    write_gpt2_simple(tmp_path, SMALL)
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{folder}model-1000"\n', encoding="utf-8")
    with open_checkpoint(tmp_path) as checkpoint:
        np.testing.assert_array_equal(checkpoint.tensor("wpe"), random_tensors(SMALL, 0)["wpe"])


def test_the_latest_of_several(tmp_path: Path) -> None:
    write_gpt2_simple(tmp_path, SMALL, seed=1)
    older = tmp_path / "older"
    write_gpt2_simple(older, SMALL, seed=2)
    for name in ("index", "data-00000-of-00001"):
        shutil.copy(older / f"model-1000.{name}", tmp_path / f"model-10.{name}")
    (tmp_path / "checkpoint").write_text(
        'model_checkpoint_path: "model-1000"\n'
        'all_model_checkpoint_paths: "model-10"\n'
        'all_model_checkpoint_paths: "model-1000"\n',
        encoding="utf-8",
    )
    assert_read_as_tensorflow_does(tmp_path, SMALL)


def test_other_number_types_are_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path, "model-7", tf.float64)
    with pytest.raises(CheckpointError, match=r"tensor model/wte is stored as .* 2; save it as one of F32"):
        open_checkpoint(tmp_path)


def test_partitioned_variables_are_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path, "model-7")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        half = tf.zeros([SMALL.n_vocab // 2, SMALL.n_embd])
        slices = [f"{SMALL.n_vocab} {SMALL.n_embd} {start},150:0,{SMALL.n_embd}" for start in (0, 150)]
        save_variables(session, tmp_path / "model-7", ["model/wte"] * 2, slices, [half, half])
    with pytest.raises(CheckpointError, match="tensor model/wte is partitioned"):
        open_checkpoint(tmp_path)
