"""The formats that are read, and what is said of a file that can't be."""

from pathlib import Path

import pytest

from finetune.prepare.inputs import read_input


def read(
    folder: Path, name: str, content: str | bytes, column: str | None = None, *, lines: bool = False
) -> list[tuple[int, str]]:
    """Write a file and read it as an input: each document's first line and its text."""
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [(document.line, document.text) for document in read_input(file, column, lines=lines)]


def test_jsonl_has_a_text_a_line(tmp_path: Path) -> None:
    content = '{"text": "Ash\\nwins.", "title": "A"}\n\n{"text": "Misty\u2028waves."}\n'
    assert read(tmp_path, "a.jsonl", content) == [(1, "Ash\nwins."), (3, "Misty\u2028waves.")]


def test_an_attribution_is_read_with_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"text": "Ash.", "revision": 7, "licence": "CC BY-NC-SA", "source": "", "x": 1}'
    )
    (tmp_path / "b.csv").write_text("Joke,Source\nA joke.,a friend\n")
    (jsonl,) = read_input(tmp_path / "a.jsonl")
    (csv,) = read_input(tmp_path / "b.csv", "Joke")
    assert jsonl.attribution == {"revision": "7", "licence": "CC BY-NC-SA"}
    assert csv.attribution == {"source": "a friend"}


@pytest.mark.parametrize(
    ("escaped", "read"),
    [(r"\ud83d", "\ufffd"), (r"\ude00 b", "\ufffd b"), (r"\ud83d\ude00", "\U0001f600")],
)
def test_half_an_emoji_in_json_is_mended(tmp_path: Path, escaped: str, read: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"text": "a {escaped}", "title": "{escaped}"}}')
    (document,) = read_input(tmp_path / "a.jsonl")
    assert document.text == f"a {read}"
    assert document.attribution == {"title": read}


def test_csv_with_the_columns_of_short_jokes(tmp_path: Path) -> None:
    content = 'ID,Joke\r\n1,"Me: ""Hi,\nPikachu"""\r\n\r\n2,Plain\r\n'
    assert read(tmp_path, "a.csv", content, "Joke") == [(2, 'Me: "Hi,\nPikachu"'), (5, "Plain")]


def test_csv_of_one_column_with_and_without_its_name(tmp_path: Path) -> None:
    assert read(tmp_path, "a.csv", "\ufeffJoke\nA first joke.\n") == [(2, "A first joke.")]
    assert read(tmp_path, "a.csv", "A first joke.\nOne more.\n") == [(1, "A first joke."), (2, "One more.")]
    assert read(tmp_path, "a.csv", "Short joke\nA first joke.\n", "Short joke") == [(2, "A first joke.")]


def test_txt_is_what_lies_between_delimiters(tmp_path: Path) -> None:
    content = "<|startoftext|>One.\nTwo.<|endoftext|>\n<|startoftext|>Three.<|endoftext|>\n"
    expected = [(1, "One.\nTwo."), (3, "Three.")]
    assert read(tmp_path, "a.txt", content) == read(tmp_path, "a.txt", content, lines=True) == expected
    assert read(tmp_path, "a.txt", "One.<|endoftext|>Two.") == [(1, "One."), (1, "Two.")]


def test_txt_without_delimiters_is_one_document_or_one_a_line(tmp_path: Path) -> None:
    assert read(tmp_path, "a.txt", "One.\n\nTwo.\n") == [(1, "One.\n\nTwo.\n")]
    assert read(tmp_path, "a.txt", "One.\n\nTwo.\n", lines=True) == [(1, "One.\n"), (3, "Two.\n")]


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        ("a.pdf", "x", None, r"a\.pdf: can't tell its format by its name: want \.jsonl, \.csv or \.txt"),
        ("a.txt", b"caf\xe9", None, r"a\.txt is not UTF-8 at byte 3"),
        ("a.txt", " \n", None, r"a\.txt is empty"),
        ("a.jsonl", '{"text": "x"}\n{"text": ', None, r"a\.jsonl:2: is not JSON"),
        ("a.jsonl", '{"title": "x"}', None, r'a\.jsonl:1: want an object with a string "text"'),
        ("a.jsonl", '["x"]', None, r'a\.jsonl:1: want an object with a string "text"'),
        ("a.csv", "ID,Joke\n1,Ha\n", "joke", r"a\.csv has no column 'joke': it has ID, Joke"),
        (
            "a.csv",
            "ID,Joke\n1,Ha\n",
            None,
            r"a\.csv has the columns ID, Joke: name one of them with --column",
        ),
        ("a.csv", "Joke\nWell, well\n", None, r"a\.csv:2: has 2 fields where the first row has 1"),
        (
            "a.csv",
            'Joke\nOne\n"Two\nThree\n',
            None,
            r"row that begins in line 3 is broken: unexpected end of data",
        ),
        ("a.csv", "", None, r"a\.csv is empty"),
        ("a.csv", "Joke\n", None, r"a\.csv is empty"),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: str | bytes, column: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, name, content, column)
