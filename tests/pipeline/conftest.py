"""A data set small enough that training takes no time, made as people make theirs."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from server.cli import commands
from tests.checkpoints import EPISODES

ROOT = Path(__file__).parents[2]


def pokegen(*arguments: object) -> None:
    """A command, in this process and to its end."""
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def options(**values: object) -> list[str]:
    """`--save-every=3` for save_every=3."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]


@dataclass(frozen=True)
class Given:
    """A prepared data set, and the folder of a vocabulary."""

    dataset: Path
    vocabulary: Path


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    """The first 60 episodes, and 300 tokens."""
    folder = tmp_path_factory.mktemp("given")
    lines = (EPISODES / "kanto.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "episodes.jsonl").write_text("".join(lines[:60]), encoding="utf-8")
    pokegen("prepare", folder / "episodes.jsonl", "--out", folder / "data")
    pokegen("vocabulary", "--dataset", folder / "data", "--size", 300, "--out", folder / "vocabulary")
    return Given(folder / "data", folder / "vocabulary")
