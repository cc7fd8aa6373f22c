"""Arrays as data sets have them: images as uint8 or float32, labels as integers or text."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nas.errors import DataError

EXACT_IN_FLOAT32 = 2**24  # whole numbers up to here are kept exactly
CHECKED_AT_ONCE = 2**20


def as_images(where: str | Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All image arrays in the one type that fits them all.

    uint8 and float32 are taken as they are; booleans become uint8; other integers become uint8 where all of them lie in
    0..255, else float32; other floats become float32.

    Args:
        where: What the arrays are of, for messages.
        arrays: By name.

    Raises:
        DataError: One holds no numbers, NaN or infinity, integers too large, or they are of different kinds.
    """
    for name, array in arrays.items():
        if array.dtype.kind not in "buif":
            raise DataError(f"{where}: array '{name}' must hold numbers, but is of type {array.dtype}")
    kinds = {"float" if array.dtype.kind == "f" else "integer" for array in arrays.values()}
    if len(kinds) > 1:
        types = " and ".join(f"'{name}' is {array.dtype}" for name, array in arrays.items())
        raise DataError(f"{where}: the image arrays must be of one type, but {types}", "convert one of them")
    if kinds == {"integer"} and all(_fits_uint8(array) for array in arrays.values()):
        return {name: array.astype(np.uint8, copy=False) for name, array in arrays.items()}
    return {name: _as_float32(where, name, array) for name, array in arrays.items()}


def _fits_uint8(array: np.ndarray) -> bool:
    return array.dtype in (np.uint8, np.bool_) or not array.size or bool(array.min() >= 0 and array.max() <= 255)


def _as_float32(where: str | Path, name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f" and array.size and max(-int(array.min()), int(array.max())) > EXACT_IN_FLOAT32:
        raise DataError(
            f"{where}: array '{name}' holds integers too large for float32 to keep ({array.min()} to {array.max()})",
            "scale them, and save them as float32",
        )
    with np.errstate(over="ignore"):  # what overflows is counted below
        converted = array.astype(np.float32, copy=False)
    flat = converted.reshape(-1)
    finite = sum(
        int(np.count_nonzero(np.isfinite(flat[start : start + CHECKED_AT_ONCE])))
        for start in range(0, flat.size, CHECKED_AT_ONCE)
    )
    if finite < flat.size:
        raise DataError(
            f"{where}: array '{name}' holds {flat.size - finite} values that are NaN, infinite or too large for "
            "float32",
            "remove or replace them",
        )
    return converted


def as_labels(where: str | Path, name: str, array: np.ndarray) -> np.ndarray:
    """Labels as one axis of integers or text.

    Raises:
        DataError: They are something else.
    """
    if array.dtype.kind not in "buiUS":
        raise DataError(
            f"{where}: array '{name}' must hold integers or text, but is of type {array.dtype}",
            _labels_hint(name, array),
        )
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"{where}: array '{name}' must hold one label for each image, but has shape {array.shape}",
            "turn one-hot labels into class numbers with argmax(axis=1)",
        )
    if array.dtype.kind == "S":
        try:
            return np.char.decode(array, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: array '{name}' holds bytes that are no UTF-8 text: {error}") from None
    if array.dtype.kind == "U":
        return array
    if array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{where}: array '{name}' holds the label {array.max()}, which is beyond 64 bits with sign")
    return array.astype(np.int64)


def _labels_hint(name: str, array: np.ndarray) -> str:
    """How to mend labels of a wrong type: fractions that are whole, as many programs save them, need only a new one."""
    whole = array.dtype.kind == "f" and bool(np.isfinite(array).all() and (array == np.floor(array)).all())
    return f"they are whole numbers: save {name}.astype(int)" if whole else ""
