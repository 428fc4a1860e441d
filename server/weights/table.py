"""The table of keys and values that TensorFlow's .index file is.

Source: LevelDB's doc/table_format.md, which TensorFlow took over (tensorflow/tsl/lib/io). Blocks of entries
sorted by key come first, then a block that indexes them, then a footer that says where that one is.
"""

from collections.abc import Iterator

import google_crc32c

from server.weights.stored import masked_crc32c
from server.weights.wire import take, varint

_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
_FOOTER = 48
_LONGEST_KEY = (
    1024  # keys are built from one another: without a limit a small file could yield an endless one
)


def read_table(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each key and value of the table, by key. Raises ValueError when malformed or when a checksum is wrong."""
    if len(table) < _FOOTER:
        raise ValueError(f"has {len(table)} bytes, less than the {_FOOTER} of a footer alone")
    if not table.endswith(_MAGIC):
        raise ValueError("does not end in the magic number of a TensorFlow index")
    footer = table[-_FOOTER : -len(_MAGIC)]
    _, position = varint(footer, 0)  # offset and size of the meta index, which TensorFlow leaves empty
    _, position = varint(footer, position)
    done = 0
    for _, handle in _entries(_block(table, footer, position)):
        offset, _ = varint(handle, 0)
        if offset < done:
            raise ValueError("has blocks that overlap")
        block = _block(table, handle, 0)
        done = offset + len(block)
        yield from _entries(block)


def _block(table: bytes, handle: bytes, position: int) -> bytes:
    """The block whose offset and size are at `position` of `handle`, its checksum verified."""
    offset, position = varint(handle, position)
    size, _ = varint(handle, position)
    block, end = take(table, offset, size)
    trailer, _ = take(table, end, 5)
    if int.from_bytes(trailer[1:], "little") != masked_crc32c(google_crc32c.value(block + trailer[:1])):
        raise ValueError(f"has a wrong checksum for the block at byte {offset}")
    if trailer[0]:
        raise ValueError(f"has a compressed block (type {trailer[0]}), which TensorFlow's savers don't write")
    return block


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of each entry. An entry says how many bytes of the key before it begin its own."""
    restarts = int.from_bytes(
        block[-4:], "little"
    )  # points to begin a search from: not needed to read in order
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise ValueError("has a block shorter than its own restart points")
    entries = block[:end]
    key = b""
    position = 0
    while position < end:
        shared, position = varint(entries, position)
        unshared, position = varint(entries, position)
        size, position = varint(entries, position)
        if shared > len(key) or shared + unshared > _LONGEST_KEY:
            raise ValueError(f"has a key of {shared} + {unshared} bytes after one of {len(key)}")
        suffix, position = take(entries, position, unshared)
        value, position = take(entries, position, size)
        key = key[:shared] + suffix
        yield key, value
