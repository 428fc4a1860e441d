"""The cache is sized from what the container allows."""

from pathlib import Path

import pytest

from server.engine.memory import memory_limit


@pytest.mark.parametrize("content", ["max\n", "", "not a number", None])
def test_without_a_limit_it_is_the_machines_memory(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "memory.max"
    if content is not None:
        file.write_text(content)
    assert memory_limit((file,)) == memory_limit(())
    assert memory_limit(()) > 2**28


def test_the_smallest_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "v2").write_text("4294967\n")
    (tmp_path / "v1").write_text("9223372036854771712\n")  # what cgroup v1 says for no limit
    assert memory_limit((tmp_path / "v2", tmp_path / "v1")) == 4294967
