"""Every target, and the command that fuzzes it, or gives it a single input."""

import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
BUILD = ROOT / "build" / "fuzz"

# The readers in Python (tests/fuzz/readers.py), and the programs in C++ (tests/fuzz/native).
PYTHON = ("card", "checkpoint", "file", "packed", "readme", "table", "tokenizer")
NATIVE = ("layout", "model", "packing", "sampling")


@dataclass(frozen=True)
class Target:
    """What libFuzzer runs, by itself or, as atheris, in Python."""

    name: str

    @property
    def program(self) -> list[str]:
        """The command, to which libFuzzer's options and folders are added."""
        if self.name in NATIVE:
            return [f"{BUILD / f'fuzz_{self.name}'}"]
        return [sys.executable, "-m", "tests.fuzz.guided", self.name]

    def reproduce(self, finding: Path) -> str:
        """A command line that gives the target this input alone."""
        if self.name in NATIVE:
            return f"{(BUILD / f'fuzz_{self.name}').relative_to(ROOT)} {finding}"
        return f".venv/bin/python -m tests.fuzz.replay {self.name} {finding}"


TARGETS = {name: Target(name) for name in (*NATIVE, *PYTHON)}
