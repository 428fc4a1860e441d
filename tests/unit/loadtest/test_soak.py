"""The soak goes through with a sound engine, and sees what is wrong with one that is not."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.in_process import EngineHost, running_engine
from loadtest.readers import STAYS, Conduct, Fault, Request, Visit
from loadtest.soak import Soak
from server.engine import Engine
from server.weights import HParams
from tests.checkpoints import write_transformers

ROOT = Path(__file__).parents[3]
LONGEST = 40


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    write_transformers(directory, HParams(n_vocab=512, n_ctx=512, n_embd=64, n_head=4, n_layer=2))
    return directory


@pytest.fixture
def engine(checkpoint: Path) -> Iterator[Engine]:
    with running_engine(checkpoint, max_running=4, max_waiting=8) as engine:
        yield engine


def start(checkpoint: Path, minutes: float) -> "subprocess.Popen[str]":
    options = ["--measure", "1", "--max-running", "4", "--max-waiting", "8", "--longest", f"{LONGEST}"]
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "loadtest.soak",
            *options,
            "--minutes",
            f"{minutes}",
            "--checkpoint",
            checkpoint,
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_sound_engine_survives(checkpoint: Path) -> None:
    process = start(checkpoint, minutes=0.05)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, said + errors
    assert "NOT SO" not in said
    for ending in ("complete", "left", "refused"):
        assert ending in said


def test_ctrl_c_ends_it_with_the_summary_so_far(checkpoint: Path) -> None:
    process = start(checkpoint, minutes=60)
    assert process.stderr
    shown = ""
    while "complete" not in shown:  # the progress of the load
        shown += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, said + errors
    assert "readers a second" in said


def test_the_memory_of_a_service_needs_its_process() -> None:
    command = [sys.executable, "-m", "loadtest.soak", "--url", "http://127.0.0.1:8080"]
    refused = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert refused.returncode == 2
    assert "--pid-file" in refused.stderr


class Unsound(EngineHost):
    """A host that spoils what it answers, once the soak knows what it should be."""

    spoil: Callable[[Visit], Visit] = staticmethod(lambda visit: visit)

    def visit(self, request: Request, conduct: Conduct = STAYS) -> Visit:
        return self.spoil(super().visit(request, conduct))


def faults(host: Unsound, spoil: Callable[[Visit], Visit] = Unsound.spoil) -> str:
    soak = Soak(host, LONGEST, seed=0)
    host.spoil = spoil
    soak.run(rate=100, wait=0.1, seconds=1)
    return "\n".join(soak.faults())


def test_what_a_sound_engine_does_is_no_fault(engine: Engine) -> None:
    assert faults(Unsound(engine)) == ""


def test_another_text_is_noticed(engine: Engine) -> None:
    assert "another text" in faults(Unsound(engine), lambda visit: replace(visit, texts=("another",)))


def test_a_lost_answer_is_noticed(engine: Engine) -> None:
    def lose(visit: Visit) -> Visit:
        raise Fault("no answer after 120 s")

    assert "no answer" in faults(Unsound(engine), lose)


def test_a_block_that_does_not_come_back_is_noticed(engine: Engine) -> None:
    host = Unsound(engine)
    engine._kv_blocks.reserve(1)
    assert "free blocks" in faults(host)


def test_a_request_that_is_answered_twice_is_noticed(engine: Engine) -> None:
    host = Unsound(engine)
    engine._scheduler.ended["stop"] += 1
    assert "samples that ended" in faults(host)
