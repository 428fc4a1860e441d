"""The live service over a checkpoint that keeps the NumPy engine busy for seconds."""

from collections.abc import Callable, Iterator

import pytest

from tests.service.stack import Stack, running


@pytest.fixture(scope="session")
def stack(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One running service for all the tests that leave it as it was."""
    with running(Stack(tmp_path_factory.mktemp("stack") / "log", environment)) as stack:
        yield stack


@pytest.fixture
def own_stack(new_stack: Callable[..., Stack]) -> Iterator[Stack]:
    """A running service that the test may break."""
    with running(new_stack()) as stack:
        yield stack
