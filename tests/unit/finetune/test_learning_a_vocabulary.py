"""The vocabulary: any text at all comes back, and all who read its files agree."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from transformers import AutoTokenizer

from finetune.documents import END_OF_TEXT, write_documents
from finetune.train.rows import end_of_text
from finetune.vocabulary import command, learn, read, write
from tests.checkpoints import learn_vocabulary, write_transformers, write_vocabulary
from tests.unit.finetune.conftest import TINY

SMALL = learn(["Ash and Pikachu walk on. Pikachu runs."], 300)


@settings(deadline=None)
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


def test_what_is_trained_on_begins_a_document_whatever_the_checkpoint_had(tmp_path: Path) -> None:
    write_transformers(tmp_path / "theirs", TINY, seed=1)
    assert 399 not in AutoTokenizer.from_pretrained(tmp_path / "theirs")("Ash").input_ids
    write(read(tmp_path / "theirs"), tmp_path / "ours")
    assert AutoTokenizer.from_pretrained(tmp_path / "ours")("Ash").input_ids[0] == 399


def test_too_small_a_size_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 257"):
        learn(["Ash"], 256)


def test_a_folder_without_a_vocabulary_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no vocabulary: make one with `pokegen vocabulary`"):
        read(tmp_path)


@pytest.mark.parametrize("names", [("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")])
def test_the_pair_of_files_is_read_under_either_names(tmp_path: Path, names: tuple[str, str]) -> None:
    write_vocabulary(tmp_path, 300)
    for old, new in zip(("encoder.json", "vocab.bpe"), names, strict=True):
        (tmp_path / old).rename(tmp_path / new)
    tokenizer = read(tmp_path)
    assert tokenizer.get_vocab() == learn_vocabulary(300)[0]
    assert end_of_text(tokenizer) == 299


def test_what_was_written_is_read_as_the_same_tokenizer(tokenizer: Tokenizer, vocabulary: Path) -> None:
    assert read(vocabulary).to_str() == tokenizer.to_str()


def test_the_command_gives_every_data_set_about_the_same_say(tmp_path: Path) -> None:
    """A word of the small one is told as often as if the small one were as large as the large one."""
    for name, texts in {"small": ["Zzyzx Zzyzx"], "large": ["Ash walks on and on. " * 20] * 5}.items():
        (tmp_path / name).mkdir()
        write_documents(tmp_path / name / "train.txt", texts)
    arguments = ["--dataset", tmp_path / "small", "--dataset", tmp_path / "large", "--size", 270]
    result = CliRunner().invoke(command, [*map(str, arguments), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert len(read(tmp_path / "out").encode("Zzyzx", add_special_tokens=False).tokens) == 1
