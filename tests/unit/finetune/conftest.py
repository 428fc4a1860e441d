"""Training small enough to take seconds: a few episodes, a tiny vocabulary, a tiny model."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from finetune.prepare.held_out import is_held_out
from finetune.prepare.inputs import read_input
from finetune.train.command import TRAINERS
from finetune.train.plan import Plan
from finetune.train.rows import encode
from finetune.train.run import Task
from finetune.vocabulary import learn, write
from finetune.weights import fresh_weights
from server.weights import HParams

CORPUS = Path(__file__).parents[3] / "corpus"

TINY = HParams(n_vocab=400, n_ctx=64, n_embd=16, n_head=2, n_layer=1)
PLAN = Plan(steps=6, learning_rate=1e-3, batch_size=2, warmup=2, cooldown=2, save_every=2)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Matrices this small gain nothing from a second one, which on a busy machine costs a great deal of waiting."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def texts() -> tuple[list[str], list[str]]:
    """(training, held out): a few of each."""
    texts = [document.text for document in read_input(CORPUS / "episodes/kanto.jsonl")]
    training = [text for text in texts if not is_held_out(text)]
    return training[:30], [text for text in texts if is_held_out(text)][:4]


@pytest.fixture(scope="session")
def tokenizer(texts: tuple[list[str], list[str]]) -> Tokenizer:
    return learn(texts[0], TINY.n_vocab)


@pytest.fixture(scope="session")
def vocabulary(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    write(tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def task(texts: tuple[list[str], list[str]], tokenizer: Tokenizer) -> Task:
    """Train a tiny model from nothing, with PyTorch."""
    training, held_out = texts
    return Task(
        plan=PLAN,
        hparams=TINY,
        weights=fresh_weights(TINY, seed=1),
        tokenizer=tokenizer,
        sources=[(encode(tokenizer, training), PLAN.batch_size)],
        held_out=held_out,
        trainer="torch",
    )


@pytest.fixture(params=TRAINERS)
def trainer_name(request: pytest.FixtureRequest) -> str:
    """Every trainer in turn."""
    name: str = request.param
    return name
