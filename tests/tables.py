"""TensorFlow's .index files by hand: tables of keys and values with the right checksums, whatever they say.

number(value)                        a varint
field(number, value)                 a field of a protocol buffer message: a number, or a message in bytes
entry(shared, suffix, value)         an entry, whose key begins with `shared` bytes of the one before
block(*entries)                      a block with its checksum
table(*blocks)                       a table; its index is made unless given
sealed(table)                        the same table, every checksum that can be found made right
"""

import google_crc32c

from server.weights.stored import masked_crc32c
from server.weights.wire import varint

FOOTER = 48
MAGIC = bytes.fromhex("57fb808b247547db")


def number(value: int) -> bytes:
    """`value` as a varint."""
    encoded = b""
    while value >= 0x80:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def field(number_of_field: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return number(number_of_field << 3) + number(value)
    return number(number_of_field << 3 | 2) + number(len(value)) + value


def entry(shared: int, suffix: bytes, value: bytes) -> bytes:
    return number(shared) + number(len(suffix)) + number(len(value)) + suffix + value


def block(*entries: bytes, kind: int = 0, restarts: int = 1) -> bytes:
    content = b"".join(entries) + bytes(4) + restarts.to_bytes(4, "little") + bytes([kind])
    return content + _checksum(content)


def table(*blocks: bytes, index: bytes | None = None) -> bytes:
    """A table of data blocks; its index is made unless given."""
    handles, position = [], 0
    for number_of_block, data in enumerate(blocks):
        handle = number(position) + number(len(data) - 5)
        handles.append(entry(0, bytes([number_of_block]), handle))
        position += len(data)
    index = index or block(*handles)
    footer = number(0) + number(0) + number(position) + number(len(index) - 5)
    return b"".join(blocks) + index + footer.ljust(FOOTER - len(MAGIC), b"\0") + MAGIC


def sealed(damaged: bytes) -> bytes:
    """The table with the checksums of the blocks that its footer and its index lead to."""
    content = bytearray(damaged)
    content[-len(MAGIC) :] = MAGIC
    footer = bytes(content[-FOOTER:])
    try:
        _, position = varint(footer, 0)
        _, position = varint(footer, position)
        index = _seal(content, footer, position)
        position = 0
        while position < len(index):
            _, position = varint(index, position)
            unshared, position = varint(index, position)
            size, position = varint(index, position)
            _seal(content, index, position + unshared)
            position += unshared + size
    except ValueError:  # nothing more can be found
        pass
    return bytes(content)


def _seal(content: bytearray, handle: bytes, position: int) -> bytes:
    """The block without its trailer, whose checksum is right now."""
    offset, position = varint(handle, position)
    size, _ = varint(handle, position)
    end = offset + size + 1
    if end + 4 <= len(content):
        content[end : end + 4] = _checksum(bytes(content[offset:end]))
    return bytes(content[offset : offset + size])


def _checksum(content: bytes) -> bytes:
    return masked_crc32c(google_crc32c.value(content)).to_bytes(4, "little")
