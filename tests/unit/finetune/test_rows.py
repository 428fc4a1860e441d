"""Documents into rows: each begins where a document does, and an evaluation counts every token once."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from finetune.train.plan import IGNORED
from finetune.train.rows import batches, encode, end_of_text, rows, windows

DOCUMENTS = [[0, *([n] * length), 0] for n, length in enumerate([3, 5, 9, 30, 12, 1], start=1)]


def test_a_document_is_its_text_between_delimiters(tokenizer: Tokenizer) -> None:
    [document] = encode(tokenizer, ["Ash runs."])
    assert document[0] == document[-1] == end_of_text(tokenizer) == 399
    assert tokenizer.decode(document[1:-1]) == "Ash runs."


def test_a_vocabulary_without_a_delimiter_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has no <\|endoftext\|>: make one with `pokegen vocabulary`"):
        encode(Tokenizer(models.BPE()), ["Ash runs."])


def test_every_row_begins_with_a_document_and_has_one_token_more_than_the_context() -> None:
    for row in itertools.islice(rows(DOCUMENTS, 16, "seed"), 100):
        assert len(row) == 17
        assert row[0] == 0
        assert row[1] != 0


def test_an_epoch_shows_every_document_whole_unless_it_exceeds_the_context() -> None:
    seen = list(itertools.chain.from_iterable(itertools.islice(rows(DOCUMENTS, 16, "seed"), 100)))
    for document in DOCUMENTS:
        length = min(len(document) - 2, 16)
        runs = [len(list(group)) for token, group in itertools.groupby(seen) if token == document[1]]
        assert max(runs) == length


def test_every_epoch_has_an_order_of_its_own_and_the_same_seed_the_same_orders() -> None:
    def first(seed: str) -> list[list[int]]:
        return list(itertools.islice(rows(DOCUMENTS, 16, seed), 20))

    assert first("1") == first("1")
    assert first("1") != first("2")
    epoch = len({row[1] for row in first("1")})
    assert first("1")[:epoch] != first("1")[epoch : 2 * epoch]


def test_a_batch_has_the_rows_asked_for_from_every_source() -> None:
    for batch in itertools.islice(batches([(DOCUMENTS[:3], 2), (DOCUMENTS[3:], 3)], 8, seed=1), 10):
        assert batch.shape == (5, 9)
        assert batch.dtype == np.int64
        assert batch[:2].max() <= 3
        assert batch[2:, 1].min() >= 4


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 9), max_size=40).map(lambda text: [0, *text, 0]), min_size=1),
    st.integers(1, 12),
    st.integers(1, 5),
)
def test_every_token_but_a_documents_first_is_a_target_once(
    documents: list[list[int]], n_ctx: int, batch_size: int
) -> None:
    targets = []
    for batch in windows(documents, n_ctx, batch_size):
        assert len(batch) <= batch_size
        assert batch.shape[1] <= n_ctx + 1
        assert (batch[:, 0] != IGNORED).all()
        targets += [token for token in batch[:, 1:].flat if token != IGNORED]
    assert sorted(targets) == sorted(itertools.chain.from_iterable(document[1:] for document in documents))


def test_a_piece_of_a_long_document_begins_with_the_token_before_it() -> None:
    [batch] = windows([[0, 1, 2, 3, 4, 5, 6, 0]], n_ctx=3)
    assert batch.tolist() == [[6, 0, IGNORED, IGNORED], [0, 1, 2, 3], [3, 4, 5, 6]]
