"""What `pokegen finetune` writes says the same to our server, to gpt-2-simple and to transformers."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import gpt_2_simple
import numpy as np
import pytest
import tensorflow as tf
from gpt_2_simple.src import encoder, model, sample
from transformers import AutoTokenizer, GPT2LMHeadModel

from finetune.train.command import TRAINERS
from finetune.weights import read_weights
from server.engine import SamplingParams, create_engine
from server.weights import HParams, open_checkpoint
from server.weights.layout import tensor_shapes
from tests.checkpoints import write_gpt2_simple
from tests.pipeline.conftest import ROOT, Given, options, pokegen

PREFIXES = ["Ash and Pikachu were", "Pokémon — “quoted”", "Team Rocket have a plan:\n\n", ""]
LENGTH = 24

# From random weights, which never say the same twice; few steps of training leave it so.
HPARAMS = HParams(n_vocab=300, n_ctx=64, n_embd=16, n_head=2, n_layer=2)


def finetune(given: Given, base: Path, out: Path, **others: object) -> None:
    """`pokegen finetune`, from the checkpoint `base` to the checkpoint `out`."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
            patch.setenv(variable, "1")  # the command sets them, and this takes that back
        places = {"model_dir": base.parent, "model_name": base.name, "dataset": given.dataset, "threads": 1}
        places |= {"run_name": out.name, "checkpoint_dir": out.parent, "state_dir": out.parent / "state"}
        pokegen("finetune", *options(**places, steps=4, batch_size=2, sample_num=0, **others))


@pytest.fixture(scope="module", params=TRAINERS)
def trainer(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def checkpoint(trainer: str, given: Given, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pokegen finetune` wrote."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write_gpt2_simple(folder / "base", HPARAMS)
    finetune(given, folder / "base", folder / "run1", trainer=trainer, learning_rate=1e-2)
    return folder / "run1"


def our_server(checkpoint: Path, prefix: str) -> str:
    with open_checkpoint(checkpoint) as opened:
        engine = create_engine(opened, "numpy", max_running=1, max_waiting=1)
        greedy = SamplingParams(length=LENGTH, temperature=0, ignore_end_of_text=True)
        [generated] = engine.submit(prefix, greedy).result(timeout=60)
        engine.close()
        return engine.tokenizer.decode(generated.tokens)


def gpt2_simple(checkpoint: Path, prefix: str) -> str:
    """By its load_gpt2, encoder and sampler. Its generate() can't say `<|endoftext|>` before a prefix, a token can."""
    with tf.Graph().as_default():
        session = gpt_2_simple.start_tf_sess()
        gpt_2_simple.load_gpt2(session, checkpoint_dir=str(checkpoint.parent), run_name=checkpoint.name)
        theirs = encoder.get_encoder(str(checkpoint))
        tokens = [theirs.encoder["<|endoftext|>"], *theirs.encode(prefix)]
        with open_checkpoint(checkpoint) as opened:
            hparams = model.HParams(**asdict(opened.hparams))
        context = tf.constant([tokens])
        sampling = {"length": LENGTH, "temperature": 1.0, "top_k": 1}
        output = sample.sample_sequence(hparams=hparams, context=context, batch_size=1, **sampling)
        text: str = theirs.decode(session.run(output)[0, len(tokens) :])
        session.close()
    return text


def transformers(checkpoint: Path, prefix: str) -> str:
    theirs: Any = GPT2LMHeadModel.from_pretrained(checkpoint)
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    prompt = tokenizer(prefix, return_tensors="pt")
    greedy = {"max_new_tokens": LENGTH, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    text: str = tokenizer.decode(theirs.generate(**prompt, **greedy)[0, prompt.input_ids.shape[1] :])
    return text


@pytest.mark.parametrize("prefix", PREFIXES)
def test_all_three_say_the_same(checkpoint: Path, prefix: str) -> None:
    text = our_server(checkpoint, prefix)
    assert text
    assert gpt2_simple(checkpoint, prefix) == text
    assert transformers(checkpoint, prefix) == text


def test_all_three_say_the_same_of_the_shipped_checkpoint(tmp_path: Path) -> None:
    pokegen("export", ROOT / "checkpoint/run1", tmp_path / "run1")
    text = our_server(tmp_path / "run1", "Pikachu is arrested for tax evasion.")
    assert gpt2_simple(tmp_path / "run1", "Pikachu is arrested for tax evasion.") == text
    assert transformers(tmp_path / "run1", "Pikachu is arrested for tax evasion.") == text


def test_every_prefix_is_continued_in_its_own_way(checkpoint: Path) -> None:
    """Otherwise the test above would show little."""
    assert len({our_server(checkpoint, prefix) for prefix in PREFIXES}) == len(PREFIXES)


@pytest.mark.parametrize("to", ["transformers", "gpt-2-simple"])
def test_what_one_trainer_wrote_the_other_starts_from(
    trainer: str, checkpoint: Path, given: Given, tmp_path: Path, to: str
) -> None:
    """At a learning rate of zero, and without an average, it ends where it began."""
    [other] = set(TRAINERS) - {trainer}
    pokegen("export", checkpoint, tmp_path / "base", *options(format=to))
    still = {"trainer": other, "learning_rate": 0, "averaging": 0}
    finetune(given, tmp_path / "base", tmp_path / "run1", **still)

    (hparams, before), (same, after) = read_weights(checkpoint), read_weights(tmp_path / "run1")
    assert same == hparams == HPARAMS
    for name in tensor_shapes(hparams):
        np.testing.assert_array_equal(after[name], before[name], name)
