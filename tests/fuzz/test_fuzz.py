"""Every target on its corpus, and then on mutations, the same ones every time: what was found stays mended.

`scripts/fuzz` looks for more.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fuzz.targets import CORPUS, NATIVE, PYTHON, ROOT
from tests.native.build import build

# How many mutations: about a second or two of each target.
RUNS = {
    "card": 400,
    "checkpoint": 400,
    "file": 400,
    "packed": 100,
    "readme": 200,
    "table": 2000,
    "tokenizer": 400,
    "layout": 1000,
    "model": 400,
    "packing": 10_000,
    "sampling": 3000,
}

pytestmark = pytest.mark.timeout(900)  # the first time, the core is compiled


def replay(command: list[str], name: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(list((CORPUS / name).iterdir()))} inputs, {RUNS[name]} mutations" in done.stdout


@pytest.fixture(scope="module")
def readers() -> Iterator[dict[str, Future[None]]]:
    """All targets in Python, side by side."""
    replays = [sys.executable, "-m", "tests.fuzz.replay", "--runs"]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {
            name: pool.submit(replay, [*replays, f"{RUNS[name]}", name, f"{CORPUS / name}"], name)
            for name in PYTHON
        }


@pytest.mark.parametrize("name", PYTHON)
def test_a_reader(readers: dict[str, Future[None]], name: str) -> None:
    readers[name].result()


@pytest.fixture(scope="module")
def programs() -> Path:
    return build("address,undefined")


@pytest.mark.parametrize("name", NATIVE)
def test_the_core(programs: Path, name: str) -> None:
    replay([f"{programs / f'fuzz_{name}'}", f"{RUNS[name]}", f"{CORPUS / name}"], name)
