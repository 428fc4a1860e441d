"""The cache is sized from what the container allows."""

from pathlib import Path

import pytest

from server.engine import NotEnoughMemoryError
from server.engine.kv_blocks import BLOCK_SIZE
from server.engine.memory import MemoryPlan, cache_blocks, memory_limit
from server.weights import HParams


@pytest.mark.parametrize("content", ["max\n", "", "not a number", None])
def test_without_a_limit_it_is_the_machines_memory(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "memory.max").write_text(content)
    assert memory_limit([tmp_path]) == memory_limit([])
    assert memory_limit([]) > 2**28


def test_the_smallest_limit_counts(tmp_path: Path) -> None:
    inner, outer = tmp_path / "pods" / "ours", tmp_path / "pods"
    inner.mkdir(parents=True)
    (inner / "memory.limit_in_bytes").write_text("9223372036854771712\n")  # cgroup v1's way to say none
    (outer / "memory.max").write_text("4294967\n")
    assert memory_limit([inner, outer]) == 4294967


GPT2 = HParams(n_vocab=50257, n_ctx=1024, n_embd=768, n_head=12, n_layer=12)
ONE_SEQUENCE = 1024 // BLOCK_SIZE


@pytest.mark.parametrize(
    ("limit", "blocks"), [(10**9, 4 * ONE_SEQUENCE), (300 + 10 * ONE_SEQUENCE, ONE_SEQUENCE), (1099, 79)]
)
def test_the_cache_gets_what_running_sequences_need_or_what_is_left(limit: int, blocks: int) -> None:
    assert cache_blocks(GPT2, max_running=4, block_bytes=10, other_bytes=300, limit=limit) == blocks


def test_a_limit_in_which_not_one_sequence_fits_is_said_with_the_sizes() -> None:
    with pytest.raises(NotEnoughMemoryError, match=r"limit is 100 MiB.* 90 MiB .* 1024 tokens takes 64 MiB"):
        cache_blocks(GPT2, max_running=4, block_bytes=2**20, other_bytes=90 * 2**20, limit=100 * 2**20)


def plan(model: int, block: int, blocks: int, limit: int) -> MemoryPlan:
    return MemoryPlan(model, block, blocks, limit, process_bytes=100)


@pytest.mark.parametrize("limit", [5_000, 10_000, 50_000, 1_000_000])
@pytest.mark.parametrize("used", [0, 10, 200])
@pytest.mark.parametrize("blocks", [(10, 10), (10, 30), (30, 10)])
def test_two_engines_share_what_is_left_and_no_more(limit: int, used: int, blocks: tuple[int, int]) -> None:
    new, old = (plan(500, block, 300, limit) for block in blocks)
    taken = 100 + 500 + 500 + used * old.block_bytes
    if limit - taken < ONE_SEQUENCE * new.block_bytes:
        with pytest.raises(NotEnoughMemoryError, match="allow more memory, or restart the service"):
            new.share(old, used, GPT2)
        return
    mine, theirs = new.share(old, used, GPT2)
    assert ONE_SEQUENCE <= mine <= new.n_blocks
    assert used <= theirs <= old.n_blocks
    assert 100 + 500 + 500 + mine * new.block_bytes + theirs * old.block_bytes <= limit
    if limit == 1_000_000:
        assert (mine, theirs) == (300, 300), "there is enough for all"
