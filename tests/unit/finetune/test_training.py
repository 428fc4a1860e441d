"""Training: rows begin where documents do, and a run that was killed ends like one that was not."""

import dataclasses
import itertools
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from finetune.train import Plan, Point, batches, bits_per_byte, encode, new_model, rows, train
from finetune.vocabulary import learn

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

    for name in ("kept.pt", "state.pt"):
        whole, killed = (torch.load(tmp_path / run / name) for run in ("whole", "killed"))
        weights = (whole, killed) if name == "kept.pt" else (whole["model"], killed["model"])
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert (tmp_path / "killed/curve.csv").read_text() == (tmp_path / "whole/curve.csv").read_text()


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_finished_run_is_not_repeated(
    tmp_path: Path, train_tiny: Callable[[Path, Plan], list[Point]]
) -> None:
    curve = train_tiny(tmp_path, PLAN)
    before = contents(tmp_path)
    assert train_tiny(tmp_path, PLAN) == curve
    assert contents(tmp_path) == before


@dataclasses.dataclass
class Given:
    """What a training is given, to change one thing of it."""

    vocabulary: Tokenizer
    training: list[str]
    held_out: list[str]
    plan: Plan = PLAN
    rows: int = 2
    n_embd: int = 16
    gain: float = 1.0  # of the first weights

    def train(self, folder: Path) -> list[Point]:
        model = new_model(n_vocab=400, n_ctx=64, n_embd=self.n_embd, n_head=2, n_layer=2, plan=self.plan)
        with torch.no_grad():
            model.transformer.wte.weight *= self.gain
        sources = [(encode(self.vocabulary, self.training), self.rows)]
        return train(folder, model, self.plan, sources, self.vocabulary, self.held_out)


@pytest.fixture
def given(texts: tuple[list[str], list[str]], tokenizer: Tokenizer) -> Given:
    return Given(tokenizer, *texts)


def other_plan(**fields: float) -> Callable[[Given], Given]:
    return lambda given: dataclasses.replace(given, plan=dataclasses.replace(PLAN, **fields))  # type: ignore[arg-type]


HASHES = r"\w{12} and not \w{12}:"

CHANGES: dict[str, tuple[Callable[[Given], Given], str]] = {
    "seed": (other_plan(seed=2), "seed 1 and not 2, initial weights"),
    "learning rate": (other_plan(learning_rate=2e-3), "learning_rate 0.001 and not 0.002:"),
    "steps": (other_plan(steps=8), "steps 6 and not 8:"),
    "n_embd": (lambda given: dataclasses.replace(given, n_embd=32), "n_embd 16 and not 32, initial weights"),
    "rows": (lambda given: dataclasses.replace(given, rows=1), f"training texts {HASHES}"),
    "training texts": (
        lambda given: dataclasses.replace(given, training=given.training[:-1]),
        f"training texts {HASHES}",
    ),
    "held-out texts": (
        lambda given: dataclasses.replace(given, held_out=given.held_out[:-1]),
        f"held-out texts {HASHES}",
    ),
    "vocabulary": (
        lambda given: dataclasses.replace(given, vocabulary=learn(given.held_out, 400)),
        f"vocabulary {HASHES[:-1]}, training texts {HASHES}",
    ),
    "the base": (lambda given: dataclasses.replace(given, gain=2.0), f"initial weights {HASHES}"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_with_another_run_is_refused_and_left_as_it_is(
    tmp_path: Path, given: Given, change: str
) -> None:
    given.train(tmp_path)
    before = contents(tmp_path)
    another, difference = CHANGES[change]
    with pytest.raises(
        ValueError, match=rf"holds another run, with {difference}.* --run, or delete this one$"
    ):
        another(given).train(tmp_path)
    assert contents(tmp_path) == before


def test_a_state_from_before_descriptions_is_taken_as_it_is(tmp_path: Path, given: Given) -> None:
    curve = given.train(tmp_path / "described")
    shutil.copytree(tmp_path / "described", tmp_path / "old")
    state = torch.load(tmp_path / "old/state.pt")
    del state["description"]
    torch.save(state, tmp_path / "old/state.pt")
    assert given.train(tmp_path / "old") == curve


def test_a_run_that_no_longer_improves_stops(
    tmp_path: Path, train_tiny: Callable[[Path, Plan], list[Point]]
) -> None:
    hopeless = dataclasses.replace(PLAN, steps=40, learning_rate=0.0, every=1, patience=3)
    assert len(train_tiny(tmp_path, hopeless)) == 4


@pytest.mark.parametrize(("keep", "is_the_last"), [("best", False), ("last", True)])
def test_what_is_kept_is_the_best_or_the_last(
    tmp_path: Path, train_tiny: Callable[[Path, Plan], list[Point]], keep: str, is_the_last: bool
) -> None:
    worsening = dataclasses.replace(
        PLAN, steps=3, learning_rate=0.5, warmup=0, cooldown=0, averaging=0.0, every=1, keep=keep
    )
    measured = [point["held_out_bits_per_byte"] for point in train_tiny(tmp_path, worsening)]
    assert measured[-1] > min(measured), measured
    kept, state = (torch.load(tmp_path / name) for name in ("kept.pt", "state.pt"))
    assert all(torch.equal(kept[key], state["average"][key]) for key in kept) == is_the_last


def test_a_model_that_knows_nothing_pays_for_every_token_alike(tokenizer: Tokenizer) -> None:
    model = new_model(n_vocab=400, n_ctx=64, n_embd=16, n_head=2, n_layer=2, plan=PLAN)
    torch.nn.init.zeros_(model.transformer.wte.weight)
    text = "Ash and Pikachu were here."
    n_tokens = len(tokenizer.encode(text, add_special_tokens=False).ids) + 1  # and the end
    measured = bits_per_byte(model, tokenizer, [text])
    assert measured == pytest.approx(n_tokens * math.log2(400) / len(text), rel=1e-4)
