"""Every block has one owner, and comes back."""

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


@given(st.lists(st.integers(0, 6), max_size=40))
def test_no_block_has_two_owners(wishes: list[int]) -> None:
    blocks = KVBlocks(10)
    owned: list[list[int]] = []
    for wish in wishes:
        mine = blocks.reserve(wish)
        if mine is None:
            blocks.release(owned.pop(0))
        else:
            owned.append(mine)
        taken = [block for each in owned for block in each]
        assert len(set(taken)) == len(taken) == blocks.n_blocks - blocks.n_free
