"""The checkpoint's files change while the service runs: it goes on with what it has loaded until it is told."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.checkpoints import write_transformers
from tests.conftest import SLOW
from tests.faults.conftest import CollectedStack, Record
from tests.faults.readers import MEDIUM, Newcomers, ask, in_flight
from tests.service.stack import is_alive, wait_until


@pytest.fixture(scope="session")
def another_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("faults") / "another"
    write_transformers(directory, SLOW, seed=1)
    return directory


def overwrite(directory: Path, source: Path) -> None:
    """In place: the files stay the same files, as with cp."""
    for file in source.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())


def test_the_checkpoint_is_replaced(
    service: CollectedStack,
    own_checkpoint: Path,
    checkpoint: Path,
    another_checkpoint: Path,
    record: Record,
    text: str,
) -> None:
    written = ask(service.url, MEDIUM).text
    with in_flight(service.url, service.http) as (whole, stream), Newcomers(service.url) as newcomers:
        os.truncate(own_checkpoint / "model.safetensors", 1000)
        newcomers.until_served()
        shutil.rmtree(own_checkpoint)
        newcomers.until_served()
    assert whole.result().text == stream.result().text == text
    assert all(answer.whole for answer in newcomers.later)
    record("the checkpoint's files are cut off, then deleted", f"{whole.result()}", newcomers)

    assert service.reload().returncode == 1  # and the service goes on
    assert ask(service.url, MEDIUM).text == written

    with Newcomers(service.url) as newcomers:
        [worker], master = service.workers("uwsgi"), service.pid("uwsgi")
        os.kill(worker, signal.SIGKILL)  # who comes next finds no checkpoint
        wait_until(lambda: not is_alive(master), within=20, what="uWSGI to give up")
        shutil.copytree(another_checkpoint, own_checkpoint)
        newcomers.until_served(within=60)
    assert {answer.retry_after for answer in newcomers.later if answer.status == 502} == {5}
    assert all(answer.whole or answer.status == 502 for answer in newcomers.later)
    record("the worker is killed while there is no checkpoint; then there is one", "-", newcomers)

    another_text = ask(service.url, MEDIUM).text
    assert another_text != written
    overwrite(own_checkpoint, checkpoint)
    assert ask(service.url, MEDIUM).text == another_text
    with in_flight(service.url, service.http) as (whole, stream), Newcomers(service.url) as newcomers:
        workers = service.workers("uwsgi")
        assert service.reload().returncode == 0
        newcomers.until_served()
        assert service.workers("uwsgi") == workers, "it is the same process, and there is no pause"
    assert whole.result().whole
    assert stream.result().whole
    assert all(answer.whole for answer in newcomers.later)
    assert ask(service.url, MEDIUM).text == written
    record(
        "the checkpoint is replaced by another, then `make reload`",
        f"{whole.result()}; streamed: {stream.result()}",
        newcomers,
    )
