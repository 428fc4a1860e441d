"""`pokegen evaluate`: figures that can be worked out by hand, what it writes, and what it refuses."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from finetune import vocabulary
from finetune.documents import write_documents
from finetune.evaluate.command import command, evaluate, read_evaluation
from finetune.evaluate.perplexity import from_checkpoint, perplexity
from finetune.evaluate.samples import SAMPLES_FILE
from finetune.publish.export import export
from finetune.train.rows import encode
from finetune.weights import Weights, fresh_weights
from server.engine import EngineName
from server.weights import HParams, open_checkpoint
from server.weights.layout import tensor_shapes
from tests.checkpoints import TINY, write_gpt2_simple

HPARAMS = HParams(n_vocab=257, n_ctx=16, n_embd=4, n_head=1, n_layer=1)
TRAINING = [
    "Ash and Pikachu were in Vermilion City, where the Raichu of Lt. Surge had beaten every trainer since spring.",
    "Misty spends the whole afternoon looking for a lost Goldeen, and Brock cooks for everybody meanwhile.",
]
HELD_OUT = [
    "Meowth digs a pit.",
    "Jigglypuff sings, and nobody stays awake to hear the end of the song.",
    "é",
]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def of_known_probabilities(folder: Path, probabilities: dict[str, float]) -> Tokenizer:
    """A checkpoint that tells every token by these odds, whatever was before it: a byte or `<|endoftext|>` each.

    The last norm gives (1, 0, 0, 0) at every place, and a token's embedding begins with the logarithm of its odds.
    """
    tokenizer = vocabulary.learn([], HPARAMS.n_vocab)
    weights: Weights = {name: np.zeros(shape, np.float32) for name, shape in tensor_shapes(HPARAMS).items()}
    weights["ln_f/b"][0] = 1
    weights["wte"][:, 0] = -30
    for token, probability in probabilities.items():
        weights["wte"][tokenizer.token_to_id(token), 0] = math.log(probability)
    export(folder, HPARAMS, weights, tokenizer, formats=("transformers",))
    return tokenizer


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Bytes of `ab`, each a token, with probabilities of 1/2, 1/4, and 1/4 for the end."""
    of_known_probabilities(tmp_path / "coin", {"a": 1 / 2, "b": 1 / 4, "<|endoftext|>": 1 / 4})
    return tmp_path / "coin"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "episodes"
    folder.mkdir()
    write_documents(folder / "train.txt", TRAINING)
    write_documents(folder / "held-out.txt", HELD_OUT)
    return folder


def test_perplexity_by_hand(checkpoint: Path) -> None:
    """The text aab and its end cost 1 + 1 + 2 + 2 bits, an empty text its end alone: 5 tokens, 3 bytes."""
    with open_checkpoint(checkpoint) as opened:
        found = perplexity(from_checkpoint(opened, "numpy"), ["aab", ""])
    assert (found.model, found.kind, found.tokens) == ("coin", "checkpoint", 5)
    assert found.perplexity_per_token == pytest.approx(2 ** (8 / 5))
    assert found.bits_per_byte == pytest.approx(8 / 3)
    assert found.perplexity_per_byte == pytest.approx(2 ** (8 / 3))


def test_texts_longer_than_the_context_are_counted_whole(checkpoint: Path) -> None:
    with open_checkpoint(checkpoint) as opened:
        found = perplexity(from_checkpoint(opened, "numpy"), ["a" * 100])
    assert found.tokens == 101
    assert found.bits_per_byte == pytest.approx(102 / 100)


@pytest.mark.parametrize("engine", ["numpy", "gpt2-simple"])
def test_every_engine_finds_what_transformers_finds(tmp_path: Path, engine: EngineName) -> None:
    tokenizer = vocabulary.learn(TRAINING, 300)
    hparams = HParams(n_vocab=300, n_ctx=64, n_embd=8, n_head=2, n_layer=2)
    export(tmp_path / "run", hparams, fresh_weights(hparams, seed=1), tokenizer, formats=("transformers",))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    (document,) = (torch.tensor([tokens]) for tokens in encode(tokenizer, HELD_OUT[:1]))
    with open_checkpoint(tmp_path / "run") as opened:
        found = perplexity(from_checkpoint(opened, engine), HELD_OUT[:1])
    assert math.log(found.perplexity_per_token) == pytest.approx(model(document, labels=document).loss.item())


def test_what_is_written_is_what_was_measured(checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    result = run(
        checkpoint, "--dataset", dataset, "--samples", 4, "--top-k", 0, "--temperature", 1, "--seed", 7
    )
    assert result.exit_code == 0, result.output
    found = read_evaluation(checkpoint)
    assert dataclasses.asdict(found) == json.loads((checkpoint / "evaluation.json").read_text())
    assert (found.checkpoint, found.dataset, found.engine) == ("coin", "episodes", "float32")
    assert (found.held_out_texts, found.held_out_words, found.held_out_bytes) == (3, 18, 89)
    assert (found.samples, found.seed, found.temperature, found.top_k, found.top_p) == (4, 7, 1, 0, 0)
    assert found.length == HPARAMS.n_ctx - 1
    assert [each.model for each in found.perplexities] == ["coin", "coin in int8", "5-gram of episodes"]
    assert len({each.tokens for each in found.perplexities}) == 1
    assert found.samples_diversity.texts == found.held_out_diversity.texts == 3
    (copying,) = found.copying
    assert (copying.training, copying.documents) == ("episodes", 2)
    assert copying.samples_share_of_12_grams is None  # 15 bytes hold no 12 words that are a and b alone
    assert copying.held_out_share_of_12_grams == 0
    assert f"{found.perplexities[1].bits_per_byte:.3f}" in result.output
    assert str(tmp_path) not in (checkpoint / "evaluation.json").read_text()


def test_other_training_texts_and_checkpoints_stand_beside(
    checkpoint: Path, dataset: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    write_documents(base / "train.txt", HELD_OUT * 3)
    write_gpt2_simple(tmp_path / "tiny", TINY)
    found = evaluate(checkpoint, dataset, [base, dataset], [tmp_path / "tiny"], samples=2)
    assert [(each.model, each.kind) for each in found.perplexities] == [
        ("coin", "checkpoint"),
        ("coin in int8", "checkpoint"),
        ("tiny", "checkpoint"),
        ("5-gram of episodes", "5-gram"),
        ("5-gram of episodes and base", "5-gram"),
    ]
    _, _, _, alone, with_held_out = found.perplexities
    assert with_held_out.bits_per_byte < alone.bits_per_byte / 2  # it has read the very texts
    assert [(each.training, each.held_out_share_of_12_grams) for each in found.copying] == [
        ("episodes", 0),
        ("base", 1),
    ]


def test_samples_are_those_that_were_asked_for_and_are_kept(checkpoint: Path, dataset: Path) -> None:
    drawn = evaluate(checkpoint, dataset, samples=6, temperature=1, top_k=0)
    lines = (checkpoint / SAMPLES_FILE).read_text().splitlines(keepends=True)
    texts = [json.loads(line)["text"] for line in lines[1:]]
    assert len(texts) == 6
    assert set("".join(texts)) <= {"a", "b"}
    assert len(set(texts)) > 1

    # Killed while it wrote the third, and called again.
    (checkpoint / SAMPLES_FILE).write_text("".join(lines[:3]) + lines[3][:5])
    assert evaluate(checkpoint, dataset, samples=6, temperature=1, top_k=0) == drawn
    assert (checkpoint / SAMPLES_FILE).read_text() == "".join(lines)

    # Fewer are the first of them; others are drawn anew.
    evaluate(checkpoint, dataset, samples=2, temperature=1, top_k=0)
    assert (checkpoint / SAMPLES_FILE).read_text() == "".join(lines)
    evaluate(checkpoint, dataset, samples=2, temperature=1, top_k=0, seed=2)
    assert len((checkpoint / SAMPLES_FILE).read_text().splitlines()) == 1 + 2


def test_defaults_are_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says: a figure is to mean the same on every machine."""
    monkeypatch.setenv("POKEGEN_TEMPERATURE", "2")
    monkeypatch.setenv("COLUMNS", "200")
    shown = run("--help").output
    assert "default: 0.2" in shown
    assert "default: 40" in shown


@pytest.mark.parametrize(
    ("texts", "said"), [(["", " "], "has no words"), (["..."], "has no words"), (None, "is missing")]
)
def test_held_out_texts_that_measure_nothing_are_refused(
    checkpoint: Path, dataset: Path, texts: list[str] | None, said: str
) -> None:
    if texts is None:
        (dataset / "held-out.txt").unlink()
    else:
        write_documents(dataset / "held-out.txt", texts)
    with pytest.raises((ValueError, FileNotFoundError), match=rf"held-out.txt {said}.*pokegen prepare"):
        evaluate(checkpoint, dataset)
    assert not (checkpoint / "evaluation.json").exists()


def test_one_short_held_out_text_is_enough_for_what_can_be_told(checkpoint: Path, dataset: Path) -> None:
    write_documents(dataset / "held-out.txt", ["Ash wins."])
    found = evaluate(checkpoint, dataset, samples=2)
    assert found.held_out_diversity.self_bleu is None
    assert found.held_out_diversity.distinct_3 is None
    assert found.copying[0].held_out_share_of_12_grams is None
    assert found.copying[0].held_out_longest_run_max == 1


def test_missing_things_are_named(checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere/train\.txt is missing"):
        evaluate(checkpoint, dataset, [tmp_path / "nowhere"])
    missing = run(tmp_path / "nowhere", "--dataset", dataset)
    assert missing.exit_code == 1
    assert "nowhere: can't be opened" in missing.output
    with pytest.raises(
        FileNotFoundError, match=r"evaluation\.json is missing: make it with `pokegen evaluate"
    ):
        read_evaluation(checkpoint)


def test_a_file_that_is_no_evaluation_is_refused(checkpoint: Path) -> None:
    (checkpoint / "evaluation.json").write_text("{}")
    with pytest.raises(ValueError, match=r"evaluation\.json: checkpoint: Field required; run [^\n]*$"):
        read_evaluation(checkpoint)
