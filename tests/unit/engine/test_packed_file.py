"""The cache file of packed weights: used where it is right, made anew where it isn't, and never in the way."""

import json
import logging
import multiprocessing
import os
import re
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from server.engine.native import packed_file
from server.engine.native.packed_file import HEADER, packed_arena
from server.weights import Checkpoint, CheckpointError, HParams, open_checkpoint
from server.weights.layout import tensor_shapes
from tests.checkpoints import write_transformers

Arena = NDArray[np.uint8]

HPARAMS = HParams(n_vocab=300, n_ctx=8, n_embd=8, n_head=2, n_layer=1)
NAME = "pokegen-int8.packed"
PROCESSES = multiprocessing.get_context("spawn")


def size_of(checkpoint: Checkpoint) -> int:
    return sum(int(np.prod(shape)) for shape in tensor_shapes(checkpoint.hparams).values())


def pack(checkpoint: Checkpoint) -> Callable[[Arena], None]:
    """A byte for each weight."""

    def fill(arena: Arena) -> None:
        assert not arena.any()
        start = 0
        for name in tensor_shapes(checkpoint.hparams):
            for rows in checkpoint.rows(name):
                arena[start : start + rows.size] = (rows * 50).astype(np.int8).view(np.uint8).ravel()
                start += rows.size

    return fill


def never(arena: Arena) -> None:
    pytest.fail("the weights were packed, although a file of them is there")


def arena_of(directory: Path, fill: Callable[[Arena], None] | None = None, precision: str = "int8") -> Arena:
    """What a start of the service gets; without `fill` the weights are really packed if need be."""
    with open_checkpoint(directory) as checkpoint:
        return packed_arena(checkpoint, precision, size_of(checkpoint), fill or pack(checkpoint))


def expected(directory: Path) -> Arena:
    with open_checkpoint(directory) as checkpoint:
        arena = np.zeros(size_of(checkpoint), np.uint8)
        pack(checkpoint)(arena)
    return arena


def packed_files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*packed*"))


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two checkpoints whose files have the same sizes."""
    directories = [tmp_path_factory.mktemp("packed") / "run1" for _ in range(2)]
    for seed, directory in enumerate(directories):
        write_transformers(directory, HPARAMS, seed=seed)
    return directories


@pytest.fixture
def directory(originals: list[Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals[0], tmp_path / "run1"))


def test_the_first_start_makes_it_and_the_next_one_uses_it(directory: Path) -> None:
    first = arena_of(directory)
    second = arena_of(directory, never)
    for arena in (first, second):
        np.testing.assert_array_equal(arena, expected(directory))
        assert arena.ctypes.data % 4096 == 0
    assert packed_files(directory) == [NAME]


def test_it_may_be_read_by_whoever_may_read_its_neighbours(directory: Path) -> None:
    arena_of(directory)
    neighbour = directory / "neighbour"
    neighbour.touch()
    assert (directory / NAME).stat().st_mode == neighbour.stat().st_mode


def test_each_precision_has_its_own(directory: Path) -> None:
    arena_of(directory)
    arena_of(directory, precision="float32")
    assert packed_files(directory) == ["pokegen-float32.packed", NAME]
    arena_of(directory, never)
    arena_of(directory, never, precision="float32")


def test_other_weights_of_the_same_size_are_packed_anew(directory: Path, originals: list[Path]) -> None:
    old = arena_of(directory)
    old_weights = expected(directory)
    weights = directory / "model.safetensors"
    times = weights.stat()
    shutil.copyfile(originals[1] / "model.safetensors", weights)
    os.utime(
        weights, ns=(times.st_atime_ns, times.st_mtime_ns)
    )  # as what sets the times of all files alike does
    assert (expected(directory) != old_weights).any()
    np.testing.assert_array_equal(arena_of(directory), expected(directory))
    np.testing.assert_array_equal(old, old_weights, "who still uses the old ones keeps them")
    arena_of(directory, never)


def test_another_format_is_packed_anew(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arena_of(directory)
    monkeypatch.setattr(packed_file, "FORMAT", packed_file.FORMAT + 1)
    with pytest.raises(pytest.fail.Exception):
        arena_of(directory, never)
    np.testing.assert_array_equal(arena_of(directory), expected(directory))
    arena_of(directory, never)


def test_in_a_copy_with_other_times_the_content_decides_once(directory: Path, tmp_path: Path) -> None:
    arena_of(directory)
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy, copy_function=shutil.copyfile)
    os.utime(copy / "model.safetensors", (1, 1))
    np.testing.assert_array_equal(arena_of(copy, never), expected(directory))
    with open_checkpoint(copy) as checkpoint:
        (copy / "model.safetensors").write_bytes(b"")  # now whoever reads the weights finds them gone
        packed_arena(checkpoint, "int8", size_of(checkpoint), never)


def test_what_it_names_as_the_digest_of_the_weights_is_not_computed_again(directory: Path) -> None:
    arena_of(directory)
    with open_checkpoint(directory) as checkpoint:
        identity = checkpoint.identity()
    with open_checkpoint(directory) as checkpoint:
        (directory / "model.safetensors").write_bytes(b"")  # now whoever reads the weights finds them gone
        packed_arena(checkpoint, "int8", size_of(checkpoint), never)
        assert checkpoint.identity() == identity


def flip(position: int) -> Callable[[Path], object]:
    """Change a byte; a negative position counts from the end."""

    def spoil(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)

    return spoil


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut in the header": lambda path: os.truncate(path, 100),
    "cut behind the header": lambda path: os.truncate(path, HEADER),
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path: os.truncate(path, path.stat().st_size + 1),
    "another magic": flip(0),
    "no JSON": flip(len(packed_file.MAGIC)),
    "the first weight": flip(HEADER),
    "the last weight": flip(-1),
    "nothing but zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a header alone": lambda path: path.write_bytes(packed_file.MAGIC + b"[]" + bytes(HEADER)),
    "deep JSON": lambda path: path.write_bytes((packed_file.MAGIC + b"[" * HEADER)[:HEADER]),
    "somebody else's": lambda path: path.write_text("Dear diary"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_made_anew(directory: Path, damage: str) -> None:
    arena_of(directory)
    DAMAGES[damage](directory / NAME)
    np.testing.assert_array_equal(arena_of(directory), expected(directory))
    np.testing.assert_array_equal(arena_of(directory, never), expected(directory))


def test_a_header_damaged_anywhere_is_harmless(directory: Path) -> None:
    arena_of(directory)
    length = len((directory / NAME).read_bytes()[:HEADER].rstrip(b"\0"))
    for position in range(0, length, 5):
        flip(position)(directory / NAME)
        np.testing.assert_array_equal(arena_of(directory), expected(directory))


def forge(path: Path, **changes: object) -> None:
    """A header with changed entries; None leaves one out."""
    content = path.read_bytes()
    header = json.loads(content[len(packed_file.MAGIC) : HEADER].rstrip(b"\0")) | changes
    header = {name: value for name, value in header.items() if value is not None}
    text = packed_file.MAGIC + json.dumps(header, ensure_ascii=False).encode()
    path.write_bytes(text.ljust(HEADER, b"\0") + content[HEADER:])


def test_a_file_of_another_size_is_not_taken_for_whole_where_no_checksum_is_told(directory: Path) -> None:
    arena_of(directory)
    forge(directory / NAME, checksum=None)
    os.truncate(directory / NAME, HEADER + 1)
    np.testing.assert_array_equal(arena_of(directory), expected(directory))


def test_what_a_header_says_besides_is_not_written_again(directory: Path) -> None:
    """It may be longer where it is written than it was where it was read: an é is two bytes, or six."""
    arena_of(directory)
    forge(directory / NAME, note="é" * 1500, stamp="that of another copy")
    for _ in range(2):
        np.testing.assert_array_equal(arena_of(directory, never), expected(directory))
    assert b"note" not in (directory / NAME).read_bytes()[:HEADER]


def what_is_there(directory: Path) -> list[tuple[str, int, int, int]]:
    paths = sorted(directory.glob("*packed*"))
    return [
        (path.name, stat.st_ino, stat.st_mode, stat.st_mtime_ns)
        for path, stat in zip(paths, map(Path.lstat, paths), strict=True)
    ]


def test_what_is_no_file_is_left_alone(directory: Path) -> None:
    """So a link to nowhere is a way to have no file made."""
    (directory / "pokegen-a.packed").symlink_to(os.devnull)
    (directory / "pokegen-b.packed").mkdir()
    os.mkfifo(directory / "pokegen-c.packed")
    (directory / "diary").write_text("Dear diary")
    (directory / "pokegen-d.tmp.packed").symlink_to(directory / "diary")
    before = what_is_there(directory)
    for precision in "abcd":
        np.testing.assert_array_equal(arena_of(directory, precision=precision), expected(directory))
    assert what_is_there(directory) == before
    assert (directory / "diary").read_text() == "Dear diary"


@pytest.fixture
def without_rights() -> Iterator[Path]:
    """A folder that this process may read but not write to, even if it was root's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        os.seteuid(os.getuid())


def give_up_rights(directory: Path) -> None:
    for path in (*directory.iterdir(), directory):
        path.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(65534)


def test_in_a_folder_that_cannot_be_written_to_they_stay_in_memory(
    originals: list[Path], without_rights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = Path(shutil.copytree(originals[0], without_rights / "run1"))
    give_up_rights(directory)
    with caplog.at_level(logging.INFO, "server.engine.native.packed_file"):
        np.testing.assert_array_equal(arena_of(directory), expected(directory))
    [line] = caplog.messages
    assert line.startswith(f"the packed weights are not kept: {directory / NAME} can't be written (")
    assert packed_files(directory) == []


def test_a_folder_that_cannot_be_written_to_may_have_been_given_a_file(
    originals: list[Path], without_rights: Path
) -> None:
    """As in an image: with files whose times are no longer those that the header knows."""
    directory = Path(shutil.copytree(originals[0], without_rights / "run1"))
    arena_of(directory)
    os.utime(directory / "model.safetensors", (1, 1))
    give_up_rights(directory)
    for _ in range(2):
        np.testing.assert_array_equal(arena_of(directory, never), expected(directory))


def test_weights_that_cannot_be_packed_leave_no_file(directory: Path) -> None:
    def fail(arena: Arena) -> None:
        arena[:] = 1
        raise CheckpointError(directory, "is damaged", "copy it again")

    with pytest.raises(CheckpointError):
        arena_of(directory, fail)
    assert packed_files(directory) == []


def test_memory_holds_the_weights_once(directory: Path) -> None:
    """Both while they are packed and afterwards: measured in a process of its own."""
    process = PROCESSES.Process(target=_pack_100_mib, args=(directory,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert (directory / NAME).stat().st_size == HEADER + (100 << 20)


def peak_memory() -> int:
    """Of this process, in bytes. `getrusage` would give that of the parent, where that was more."""
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) * 1024


def _pack_100_mib(directory: Path) -> None:
    size = 100 << 20
    before = peak_memory()

    def fill(arena: Arena) -> None:
        arena[:] = 1

    with open_checkpoint(directory) as checkpoint:
        arena = packed_arena(checkpoint, "int8", size, fill)
    assert size * 0.9 < peak_memory() - before < size * 1.2
    assert arena.min() == 1


def test_on_a_full_disk_they_stay_in_memory(directory: Path) -> None:
    process = PROCESSES.Process(target=_pack_with_little_room, args=(directory,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert packed_files(directory) == []


def _pack_with_little_room(directory: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (HEADER, HEADER))
    np.testing.assert_array_equal(arena_of(directory), expected(directory))


def test_two_processes_at_once_pack_once(directory: Path) -> None:
    barrier = PROCESSES.Barrier(3)
    processes = [PROCESSES.Process(target=_pack_beside_others, args=(directory, barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len((directory / "packed by").read_text().splitlines()) == 1
    assert packed_files(directory) == ["packed by", NAME]
    np.testing.assert_array_equal(arena_of(directory, never), expected(directory))


def _pack_beside_others(directory: Path, barrier: Barrier) -> None:
    with open_checkpoint(directory) as checkpoint:

        def fill(arena: Arena) -> None:
            with (directory / "packed by").open("a") as file:
                file.write(f"{os.getpid()}\n")
            pack(checkpoint)(arena)

        barrier.wait()
        arena = packed_arena(checkpoint, "int8", size_of(checkpoint), fill)
    np.testing.assert_array_equal(arena, expected(directory))


def test_what_a_killed_process_leaves_is_not_taken_for_whole(directory: Path) -> None:
    process = PROCESSES.Process(target=_die_while_packing, args=(directory,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert packed_files(directory) == ["pokegen-int8.tmp.packed"]
    np.testing.assert_array_equal(arena_of(directory), expected(directory))
    assert packed_files(directory) == [NAME], "and is tidied up"


def _die_while_packing(directory: Path) -> None:
    def fill(arena: Arena) -> None:
        arena[: arena.size // 2] = 1
        os.kill(os.getpid(), signal.SIGKILL)

    arena_of(directory, fill)
