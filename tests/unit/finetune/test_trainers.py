"""Both trainers: the same steps, an exact resume, and what a plan may ask of them."""

import dataclasses
import gc
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from finetune.train.command import new_trainer
from finetune.train.gpt2_simple_trainer import Gpt2SimpleTrainer
from finetune.train.plan import IGNORED, Plan, Tokens, Trainer
from finetune.train.run import Task
from finetune.train.torch_trainer import TorchTrainer
from finetune.weights import Weights, fresh_weights
from server.weights import HParams

HPARAMS = HParams(n_vocab=300, n_ctx=32, n_embd=24, n_head=3, n_layer=2)
END = 299
PLAN = Plan(steps=20, learning_rate=2e-3, batch_size=3, warmup=3, cooldown=5, weight_decay=0.1)


def random_batches(count: int, rows: int = 3) -> list[Tokens]:
    return list(np.random.default_rng(1).integers(0, END, (count, rows, HPARAMS.n_ctx + 1)))


def create(name: str, plan: Plan = PLAN, weights: Weights | None = None) -> Trainer:
    """In float32, whatever the processor prefers."""
    weights = fresh_weights(HPARAMS, seed=1) if weights is None else weights
    if name == "gpt-2-simple":
        return Gpt2SimpleTrainer(HPARAMS, weights, END, plan)
    trainer = TorchTrainer(HPARAMS, weights, END, plan)
    trainer.bfloat16 = False
    return trainer


@pytest.fixture(scope="module")
def compiler_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where PyTorch's compiler keeps what it compiled."""
    folder = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
        yield folder


def assert_equal(ours: Weights, theirs: Weights) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], name)


def difference(ours: Weights, theirs: Weights) -> float:
    """The largest, of any weight."""
    return max(float(abs(ours[name] - theirs[name]).max()) for name in ours)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="adam"),
        pytest.param({"averaging": 0.0, "weight_decay": 0.0}, id="without average and decay"),
        pytest.param({"clip": 0.05}, id="clipped"),
        pytest.param({"optimizer": "sgd", "learning_rate": 0.5}, id="sgd"),
        pytest.param({"only_train_transformer_layers": True}, id="the blocks alone"),
    ],
)
def test_both_take_the_same_steps(change: dict[str, float | str | bool]) -> None:
    plan = dataclasses.replace(PLAN, **change)  # type: ignore[arg-type]
    ours, theirs = create("torch", plan), create("gpt-2-simple", plan)
    batches = random_batches(2 * plan.steps)
    for step in range(plan.steps):
        pair = batches[2 * step : 2 * step + 2]  # gradients accumulate
        assert ours.advance(pair, step) == pytest.approx(theirs.advance(pair, step), abs=1e-5)
    moved = difference(ours.average(), fresh_weights(HPARAMS, seed=1))
    assert moved > 5e-3
    # Where a gradient is next to nothing, its rounding decides its sign, and Adam takes a whole step all the same.
    assert difference(ours.average(), theirs.average()) < 5e-3 * moved
    assert ours.nats(batches[0]) == pytest.approx(theirs.nats(batches[0]), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("torch", {"optimizer": "muon", "dropout": 0.1}),
        ("torch", {}),
        ("torch", {"optimizer": "sgd"}),
        ("torch", {"compiled": True, "dropout": 0.1}),
        ("gpt-2-simple", {}),
        ("gpt-2-simple", {"optimizer": "sgd"}),
    ],
)
def test_a_restored_trainer_goes_on_to_the_same_bits(
    tmp_path: Path, compiler_cache: Path, name: str, change: dict[str, float | str]
) -> None:
    plan = dataclasses.replace(PLAN, **change)  # type: ignore[arg-type]
    batches = random_batches(8)
    trainer = create(name, plan)
    losses = []
    for step, batch in enumerate(batches):
        if step == 4:
            trainer.save(tmp_path)
        losses.append(trainer.advance([batch], step))

    restored = create(name, plan, fresh_weights(HPARAMS, seed=2))
    restored.advance(batches[:1], 0)  # of which nothing is left
    restored.restore(tmp_path)
    assert [restored.advance([batch], step) for step, batch in enumerate(batches[4:], start=4)] == losses[4:]
    assert_equal(restored.average(), trainer.average())
    assert restored.sample([END], 8, seed=1) == trainer.sample([END], 8, seed=1)


def test_compiled_it_takes_the_same_steps(compiler_cache: Path) -> None:
    plain, compiled = create("torch"), create("torch", dataclasses.replace(PLAN, compiled=True))
    for step, batch in enumerate(random_batches(5)):
        batch[0, 20:] = IGNORED
        assert compiled.advance([batch], step) == pytest.approx(plain.advance([batch], step), rel=1e-5)
    assert any(compiler_cache.iterdir())
    assert difference(plain.average(), compiled.average()) < 1e-5


def test_compiled_with_threads_it_can_be_repeated_to_the_bit(compiler_cache: Path) -> None:
    """A batch that threads share, of few tokens, whose gradients many rows add to."""
    hparams = HParams(n_vocab=300, n_ctx=256, n_embd=64, n_head=2, n_layer=1)
    plan = dataclasses.replace(PLAN, batch_size=16, compiled=True)
    batches = np.random.default_rng(1).integers(0, 20, (4, 16, 257))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, *others = (TorchTrainer(hparams, fresh_weights(hparams, seed=1), END, plan) for _ in range(3))
        for trainer in (first, *others):
            for step, batch in enumerate(batches):
                trainer.advance([batch], step)
    finally:
        torch.set_num_threads(threads)
    for other in others:
        assert_equal(other.average(), first.average())


def test_without_a_compiler_there_is_no_compiled_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match="there is no no-such-compiler: install one"):
        create("torch", dataclasses.replace(PLAN, compiled=True))


def test_accumulated_batches_count_as_one(trainer_name: str) -> None:
    [batch] = random_batches(1, rows=4)
    whole, halves = create(trainer_name), create(trainer_name)
    loss = whole.advance([batch], 0)
    assert halves.advance([batch[:2], batch[2:]], 0) == pytest.approx(loss, rel=1e-5)
    assert difference(whole.average(), halves.average()) < 1e-5


def test_a_model_that_knows_nothing_pays_for_every_target_alike(trainer_name: str) -> None:
    weights = fresh_weights(HPARAMS, seed=1)
    weights["wte"] *= 0
    [batch] = random_batches(1)
    batch[1, 7:] = IGNORED
    targets = 2 * HPARAMS.n_ctx + 6
    assert create(trainer_name, weights=weights).nats(batch) == pytest.approx(targets * np.log(300), rel=1e-5)


def test_what_is_ignored_costs_nothing_and_changes_nothing(trainer_name: str) -> None:
    trainer = create(trainer_name)
    [batch] = random_batches(1)
    padded = np.full((3, HPARAMS.n_ctx + 1), IGNORED)
    padded[:, :20] = batch[:, :20]
    assert trainer.nats(padded) == pytest.approx(trainer.nats(batch[:, :20]), rel=1e-5)


def test_embeddings_and_the_last_norm_stay_when_the_blocks_alone_are_trained(trainer_name: str) -> None:
    trainer = create(trainer_name, dataclasses.replace(PLAN, only_train_transformer_layers=True))
    before = trainer.average()
    for step, batch in enumerate(random_batches(3)):
        trainer.advance([batch], step)
    after = trainer.average()
    same = {name for name in after if np.array_equal(before[name], after[name])}
    assert same == {"wte", "wpe", "ln_f/g", "ln_f/b"}


def test_a_trainer_leaves_the_weights_it_started_from_alone(trainer_name: str) -> None:
    weights = fresh_weights(HPARAMS, seed=1)
    trainer = create(trainer_name, weights=weights)
    assert_equal(trainer.average(), weights)
    first = trainer.average()
    trainer.advance(random_batches(1), 0)
    assert_equal(weights, fresh_weights(HPARAMS, seed=1))
    assert_equal(first, weights)


def test_a_sample_depends_on_its_seed_alone(trainer_name: str) -> None:
    trainer = create(trainer_name)
    once = trainer.sample([END, 1, 2], 10, seed=1)
    assert trainer.sample([END, 1, 2], 10, seed=2) != once
    assert trainer.sample([END, 1, 2], 10, seed=1) == once
    assert len(once) <= 10
    assert set(once) <= set(range(300)) - {END}


def test_a_sample_ends_where_the_context_does(trainer_name: str) -> None:
    trainer = create(trainer_name, weights=fresh_weights(HPARAMS, 1) | {"wte": without_end_of_text()})
    assert len(trainer.sample([1] * 30, 10, seed=1)) == 2
    assert len(trainer.sample([1], 100, seed=1)) == HPARAMS.n_ctx - 1


def without_end_of_text() -> np.ndarray:
    """Embeddings with which `<|endoftext|>` is never among the 40 likeliest tokens after the token 1."""
    wte = np.zeros((300, HPARAMS.n_embd), np.float32)
    wte[:, 0] = 1  # a direction that every token shares, the end excepted
    wte[END, 0] = -1
    return wte


def test_a_sample_ends_before_the_end_of_the_text(trainer_name: str) -> None:
    weights = fresh_weights(HPARAMS, seed=1)
    weights["ln_f/b"] = np.full(HPARAMS.n_embd, 10, np.float32)
    weights["wte"][END] = 10
    assert create(trainer_name, weights=weights).sample([1, 2], 10, seed=1) == []


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("torch", {"optimizer": "lion"}, "optimizer 'lion' is none of muon, adam, sgd, which PyTorch's"),
        (
            "gpt-2-simple",
            {"optimizer": "muon"},
            "optimizer 'muon' is none of adam, sgd, which gpt-2-simple's",
        ),
        ("gpt-2-simple", {"dropout": 0.1}, "dropout is 0.1, and gpt-2-simple's model has none: set it to 0"),
        (
            "gpt-2-simple",
            {"label_smoothing": 0.1},
            "label_smoothing is 0.1, and gpt-2-simple's loss has none: set it to 0",
        ),
        ("gpt-2-simple", {"compiled": True}, "compiled is for --trainer torch alone: leave it out"),
    ],
)
def test_what_a_trainer_lacks_is_refused(name: str, change: dict[str, float | str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create(name, dataclasses.replace(PLAN, **change))  # type: ignore[arg-type]


def test_the_task_names_its_trainer(task: Task, tokenizer: Tokenizer) -> None:
    assert isinstance(new_trainer(task), TorchTrainer)
    assert isinstance(new_trainer(dataclasses.replace(task, trainer="gpt-2-simple")), Gpt2SimpleTrainer)


def test_the_session_ends_with_its_trainer() -> None:
    trainer = create("gpt-2-simple")
    assert isinstance(trainer, Gpt2SimpleTrainer)
    session, operation = trainer._session, trainer._seed
    del trainer
    gc.collect()
    with pytest.raises(RuntimeError, match="closed"):
        session.run(operation)


def test_dropout_is_drawn_anew_every_step_and_the_same_way_every_time() -> None:
    [batch] = random_batches(1)
    plan = dataclasses.replace(PLAN, dropout=0.5, learning_rate=0.0)

    def losses(seed: int) -> list[float]:
        torch.manual_seed(seed)  # which a step must not depend on
        trainer = create("torch", plan)
        return [trainer.advance([batch], step) for step in range(3)]

    assert losses(1) == losses(2)
    assert len(set(losses(1))) == 3


def test_smoothed_targets_leave_every_token_its_share() -> None:
    """The model is of one mind about a text that it sees again and again, but for what the smoothing takes away."""
    [batch] = random_batches(1)
    share = 0.2
    plan = dataclasses.replace(PLAN, steps=300, learning_rate=0.01, label_smoothing=share, averaging=0.0)
    trainer = create("torch", plan)
    losses = [trainer.advance([batch], step) for step in range(plan.steps)]
    # The least cost of targets that are so with 1 - share + share / V, and every other token with share / V.
    other = share / HPARAMS.n_vocab
    certain = 1 - share + other
    least = -certain * math.log(certain) - (HPARAMS.n_vocab - 1) * other * math.log(other)
    assert least < losses[-1] < (losses[0] + least) / 2
    # What it really pays is as if it gave each its share; the measure itself is not smoothed.
    assert trainer.nats(batch) / batch[:, 1:].size == pytest.approx(-math.log(certain), abs=0.15)
