"""Arrays in ``.npy`` and ``.npz`` files, whose headers are held to what is really there before anything is allocated.

An array's header states its shape, an archive's how large each file in it is once unpacked. Neither is believed: few
bytes may state terabytes.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

from nas.errors import DataError, one_line
from nas.safety.limits import most_data_bytes, size_words

_READERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


def check_data_bytes(where: object, size_bytes: int) -> None:
    """Refuses data that does not fit into this machine's memory.

    Raises:
        DataError: It does not.
    """
    most = most_data_bytes()
    if size_bytes > most:
        raise DataError(
            f"{where} would take {size_words(size_bytes)} of memory, but this machine has {size_words(most)}",
            "keep fewer samples, or smaller ones",
        )


def check_npz(stream: IO[bytes], names: Iterable[str], where: object) -> None:
    """Checks the named arrays of an ``.npz`` file before they are loaded: together they must fit into memory, and each
    must be as large as its header states.

    Args:
        stream: The file; read from where it stands, and left anywhere.
        names: Of arrays; those that are not there are passed over.
        where: What the file is called.

    Raises:
        DataError: They do not fit, or a header states another size.
        OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError: It cannot be read.
    """
    with zipfile.ZipFile(stream) as archive:
        members = {info.filename: info for info in archive.infolist()}
        found = [
            (name, info)
            for name in dict.fromkeys(names)
            if (info := members.get(name) or members.get(f"{name}.npy")) is not None
        ]
        check_data_bytes(where, sum(info.file_size for _, info in found))
        for name, info in found:
            with archive.open(info) as member:
                _check_member(member, info.file_size, f"{where}: array '{name}'")


def _check_member(member: IO[bytes], size: int, where: str) -> None:
    start = member.read(npy_format.MAGIC_LEN)
    if start[:-2] != npy_format.MAGIC_PREFIX:
        raise DataError(f"{where} is no array", "write it with numpy.savez")
    shape, dtype, header = _header(member, start, where)
    if dtype.hasobject:
        return  # numpy refuses it, and says why
    _check_size(shape, dtype, size - header, where)


def read_npy(stream: IO[bytes], size: int, where: object) -> np.ndarray:
    """The array of a ``.npy`` file of that many bytes.

    Raises:
        DataError: It is none, is as large as its header does not state, or holds Python objects.
    """
    start = stream.read(npy_format.MAGIC_LEN)
    if start[:-2] != npy_format.MAGIC_PREFIX:
        if start.startswith(b"PK"):
            raise DataError(f"{where} is no .npy file: it holds several arrays", "save one array with numpy.save")
        raise DataError(f"{where} cannot be read as .npy: it is none", "write it with numpy.save, numbers only")
    shape, dtype, header = _header(stream, start, str(where))
    if dtype.hasobject:
        raise DataError(
            f"{where} cannot be read as .npy: it holds Python objects, which can run code, so that allow_pickle=False",
            "write it with numpy.save, numbers only",
        )
    _check_size(shape, dtype, size - header, str(where))
    stream.seek(0)
    array: np.ndarray = np.load(stream, allow_pickle=False)
    return array


def _header(stream: IO[bytes], start: bytes, where: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type, and the length of the header, which begins with ``start``."""
    read = _READERS.get((start[-2], start[-1]))
    if read is None:  # 3.0 is for names of fields that are no Latin-1, which no array of numbers has
        raise DataError(f"{where} is of a version of .npy that is not read", "write it with numpy.save or numpy.savez")
    counted = _Counted(stream)
    try:
        shape, _, dtype = read(counted)  # type: ignore[no-untyped-call]
    except Exception as error:  # numpy has Python's parser read the header, which raises whatever it stumbles over
        raise DataError(
            f"{where} has a damaged header: {one_line(error)}", "write it with numpy.save or numpy.savez"
        ) from error
    return shape, dtype, npy_format.MAGIC_LEN + counted.count


def _check_size(shape: tuple[int, ...], dtype: np.dtype[Any], held: int, where: str) -> None:
    stated = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or stated > held:
        raise DataError(
            f"{where} is damaged: its header states {size_words(stated)}, but {size_words(max(held, 0))} are there",
            "write it with numpy.save or numpy.savez",
        )


class _Counted:
    """A stream that counts what is read of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.count = 0

    def read(self, size: int) -> bytes:
        content = self.stream.read(size)
        self.count += len(content)
        return content
