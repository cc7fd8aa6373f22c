"""The ONNX file that computes nothing: what it costs to run is the cost of a call.

It is written by hand, as a protocol buffer, for a device that measures needs not have the package ``onnx``.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

OPSET = 17
IR_VERSION = 8

# Element types by numpy's names, as onnx.proto3 numbers them (TensorProto.DataType).
_ELEMENTS = {
    **{"float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7},
    **{"bool": 9, "float16": 10, "float64": 11, "uint32": 12, "uint64": 13},
}


def identity_onnx(images: np.ndarray) -> bytes:
    """A model of one Identity operator that takes a batch of such images, of any size, and gives it back.

    Raises:
        KeyError: ONNX has no such element type.
    """
    free = _field(1, _field(2, b"N"))  # TensorShapeProto.dim, its dim_param
    fixed = [_field(1, _number(1, size)) for size in images.shape[1:]]
    shape = b"".join([free, *fixed])
    kind = _field(1, _number(1, _ELEMENTS[images.dtype.name]) + _field(2, shape))  # TypeProto.tensor_type
    node = _field(1, b"images") + _field(2, b"same") + _field(4, b"Identity")
    ends = _field(11, _field(1, b"images") + _field(2, kind)) + _field(12, _field(1, b"same") + _field(2, kind))
    graph = _field(1, node) + _field(2, b"identity") + ends
    opset = _field(1, b"") + _number(2, OPSET)
    return _number(1, IR_VERSION) + _field(7, graph) + _field(8, opset)


def _field(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer that holds bytes, a text or a message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    """A field that holds a whole number."""
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """A whole number of 0 or more, seven bits a byte, the lowest first."""
    return bytes(_digits(value))


def _digits(value: int) -> Iterable[int]:
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value
