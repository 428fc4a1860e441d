"""Every target on its corpus, and then on mutations, the same ones every time: what was found stays mended.

`scripts/fuzz` looks for more.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import CORPUS, NATIVE, PYTHON, ROOT
from tests.native.build import build

# How many mutations: about a second or two of each target.
RUNS = {
    "card": 400,
    "checkpoint": 400,
    "file": 400,
    "packed": 200,
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


@pytest.mark.parametrize("name", PYTHON)
def test_a_reader(name: str) -> None:
    command = [sys.executable, "-m", "tests.fuzz.replay", name, "--runs", f"{RUNS[name]}", f"{CORPUS / name}"]
    replay(command, name)


@pytest.fixture(scope="module")
def programs() -> Path:
    return build("address,undefined")


@pytest.mark.parametrize("name", NATIVE)
def test_the_core(programs: Path, name: str) -> None:
    replay([f"{programs / f'fuzz_{name}'}", f"{RUNS[name]}", f"{CORPUS / name}"], name)
