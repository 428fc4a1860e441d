"""The programs in C++ of tests/native and tests/fuzz/native, compiled under any of the compiler's sanitizers."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def build(sanitizers: str) -> Path:
    """The directory with the programs; what has not changed since the last time is not compiled again."""
    directory = ROOT / "build" / f"tests-{sanitizers.replace(',', '-') or 'released'}"
    tools = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    options = ["POKEGEN_TESTS=ON", f"POKEGEN_SANITIZE={sanitizers}", "CMAKE_COMPILE_WARNING_AS_ERROR=ON"]
    configure = ["-S", f"{ROOT}", "-B", f"{directory}", "-G", "Ninja", *(f"-D{option}" for option in options)]
    for arguments in (configure, ["--build", f"{directory}"]):
        done = subprocess.run(["cmake", *arguments], env=tools, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return directory
