"""Training: rows begin where documents do, and a run that was killed ends like one that was not."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from finetune.train import Plan, Point, batches, bits_per_byte, encode, new_model, rows

PLAN = Plan(steps=6, batch=2, learning_rate=1e-3, warmup=2, cooldown=2, seed=1, every=2)
DOCUMENTS = [[0, *([n] * length), 0] for n, length in enumerate([3, 5, 9, 30, 12, 1], start=1)]


def test_a_document_is_its_text_between_delimiters(tokenizer: Tokenizer) -> None:
    [document] = encode(tokenizer, ["Ash runs."])
    assert document[0] == document[-1] == 399
    assert tokenizer.decode(document[1:-1]) == "Ash runs."


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


def test_a_batch_has_the_rows_asked_for_from_every_source() -> None:
    batch = next(batches([(DOCUMENTS[:3], 2), (DOCUMENTS[3:], 3)], 8, seed=1))
    assert batch.shape == (5, 9)
    assert batch[:2].max() <= 3
    assert batch[2:, 1].min() >= 4


def test_the_rate_warms_up_stays_and_cools_down() -> None:
    rates = [dataclasses.replace(PLAN, learning_rate=1.0).rate(step) for step in range(6)]
    assert rates == [0.5, 1.0, 1.0, 1.0, 1.0, 0.5]


def test_a_killed_run_goes_on_to_the_same_weights(
    tmp_path: Path, train_tiny: Callable[[Path, Plan], list[Point]]
) -> None:
    curve = train_tiny(tmp_path / "whole", PLAN)
    assert [point["step"] for point in curve] == [2, 4, 6]
    assert curve[-1]["held_out_bits_per_byte"] < curve[0]["held_out_bits_per_byte"]

    rate = Plan.rate

    def interrupted(plan: Plan, step: int) -> float:
        if step == 5:  # the last save was after step 4
            raise KeyboardInterrupt
        return rate(plan, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Plan, "rate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_tiny(tmp_path / "killed", PLAN)
    assert train_tiny(tmp_path / "killed", PLAN) == curve

    for name in ("best.pt", "state.pt"):
        whole, killed = (torch.load(tmp_path / run / name) for run in ("whole", "killed"))
        weights = (whole, killed) if name == "best.pt" else (whole["model"], killed["model"])
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert (tmp_path / "killed/curve.csv").read_text() == (tmp_path / "whole/curve.csv").read_text()


def test_a_run_that_no_longer_improves_stops(
    tmp_path: Path, train_tiny: Callable[[Path, Plan], list[Point]]
) -> None:
    hopeless = dataclasses.replace(PLAN, steps=40, learning_rate=0.0, every=1, patience=3)
    assert len(train_tiny(tmp_path, hopeless)) == 4


def test_a_model_that_knows_nothing_pays_for_every_token_alike(tokenizer: Tokenizer) -> None:
    model = new_model(n_vocab=400, n_ctx=64, n_embd=16, n_head=2, n_layer=2, plan=PLAN)
    torch.nn.init.zeros_(model.transformer.wte.weight)
    text = "Ash and Pikachu were here."
    n_tokens = len(tokenizer.encode(text, add_special_tokens=False).ids) + 1  # and the end
    measured = bits_per_byte(model, tokenizer, [text])
    assert measured == pytest.approx(n_tokens * math.log2(400) / len(text), rel=1e-4)
