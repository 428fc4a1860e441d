"""SIGKILL at any moment, then the same command again: the checkpoint is, byte for byte, that of a run left alone."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pipeline.conftest import ROOT, Given, options

# `pokegen`, wherever it is installed.
POKEGEN = [sys.executable, "-c", "from server.cli import main; main()"]

SIZES = {"n_ctx": 64, "n_embd": 16, "n_head": 2, "n_layer": 1}
PLAN = {"steps": 24, "save_every": 3, "learning_rate": 5e-3, "warmup": 3, "cooldown": 10, "batch_size": 2}


# Each start imports PyTorch or TensorFlow, which a slow machine takes long for.
pytestmark = pytest.mark.timeout(900)


class Run:
    """`pokegen finetune` of one trainer, into a folder of its own."""

    def __init__(self, given: Given, folder: Path, trainer: str, compiled: bool) -> None:
        self.state, self.checkpoint = folder / "state/run1", folder / "checkpoint/run1"
        self._log = folder / "log"
        self.compiler_cache = folder / "compiled"
        self._environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(self.compiler_cache)}
        places = {"state_dir": self.state.parent, "checkpoint_dir": self.checkpoint.parent}
        data = {"dataset": given.dataset, "vocabulary": given.vocabulary}
        others = {"trainer": trainer, "threads": 1, "patience": 100, "sample_length": 8}
        self._command = [*POKEGEN, "finetune", *options(**places, **data, **others, **SIZES, **PLAN)]
        if compiled:  # as the shipped checkpoint was trained
            self._command += ["--compiled", *options(optimizer="muon")]
        if trainer == "torch":
            self._command += options(format="transformers")  # without TensorFlow, whose start takes long

    @contextlib.contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """Killed in the end, if it is still there."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(self._command, cwd=ROOT, env=self._environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        assert process.wait() == 0, self._log.read_text()

    @property
    def saved(self) -> int:
        """The step of the last save that was finished."""
        try:
            return int(json.loads((self.state / "run.json").read_text())["step"])
        except FileNotFoundError:
            return 0

    @property
    def begun(self) -> int:
        """The step of the last save that was begun."""
        folders = self.state.glob("state-*")
        return max((int(folder.name.removeprefix("state-")) for folder in folders), default=0)

    def wait_until(self, condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
        while not condition():
            assert process.poll() is None, f"it ended before it could be killed:\n{self._log.read_text()}"
            time.sleep(0.0002)

    def kill_in_a_save(self) -> None:
        """Look while it stands still, so that the save can't end between the look and the kill."""
        with self.started() as process:
            while True:
                self.wait_until(lambda: self.begun > self.saved, process)
                os.kill(process.pid, signal.SIGSTOP)
                if self.begun > self.saved:
                    break
                os.kill(process.pid, signal.SIGCONT)
            process.kill()
            assert process.wait() == -signal.SIGKILL
        assert self.begun > self.saved

    def kill_after_a_while(self, chance: random.Random) -> None:
        """One or two saves further on, wherever that is: in a step, an evaluation, a sample, a save."""
        with self.started() as process:
            # But before the last, or there is nothing left to be killed.
            target = min(self.saved + chance.choice([3, 6]), int(PLAN["steps"] - PLAN["save_every"]))
            self.wait_until(lambda: self.saved >= target, process)
            time.sleep(chance.uniform(0, 0.05))
            process.kill()
            assert process.wait() == -signal.SIGKILL


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize(
    ("trainer", "compiled", "further_kills"),
    [("torch", False, 2), ("torch", True, 0), ("gpt-2-simple", False, 0)],
)
def test_a_killed_run_ends_like_one_that_was_not(
    given: Given, tmp_path_factory: pytest.TempPathFactory, trainer: str, compiled: bool, further_kills: int
) -> None:
    whole, killed = (
        Run(given, tmp_path_factory.mktemp(name), trainer, compiled) for name in ("whole", "killed")
    )
    with whole.started() as alone:  # meanwhile
        chance = random.Random(1)
        killed.kill_in_a_save()
        for _ in range(further_kills):
            killed.kill_after_a_while(chance)
        assert not killed.checkpoint.exists()
        if compiled:  # anew, and not as the first process left it
            shutil.rmtree(killed.compiler_cache)
        with killed.started() as last:
            killed.finish(last)
        whole.finish(alone)

    ours, theirs = contents(killed.checkpoint), contents(whole.checkpoint)
    assert {"model.safetensors", "curve.csv", "training.json"} <= ours.keys()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
