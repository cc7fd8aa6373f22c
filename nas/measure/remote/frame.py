"""JSON and arrays as one run of bytes, that nothing can be smuggled through: no pickle, no archive, no allocation
beyond what was received.

Eight bytes hold the length of the JSON, big-endian; the JSON follows; then the arrays' raw numbers in C order, one
after the other, whose types and shapes stand in the JSON under ``arrays``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Of bytes; so much JSON describes 100,000 arrays.
LONGEST_JSON = 2**23
_PREFIX = 8

DTYPES = frozenset(
    {"bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"}
    | {"float16", "float32", "float64"}
)


def described(array: np.ndarray) -> dict[str, Any]:
    """Type and shape of an array, as JSON holds them.

    Raises:
        TypeError: It holds something else than numbers.
    """
    if array.dtype.name not in DTYPES:
        raise TypeError(f"an array of {array.dtype} cannot be sent")
    return {"dtype": array.dtype.name, "shape": list(array.shape)}


def raw(array: np.ndarray) -> bytes:
    """An array's numbers in C order, the lowest byte first."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def array_of(description: Mapping[str, Any], content: bytes | memoryview) -> np.ndarray:
    """The array whose numbers these are.

    Raises:
        KeyError, TypeError, ValueError: The description is none, or is of another number of bytes.
    """
    name, shape = description["dtype"], description["shape"]
    if name not in DTYPES:
        raise ValueError(f"there is no type {name!r:.40}")
    if not isinstance(shape, list) or len(shape) > 8 or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{shape!r:.40} is no shape")
    dtype = np.dtype(name)
    if math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"an array of {name} of the shape {shape} has not {len(content)} bytes")
    stored = np.frombuffer(content, dtype.newbyteorder("<")).reshape(shape)
    return stored.astype(dtype)  # a copy that is ours


def pack(data: Mapping[str, Any], arrays: Sequence[np.ndarray] = ()) -> bytes:
    """The bytes of JSON and arrays."""
    described_all = {**data, "arrays": [described(array) for array in arrays]}
    text = json.dumps(described_all, separators=(",", ":"), allow_nan=False).encode()
    return b"".join([len(text).to_bytes(_PREFIX, "big"), text, *(raw(array) for array in arrays)])


def unpack(content: bytes) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The JSON and the arrays of what ``pack`` gave.

    Raises:
        ValueError: It is something else.
    """
    view = memoryview(content)
    length = int.from_bytes(view[:_PREFIX], "big")
    if len(view) < _PREFIX or length > min(LONGEST_JSON, len(view) - _PREFIX):
        raise ValueError("the JSON is longer than what was received")
    data = read_json(bytes(view[_PREFIX : _PREFIX + length]))
    position = _PREFIX + length
    arrays = []
    try:
        for description in data.pop("arrays"):
            size = math.prod(description["shape"]) * np.dtype(description["dtype"]).itemsize
            arrays.append(array_of(description, view[position : position + size]))
            position += size
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"an array is not described: {error!r:.200}") from None
    if position != len(view):
        raise ValueError(f"{len(view) - position} bytes are left over")
    return data, arrays


def read_json(content: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: It is something else.
    """
    try:
        data = json.loads(content)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    if not isinstance(data, dict):
        raise ValueError("the JSON is no object")
    return data
