"""Protocol buffers as bytes: the fields of a message, without the package that makes objects of them.

See https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator


class DamagedError(Exception):
    """The bytes are no protocol buffer."""


def fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """A message's fields in order: the number, and bytes, or an integer where it is one.

    Raises:
        DamagedError: The bytes are no message.
    """
    place, end = 0, len(message)
    while place < end:
        key, place = _varint(message, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(message, place)
            yield number, value
            continue
        if wire == 2:
            size, place = _varint(message, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:  # groups, which ONNX does not use
            raise DamagedError
        if size > end - place:
            raise DamagedError
        yield number, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A whole number of 7 bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while place < len(message):
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), place
        shift += 7
        if shift > 63:
            break
    raise DamagedError


def message_of(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise DamagedError
    return value


def integers_of(value: memoryview | int) -> list[int]:
    """Whole numbers of a field, one in each or packed."""
    if isinstance(value, int):
        return [value]
    found, place = [], 0
    while place < len(value):
        number, place = _varint(value, place)
        found.append(number)
    return found


def messages_at(message: memoryview, path: tuple[int, ...]) -> Iterator[memoryview]:
    """The messages that lie at a path of field numbers."""
    if not path:
        yield message
        return
    for number, value in fields(message):
        if number == path[0]:
            yield from messages_at(message_of(value), path[1:])
