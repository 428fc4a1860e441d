"""Log-probabilities: what they are, who gets them, and that asking for them changes nothing else."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from server.engine import Engine, EngineFailedError, Generation, SamplingParams
from server.engine.core import Core, SequentialCore
from server.engine.gpt2 import GPT2
from server.engine.kv_blocks import blocks_for
from server.engine.logprobs import MAX_LOGPROBS, TokenLogprobs, token_logprobs
from server.engine.native import NativeCore
from server.engine.scheduler import PREFILL_CHUNK
from server.weights import Checkpoint

N_BLOCKS = 8 * blocks_for(256)
# Two chunks that samples share, and a third that each of them reads for itself.
PROMPT = [5 + i * i % 311 for i in range(2 * PREFILL_CHUNK + 9)]
SHORT = PROMPT[:3]


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


# --- Of one row ------------------------------------------------------------------------------------------------


@given(
    arrays(np.float32, st.integers(1, 300), elements=st.floats(-80, 80, width=32)),
    st.integers(0, MAX_LOGPROBS),
    st.data(),
)
def test_they_are_the_log_softmax_and_the_likeliest_come_first(
    logits: NDArray[np.float32], n: int, data: st.DataObject
) -> None:
    token = data.draw(st.integers(0, len(logits) - 1))
    [found] = token_logprobs([logits], [token], n)
    expected = log_softmax(logits)
    assert found.token == token
    assert found.logprob == pytest.approx(expected[token], abs=1e-5)
    order = np.argsort(-logits, kind="stable")[:n].tolist()  # of two that are as likely, the lower id
    assert [likely for likely, _ in found.likeliest] == order
    assert [logprob for _, logprob in found.likeliest] == pytest.approx(expected[order], abs=1e-5)


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_refused(strange: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        token_logprobs([np.full(3, strange, np.float32)], [0], 1)


# --- Of a generation -------------------------------------------------------------------------------------------

MakeEngine = Callable[..., Engine]


@pytest.fixture(params=["numpy", "float32", "int8"])
def core(request: pytest.FixtureRequest, tiny_checkpoint: Checkpoint) -> Core:
    if request.param == "numpy":
        return SequentialCore(GPT2(tiny_checkpoint, N_BLOCKS))
    return NativeCore(tiny_checkpoint, request.param, N_BLOCKS, 2, "auto")


@pytest.fixture
def make_engine(core: Core, tiny_checkpoint: Checkpoint) -> Iterator[MakeEngine]:
    engines = []

    def make(max_running: int = 8) -> Engine:
        engines.append(
            Engine(
                core,
                tiny_checkpoint.hparams,
                tiny_checkpoint.tokenizer,
                n_blocks=N_BLOCKS,
                max_running=max_running,
                max_waiting=64,
            )
        )
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def ask(engine: Engine, prompt: list[int] = PROMPT, **fields: object) -> Generation:
    wish = {"length": 8, "seed": 3, "temperature": 2.0, "ignore_end_of_text": True} | fields
    generation = engine.submit(prompt, SamplingParams(**wish))  # type: ignore[arg-type]
    generation.result(timeout=60)
    return generation


def scores_of(generation: Generation) -> list[list[TokenLogprobs]]:
    return [generation.prompt_logprobs, *(sample.logprobs for sample in generation.samples)]


def tokens_of(generation: Generation) -> list[list[int]]:
    return [sample.tokens for sample in generation.samples]


@pytest.mark.parametrize("prompt", [PROMPT[:1], SHORT, PROMPT[:PREFILL_CHUNK], PROMPT], ids=len)
def test_they_are_the_models_own_of_every_token(
    make_engine: MakeEngine, core: Core, tiny_checkpoint: Checkpoint, prompt: list[int]
) -> None:
    """Whatever temperature, top_k and top_p the tokens are drawn with."""
    generation = ask(make_engine(), prompt, logprobs=5, prompt_logprobs=True, nsamples=2, top_p=0.9)
    assert [scored.token for scored in generation.prompt_logprobs] == prompt[1:]
    for sample in generation.samples:
        assert [scored.token for scored in sample.logprobs] == sample.tokens
        text = prompt + sample.tokens
        blocks = list(range(blocks_for(len(text))))
        model = core if isinstance(core, NativeCore) else GPT2(tiny_checkpoint, len(blocks))
        expected = log_softmax(model.all_logits(text, 0, blocks))
        for row, scored in zip(expected, generation.prompt_logprobs + sample.logprobs, strict=False):
            assert scored.logprob == pytest.approx(row[scored.token], abs=1e-4)
            assert [logprob for _, logprob in scored.likeliest] == pytest.approx(
                np.sort(row)[:-6:-1], abs=1e-4
            )


def test_nobody_gets_what_he_has_not_asked_for(make_engine: MakeEngine) -> None:
    engine = make_engine()
    assert scores_of(ask(engine)) == [[], []]
    of_prompt, of_text = scores_of(ask(engine, logprobs=0))
    assert of_prompt == []
    assert [scored.likeliest for scored in of_text] == [[]] * 8


def test_asking_does_not_change_the_text(make_engine: MakeEngine) -> None:
    engine = make_engine()
    for prompt in (SHORT, PROMPT):
        plain = tokens_of(ask(engine, prompt, nsamples=3))
        assert tokens_of(ask(engine, prompt, nsamples=3, logprobs=2)) == plain
        assert tokens_of(ask(engine, prompt, nsamples=3, logprobs=2, prompt_logprobs=True)) == plain


@pytest.mark.parametrize("max_running", [1, 2, 8])
def test_samples_have_their_prompts_in_common(make_engine: MakeEngine, max_running: int) -> None:
    engine = make_engine(max_running)
    one = scores_of(ask(engine, logprobs=2, prompt_logprobs=True))
    three = scores_of(ask(engine, logprobs=2, prompt_logprobs=True, nsamples=3))
    assert three[:2] == one
    [prompt, third] = scores_of(ask(engine, logprobs=2, prompt_logprobs=True, first_sample=2))
    assert [prompt, third] == [one[0], three[3]]


def test_they_do_not_depend_on_who_else_reads(make_engine: MakeEngine) -> None:
    """To the last bit: the same in a crowd, where some ask and some do not, as alone."""
    wishes = [
        {"prompt": prompt, "seed": seed, "nsamples": 1 + seed % 2, "logprobs": [None, 0, 5][seed % 3]}
        for seed in range(12)
        for prompt in (SHORT, PROMPT)
    ]
    for wish in wishes:
        wish["prompt_logprobs"] = wish["logprobs"] == 5
    quiet, crowded = make_engine(max_running=1), make_engine()
    alone = [ask(quiet, **wish) for wish in wishes]  # type: ignore[arg-type]
    together = [
        crowded.submit(
            wish.pop("prompt"),  # type: ignore[arg-type]
            SamplingParams(length=8, temperature=2.0, ignore_end_of_text=True, **wish),  # type: ignore[arg-type]
        )
        for wish in wishes
    ]
    for one, other in zip(alone, together, strict=True):
        other.result(timeout=60)
        assert tokens_of(one) == tokens_of(other)
        assert scores_of(one) == scores_of(other)


def test_the_end_of_the_text_has_one_too(tiny_checkpoint: Checkpoint) -> None:
    end = tiny_checkpoint.tokenizer.end_of_text
    model = GPT2(tiny_checkpoint, N_BLOCKS)
    model._weights["ln_f/g"][:] = 0  # now the end is the likeliest token everywhere
    model._weights["ln_f/b"][:] = tiny_checkpoint.tensor("wte")[end]
    engine = Engine(
        SequentialCore(model),
        tiny_checkpoint.hparams,
        tiny_checkpoint.tokenizer,
        n_blocks=N_BLOCKS,
        max_running=1,
        max_waiting=1,
    )
    [sample] = ask(engine, temperature=0, ignore_end_of_text=False, logprobs=1).samples
    engine.close()
    assert sample.tokens == []
    [scored] = sample.logprobs
    assert scored.likeliest == [(end, scored.logprob)]
    assert scored.token == end


def test_a_damaged_model_has_none(tiny_checkpoint: Checkpoint) -> None:
    """Neither where no token is drawn: in the middle of a prompt."""
    model = GPT2(tiny_checkpoint, N_BLOCKS)
    model._weights["wpe"][PREFILL_CHUNK - 1] = np.nan
    engine = Engine(
        SequentialCore(model),
        tiny_checkpoint.hparams,
        tiny_checkpoint.tokenizer,
        n_blocks=N_BLOCKS,
        max_running=1,
        max_waiting=1,
    )
    with pytest.raises(EngineFailedError):
        ask(engine, logprobs=1, prompt_logprobs=True)
    engine.close()
