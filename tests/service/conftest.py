"""A checkpoint that keeps the NumPy engine busy for seconds, and the live service over it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.weights import HParams
from tests.checkpoints import write_transformers
from tests.service.stack import Stack, running


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, n_ctx 1024."""
    directory = tmp_path_factory.mktemp("checkpoint")
    write_transformers(directory, HParams(n_vocab=1000, n_ctx=1024, n_embd=256, n_head=4, n_layer=6))
    return directory


@pytest.fixture(scope="session")
def environment(checkpoint: Path) -> dict[str, str]:
    return {
        "POKEGEN_CHECKPOINT": str(checkpoint),
        "POKEGEN_ENGINE": "numpy",
        # It is slow: what the service does about that is test_crowds' matter.
        "POKEGEN_PACE": "0",
        "POKEGEN_MAX_WAIT": "60",
    }


@pytest.fixture(scope="session")
def stack(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One running service for all the tests that leave it as it was."""
    with running(Stack(tmp_path_factory.mktemp("stack") / "log", environment)) as stack:
        yield stack


@pytest.fixture
def new_stack(environment: dict[str, str], tmp_path: Path) -> Callable[..., Stack]:
    """Makes services of a test's own, with other variables; the test starts and stops them."""

    def make(**variables: str) -> Stack:
        return Stack(tmp_path / "log", environment | variables)

    return make


@pytest.fixture
def own_stack(new_stack: Callable[..., Stack]) -> Iterator[Stack]:
    """A running service that the test may break."""
    with running(new_stack()) as stack:
        yield stack
