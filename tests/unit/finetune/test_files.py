"""A file is written whole or not at all."""

from pathlib import Path

import pytest

from finetune.files import replace, whole


def test_an_error_or_an_interrupt_leaves_what_was_there_and_no_draft(tmp_path: Path) -> None:
    file = tmp_path / "text"
    replace(file, "before")
    with pytest.raises(KeyboardInterrupt):
        write_half(file)
    with pytest.raises(UnicodeEncodeError):
        replace(file, "half of a pair: \ud83d")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("text", "before")]


def write_half(file: Path) -> None:
    with whole(file) as out:
        out.write("half")
        out.flush()
        raise KeyboardInterrupt
