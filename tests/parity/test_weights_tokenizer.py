"""Any text has the token ids that gpt-2-simple's encoder and transformers' tokenizer give it."""

from pathlib import Path

import pytest
from gpt_2_simple.src.encoder import Encoder, get_encoder
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Tokenizer, PreTrainedTokenizerBase

from server.weights import HParams, Tokenizer, open_checkpoint
from tests.checkpoints import END_OF_TEXT, EPISODES, write_gpt2_simple, write_transformers

HPARAMS = HParams(n_vocab=900, n_ctx=8, n_embd=4, n_head=2, n_layer=1)

# All but halves of surrogate pairs, which are no text, and code points that this Python's Unicode does not assign:
# each library calls a letter what its own version of Unicode does.
CHARACTERS = st.characters(exclude_categories=("Cs", "Cn"))
WORDS = [
    "Pikachu",
    " Ash",
    "'s",
    "'ll",
    "\u2019",
    "123",
    "é",
    "e\u0301",
    "ポケモン",
    "😀",
    "...",
    "<|",
    "|>",
    "?!",
]
SPACES = ["  ", "\n\n", "\r\n", "\t", "\x00", "\x1c", "\x85", "\u00a0", "\u200d", "\u3000"]
PIECES = st.sampled_from(WORDS + SPACES)
TEXTS = st.lists(st.one_of(PIECES, CHARACTERS, st.text(CHARACTERS, max_size=8)), max_size=20).map("".join)


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    simple, plain, with_bos = (tmp_path_factory.mktemp(name) for name in ("simple", "plain", "bos"))
    write_gpt2_simple(simple, HPARAMS)
    write_transformers(plain, HPARAMS)
    write_transformers(with_bos, HPARAMS, add_bos=True)
    return simple, plain, with_bos


def read_tokenizer(directory: Path) -> Tokenizer:
    with open_checkpoint(directory) as checkpoint:
        return checkpoint.tokenizer


@pytest.fixture(scope="module")
def simple(directories: tuple[Path, Path, Path]) -> tuple[Tokenizer, Encoder]:
    return read_tokenizer(directories[0]), get_encoder(str(directories[0]))


@pytest.fixture(scope="module")
def plain(directories: tuple[Path, Path, Path]) -> tuple[Tokenizer, PreTrainedTokenizerBase]:
    return read_tokenizer(directories[1]), GPT2Tokenizer.from_pretrained(directories[1])


@pytest.fixture(scope="module")
def with_bos(directories: tuple[Path, Path, Path]) -> tuple[Tokenizer, PreTrainedTokenizerBase]:
    return read_tokenizer(directories[2]), GPT2Tokenizer.from_pretrained(directories[2])


@settings(max_examples=250, deadline=None)
@given(text=TEXTS)
def test_gpt2_simple_encodes_alike(simple: tuple[Tokenizer, Encoder], text: str) -> None:
    ours, theirs = simple
    assert ours.encode(text) == theirs.encode(text)
    assert ours.decode(ours.encode(text)) == text


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(st.integers(0, HPARAMS.n_vocab - 1), max_size=40))
def test_gpt2_simple_decodes_alike(simple: tuple[Tokenizer, Encoder], ids: list[int]) -> None:
    ours, theirs = simple
    assert ours.decode(ids) == theirs.decode(ids)


def test_the_delimiter_inside_a_text_is_text_as_in_gpt2_simple(simple: tuple[Tokenizer, Encoder]) -> None:
    ours, theirs = simple
    text = f"one{END_OF_TEXT}two {END_OF_TEXT}"
    assert ours.encode(text) == theirs.encode(text)
    assert ours.end_of_text not in ours.encode(text)


def test_the_corpus_is_encoded_alike(
    simple: tuple[Tokenizer, Encoder], plain: tuple[Tokenizer, PreTrainedTokenizerBase]
) -> None:
    text = (EPISODES / "johto.jsonl").read_text(encoding="utf-8")[:50_000]
    ids = simple[1].encode(text)
    assert simple[0].encode(text) == ids
    assert plain[0].encode(text) == ids
    assert plain[1].encode(text) == ids


@settings(max_examples=200, deadline=None)
@given(text=TEXTS.filter(lambda text: END_OF_TEXT not in text))
def test_transformers_encodes_alike(
    plain: tuple[Tokenizer, PreTrainedTokenizerBase],
    with_bos: tuple[Tokenizer, PreTrainedTokenizerBase],
    text: str,
) -> None:
    assert plain[0].encode(text) == plain[1].encode(text)
    assert with_bos[0].encode_prompt(text) == with_bos[1].encode(text)


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(st.integers(0, HPARAMS.n_vocab - 1), max_size=40))
def test_transformers_decodes_alike(plain: tuple[Tokenizer, PreTrainedTokenizerBase], ids: list[int]) -> None:
    ours, theirs = plain
    assert ours.decode(ids) == theirs.decode(ids, clean_up_tokenization_spaces=False)


def test_vocab_json_and_merges_txt_are_the_same_pair_by_other_names(
    directories: tuple[Path, Path, Path],
) -> None:
    simple, plain, _ = directories
    expected = read_tokenizer(plain)
    moved = plain.parent / "pair"
    moved.mkdir()
    for name in ("config.json", "model.safetensors"):
        (moved / name).write_bytes((plain / name).read_bytes())
    (moved / "vocab.json").write_bytes((simple / "encoder.json").read_bytes())
    (moved / "merges.txt").write_bytes((simple / "vocab.bpe").read_bytes())
    ours, theirs = read_tokenizer(moved), GPT2Tokenizer.from_pretrained(moved)
    text = "Ash and Pikachu were on a walk when Team Rocket's balloon came down… 100%!"
    assert ours.token_bytes == expected.token_bytes
    assert ours.encode(text) == expected.encode(text) == theirs.encode(text)
