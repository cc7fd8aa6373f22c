"""NumPy's ``.npz``: one file of named arrays."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib import format as npy_format

from nas.data.arrays import as_images, as_labels
from nas.data.source import RawData, Samples, required_path, source
from nas.errors import DataError, unknown_name
from nas.recipe_sections import Arrays, DataConfig
from nas.safety.arrays import check_npz

FILE_STARTS = (b"PK\x03\x04", b"PK\x05\x06", npy_format.MAGIC_PREFIX)  # of zip archives, as .npz is, and of .npy


@source("npz")
def read_npz(config: DataConfig) -> RawData:
    """Reads the arrays that the recipe names under ``arrays``.

    What types images and labels may have is the matter of ``nas.data.arrays``.

    Raises:
        DataError: The file or an array in it is missing, damaged, or of a type that cannot be learned from.
    """
    path = required_path(config, "file")
    names = config.arrays
    arrays = _load(path, names)
    image_names = [name for name in (names.images, names.test_images) if name in arrays]
    images = as_images(path, {name: arrays[name] for name in image_names})
    train = Samples(images[names.images], as_labels(path, names.labels, arrays[names.labels]))
    if names.test_images not in arrays:
        return RawData(train)
    test = Samples(images[names.test_images], as_labels(path, names.test_labels, arrays[names.test_labels]))
    return RawData(train, test=test)


def _load(path: Path, names: Arrays) -> dict[str, np.ndarray]:
    """The named arrays of the file, those of the test set only if they are there."""
    try:
        # Opened here, since numpy leaves a file that it opened and could not read for the garbage collector to close.
        with path.open("rb") as stream:
            start = stream.peek(1)
            if not start.startswith(FILE_STARTS):
                raise DataError(f"{path} is no .npz file", "write it with numpy.savez")
            if start.startswith(npy_format.MAGIC_PREFIX):  # not loaded to see it: its size was not looked at
                raise DataError(f"{path} holds a single array (.npy)", "save images and labels with numpy.savez")
            with np.load(stream, allow_pickle=False) as file:
                wanted = _wanted(path, names, file.files)
                check_npz(stream, wanted, path)
                return {name: file[name] for name in wanted}
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
