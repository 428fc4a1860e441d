"""Files: reading those that may be missing, damaged or hostile, and having what was written on the disk.

Each fault in reading is a CheckpointError naming the file.
"""

import errno
import json
import os
from pathlib import Path

from server.weights.errors import COPY_AGAIN, CheckpointError

# For what is read whole: headers, settings, vocabularies. All of GPT-2's own, of any size, are far smaller.
SMALL_FILE = 16 << 20


class DataFile:
    """An open file that is read in pieces, and stays readable when its name goes to another file.

    Read and not mapped: to touch a mapped file that has shrunk would end the process, and what was read of it
    would count as the process's memory.
    """

    def __init__(self, path: Path) -> None:
        """Open `path`. Raises CheckpointError when it is missing or not a regular file, else OSError."""
        # What is no regular file may block (a pipe) or never end (a device).
        if not path.is_file():
            problem = "is not a regular file" if path.exists() else "is missing"
            raise CheckpointError(path, problem, "copy the whole checkpoint directory, with this file in it")
        self.path = path
        self._file = path.open("rb", buffering=0)
        stat = os.fstat(self._file.fileno())
        self.size = stat.st_size
        self.changed_ns = stat.st_ctime_ns  # the time of modification can be set back, and this can't

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, for any thread. Raises CheckpointError when the file ends before them."""
        pieces = []
        wanted = size
        while wanted:
            try:
                piece = os.pread(self._file.fileno(), wanted, offset)
            except OSError as error:
                raise CheckpointError(self.path, f"can't be read: {error.strerror}", COPY_AGAIN) from error
            if not piece:
                raise CheckpointError(
                    self.path,
                    f"has {os.fstat(self._file.fileno()).st_size} bytes where {offset + wanted} are needed",
                    COPY_AGAIN,
                )
            pieces.append(piece)
            offset += len(piece)
            wanted -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Give the file back. What is read afterwards raises ValueError."""
        self._file.close()


def flush(path: Path) -> None:
    """Have what is in a file, or a folder's names, on the disk.

    What is renamed sooner may be empty after a power cut, and passes for whole.
    """
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems do that with files alone
            raise
    finally:
        os.close(opened)


def mark(path: Path) -> tuple[int, int] | None:
    """Size and time of the last change: another one as soon as the file comes, is replaced or is written to.

    None where there is no file, or none that may be seen.
    """
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_ctime_ns  # as in DataFile


class DataFiles:
    """The data files of one checkpoint, each opened once."""

    def __init__(self) -> None:
        self._files: dict[Path, DataFile] = {}

    def open(self, path: Path) -> DataFile:
        """The open file at `path`. Raises as DataFile does."""
        if path not in self._files:
            self._files[path] = DataFile(path)
        return self._files[path]

    def close(self) -> None:
        """Close them all."""
        for file in self._files.values():
            file.close()


def read_bytes(path: Path, limit: int = SMALL_FILE) -> bytes:
    """All of a small file. Raises CheckpointError when it is missing or larger than `limit` bytes."""
    file = DataFile(path)
    try:
        if file.size > limit:
            raise CheckpointError(path, f"has {file.size} bytes, over the limit of {limit}", COPY_AGAIN)
        return file.read(0, file.size)
    finally:
        file.close()


def read_text(path: Path, limit: int = SMALL_FILE) -> str:
    """All of a small text file, with Unix line ends. Raises CheckpointError, also when it is not UTF-8."""
    try:
        return read_bytes(path, limit).decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(path, f"is not UTF-8 at byte {error.start}", COPY_AGAIN) from error


def parse_object(text: str, path: Path) -> dict[str, object]:
    """The JSON object that `text`, from `path`, is. Raises CheckpointError when it is anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(path, f"is not JSON: {error}", COPY_AGAIN) from error
    return as_object(value, "the file", path)


def read_object(path: Path) -> dict[str, object]:
    """The JSON object in a small file. Raises CheckpointError when there is none."""
    return parse_object(read_text(path), path)


def as_object(value: object, name: str, path: Path) -> dict[str, object]:
    """`value` if it is a JSON object. Raises CheckpointError, which calls it `name`, when it is not."""
    if not isinstance(value, dict):
        raise CheckpointError(path, f"{name} is {value!r:.40} and not a JSON object", COPY_AGAIN)
    return value
