"""What tests of several rooms share."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from loadtest.chromium import chromium
from server.weights import Checkpoint, HParams, open_checkpoint
from tests.checkpoints import write_transformers

TINY = HParams(n_vocab=512, n_ctx=256, n_embd=64, n_head=4, n_layer=2)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkpoint]:
    """A GPT-2 small enough that a test takes no time; its texts mean nothing."""
    directory = tmp_path_factory.mktemp("checkpoint") / "tiny"
    write_transformers(directory, TINY, add_bos=True)
    with open_checkpoint(directory) as checkpoint:
        yield checkpoint


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real Chromium: one for all, as Playwright can be started only once in a thread."""
    with chromium() as browser:
        yield browser
