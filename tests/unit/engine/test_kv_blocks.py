"""Every block has the owners that it should have, and comes back after the last of them."""

from hypothesis import given
from hypothesis import strategies as st

from server.engine.kv_blocks import BLOCK_SIZE, KVBlocks, blocks_for


def test_blocks_are_counted_in_whole_ones() -> None:
    assert [blocks_for(n) for n in (0, 1, BLOCK_SIZE, BLOCK_SIZE + 1)] == [0, 1, 1, 2]


def test_a_reservation_that_does_not_fit_takes_nothing() -> None:
    blocks = KVBlocks(3)
    assert blocks.reserve(4) is None
    assert blocks.n_free == 3


def test_blocks_cannot_be_given_back_twice() -> None:
    blocks = KVBlocks(3)
    mine = blocks.reserve(2)
    assert mine is not None
    blocks.release(mine)
    blocks.release(mine)
    assert blocks.n_free == 3


def test_a_shared_block_is_free_when_its_last_owner_has_given_it_back() -> None:
    blocks = KVBlocks(3)
    mine = blocks.reserve(2)
    assert mine is not None
    yours = blocks.share(mine[:1])
    assert yours == mine[:1]
    blocks.release(mine)
    assert blocks.n_free == 2
    blocks.release(yours)
    assert blocks.n_free == 3


def test_a_limit_holds_for_new_ones_and_takes_none_away() -> None:
    blocks = KVBlocks(10)
    mine = blocks.reserve(4)
    assert mine is not None
    blocks.limit(2)
    assert (blocks.n_free, blocks.n_used) == (0, 4)
    assert blocks.reserve(1) is None
    blocks.release(mine)
    assert blocks.n_free == 4, "what has been used takes its memory anyway"
    blocks.limit(5)
    assert blocks.reserve(6) is None
    assert blocks.reserve(5) is not None
    blocks.limit(99)
    assert blocks.n_free == 5


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 12)), max_size=40))
def test_no_block_that_is_owned_is_given_away(wishes: list[tuple[int, int, int]]) -> None:
    blocks = KVBlocks(10)
    owned: list[list[int]] = []
    usable = blocks.n_blocks
    for wish, sharers, limit in wishes:
        usable = min(max(limit, blocks.n_used), blocks.n_blocks)
        blocks.limit(limit)
        mine = blocks.reserve(wish)
        if mine is None:
            if owned:
                blocks.release(owned.pop(0))
        else:
            assert not {block for each in owned for block in each} & set(mine)
            owned += [mine, *(blocks.share(mine[: wish // 2]) for _ in range(sharers))]
        assert len({block for each in owned for block in each}) == usable - blocks.n_free
        assert blocks.n_used <= usable
