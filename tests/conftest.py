"""What tests of several rooms share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.weights import Checkpoint, open_checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Iterator[Checkpoint]:
    with open_checkpoint(Path("/tmp/b/tiny")) as checkpoint:
        yield checkpoint
