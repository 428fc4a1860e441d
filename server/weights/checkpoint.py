"""A checkpoint directory, opened."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from server.weights import gpt2_simple, hugging_face
from server.weights.errors import CheckpointError
from server.weights.files import DataFiles
from server.weights.layout import HParams
from server.weights.stored import StoredTensor
from server.weights.tokenizer import Tokenizer

_NAME_A_DIRECTORY = "name a directory that holds a checkpoint and may be read"

_Reader = Callable[[Path, DataFiles], tuple[HParams, Tokenizer, dict[str, StoredTensor]]]


class Checkpoint:
    """A GPT-2 whose tensors are read one by one. Made by `open_checkpoint`; closed by `close` or `with`.

    directory: where it is; name: the directory's own name, such as `run1`
    hparams, tokenizer: read already
    """

    def __init__(
        self,
        directory: Path,
        hparams: HParams,
        tokenizer: Tokenizer,
        tensors: Mapping[str, StoredTensor],
        files: DataFiles,
    ) -> None:
        self.directory = directory
        self.name = directory.resolve().name
        self.hparams = hparams
        self.tokenizer = tokenizer
        self._tensors = tensors
        self._files = files

    def tensor(self, name: str) -> NDArray[np.float32]:
        """Read one tensor of `layout.tensor_shapes`, such as `h0/attn/c_attn/w` of shape (C, 3C).

        Each call gives a new writable array, C-contiguous; nothing else stays in memory. May be called from many
        threads. Raises CheckpointError when the stored checksum (TensorFlow's format has one) is not that of the
        bytes, when the file has shrunk, or when a number is NaN or infinite; KeyError for a name that GPT-2 does
        not have.
        """
        return self._tensors[name].read()

    def close(self) -> None:
        """Close the data files. The tokenizer and the sizes stay."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_checkpoint(directory: Path) -> Checkpoint:
    """Open what gpt-2-simple, OpenAI's scripts or transformers wrote; safetensors are preferred to TensorFlow's.

    Reads sizes and tokenizer, and checks that every tensor is there, has the right shape, and lies within its
    file. The weights themselves are not read, but for an `lm_head.weight`, which must equal the token embedding.
    Raises CheckpointError.
    """
    try:
        with ExitStack() as undo:
            files = DataFiles()
            undo.callback(files.close)
            hparams, tokenizer, tensors = _format_of(directory)(directory, files)
            undo.pop_all()
    except OSError as error:
        path = Path(error.filename or directory)
        raise CheckpointError(path, f"can't be opened: {error.strerror}", _NAME_A_DIRECTORY) from error
    return Checkpoint(directory, hparams, tokenizer, tensors, files)


def _format_of(directory: Path) -> _Reader:
    names = {path.name for path in directory.iterdir()}
    if names & {hugging_face.WEIGHTS, hugging_face.INDEX}:
        return hugging_face.read
    if gpt2_simple.LATEST in names:
        return gpt2_simple.read
    wanted = f"{hugging_face.WEIGHTS} nor gpt-2-simple's file called {gpt2_simple.LATEST}"
    raise CheckpointError(directory, f"has neither {wanted}", _NAME_A_DIRECTORY)
