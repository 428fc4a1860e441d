"""Opening a checkpoint, and what each kind of fault is answered with."""

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from server.weights import CheckpointError, open_checkpoint, stored
from server.weights.files import DataFiles
from server.weights.stored import StoredTensor, masked_crc32c
from tests.checkpoints import TINY, random_tensors

DATA = "model-1000.data-00000-of-00001"


def refusal(directory: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(directory)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", ["gpt2_simple", "hugging_face"])
def test_it_gives_every_tensor(kind: str, request: pytest.FixtureRequest) -> None:
    directory: Path = request.getfixturevalue(kind)
    with open_checkpoint(directory) as checkpoint:
        assert checkpoint.name == "run1"
        assert checkpoint.directory == directory
        assert checkpoint.hparams == TINY
        assert checkpoint.tokenizer.n_vocab == TINY.n_vocab
        for name, expected in random_tensors(TINY, seed=1).items():
            np.testing.assert_array_equal(checkpoint.tensor(name), expected)


@pytest.mark.parametrize("kind", ["gpt2_simple", "hugging_face"])
def test_rows_make_up_the_tensor(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "PIECE", 100)  # four rows of six channels, and less than one row of c_attn
    with open_checkpoint(request.getfixturevalue(kind)) as checkpoint:
        for name, expected in random_tensors(TINY, seed=1).items():
            slices = list(checkpoint.rows(name))
            assert all(rows.dtype == np.float32 and rows.shape[1:] == expected.shape[1:] for rows in slices)
            np.testing.assert_array_equal(np.concatenate(slices), expected)
        assert len(list(checkpoint.rows("wte"))) == TINY.n_vocab / 4
        assert len(list(checkpoint.rows("h0/mlp/c_fc/w"))) == TINY.n_embd


def test_rows_are_float32_whatever_is_stored(hugging_face: Path) -> None:
    path = hugging_face / "model.safetensors"
    tensors = {name: tensor.astype(np.float16) for name, tensor in load_file(path).items()}
    save_file(tensors, path)
    with open_checkpoint(hugging_face) as checkpoint:
        [rows] = checkpoint.rows("wpe")
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, tensors["transformer.wpe.weight"])


def test_rows_are_checked_as_well(gpt2_simple: Path) -> None:
    """Behind the last of them, as the checksum is that of all."""
    data = gpt2_simple / DATA
    data.write_bytes(bytes(data.stat().st_size))
    with open_checkpoint(gpt2_simple) as checkpoint:
        rows = checkpoint.rows("wpe")
        assert not next(rows).any()
        with pytest.raises(CheckpointError, match=f"{DATA}: tensor model/wpe has a checksum other than"):
            next(rows)


def test_a_copy_has_the_same_identity_and_another_stamp(gpt2_simple: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(gpt2_simple, tmp_path / "copy"))
    with open_checkpoint(gpt2_simple) as one, open_checkpoint(copy) as other, open_checkpoint(copy) as again:
        assert one.digest() == other.digest()
        assert one.identity() == other.identity()
        assert one.stamp() != other.stamp() == again.stamp()


def test_the_same_content_has_the_same_identity_in_every_format(
    gpt2_simple: Path, hugging_face: Path
) -> None:
    with open_checkpoint(gpt2_simple) as one, open_checkpoint(hugging_face) as other:
        assert one.identity() == other.identity()


def test_how_a_file_is_laid_out_changes_nothing(hugging_face: Path) -> None:
    with open_checkpoint(hugging_face) as before:
        for name in ("config.json", "tokenizer.json"):
            content = json.loads((hugging_face / name).read_text(encoding="utf-8"))
            (hugging_face / name).write_text(json.dumps(content, indent=7), encoding="utf-8")
        with open_checkpoint(hugging_face) as after:
            assert (before.stamp(), before.identity()) == (after.stamp(), after.identity())


def swap_two_merges(content: dict[str, Any]) -> None:
    merges = content["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]


def swap_two_bytes(content: dict[str, Any]) -> None:
    ids = content["model"]["vocab"]
    ids["A"], ids["B"] = ids["B"], ids["A"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", lambda content: content.update(n_head=3)),
        ("tokenizer.json", swap_two_merges),
        ("tokenizer.json", swap_two_bytes),
        ("tokenizer_config.json", lambda content: content.update(add_bos_token=True)),
    ],
)
def test_what_texts_depend_on_beside_the_weights_is_of_the_identity(
    hugging_face: Path, name: str, change: Callable[[dict[str, Any]], object]
) -> None:
    with open_checkpoint(hugging_face) as before:
        rewrite(name, change)(hugging_face)
        with open_checkpoint(hugging_face) as after:
            assert before.digest() == after.digest()
            assert before.identity() != after.identity()
            assert before.stamp() != after.stamp()


def test_a_file_that_was_written_to_has_another_stamp_whatever_its_times_are_set_to(
    gpt2_simple: Path,
) -> None:
    data = gpt2_simple / DATA
    with open_checkpoint(gpt2_simple) as before:
        times = data.stat()
        time.sleep(0.02)  # a system's clock for files may tick a hundred times a second only
        data.write_bytes(bytes(times.st_size))
        os.utime(data, ns=(times.st_atime_ns, times.st_mtime_ns))
        with open_checkpoint(gpt2_simple) as after:
            assert before.stamp() != after.stamp()


def test_one_other_weight_is_another_digest(hugging_face: Path) -> None:
    path = hugging_face / "model.safetensors"
    with open_checkpoint(hugging_face) as before:
        tensors = load_file(path)
        tensors["transformer.h.0.ln_2.bias"][3] += 1e-6
        save_file(tensors, path)
        with open_checkpoint(hugging_face) as after:
            assert before.digest() != after.digest()
            assert before.identity() != after.identity()


def test_an_array_is_the_callers_own(gpt2_simple: Path) -> None:
    with open_checkpoint(gpt2_simple) as checkpoint:
        first = checkpoint.tensor("h0/attn/c_attn/w")
        assert first.flags.c_contiguous
        assert first.flags.writeable
        first[:] = 0
        assert checkpoint.tensor("h0/attn/c_attn/w").any()


def test_a_name_that_gpt2_does_not_have(gpt2_simple: Path) -> None:
    with open_checkpoint(gpt2_simple) as checkpoint, pytest.raises(KeyError, match="h1/ln_1/g"):
        checkpoint.tensor("h1/ln_1/g")


def test_safetensors_are_preferred(gpt2_simple: Path, hugging_face: Path) -> None:
    both = Path(shutil.copytree(gpt2_simple, hugging_face, dirs_exist_ok=True))
    (both / DATA).unlink()
    with open_checkpoint(both) as checkpoint:
        assert checkpoint.tensor("wpe").shape == (TINY.n_ctx, TINY.n_embd)


def test_what_is_open_outlives_its_name(gpt2_simple: Path) -> None:
    """A training that saves its next step deletes the last one, and may do so while the service starts."""
    with open_checkpoint(gpt2_simple) as checkpoint:
        (gpt2_simple / DATA).unlink()
        np.testing.assert_array_equal(checkpoint.tensor("wte"), random_tensors(TINY, seed=1)["wte"])


def test_after_close_the_sizes_and_the_tokenizer_stay(gpt2_simple: Path) -> None:
    with open_checkpoint(gpt2_simple) as checkpoint:
        pass
    assert checkpoint.hparams == TINY
    assert checkpoint.tokenizer.decode(checkpoint.tokenizer.encode("Ash")) == "Ash"
    with pytest.raises(ValueError, match="closed file"):
        checkpoint.tensor("wte")


def open_files(directory: Path) -> int:
    """How many of this directory: others are opened and closed by other threads and the garbage collector."""
    found = 0
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += file.readlink().is_relative_to(directory)
    return found


@pytest.mark.parametrize("kind", ["gpt2_simple", "hugging_face"])
def test_no_file_stays_open(kind: str, request: pytest.FixtureRequest) -> None:
    directory: Path = request.getfixturevalue(kind)
    assert open_files(directory) == 0
    with open_checkpoint(directory):
        assert open_files(directory) == 1
    for tokenizer in ("vocab.bpe", "tokenizer.json"):
        (directory / tokenizer).unlink(missing_ok=True)
    refusal(directory)  # the weights were opened by then
    assert open_files(directory) == 0


def test_damage_is_found_where_it_is(gpt2_simple: Path) -> None:
    """Opening reads no weights: a damaged tensor is refused when it is asked for, and the others are sound."""
    data = gpt2_simple / DATA
    with open_checkpoint(gpt2_simple) as checkpoint:
        wte = checkpoint.tensor("wte").tobytes()
    content = data.read_bytes()
    data.write_bytes(content.replace(wte, bytes(len(wte))))
    with open_checkpoint(gpt2_simple) as checkpoint:
        checkpoint.tensor("wpe")
        with pytest.raises(CheckpointError, match=f"{DATA}: tensor model/wte has a checksum other than"):
            checkpoint.tensor("wte")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_numbers_that_are_none(hugging_face: Path, value: float, dtype: type[np.floating]) -> None:
    """A training that has diverged: the tensor is named when it is asked for, and the others are sound."""
    path = hugging_face / "model.safetensors"
    tensors = {name: tensor.astype(dtype) for name, tensor in load_file(path).items()}
    tensors["transformer.h.0.mlp.c_fc.weight"][-1, -1] = value
    save_file(tensors, path)
    with open_checkpoint(hugging_face) as checkpoint:
        checkpoint.tensor("h0/mlp/c_proj/w")
        with pytest.raises(
            CheckpointError,
            match=r"model\.safetensors: tensor transformer\.h\.0\.mlp\.c_fc\.weight holds NaN or infinite values; its",
        ):
            checkpoint.tensor("h0/mlp/c_fc/w")


@pytest.mark.parametrize("checksum_is_right", [True, False])
def test_a_checksum_comes_before_the_numbers(tmp_path: Path, checksum_is_right: bool) -> None:
    """What was damaged on the way was sound where it came from, so it is to be copied again."""
    raw = np.array([1, np.nan], np.float32).tobytes()
    (tmp_path / "data").write_bytes(raw)
    files = DataFiles()
    checksum = masked_crc32c(google_crc32c.value(raw)) + (not checksum_is_right)
    stored = StoredTensor("model/wte", files.open(tmp_path / "data"), 0, len(raw), "F32", (2,), checksum)
    expected = "holds NaN or infinite" if checksum_is_right else "has a checksum other than"
    with pytest.raises(CheckpointError, match=f"data: tensor model/wte {expected}"):
        stored.read()
    files.close()


def test_a_file_that_shrinks_while_it_is_open(hugging_face: Path) -> None:
    with open_checkpoint(hugging_face) as checkpoint:
        os.truncate(hugging_face / "model.safetensors", 100)
        with pytest.raises(CheckpointError, match=r"model\.safetensors: has 100 bytes where"):
            checkpoint.tensor("wte")


def rewrite(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Change the JSON object in the file called `name`."""

    def spoil(directory: Path) -> None:
        content = json.loads((directory / name).read_text(encoding="utf-8"))
        change(content)
        (directory / name).write_text(json.dumps(content), encoding="utf-8")

    return spoil


def remove(name: str) -> Callable[[Path], object]:
    return lambda directory: (directory / name).unlink()


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda directory: (directory / name).write_bytes(content)


def make_a_pipe(directory: Path) -> None:
    (directory / "encoder.json").unlink()
    os.mkfifo(directory / "encoder.json")


GPT2_SIMPLE_FAULTS = {
    "no hparams": (remove("hparams.json"), "hparams.json: is missing; copy the whole"),
    "no index": (remove("model-1000.index"), "model-1000.index: is missing; copy the whole"),
    "no data": (remove(DATA), f"{DATA}: is missing; copy the whole"),
    "no encoder": (remove("encoder.json"), "encoder.json: is missing; copy the whole"),
    "no merges": (remove("vocab.bpe"), "vocab.bpe: is missing; copy the whole"),
    "no checkpoint": (remove("checkpoint"), "run1: has neither model.safetensors nor gpt-2-simple's file"),
    "unnamed": (write("checkpoint", b""), "checkpoint: has no line model_checkpoint_path"),
    "named wrongly": (write("checkpoint", b'model_checkpoint_path: ".."'), "checkpoint: has no line"),
    "not named so": (
        write("checkpoint", b'model_checkpoint_path: "model-9"'),
        "model-9.index: is missing; copy the whole",
    ),
    "name too long": (
        write("checkpoint", b'model_checkpoint_path: "' + b"m" * 300 + b'"'),
        "can't be opened: File name too long",
    ),
    "name beyond all measure": (
        write("checkpoint", b'model_checkpoint_path: "' + b"m" * 100_000 + b'"'),
        r"run1/m{100,900} \.\.\. m{100,900}\.index: can't be opened: File name too long; name a directory",
    ),
    "named behind nothing but lines": (
        write("checkpoint", b"\n" * (1 << 20)),
        "checkpoint: has no line model_checkpoint_path",
    ),
    "a pipe": (make_a_pipe, "encoder.json: is not a regular file"),
    "no JSON": (write("hparams.json", b"{"), "hparams.json: is not JSON: Expecting property name"),
    "no object": (write("hparams.json", b"[]"), r"hparams.json: the file is \[\] and not a JSON object"),
    "no UTF-8": (write("hparams.json", b'{"\xff'), "hparams.json: is not UTF-8 at byte 2"),
    "deep JSON": (write("hparams.json", b"[" * 100_000), "hparams.json: is not JSON: maximum recursion"),
    "vast JSON": (write("hparams.json", b" " * (16 << 20) + b"{}"), "has 16777218 bytes, over the limit of"),
    "a size is missing": (
        rewrite("hparams.json", lambda sizes: sizes.pop("n_ctx")),
        "n_ctx is missing, not a",
    ),
    "a size is a text": (
        rewrite("hparams.json", lambda sizes: sizes.update(n_embd="6")),
        "n_embd is '6', not a whole number from 1 to 32768",
    ),
    "a size is true": (
        rewrite("hparams.json", lambda sizes: sizes.update(n_head=True)),
        "n_head is True, not",
    ),
    "a size is 0": (rewrite("hparams.json", lambda sizes: sizes.update(n_layer=0)), "n_layer is 0, not a"),
    "a size is absurd": (
        rewrite("hparams.json", lambda sizes: sizes.update(n_vocab=10**12)),
        "n_vocab is 1000000000000, not a whole number from 1 to 1048576",
    ),
    "heads do not divide": (
        rewrite("hparams.json", lambda sizes: sizes.update(n_head=4)),
        "hparams.json: n_embd is 6, which n_head, 4, does not divide",
    ),
    "other weights": (
        rewrite("hparams.json", lambda sizes: sizes.update(n_vocab=281)),
        r"model-1000.index: tensor model/wte has shape \(280, 6\) where hparams.json calls for \(281, 6\)",
    ),
    "more layers": (
        rewrite("hparams.json", lambda sizes: sizes.update(n_layer=2)),
        r"tensor model/h1/ln_1/g, by hparams.json of shape \(6,\), is missing; take hparams.json",
    ),
    "fewer data": (
        lambda directory: os.truncate(directory / DATA, 5000),
        rf"{DATA}: tensor model/wte ends at byte \d+ of a file of 5000; the file is damaged",
    ),
}


@pytest.mark.parametrize("fault", GPT2_SIMPLE_FAULTS)
def test_a_fault_in_a_directory_of_gpt2_simple(gpt2_simple: Path, fault: str) -> None:
    spoil, expected = GPT2_SIMPLE_FAULTS[fault]
    spoil(gpt2_simple)
    assert re.search(expected, refusal(gpt2_simple))


def test_no_such_directory(tmp_path: Path) -> None:
    assert f"{tmp_path / 'run2'}: can't be opened: No such file" in refusal(tmp_path / "run2")


def test_a_file_instead_of_a_directory(gpt2_simple: Path) -> None:
    assert "checkpoint: can't be opened: Not a directory; name a directory" in refusal(
        gpt2_simple / "checkpoint"
    )
