"""A run small enough to train in seconds: a few episodes, a tiny vocabulary, a tiny model."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from finetune.corpus import read_episodes, split
from finetune.train import Plan, Point, encode, new_model, train
from finetune.vocabulary import learn, write

CORPUS = Path(__file__).parents[3] / "corpus"


@pytest.fixture(scope="session")
def texts() -> tuple[list[str], list[str]]:
    """(training, held out): a few of each."""
    training, held_out = split(read_episodes(CORPUS / "episodes"))
    return [episode.text for episode in training[:30]], [episode.text for episode in held_out[:4]]


@pytest.fixture(scope="session")
def tokenizer(texts: tuple[list[str], list[str]]) -> Tokenizer:
    return learn(texts[0], 400)


@pytest.fixture(scope="session")
def vocabulary(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    write(tokenizer, folder)
    return folder


@pytest.fixture
def train_tiny(
    texts: tuple[list[str], list[str]], tokenizer: Tokenizer
) -> Callable[[Path, Plan], list[Point]]:
    """Train a tiny model into a folder by a plan."""

    def run(folder: Path, plan: Plan) -> list[Point]:
        training, held_out = texts
        model = new_model(n_vocab=400, n_ctx=64, n_embd=16, n_head=2, n_layer=2, plan=plan)
        return train(folder, model, plan, [(encode(tokenizer, training), plan.batch)], tokenizer, held_out)

    return run
