"""TensorFlow's checkpoint format V2, read without TensorFlow: PREFIX.index and PREFIX.data-00000-of-00001.

Source: TensorFlow's tensorflow/core/protobuf/tensor_bundle.proto. The index maps a variable's name to a
BundleEntryProto that says in which data file, where, and with which checksum its bytes lie.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from server.weights.errors import COPY_AGAIN, CheckpointError
from server.weights.files import DataFiles, read_bytes
from server.weights.stored import StoredTensor
from server.weights.table import read_table
from server.weights.wire import fields

_DTYPES = {1: "F32", 14: "BF16", 19: "F16"}  # DataType in TensorFlow's types.proto
_HEADER = b""  # the key of the BundleHeaderProto
_HIGHEST_RANK = 8


@dataclass(frozen=True, slots=True)
class _Entry:
    """A BundleEntryProto."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int


class Bundle:
    """The variables of one TensorFlow checkpoint."""

    def __init__(self, prefix: Path, files: DataFiles, names: Iterable[str]) -> None:
        """Read PREFIX.index; data files are opened through `files` when a tensor is asked for.

        Only the variables `names` are kept: keys are stored without what they share with the one before, so that
        a hostile index names a hundred times its own size. Raises CheckpointError when the index is missing or
        malformed.
        """
        self.index = prefix.with_name(prefix.name + ".index")
        self._prefix = prefix
        self._files = files
        raw = read_bytes(self.index)
        wanted = {_HEADER, *(name.encode() for name in names)}
        try:
            self._messages = {key: message for key, message in read_table(raw) if key in wanted}
            self._shards = self._read_header()
        except ValueError as error:
            raise CheckpointError(self.index, str(error), COPY_AGAIN) from error

    def _read_header(self) -> int:
        """The number of data files."""
        if _HEADER not in self._messages:
            raise ValueError("has no header")
        header = dict(fields(self._messages[_HEADER]))
        if header.get(2, 0) != 0:
            raise ValueError("is of a big-endian machine")
        return _number(header.get(1, 0))

    def tensor(self, name: str, shape: tuple[int, ...]) -> StoredTensor:
        """Where the variable `name`, one of `names`, lies. Raises CheckpointError when there is none of that shape.

        GPT-2 keeps a weight's (inputs, outputs) as (1, inputs, outputs); the 1 is no part of `shape`.
        """
        message = self._messages.get(name.encode())
        if message is None:
            raise CheckpointError(
                self.index,
                f"tensor {name}, by hparams.json of shape {shape}, is missing",
                "take hparams.json from where the weights were trained",
            )
        try:
            entry = _parse_entry(message)
        except ValueError as error:
            raise CheckpointError(self.index, f"tensor {name} {error}", COPY_AGAIN) from error
        if entry.shape not in (shape, (1, *shape)):
            raise CheckpointError(
                self.index,
                f"tensor {name} has shape {entry.shape} where hparams.json calls for {shape}",
                "take hparams.json from where the weights were trained",
            )
        shard = f"{self._prefix.name}.data-{entry.shard:05}-of-{self._shards:05}"
        return StoredTensor(
            name,
            self._files.open(self._prefix.with_name(shard)),
            entry.offset,
            entry.size,
            _DTYPES.get(entry.dtype, f"TensorFlow data type {entry.dtype}"),
            shape,
            entry.checksum,
        )


def _parse_entry(message: bytes) -> _Entry:
    values = dict(fields(message))
    if 7 in values:
        raise ValueError("is partitioned, which gpt-2-simple does not do")
    return _Entry(
        dtype=_number(values.get(1, 0)),
        shape=_parse_shape(_message(values.get(2, b""))),
        shard=_number(values.get(3, 0)),
        offset=_number(values.get(4, 0)),
        size=_number(values.get(5, 0)),
        checksum=_number(values.get(6, 0)),
    )


def _parse_shape(message: bytes) -> tuple[int, ...]:
    """The dimensions of a TensorShapeProto, whose field 2 is a message of which field 1 is the size."""
    shape = tuple(
        _number(dict(fields(_message(dimension))).get(1, 0))
        for number, dimension in fields(message)
        if number == 2
    )
    if len(shape) > _HIGHEST_RANK:
        raise ValueError(f"has {len(shape)} dimensions")
    return shape


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("has a message where a number belongs")
    return value


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("has a number where a message belongs")
    return value
