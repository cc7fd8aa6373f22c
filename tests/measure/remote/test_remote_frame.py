"""JSON and arrays as bytes: there and back, and nothing but ValueError for whatever else arrives."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.measure.remote.frame import DTYPES, array_of, described, pack, raw, read_json, unpack


@pytest.mark.parametrize("name", sorted(DTYPES))
@pytest.mark.parametrize("shape", [(), (0, 3), (4,), (2, 3, 4)])
def test_arrays_come_back(name: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(name)
    data, (back,) = unpack(pack({"a": [1.5, None]}, [array]))
    assert data == {"a": [1.5, None]}
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert np.array_equal(back, array)
    assert back.flags.writeable


def test_order_in_memory_does_not_matter() -> None:
    array = np.arange(6, dtype=">i4").reshape(2, 3).T
    assert np.array_equal(array_of(described(array), raw(array)), array)


def test_what_is_no_number_is_not_sent() -> None:
    for array in (np.array([object()]), np.array(["text"]), np.zeros(2, "datetime64[s]")):
        with pytest.raises(TypeError, match="cannot be sent"):
            pack({}, [array])
    with pytest.raises(ValueError, match="not JSON compliant"):
        pack({"a": float("nan")})


def framed(data: Any, rest: bytes = b"") -> bytes:
    text = json.dumps(data).encode()
    return len(text).to_bytes(8, "big") + text + rest


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        b"\xff" * 8,
        (2**62).to_bytes(8, "big") + b"{}",
        framed([]),
        framed({}),
        framed({"arrays": 3}),
        framed({"arrays": [{}]}),
        framed({"arrays": []}, b"left over"),
        framed({"arrays": [{"dtype": "object", "shape": [1]}]}, b"\0" * 8),
        framed({"arrays": [{"dtype": "O", "shape": [1]}]}, b"\0" * 8),
        framed({"arrays": [{"dtype": "uint8", "shape": [2**40]}]}, b"\0" * 8),
        framed({"arrays": [{"dtype": "uint8", "shape": [2**70]}]}, b"\0" * 8),
        framed({"arrays": [{"dtype": "uint8", "shape": [-8, -1]}]}, b"\0" * 8),
        framed({"arrays": [{"dtype": "uint8", "shape": [True]}]}, b"\0"),
        framed({"arrays": [{"dtype": "uint8", "shape": [1] * 9}]}, b"\0"),
        framed({"arrays": [{"dtype": ["uint8"], "shape": [1]}]}, b"\0"),
    ],
)
def test_what_is_no_frame_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack(content)


@given(st.binary(max_size=60))
def test_whatever_arrives_is_a_frame_or_refused(content: bytes) -> None:
    for candidate in (content, len(content).to_bytes(8, "big") + content):
        try:
            unpack(candidate)
        except ValueError:
            continue


def test_json_too_deep_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        read_json(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
