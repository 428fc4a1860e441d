"""The C++ core without Python: each program of this directory, as released and under the compiler's sanitizers."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(source.stem for source in Path(__file__).parent.glob("*.cpp"))
SANITIZERS = ["", "address,undefined", "thread"]

pytestmark = pytest.mark.timeout(900)  # the first time, the core is compiled under each sanitizer


@pytest.fixture(scope="module", params=SANITIZERS, ids=lambda sanitizers: sanitizers or "released")
def build(request: pytest.FixtureRequest) -> Path:
    """The directory with the programs; what has not changed since the last time is not compiled again."""
    directory = ROOT / "build" / f"tests-{request.param.replace(',', '-') or 'released'}"
    tools = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    options = ["POKEGEN_TESTS=ON", f"POKEGEN_SANITIZE={request.param}", "CMAKE_COMPILE_WARNING_AS_ERROR=ON"]
    configure = ["-S", f"{ROOT}", "-B", f"{directory}", "-G", "Ninja", *(f"-D{option}" for option in options)]
    for arguments in (configure, ["--build", f"{directory}"]):
        done = subprocess.run(["cmake", *arguments], env=tools, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return directory


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(build: Path, program: str) -> None:
    done = subprocess.run([build / program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 has more than the portable kernels")
@pytest.mark.parametrize("build", [""], indirect=True, ids=["released"])
@pytest.mark.parametrize("kernels", ["avx2", "avx512_vnni"])
def test_no_function_is_shared_with_what_runs_on_older_processors(build: Path, kernels: str) -> None:
    """Of an inline function that several files define, the linker keeps any: then one with AVX for every caller."""
    [compiled] = build.glob(f"**/kernels/{kernels}.cpp.o")
    listed = subprocess.run(["nm", "--format=posix", compiled], check=True, capture_output=True, text=True)
    kinds = dict(line.split()[:2] for line in listed.stdout.splitlines())
    assert any(name.endswith(f"{kernels}_kernelsE") for name in kinds)
    assert [name for name, kind in kinds.items() if kind in "WVu"] == []
    assert [name for name in kinds if "_GLOBAL__sub_I" in name] == []  # what would run when it is loaded
