"""The NumPy engine says what gpt-2-simple itself says, and what transformers says, on the same checkpoint."""

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gpt_2_simple
import numpy as np
import pytest
import tensorflow as tf
import torch
from gpt_2_simple.src import encoder, model, sample
from numpy.typing import NDArray
from transformers import GPT2LMHeadModel

from server.engine import Engine, SamplingParams, create_engine
from server.engine.gpt2 import GPT2
from server.engine.gpt2_simple import GPT2Simple
from server.engine.kv_blocks import blocks_for
from server.weights import Checkpoint, HParams, open_checkpoint
from tests.checkpoints import write_gpt2_simple, write_transformers

SHAPES = [
    HParams(n_vocab=300, n_ctx=256, n_embd=48, n_head=3, n_layer=2),
    HParams(n_vocab=513, n_ctx=224, n_embd=64, n_head=1, n_layer=1),
    HParams(n_vocab=1000, n_ctx=192, n_embd=80, n_head=5, n_layer=5),
]

PREFIXES = [
    "Ash and Pikachu were",
    "Ash and Misty are on a date when",
    "Ash wants to be the very best, and to reach this goal",
    "Pikachu is arrested for tax evasion.",
    "Team Rocket",
    "A",
    "  two spaces, a\ttab and\n\na new paragraph",
    "Pokémon, naïve café, 100% — “quoted”",
    "ポケモン 😀",
    "On a bright and windy day Ash and his friends come down out of the hills.",
]

LENGTH = 64
GREEDY = SamplingParams(length=LENGTH, temperature=0, ignore_end_of_text=True)


@dataclass
class Oracle:
    """gpt-2-simple's own encoder, model and sampler over one of its checkpoints, in one TensorFlow session."""

    directory: Path
    hparams: HParams

    def __post_init__(self) -> None:
        theirs = model.default_hparams()
        theirs.override_from_dict(asdict(self.hparams))
        self.encoder = encoder.get_encoder(str(self.directory))
        with tf.Graph().as_default() as graph:
            self._context = tf.compat.v1.placeholder(tf.int32, [1, None])
            self._logits = model.model(hparams=theirs, X=self._context)["logits"]
            self._greedy = sample.sample_sequence(
                hparams=theirs, length=LENGTH, context=self._context, batch_size=1, temperature=1.0, top_k=1
            )
            self._session = tf.compat.v1.Session(graph=graph)
            tf.compat.v1.train.Saver().restore(self._session, tf.train.latest_checkpoint(str(self.directory)))

    def logits(self, tokens: list[int]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = self._session.run(self._logits, {self._context: [tokens]})[0]
        return result

    def greedy(self, tokens: list[int]) -> list[int]:
        result: list[int] = self._session.run(self._greedy, {self._context: [tokens]})[
            0, len(tokens) :
        ].tolist()
        return result


@pytest.fixture(scope="module", params=SHAPES, ids=lambda h: f"{h.n_layer}x{h.n_embd}")
def oracle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    directory = tmp_path_factory.mktemp("parity") / "checkpoint" / "run1"
    write_gpt2_simple(directory, request.param, seed=1)
    return Oracle(directory, request.param)


@pytest.fixture(scope="module")
def checkpoint(oracle: Oracle) -> Iterator[Checkpoint]:
    with open_checkpoint(oracle.directory) as opened:
        yield opened


@pytest.fixture(scope="module", params=["float32", "numpy", "gpt2-simple"])
def engine(request: pytest.FixtureRequest, checkpoint: Checkpoint) -> Iterator[Engine]:
    engine = create_engine(checkpoint, request.param, max_running=4, max_waiting=64)
    yield engine
    engine.close()


def logits_of(gpt2: GPT2, tokens: list[int], chunk: int) -> NDArray[np.float32]:
    """The logits (T, V) behind every token, computed `chunk` tokens at a time over the key/value cache."""
    blocks = list(range(blocks_for(gpt2.hparams.n_ctx)))[::-1]
    hidden = [gpt2.hidden(tokens[at : at + chunk], at, blocks) for at in range(0, len(tokens), chunk)]
    return np.concatenate(hidden) @ gpt2._weights["wte"].T


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_logits_agree_with_gpt2_simple(oracle: Oracle, checkpoint: Checkpoint, chunk: int) -> None:
    gpt2 = GPT2(checkpoint, blocks_for(oracle.hparams.n_ctx))
    whole_context = (
        np.random.default_rng(0).integers(0, oracle.hparams.n_vocab, oracle.hparams.n_ctx).tolist()
    )
    for tokens in [*(oracle.encoder.encode(prefix) for prefix in PREFIXES), whole_context]:
        np.testing.assert_allclose(logits_of(gpt2, tokens, chunk), oracle.logits(tokens), rtol=0, atol=1e-4)


def test_greedy_text_is_gpt2_simples(oracle: Oracle, engine: Engine) -> None:
    for prefix in PREFIXES:
        prompt = oracle.encoder.encode(prefix)
        assert engine.tokenizer.encode(prefix) == prompt
        [ours] = engine.submit(prompt, GREEDY).result(timeout=60)
        assert ours.tokens == oracle.greedy(prompt), prefix
        assert len(ours.tokens) == LENGTH


def test_logprobs_are_those_of_gpt2_simples_logits(oracle: Oracle, engine: Engine) -> None:
    params = SamplingParams(length=8, seed=3, logprobs=1, prompt_logprobs=True, ignore_end_of_text=True)
    for prefix in PREFIXES[:3]:
        prompt = oracle.encoder.encode(prefix)
        generation = engine.submit(prompt, params)
        [sample] = generation.result(timeout=60)
        scores = generation.prompt_logprobs + sample.logprobs
        assert [scored.token for scored in scores] == [*prompt[1:], *sample.tokens]
        logits = torch.tensor(oracle.logits(prompt + sample.tokens))
        expected = torch.log_softmax(logits.double(), dim=-1).numpy()
        for row, scored in zip(expected, scores, strict=False):
            assert scored.logprob == pytest.approx(row[scored.token], abs=1e-4)
            [(likeliest, logprob)] = scored.likeliest
            assert likeliest == row.argmax()
            assert logprob == pytest.approx(row.max(), abs=1e-4)


def test_greedy_text_is_that_of_gpt2_simples_generate(oracle: Oracle, engine: Engine) -> None:
    tf.compat.v1.reset_default_graph()
    session = gpt_2_simple.start_tf_sess()
    where = {"run_name": "run1", "checkpoint_dir": str(oracle.directory.parent)}
    gpt_2_simple.load_gpt2(session, **where)
    [theirs] = gpt_2_simple.generate(
        session, **where, prefix=PREFIXES[0], length=16, temperature=1.0, top_k=1, return_as_list=True
    )
    params = SamplingParams(length=16, temperature=0, ignore_end_of_text=True)
    [ours] = engine.submit(PREFIXES[0], params).result(timeout=60)
    assert PREFIXES[0] + engine.tokenizer.decode(ours.tokens) == theirs
    gpt_2_simple.reset_session(session).close()


def test_both_engines_draw_the_same_text_from_a_seed(checkpoint: Checkpoint, engine: Engine) -> None:
    other = create_engine(checkpoint, "numpy", max_running=4, max_waiting=64)
    params = SamplingParams(length=40, temperature=0.9, top_p=0.9, seed=5, nsamples=3)
    for prefix in PREFIXES[:3]:
        texts = [
            [sample.text for sample in each.submit(prefix, params).result(timeout=60)]
            for each in (engine, other)
        ]
        assert texts[0] == texts[1]
    other.close()


def test_gpt2_simples_graph_does_not_grow(checkpoint: Checkpoint) -> None:
    ours = GPT2Simple(checkpoint, blocks_for(checkpoint.hparams.n_ctx))
    blocks = list(range(blocks_for(checkpoint.hparams.n_ctx)))
    operations = len(ours._session.graph.get_operations())
    for length in (1, 5, 64):
        ours.logits(list(range(length)), 0, blocks)
    assert len(ours._session.graph.get_operations()) == operations
    assert ours._session.graph.finalized, "TensorFlow itself refuses to add to it"


def test_a_copy_has_the_weights_that_were_copied(tmp_path: Path) -> None:
    """The file `checkpoint` of a copy may name the original's path, where another training's weights lie by now."""
    original, copy = tmp_path / "original", tmp_path / "copy"
    write_gpt2_simple(original, SHAPES[0], seed=1)
    (original / "checkpoint").write_text(
        f'model_checkpoint_path: "{original}/model-1000"\n', encoding="utf-8"
    )
    shutil.copytree(original, copy)
    write_gpt2_simple(original, SHAPES[0], seed=2)
    tokens, blocks = [1, 2, 3], list(range(blocks_for(SHAPES[0].n_ctx)))
    with open_checkpoint(copy) as copied, open_checkpoint(original) as retrained:
        ours = GPT2(copied, len(blocks)).logits(tokens, 0, blocks)
        gpt2_simples = GPT2Simple(copied, len(blocks)).logits(tokens, 0, blocks)
        others = GPT2(retrained, len(blocks)).logits(tokens, 0, blocks)
    np.testing.assert_allclose(gpt2_simples, ours, rtol=0, atol=1e-4)
    assert abs(others - ours).max() > 1


@pytest.fixture(scope="module", params=SHAPES, ids=lambda h: f"{h.n_layer}x{h.n_embd}")
def transformers_directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("parity") / "model"
    write_transformers(directory, request.param, seed=2)
    return directory


def test_logits_and_greedy_tokens_agree_with_transformers(transformers_directory: Path) -> None:
    theirs: Any = GPT2LMHeadModel.from_pretrained(transformers_directory)
    with open_checkpoint(transformers_directory) as checkpoint:
        gpt2 = GPT2(checkpoint, blocks_for(checkpoint.hparams.n_ctx))
        engine = create_engine(checkpoint, "numpy", max_running=4, max_waiting=64)
        for prefix in PREFIXES:
            tokens = checkpoint.tokenizer.encode(prefix)
            context = torch.tensor([tokens])
            with torch.inference_mode():
                logits = theirs(context).logits[0].numpy()
                greedy = theirs.generate(
                    context, max_new_tokens=LENGTH, do_sample=False, eos_token_id=None, pad_token_id=0
                )
            np.testing.assert_allclose(logits_of(gpt2, tokens, 7), logits, rtol=0, atol=1e-4)
            [ours] = engine.submit(tokens, GREEDY).result(timeout=60)
            assert ours.tokens == greedy[0, len(tokens) :].tolist(), prefix
        engine.close()
