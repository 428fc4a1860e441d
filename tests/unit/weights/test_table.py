"""Hostile tables: small files that would unpack to endless ones."""

import tracemalloc
from pathlib import Path

import pytest

from server.weights import CheckpointError, open_checkpoint
from server.weights.table import read_table
from server.weights.wire import fields, varint
from tests.tables import block, entry, number, table


def test_keys_share_their_beginnings() -> None:
    data = table(block(entry(0, b"model/wpe", b"1"), entry(7, b"te", b"2")), block(entry(0, b"z", b"")))
    assert list(read_table(data)) == [(b"model/wpe", b"1"), (b"model/wte", b"2"), (b"z", b"")]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "has 0 bytes, less than the 48"),
        (bytes(48), "magic number"),
        (table(block(entry(0, b"k", b"v"), kind=1)), r"compressed block \(type 1\)"),
        (table(block(entry(0, b"k", b"v"), restarts=1000)), "shorter than its own restart points"),
        (table(block(entry(1, b"k", b"v"))), r"key of 1 \+ 1 bytes after one of 0"),
        (table(block(entry(0, b"k" * 2000, b"v"))), r"key of 0 \+ 2000 bytes"),
        (table(block(number(0) + number(9) + number(0) + b"k")), "announced where"),
        (
            table(block(entry(0, b"k", b"v")), index=block(entry(0, b"k", number(0) + number(2**63)))),
            "announced",
        ),
        (
            table(block(entry(0, b"k", b"v")), index=block(*[entry(0, b"k", number(0) + number(13))] * 2)),
            "blocks that overlap",
        ),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_a_malformed_table(data: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        list(read_table(data))


def test_keys_cannot_grow_without_end() -> None:
    growing = block(entry(0, b"k", b""), *(entry(length, b"k", b"") for length in range(1, 2000)))
    with pytest.raises(ValueError, match=r"key of 1024 \+ 1 bytes"):
        list(read_table(table(growing)))


def test_an_index_that_names_far_more_than_its_size(gpt2_simple: Path) -> None:
    """Each name takes 1,024 bytes and shares all but 3 of them with the one before it."""
    first = entry(0, b"", b"") + entry(0, bytes(1024), b"")
    names = (entry(1021, number_of_name.to_bytes(3, "big"), b"") for number_of_name in range(130_000))
    hostile = table(block(first, *names))
    (gpt2_simple / "model-1000.index").write_bytes(hostile)

    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"model-1000\.index: tensor model/wte, .* is missing"):
        open_checkpoint(gpt2_simple)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(hostile) > 900_000
    assert peak < 8 * len(hostile)  # the names take 133 MB


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31, 2**63, 2**64 - 1])
def test_varints(value: int) -> None:
    assert varint(b"?" + number(value), 1) == (value, 1 + len(number(value)))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 11])
def test_a_varint_without_end(data: bytes) -> None:
    with pytest.raises(ValueError, match="does not end"):
        varint(data, 0)


def test_fields_of_every_wire_type() -> None:
    message = b"\x08\x96\x01" + b"\x12\x02hi" + b"\x1d\x01\0\0\0" + b"\x21\x02\0\0\0\0\0\0\0"
    assert list(fields(message)) == [(1, 150), (2, b"hi"), (3, 1), (4, 2)]


@pytest.mark.parametrize("message", [b"\x12\x05hi", b"\x1d\x01", b"\x0b", b"\x08"])
def test_a_malformed_message(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"announced|wire type|does not end"):
        list(fields(message))
