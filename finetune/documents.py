"""Training text on disk: documents between `<|startoftext|>` and `<|endoftext|>`, as gpt-2-simple has them."""

import re
from collections.abc import Iterable
from pathlib import Path

from finetune.files import whole

START_OF_TEXT = "<|startoftext|>"
END_OF_TEXT = "<|endoftext|>"

_DOCUMENT = re.compile(re.escape(START_OF_TEXT) + "(.*?)" + re.escape(END_OF_TEXT), re.DOTALL)


def write_documents(file: Path, texts: Iterable[str]) -> None:
    """Write `file` whole or not at all. Raises ValueError for a text that holds a delimiter."""
    with whole(file) as out:
        for text in texts:
            if START_OF_TEXT in text or END_OF_TEXT in text:
                raise ValueError(
                    f"{text[:60]!r} holds a delimiter of documents: remove it with `pokegen prepare`"
                )
            out.write(f"{START_OF_TEXT}{text}{END_OF_TEXT}\n")


def read_documents(file: Path) -> list[str]:
    """The texts in `file`. Raises FileNotFoundError, and ValueError when it is no UTF-8 or holds no document."""
    try:
        texts = _DOCUMENT.findall(file.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{file} is missing: make it with `pokegen prepare`") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no UTF-8 (byte {error.start}): make it with `pokegen prepare`") from None
    if not texts:
        raise ValueError(f"{file} holds no {START_OF_TEXT}...{END_OF_TEXT}: make it with `pokegen prepare`")
    return texts
