"""The C++ core without Python: each program of this directory, as released and under the compiler's sanitizers."""

import platform
import subprocess
from pathlib import Path

import pytest

from tests.native.build import build

PROGRAMS = sorted(source.stem for source in Path(__file__).parent.glob("*.cpp"))
SANITIZERS = ["", "address,undefined", "thread"]

pytestmark = pytest.mark.timeout(900)  # the first time, the core is compiled under each sanitizer


@pytest.fixture(scope="module", params=SANITIZERS, ids=lambda sanitizers: sanitizers or "released")
def programs(request: pytest.FixtureRequest) -> Path:
    return build(request.param)


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(programs: Path, program: str) -> None:
    done = subprocess.run([programs / program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 has more than the portable kernels")
@pytest.mark.parametrize("programs", [""], indirect=True, ids=["released"])
@pytest.mark.parametrize("kernels", ["avx2", "avx512_vnni"])
def test_no_function_is_shared_with_what_runs_on_older_processors(programs: Path, kernels: str) -> None:
    """Of an inline function that several files define, the linker keeps any: then one with AVX for every caller."""
    [compiled] = programs.glob(f"**/kernels/{kernels}.cpp.o")
    listed = subprocess.run(["nm", "--format=posix", compiled], check=True, capture_output=True, text=True)
    kinds = dict(line.split()[:2] for line in listed.stdout.splitlines())
    assert any(name.endswith(f"{kernels}_kernelsE") for name in kinds)
    assert [name for name, kind in kinds.items() if kind in "WVu"] == []
    assert [name for name in kinds if "_GLOBAL__sub_I" in name] == []  # what would run when it is loaded
