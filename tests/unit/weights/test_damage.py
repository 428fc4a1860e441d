"""A file cut anywhere, or with any byte changed: a CheckpointError, or the same data; never another exception."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.weights import CheckpointError, open_checkpoint
from server.weights.layout import tensor_shapes

GPT2_SIMPLE_FILES = [
    "checkpoint",
    "model-1000.index",
    "model-1000.data-00000-of-00001",
    "hparams.json",
    "encoder.json",
    "vocab.bpe",
]
HUGGING_FACE_FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]

POSITION = st.floats(0, 1, exclude_max=True)  # a share of the file's length


@contextmanager
def changed(path: Path, content: bytes) -> Iterator[None]:
    original = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(original)


def contents(directory: Path) -> object:
    """All that a caller can learn from the checkpoint; None when it is refused."""
    try:
        with open_checkpoint(directory) as checkpoint:
            tensors = [checkpoint.tensor(name).tobytes() for name in tensor_shapes(checkpoint.hparams)]
            ids = checkpoint.tokenizer.encode_prompt("Ash and Pikachu were walking.")
            return checkpoint.hparams, tensors, list(checkpoint.tokenizer.token_bytes), ids
    except CheckpointError:
        return None


@pytest.fixture(scope="module", params=[*GPT2_SIMPLE_FILES, *HUGGING_FACE_FILES])
def file(request: pytest.FixtureRequest, gpt2_simple_original: Path, hugging_face_original: Path) -> Path:
    name: str = request.param
    return (gpt2_simple_original if name in GPT2_SIMPLE_FILES else hugging_face_original) / name


@pytest.fixture(scope="module")
def sound(file: Path) -> object:
    return contents(file.parent)


@settings(max_examples=60, deadline=None)
@given(position=POSITION)
def test_a_cut(file: Path, sound: object, position: float) -> None:
    content = file.read_bytes()
    with changed(file, content[: int(position * len(content))]):
        assert contents(file.parent) in (None, sound)


@settings(max_examples=100, deadline=None)
@given(position=POSITION, difference=st.integers(1, 255))
def test_a_changed_byte(file: Path, sound: object, position: float, difference: int) -> None:
    content = bytearray(file.read_bytes())
    # TensorFlow's files have checksums. A safetensors file has none, but its header must describe all of the file.
    verified = file.name.startswith("model")
    end = 8 + int.from_bytes(content[:8], "little") if file.suffix == ".safetensors" else len(content)
    content[int(position * end)] ^= difference
    with changed(file, bytes(content)):
        found = contents(file.parent)  # raises nothing
    assert not verified or found in (None, sound)


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=200))
def test_other_content(file: Path, content: bytes) -> None:
    with changed(file, content):
        assert contents(file.parent) is None or file.name == "tokenizer_config.json"
