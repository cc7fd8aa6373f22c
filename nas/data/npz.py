"""NumPy's ``.npz``: one file of named arrays."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib import format as npy_format

from nas.data.source import RawData, Samples, required_path, source
from nas.errors import DataError, unknown_name
from nas.recipe_sections import Arrays, DataConfig

FILE_STARTS = (b"PK\x03\x04", b"PK\x05\x06", npy_format.MAGIC_PREFIX)  # of zip archives, as .npz is, and of .npy
EXACT_IN_FLOAT32 = 2**24  # whole numbers up to here are kept exactly
CHECKED_AT_ONCE = 2**20


@source("npz")
def read_npz(config: DataConfig) -> RawData:
    """Reads the arrays that the recipe names under ``arrays``.

    Images: uint8 and float32 are taken as they are; booleans become uint8; other integers become uint8 where all of
    them lie in 0..255, else float32; other floats become float32. Labels: integers or text.

    Raises:
        DataError: The file or an array in it is missing, damaged, or of a type that cannot be learned from.
    """
    path = required_path(config, "file")
    names = config.arrays
    arrays = _load(path, names)
    image_names = [name for name in (names.images, names.test_images) if name in arrays]
    images = _as_images(path, {name: arrays[name] for name in image_names})
    train = Samples(images[names.images], _as_labels(path, names.labels, arrays[names.labels]))
    if names.test_images not in arrays:
        return RawData(train)
    test = Samples(images[names.test_images], _as_labels(path, names.test_labels, arrays[names.test_labels]))
    return RawData(train, test=test)


def _load(path: Path, names: Arrays) -> dict[str, np.ndarray]:
    """The named arrays of the file, those of the test set only if they are there."""
    try:
        # Opened here, since numpy leaves a file that it opened and could not read for the garbage collector to close.
        with path.open("rb") as stream:
            if not stream.peek(1).startswith(FILE_STARTS):
                raise DataError(f"{path} is no .npz file", "write it with numpy.savez")
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError(f"{path} holds a single array (.npy)", "save images and labels with numpy.savez")
            with file:
                return {name: file[name] for name in _wanted(path, names, file.files)}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path} holds Python objects, which are not loaded since they can run code",
                "save arrays of numbers, and text as numpy strings, with numpy.savez",
            ) from error
        raise DataError(f"{path} cannot be read as .npz: {error}", "write it with numpy.savez") from error


def _wanted(path: Path, names: Arrays, present: list[str]) -> list[str]:
    """Which arrays to load. Test arrays must be there if one of them is, or if the recipe names them."""
    needed = [names.images, names.labels]
    test, defaults = [names.test_images, names.test_labels], Arrays()
    if test != [defaults.test_images, defaults.test_labels] or any(name in present for name in test):
        needed += test
    for name in needed:
        if name not in present:
            raise DataError(
                f"{path}: {unknown_name('array', name, present)}", "name the arrays under 'arrays' in the recipe"
            )
    return needed


def _as_images(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All image arrays in the one type that fits them all."""
    for name, array in arrays.items():
        if array.dtype.kind not in "buif":
            raise DataError(f"{path}: array '{name}' must hold numbers, but is of type {array.dtype}")
    kinds = {"float" if array.dtype.kind == "f" else "integer" for array in arrays.values()}
    if len(kinds) > 1:
        types = " and ".join(f"'{name}' is {array.dtype}" for name, array in arrays.items())
        raise DataError(f"{path}: the image arrays must be of one type, but {types}", "convert one of them")
    if kinds == {"integer"} and all(_fits_uint8(array) for array in arrays.values()):
        return {name: array.astype(np.uint8, copy=False) for name, array in arrays.items()}
    return {name: _as_float32(path, name, array) for name, array in arrays.items()}


def _fits_uint8(array: np.ndarray) -> bool:
    return array.dtype in (np.uint8, np.bool_) or not array.size or bool(array.min() >= 0 and array.max() <= 255)


def _as_float32(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f" and array.size and max(-int(array.min()), int(array.max())) > EXACT_IN_FLOAT32:
        raise DataError(
            f"{path}: array '{name}' holds integers too large for float32 to keep ({array.min()} to {array.max()})",
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
            f"{path}: array '{name}' holds {flat.size - finite} values that are NaN, infinite or too large for float32",
            "remove or replace them",
        )
    return converted


def _as_labels(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """Labels as one axis of integers or text."""
    if array.dtype.kind not in "buiUS":
        raise DataError(
            f"{path}: array '{name}' must hold integers or text, but is of type {array.dtype}",
            _labels_hint(name, array),
        )
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"{path}: array '{name}' must hold one label for each image, but has shape {array.shape}",
            "turn one-hot labels into class numbers with argmax(axis=1)",
        )
    if array.dtype.kind == "S":
        try:
            return np.char.decode(array, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: array '{name}' holds bytes that are no UTF-8 text: {error}") from None
    if array.dtype.kind == "U":
        return array
    if array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{path}: array '{name}' holds the label {array.max()}, which is beyond 64 bits with sign")
    return array.astype(np.int64)


def _labels_hint(name: str, array: np.ndarray) -> str:
    """How to mend labels of a wrong type: fractions that are whole, as many programs save them, need only a new one."""
    whole = array.dtype.kind == "f" and bool(np.isfinite(array).all() and (array == np.floor(array)).all())
    return f"they are whole numbers: save {name}.astype(int)" if whole else ""
