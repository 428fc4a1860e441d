"""As many threads compute as there are processors, or as the container's quota amounts to."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.engine.cpus import usable_cpus


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
def test_without_a_quota_it_is_all_that_the_process_may_run_on(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "cpu.max").write_text(content)
    assert usable_cpus([tmp_path]) == 8


@pytest.mark.usefixtures("pinned")
def test_a_process_that_is_pinned_to_one_has_one(tmp_path: Path) -> None:
    assert usable_cpus([tmp_path]) == 1
    (tmp_path / "cpu.max").write_text("400000 100000\n")
    assert usable_cpus([tmp_path]) == 1


@pytest.mark.parametrize(
    ("quota", "period", "cpus"),
    [(100000, 100000, 1), (50000, 100000, 1), (150000, 100000, 2), (200000, 50000, 4), (9900000, 100000, 8)],
)
@pytest.mark.usefixtures("eight_processors")
def test_a_quota_counts_in_whole_processors_rounded_up(
    tmp_path: Path, quota: int, period: int, cpus: int
) -> None:
    v2, v1 = tmp_path / "v2", tmp_path / "v1"
    v2.mkdir()
    v1.mkdir()
    (v2 / "cpu.max").write_text(f"{quota} {period}\n")
    (v1 / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (v1 / "cpu.cfs_period_us").write_text(f"{period}\n")
    assert usable_cpus([v2]) == usable_cpus([v1]) == cpus


@pytest.mark.usefixtures("eight_processors")
def test_no_limit_in_version_1_is_minus_one(tmp_path: Path) -> None:
    (tmp_path / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cpus([tmp_path]) == 8


def test_this_process_has_a_processor() -> None:
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)
