"""One small checkpoint of each format, and copies of them to spoil."""

import shutil
from pathlib import Path

import pytest

from tests.checkpoints import TINY, write_gpt2_simple, write_transformers


@pytest.fixture(scope="session")
def gpt2_simple_original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("gpt2_simple") / "run1"
    write_gpt2_simple(directory, TINY, seed=1)
    return directory


@pytest.fixture(scope="session")
def hugging_face_original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("transformers") / "run1"
    write_transformers(directory, TINY, seed=1)
    return directory


@pytest.fixture
def gpt2_simple(tmp_path: Path, gpt2_simple_original: Path) -> Path:
    """A checkpoint as gpt-2-simple saves it, the test's own."""
    return Path(shutil.copytree(gpt2_simple_original, tmp_path / "gpt2_simple" / "run1"))


@pytest.fixture
def hugging_face(tmp_path: Path, hugging_face_original: Path) -> Path:
    """A checkpoint as transformers saves it, the test's own."""
    return Path(shutil.copytree(hugging_face_original, tmp_path / "transformers" / "run1"))
