"""The vocabulary: any text at all comes back, and all who read its files agree."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from transformers import AutoTokenizer

from finetune.vocabulary import END_OF_TEXT, learn, read

SMALL = learn(["Ash and Pikachu walk on. Pikachu runs."], 300)


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    assert SMALL.decode(SMALL.encode(text, add_special_tokens=False).ids) == text


@pytest.mark.parametrize("text", ["Pokémon ♀", "🙂👩‍🚀", "a\n\n  b\t", "ピカチュウ", ""])
def test_awkward_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


def test_end_of_text_is_the_last_token_and_the_size_is_kept(vocabulary: Path) -> None:
    encoder = json.loads((vocabulary / "encoder.json").read_text())
    assert sorted(encoder.values()) == list(range(400))
    assert encoder[END_OF_TEXT] == 399


def test_the_files_of_both_kinds_hold_the_same_vocabulary(vocabulary: Path) -> None:
    text = "Ash and Pikachu were on a date when 🙂"
    ours = read(vocabulary).encode(text, add_special_tokens=False).ids
    pair = ByteLevelBPETokenizer(str(vocabulary / "encoder.json"), str(vocabulary / "vocab.bpe"))
    assert pair.encode(text).ids == ours
    # transformers begins the document, as training did.
    assert AutoTokenizer.from_pretrained(vocabulary)(text).input_ids == [399, *ours]


def test_too_small_a_size_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 257"):
        learn(["Ash"], 256)


def test_a_folder_without_a_vocabulary_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="finetune vocabulary"):
        read(tmp_path)
