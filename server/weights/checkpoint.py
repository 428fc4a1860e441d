"""A checkpoint directory, opened."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import astuple
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
from server.weights.tokenizer import DIGEST_SIZE, Tokenizer

# Of a file that the engine keeps beside a checkpoint's own: made from them, and worth no copying.
PACKED_SUFFIX = ".packed"

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
        self._digest: str | None = None

    def tensor(self, name: str) -> NDArray[np.float32]:
        """Read one tensor of `layout.tensor_shapes`, such as `h0/attn/c_attn/w` of shape (C, 3C).

        Each call gives a new writable array, C-contiguous; nothing else stays in memory. May be called from many
        threads. Raises CheckpointError when the stored checksum (TensorFlow's format has one) is not that of the
        bytes, when the file has shrunk, or when a number is NaN or infinite; KeyError for a name that GPT-2 does
        not have.
        """
        return self._tensors[name].read()

    def rows(self, name: str) -> Iterator[NDArray[np.float32]]:
        """One tensor as `tensor` gives it, but in slices of whole rows of about 1 MiB, in order.

        So a token embedding of 50,257 rows never stands in memory as a whole. The slices may be read-only. What
        `tensor` raises at once is raised behind the last of them: until then none of them is known to be sound.
        """
        return self._tensors[name].rows()

    def stamp(self) -> str:
        """Another one as soon as `identity` may be another: a cheap sign, for which no weights are read.

        It is of the sizes and the tokenizer, of where each tensor lies, and of each data file's name, size and time of
        its last change. A copy of the files has another stamp; it has the same identity.
        """
        places = [
            (
                name,
                stored.file.path.name,
                stored.file.size,
                stored.file.changed_ns,
                stored.offset,
                stored.dtype,
            )
            for name, stored in self._tensors.items()
        ]
        return _digest_of(astuple(self.hparams), self.tokenizer.digest, places)

    def identity(self) -> str:
        """What its texts depend on: the same for every copy of the same content, whatever its files and their format.

        Of the sizes, the tokenizer and `digest`, which it costs, and raises.
        """
        return _digest_of(astuple(self.hparams), self.tokenizer.digest, self.digest())

    def digest(self) -> str:
        """The identity of the weights, whatever files they are in: BLAKE2b of the tensors as they are stored.

        The first call reads all of them, about a gigabyte a second, unless `know_digest` was told. Raises
        CheckpointError as `tensor` does, but for NaN.
        """
        if self._digest is None:
            digest = hashlib.blake2b(digest_size=DIGEST_SIZE)
            for name, stored in self._tensors.items():
                digest.update(f"{name} {stored.dtype} {stored.shape}\n".encode())
                for piece in stored.pieces():
                    digest.update(piece.data)
            self._digest = digest.hexdigest()
        return self._digest

    def know_digest(self, digest: str) -> None:
        """Spare `digest` the reading: for whoever has kept it together with this `stamp`."""
        self._digest = digest

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


def _digest_of(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=DIGEST_SIZE).hexdigest()


def _format_of(directory: Path) -> _Reader:
    names = {path.name for path in directory.iterdir()}
    if names & {hugging_face.WEIGHTS, hugging_face.INDEX}:
        return hugging_face.read
    if gpt2_simple.LATEST in names:
        return gpt2_simple.read
    wanted = f"{hugging_face.WEIGHTS} nor gpt-2-simple's file called {gpt2_simple.LATEST}"
    raise CheckpointError(directory, f"has neither {wanted}", _NAME_A_DIRECTORY)
