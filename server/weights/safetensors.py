"""The header of a safetensors file: which tensors it holds, and where.

Source: github.com/huggingface/safetensors, README, "Format". Read here rather than by that library, which
does not say where a tensor lies, so that it could be converted piece by piece, and knows no bfloat16 in NumPy.
"""

from dataclasses import dataclass
from typing import TypeGuard

from server.weights.errors import COPY_AGAIN, CheckpointError
from server.weights.files import SMALL_FILE, DataFile, as_object, parse_object
from server.weights.stored import StoredTensor

_HIGHEST_RANK = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file: the bytes from `begin` to `end`, counted from the file's beginning."""

    file: DataFile
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    def stored(self, name: str) -> StoredTensor:
        """The tensor. Raises CheckpointError when its bytes are not those that its shape needs."""
        return StoredTensor(name, self.file, self.begin, self.end - self.begin, self.dtype, self.shape, None)


def read_header(file: DataFile) -> dict[str, Entry]:
    """The tensors of `file` by name. Raises CheckpointError unless they fill it without gap or overlap."""
    path = file.path
    size = int.from_bytes(file.read(0, 8), "little")
    if size > min(SMALL_FILE, file.size - 8):
        raise CheckpointError(
            path, f"announces a header of {size} bytes in a file of {file.size}", COPY_AGAIN
        )
    try:
        text = file.read(8, size).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(path, "has a header that is not UTF-8", COPY_AGAIN) from error
    header = parse_object(text, path)
    header.pop("__metadata__", None)
    entries = {name: _entry(name, value, file, 8 + size) for name, value in header.items()}
    position = 8 + size
    for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != position:
            raise CheckpointError(
                path, f"has no tensor, or two, at byte {min(position, entry.begin)}", COPY_AGAIN
            )
        position = entry.end
    if position != file.size:
        raise CheckpointError(
            path, f"has {file.size} bytes where its header calls for {position}", COPY_AGAIN
        )
    return entries


def _entry(name: str, value: object, file: DataFile, start: int) -> Entry:
    """What the header says of the tensor `name`, in a file whose tensors begin at byte `start`."""
    fields = as_object(value, f"the header's entry {name!r:.80}", file.path)
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not isinstance(dtype, str) or not _is_counts(shape) or not _is_counts(offsets) or len(offsets) != 2:
        raise CheckpointError(
            file.path, f"tensor {name!r:.80} has no dtype, shape and data_offsets", COPY_AGAIN
        )
    begin, end = offsets
    if end < begin:
        raise CheckpointError(file.path, f"tensor {name!r:.80} ends before it begins", COPY_AGAIN)
    return Entry(file, dtype, tuple(shape), start + begin, start + end)


def _is_counts(value: object) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) <= _HIGHEST_RANK
        and all(type(number) is int and 0 <= number < 2**63 for number in value)
    )
