"""The programs in C++ of tests/native and tests/fuzz/native, compiled under any of the compiler's sanitizers."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def build(sanitizers: str) -> Path:
    """The directory with the programs; what has not changed since the last time is not compiled again.

    Two processes of tests may want the same at once: the second waits.
    """
    directory = ROOT / "build" / f"tests-{sanitizers.replace(',', '-') or 'released'}"
    directory.mkdir(parents=True, exist_ok=True)
    tools = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    options = ["POKEGEN_TESTS=ON", f"POKEGEN_SANITIZE={sanitizers}", "CMAKE_COMPILE_WARNING_AS_ERROR=ON"]
    configure = ["-S", f"{ROOT}", "-B", f"{directory}", "-G", "Ninja", *(f"-D{option}" for option in options)]
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for arguments in (configure, ["--build", f"{directory}"]):
            done = subprocess.run(["cmake", *arguments], env=tools, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
    return directory
