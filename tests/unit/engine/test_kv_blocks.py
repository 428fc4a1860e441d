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


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=40))
def test_no_block_that_is_owned_is_given_away(wishes: list[tuple[int, int]]) -> None:
    blocks = KVBlocks(10)
    owned: list[list[int]] = []
    for wish, sharers in wishes:
        mine = blocks.reserve(wish)
        if mine is None:
            blocks.release(owned.pop(0))
        else:
            assert not {block for each in owned for block in each} & set(mine)
            owned += [mine, *(blocks.share(mine[: wish // 2]) for _ in range(sharers))]
        assert len({block for each in owned for block in each}) == blocks.n_blocks - blocks.n_free
