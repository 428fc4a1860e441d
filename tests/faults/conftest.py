"""One service that all faults happen to, one after the other, and the table of what was seen."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.footprint import Footprint, footprint
from tests.faults.readers import LONG, MEDIUM, SHORT, Newcomers, ask
from tests.faults.table import Row, write_table
from tests.service.stack import Stack, at_rest, running, wait_until

OPTION = "--faults-table"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, type=Path, metavar="PAGE", help="write the table of faults into this page")


@pytest.fixture(scope="session")
def rows(request: pytest.FixtureRequest) -> Iterator[list[Row]]:
    """The rows of the table, which is written at the end if it was asked for and no test failed."""
    rows: list[Row] = []
    yield rows
    page = request.config.getoption(OPTION, None)
    if page and not request.session.testsfailed:
        write_table(page, rows)


Record = Callable[..., None]


class CollectedStack(Stack):
    """A service whose log goes through a pipe to a collector, as with `make run 2>&1 | collector`."""

    collector: subprocess.Popen[bytes]

    def launch(self) -> None:
        with self.log.open("wb") as log:
            self.collector = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log)
        assert self.collector.stdin
        self.process = subprocess.Popen(
            self.command,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=self.collector.stdin,
            text=True,
        )
        self.collector.stdin.close()


@pytest.fixture
def record(request: pytest.FixtureRequest, rows: list[Row]) -> Record:
    """Puts a row into the table of docs/faults.md."""

    def write(fault: str, in_flight: str, newcomers: Newcomers | str, seconds: float | None = None) -> None:
        if isinstance(newcomers, Newcomers):
            saw, seconds = newcomers.saw, newcomers.away
        else:
            saw = newcomers
        test = f"{request.path.name}::{request.function.__name__}"
        rows.append(Row(fault, in_flight, saw, seconds, test))

    return write


@pytest.fixture(scope="session")
def environment(checkpoint: Path) -> dict[str, str]:
    # However slow the machine is: nobody is told that it is too busy.
    return {
        "POKEGEN_CHECKPOINT": str(checkpoint),
        "POKEGEN_ENGINE": "numpy",
        "POKEGEN_MAX_WAIT": "60",
        "POKEGEN_KEEP": "0",
    }


class Clock:
    """The time of day as processes see it that have this environment."""

    def __init__(self, directory: Path) -> None:
        library, self._offset = directory / "clock.so", directory / "offset"
        source = Path(__file__).with_name("clock.cpp")
        subprocess.run(
            ["g++", "-shared", "-fPIC", "-Wall", "-Wextra", source, "-o", library, "-ldl"], check=True
        )
        self._offset.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(self._offset)}

    def jump(self, seconds: int) -> None:
        """To so many seconds from the true time, for all of them at once."""
        with self._offset.open("r+b") as offset:
            offset.write(seconds.to_bytes(8, sys.byteorder, signed=True))


@pytest.fixture(scope="session")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    """The clock of the service that lives through all of it."""
    return Clock(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="session")
def own_checkpoint(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That service's copy, which others do not read."""
    return shutil.copytree(checkpoint, tmp_path_factory.mktemp("faults") / "checkpoint")


@pytest.fixture(scope="session")
def engine_killer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipe into which to write so that the thread of the service's engine is killed."""
    pipe = tmp_path_factory.mktemp("faults") / "pipe"
    os.mkfifo(pipe)
    return pipe


@pytest.fixture(scope="session")
def everlasting(
    environment: dict[str, str],
    own_checkpoint: Path,
    engine_killer: Path,
    clock: Clock,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[CollectedStack]:
    """The service that has to live through all of it."""
    variables = {
        "POKEGEN_CHECKPOINT": str(own_checkpoint),
        "UWSGI_IMPORT": "tests.faults.kill_engine",
        "POKEGEN_TEST_PIPE": str(engine_killer),
        **clock.environment,
    }
    stack = CollectedStack(tmp_path_factory.mktemp("faults") / "log", environment | variables)
    with running(stack):
        yield stack
    assert stack.collector.wait(timeout=10) == 0


@pytest.fixture(scope="session")
def text(everlasting: Stack) -> str:
    """What LONG is answered by a service to which nothing has happened."""
    answer = ask(everlasting.url, LONG)
    assert answer.whole
    return answer.text


@pytest.fixture
def service(everlasting: CollectedStack) -> Iterator[CollectedStack]:
    """The service, which must be after the test what it was before: same text, nothing leaked."""
    before, written = settled(everlasting), ask(everlasting.url, MEDIUM).text
    yield everlasting
    assert ask(everlasting.url, MEDIUM).text == written
    wait_until(lambda: at_rest(everlasting.http), within=30, what="every place to be free")
    with contextlib.suppress(AssertionError):
        wait_until(
            lambda: settled(everlasting) == before, within=30, what="its processes to hold what they held"
        )
    assert settled(everlasting) == before
    assert everlasting.process.poll() is None


def settled(stack: Stack) -> Footprint:
    """What the service holds when all its threads have begun to wait and no process comes or goes."""
    assert ask(stack.url, f"{SHORT}&stream=true").whole  # the first in a process starts a thread that watches
    readings: list[Footprint | None] = [None]

    def is_settled() -> bool:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            readings.append(footprint(stack))
        return len(readings) > 2 and readings[-1] == readings[-3]

    wait_until(is_settled, within=30, what="processes, files and threads to stay as they are")
    found = readings[-1]
    assert found
    return found
