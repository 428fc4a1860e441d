"""Varints and protocol buffer fields. Source: protobuf.dev/programming-guides/encoding."""

from collections.abc import Iterator


def varint(data: bytes, position: int) -> tuple[int, int]:
    """The unsigned number of up to 64 bits at `position`, and the position after it. Raises ValueError."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a varint does not end")


def take(data: bytes, position: int, size: int) -> tuple[bytes, int]:
    """The `size` bytes at `position`, and the position after them. Raises ValueError when there are fewer."""
    end = position + size
    if end > len(data):
        raise ValueError(f"{size} bytes are announced where {len(data) - position} are left")
    return data[position:end], end


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protocol buffer message, in the order stored.

    Varints and fixed-size numbers come as unsigned int, all else as bytes. Raises ValueError when malformed.
    """
    position = 0
    while position < len(message):
        key, position = varint(message, position)
        value: int | bytes
        match key & 7:
            case 0:
                value, position = varint(message, position)
            case 1 | 5 as fixed:
                raw, position = take(message, position, 8 if fixed == 1 else 4)
                value = int.from_bytes(raw, "little")
            case 2:
                size, position = varint(message, position)
                value, position = take(message, position, size)
            case unknown:
                raise ValueError(f"a field has the unknown wire type {unknown}")
        yield key >> 3, value
