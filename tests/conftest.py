"""What tests of several rooms share."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from loadtest.chromium import chromium
from server.weights import Checkpoint, HParams, open_checkpoint
from tests.checkpoints import write_transformers
from tests.service.stack import Stack

TINY = HParams(n_vocab=512, n_ctx=256, n_embd=64, n_head=4, n_layer=2)
SLOW = HParams(n_vocab=1000, n_ctx=1024, n_embd=256, n_head=4, n_layer=6)

# A shell that runs the tests in the background makes them deaf to Ctrl-C, and with them whatever they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkpoint]:
    """A GPT-2 small enough that a test takes no time; its texts mean nothing."""
    directory = tmp_path_factory.mktemp("checkpoint") / "tiny"
    write_transformers(directory, TINY, add_bos=True)
    with open_checkpoint(directory) as checkpoint:
        yield checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that keeps the NumPy engine busy for seconds; random weights."""
    directory = tmp_path_factory.mktemp("checkpoint") / "slow"
    write_transformers(directory, SLOW)
    return directory


@pytest.fixture(scope="session")
def environment(checkpoint: Path) -> dict[str, str]:
    """Of services that tests start; some rooms have their own."""
    return {
        "POKEGEN_CHECKPOINT": str(checkpoint),
        "POKEGEN_ENGINE": "numpy",
        # It is slow: what the service does about that is the matter of tests/service/test_crowds.py.
        "POKEGEN_PACE": "0",
        "POKEGEN_MAX_WAIT": "60",
        "POKEGEN_KEEP": "0",  # where texts are compared, all of them are written
    }


@pytest.fixture
def new_stack(environment: dict[str, str], tmp_path: Path) -> Callable[..., Stack]:
    """Makes services of a test's own, with other variables than `environment`; the test starts and stops them."""

    def make(**variables: str) -> Stack:
        return Stack(tmp_path / "log", environment | variables)

    return make


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real Chromium: one for all, as Playwright can be started only once in a thread."""
    with chromium() as browser:
        yield browser
