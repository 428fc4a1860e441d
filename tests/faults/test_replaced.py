"""The checkpoint's files change while the service runs: it goes on with what it has loaded until it is told."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from server.weights import HParams
from tests.checkpoints import write_transformers
from tests.faults.conftest import Record
from tests.faults.readers import LONG, Newcomers, ask, in_flight
from tests.service.stack import Stack, running, wait_until


@pytest.fixture(scope="session")
def another_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("faults") / "another"
    sizes = HParams(n_vocab=1000, n_ctx=1024, n_embd=256, n_head=4, n_layer=6)
    write_transformers(directory, sizes, seed=1)
    return directory


def overwrite(directory: Path, source: Path) -> None:
    """In place: the files stay the same files, as with cp."""
    for file in source.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())


def test_the_checkpoint_is_replaced(
    new_stack: Callable[..., Stack],
    record: Record,
    checkpoint: Path,
    another_checkpoint: Path,
    tmp_path: Path,
) -> None:
    directory = tmp_path / "replaced"
    shutil.copytree(checkpoint, directory)
    weights = directory / "model.safetensors"
    with running(new_stack(POKEGEN_CHECKPOINT=str(directory))) as stack:
        text = ask(stack.url, LONG).text
        with in_flight(stack.url, stack.http) as (whole, stream), Newcomers(stack.url) as newcomers:
            os.truncate(weights, 1000)
            newcomers.until_served()
            shutil.rmtree(directory)
            newcomers.until_served()
        assert whole.result().text == stream.result().text == text
        assert all(answer.whole for answer in newcomers.later)
        record("the checkpoint's files are cut off, then deleted", f"{whole.result()}", newcomers)

        assert stack.reload().returncode == 1  # and the service goes on
        assert ask(stack.url, LONG).text == text

        with Newcomers(stack.url) as newcomers:
            [worker] = stack.workers("uwsgi")
            os.kill(worker, signal.SIGKILL)  # who comes next finds no checkpoint
            wait_until(lambda: "ended by itself" in stack.log.read_text(), within=20, what="uWSGI to give up")
            shutil.copytree(another_checkpoint, directory)
            newcomers.until_served(within=60)
        assert {answer.retry_after for answer in newcomers.later if answer.status == 502} == {5}
        assert all(answer.whole or answer.status == 502 for answer in newcomers.later)
        record("the worker is killed while there is no checkpoint; then there is one", "-", newcomers)

        another_text = ask(stack.url, LONG).text
        assert another_text != text
        overwrite(directory, checkpoint)
        assert ask(stack.url, LONG).text == another_text
        with Newcomers(stack.url) as newcomers:
            before = stack.workers("uwsgi")
            assert stack.reload().returncode == 0
            wait_until(lambda: stack.workers("uwsgi") not in (before, []), within=20, what="the next worker")
            newcomers.until_served()
        assert all(answer.whole for answer in newcomers.later)
        assert ask(stack.url, LONG).text == text
        record("the checkpoint is replaced by another, then `make reload`", "the whole text", newcomers)
