"""What a directory of transformers is refused for: faults, and models that are no plain GPT-2."""

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from server.weights import CheckpointError, open_checkpoint
from tests.checkpoints import TINY, random_tensors, write_transformers

NOT_GPT2 = "only GPT-2's own architecture"


def refusal(directory: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(directory)
    message = str(caught.value)
    assert "\n" not in message
    return message


def rewrite(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("model_type", "gpt_neo", f"model_type is 'gpt_neo' and not 'gpt2'; {NOT_GPT2}"),
        ("activation_function", "relu", f"activation_function is 'relu' and not 'gelu_new'; {NOT_GPT2}"),
        ("layer_norm_epsilon", 1e-6, "layer_norm_epsilon is 1e-06 and not 1e-05"),
        ("scale_attn_weights", False, "scale_attn_weights is False and not True"),
        ("scale_attn_by_inverse_layer_idx", True, "scale_attn_by_inverse_layer_idx is True and not False"),
        ("add_cross_attention", True, "add_cross_attention is True and not False"),
        ("n_inner", 48, "n_inner is 48 and not 24, 4 times n_embd"),
        ("vocab_size", None, "n_vocab is missing, not a whole number"),
        (
            "n_positions",
            5,
            r"tensor transformer.wpe.weight has shape (4, 6) where config.json calls for (5, 6)",
        ),
        ("n_layer", 2, "tensor transformer.h.1.ln_1.weight, by config.json of shape (6,), is missing"),
        ("n_head", 5, "n_embd is 6, which n_head, 5, does not divide"),
    ],
)
def test_a_configuration_that_the_engine_cannot_serve(
    hugging_face: Path, field: str, value: object, expected: str
) -> None:
    rewrite(hugging_face / "config.json", lambda config: config.update({field: value}))
    assert expected in refusal(hugging_face)


def test_n_inner_may_be_spelled_out(hugging_face: Path) -> None:
    rewrite(hugging_face / "config.json", lambda config: config.update(n_inner=24))
    open_checkpoint(hugging_face).close()


def test_a_head_of_its_own(hugging_face: Path) -> None:
    path = hugging_face / "model.safetensors"
    tensors = load_file(path)
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"].copy()
    save_file(tensors, path)
    open_checkpoint(hugging_face).close()  # the same numbers, stored twice

    tensors["lm_head.weight"][-1, -1] = tensors["transformer.wte.weight"][-1, -1] = np.nan
    save_file(tensors, path)
    with (
        open_checkpoint(hugging_face) as checkpoint,
        pytest.raises(CheckpointError, match=r"tensor transformer\.wte\.weight holds NaN"),
    ):
        checkpoint.tensor("wte")  # the head does not differ from it

    tensors["lm_head.weight"][0, 0] += 1
    save_file(tensors, path)
    assert "tensor lm_head.weight differs from transformer.wte.weight; only GPT-2's own" in refusal(
        hugging_face
    )


def test_a_head_of_its_own_that_is_missing(hugging_face: Path) -> None:
    rewrite(hugging_face / "config.json", lambda config: config.update(tie_word_embeddings=False))
    assert "tie_word_embeddings is false and tensor lm_head.weight is missing" in refusal(hugging_face)


def test_numbers_of_another_type(hugging_face: Path) -> None:
    path = hugging_face / "model.safetensors"
    tensors = load_file(path)
    tensors["transformer.wpe.weight"] = tensors["transformer.wpe.weight"].astype(np.int8)
    save_file(tensors, path)
    assert "tensor transformer.wpe.weight is stored as I8; save it as one of F32, F16, BF16" in refusal(
        hugging_face
    )


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_missing_file(hugging_face: Path, name: str) -> None:
    (hugging_face / name).unlink()
    assert f"{name}: is missing; copy" in refusal(hugging_face)


def test_missing_weights(hugging_face: Path) -> None:
    (hugging_face / "model.safetensors").unlink()
    assert "run1: has neither model.safetensors nor" in refusal(hugging_face)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    write_transformers(tmp_path, TINY, seed=1, max_shard_size="2KB")
    return tmp_path


def test_several_files(sharded: Path) -> None:
    with open_checkpoint(sharded) as checkpoint:
        for name, expected in random_tensors(TINY, seed=1).items():
            np.testing.assert_array_equal(checkpoint.tensor(name), expected)


def test_one_of_several_files_is_missing(sharded: Path) -> None:
    shard = min(sharded.glob("model-*.safetensors"))
    shard.unlink()
    assert f"{shard.name}: is missing; copy the whole" in refusal(sharded)


@pytest.mark.parametrize("place", ["../model.safetensors", "/etc/passwd", 7])
def test_an_index_that_leads_elsewhere(sharded: Path, place: object) -> None:
    rewrite(
        sharded / "model.safetensors.index.json",
        lambda index: index.update(weight_map={"transformer.wte.weight": place}),
    )
    assert f"tensor 'transformer.wte.weight' is said to be in {place!r}" in refusal(sharded)


def test_an_index_of_what_is_not_there(sharded: Path) -> None:
    shard = min(sharded.glob("model-*.safetensors")).name
    rewrite(
        sharded / "model.safetensors.index.json",
        lambda index: index.update(weight_map={"transformer.x": shard}),
    )
    assert f"{shard}: tensor transformer.x is missing" in refusal(sharded)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\ud800", r"\ud800"),
        ("\u202e", r"\u202e"),
        ("a\n\u2028b", "a b"),
        ("é", "é"),
        ("x" * 500, "x" * 80),
    ],
)
def test_a_message_is_one_line_for_any_terminal_whatever_the_files_say(
    sharded: Path, name: str, shown: str
) -> None:
    shard = min(sharded.glob("model-*.safetensors")).name
    rewrite(sharded / "model.safetensors.index.json", lambda index: index.update(weight_map={name: shard}))
    message = refusal(sharded)
    assert f"tensor {shown} is missing" in message
    assert message.isprintable()


def header(**tensors: object) -> bytes:
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


def entry(begin: object, end: object, shape: object = (1,), dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "has 0 bytes where 8 are needed"),
        (b"version https://git-lfs.github.com/spec/v1", "announces a header of .* bytes in a file of 42"),
        (struct.pack("<Q", 2**63), "announces a header of 9223372036854775808 bytes in a file of 8"),
        (struct.pack("<Q", 2) + b"[]", "the file is .* and not a JSON object"),
        (struct.pack("<Q", 2) + b"\xff\xff", "has a header that is not UTF-8"),
        (header(x=1), "the header's entry 'x' is 1 and not a JSON object"),
        (header(x={}), "tensor 'x' has no dtype, shape and data_offsets"),
        (header(x=entry(0, True)), "tensor 'x' has no dtype, shape and data_offsets"),
        (header(x=entry(0, 4, [-1])), "tensor 'x' has no dtype, shape and data_offsets"),
        (header(x=entry(0, 4, [1] * 9)), "tensor 'x' has no dtype, shape and data_offsets"),
        (header(x=entry(4, 0)), "tensor 'x' ends before it begins"),
        (header(x=entry(0, 4)), "has 69 bytes where its header calls for 73"),
        (header(x=entry(0, 2**60)), "bytes where its header calls for 11529215046068"),
        (header(x=entry(0, 4), y=entry(2, 6)) + bytes(6), "has no tensor, or two, at byte"),
        (header(x=entry(0, 4), y=entry(5, 9)) + bytes(9), "has no tensor, or two, at byte"),
        (
            header(**{"wte.weight": entry(0, 4, [280, 6])}) + bytes(4),
            "has 4 bytes where F32 of shape .* has 6720",
        ),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_a_malformed_safetensors_file(hugging_face: Path, content: bytes, expected: str) -> None:
    (hugging_face / "model.safetensors").write_bytes(content)
    assert re.search(expected, refusal(hugging_face))
