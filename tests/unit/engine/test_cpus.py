"""As many threads compute as there are processors, or as the container's quota amounts to."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.engine.cpus import usable_cpus


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    return tmp_path / "cpu.max"


@pytest.fixture
def v1(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "cpu.cfs_quota_us", tmp_path / "cpu.cfs_period_us"


@pytest.fixture
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


@pytest.fixture
def pinned() -> Iterator[None]:
    """The process may run on one processor only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


NO_LIMIT = ["max 100000\n", "", "not numbers", "100000", "0 0", None]


@pytest.mark.parametrize("content", NO_LIMIT)
@pytest.mark.usefixtures("eight_processors")
def test_without_a_quota_it_is_all_that_the_process_may_run_on(
    v2: Path, v1: tuple[Path, Path], content: str | None
) -> None:
    if content is not None:
        v2.write_text(content)
    assert usable_cpus(v2, v1) == 8


@pytest.mark.usefixtures("pinned")
def test_a_process_that_is_pinned_to_one_has_one(v2: Path, v1: tuple[Path, Path]) -> None:
    assert usable_cpus(v2, v1) == 1
    v2.write_text("400000 100000\n")
    assert usable_cpus(v2, v1) == 1


@pytest.mark.parametrize(
    ("quota", "period", "cpus"),
    [(100000, 100000, 1), (50000, 100000, 1), (150000, 100000, 2), (200000, 50000, 4), (9900000, 100000, 8)],
)
@pytest.mark.usefixtures("eight_processors")
def test_a_quota_counts_in_whole_processors_rounded_up(
    v2: Path, v1: tuple[Path, Path], quota: int, period: int, cpus: int
) -> None:
    v2.write_text(f"{quota} {period}\n")
    assert usable_cpus(v2, v1) == cpus
    v2.unlink()
    v1[0].write_text(f"{quota}\n")
    v1[1].write_text(f"{period}\n")
    assert usable_cpus(v2, v1) == cpus


@pytest.mark.usefixtures("eight_processors")
def test_no_limit_in_version_1_is_minus_one(v2: Path, v1: tuple[Path, Path]) -> None:
    v1[0].write_text("-1\n")
    v1[1].write_text("100000\n")
    assert usable_cpus(v2, v1) == 8


def test_this_process_has_a_processor() -> None:
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)
