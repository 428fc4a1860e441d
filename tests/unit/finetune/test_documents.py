"""Documents on disk: what is written comes back, and nothing is guessed."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.documents import END_OF_TEXT, START_OF_TEXT, read_documents, write_documents

TEXTS = st.text() | st.lists(st.sampled_from(["<|", "|>", "startoftext", "\r\n", "\n", "é"])).map("".join)
FREE = TEXTS.filter(lambda text: START_OF_TEXT not in text and END_OF_TEXT not in text)


@settings(deadline=None)
@given(texts=st.lists(FREE, min_size=1))
def test_any_texts_come_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    file = tmp_path_factory.mktemp("documents") / "train.txt"
    write_documents(file, texts)
    assert read_documents(file) == texts


def test_the_file_is_what_gpt2_simple_expects(tmp_path: Path) -> None:
    write_documents(tmp_path / "train.txt", ["Ash runs.\n\nFast.", "Pokémon"])
    assert (tmp_path / "train.txt").read_bytes() == (
        "<|startoftext|>Ash runs.\n\nFast.<|endoftext|>\n<|startoftext|>Pokémon<|endoftext|>\n".encode()
    )


@pytest.mark.parametrize("delimiter", [START_OF_TEXT, END_OF_TEXT])
def test_a_text_with_a_delimiter_is_refused_and_the_old_file_stays(tmp_path: Path, delimiter: str) -> None:
    file = tmp_path / "train.txt"
    write_documents(file, ["old"])
    with pytest.raises(ValueError, match=r"holds a delimiter of documents: remove it with `pokegen prepare`"):
        write_documents(file, ["new", f"Ash{delimiter}runs."])
    assert read_documents(file) == ["old"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Ash runs.", r"holds no <\|startoftext\|>\.\.\.<\|endoftext\|>: make it with `pokegen prepare`"),
        (b"<|startoftext|>Ash", "holds no"),
        (b"", "holds no"),
        (b"<|startoftext|>\xe9<|endoftext|>", r"is no UTF-8 \(byte 15\): make it with"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_documents(tmp_path / "train.txt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"train\.txt is missing: make it with `pokegen prepare`"):
        read_documents(tmp_path / "train.txt")
