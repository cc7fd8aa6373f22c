"""IDX files as MNIST and its successors publish them (Y. LeCun, C. Cortes, C. Burges, "THE MNIST DATABASE").

A file starts with two zero bytes, the type of its values (8: unsigned byte) and the number of dimensions; then each
dimension as a big-endian 32-bit integer; then the values, the last dimension varying fastest.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from nas.data.source import RawData, Samples, required_path, source
from nas.errors import DataError
from nas.recipe_sections import DataConfig
from nas.safety.arrays import check_data_bytes
from nas.safety.files import require_plain
from nas.safety.limits import most_data_bytes

UNSIGNED_BYTE = 0x08
GZIP_MAGIC = b"\x1f\x8b"
AT_ONCE = 2**24  # bytes


@source("idx")
def read_idx_folder(config: DataConfig) -> RawData:
    """Reads ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte``, and the test set in ``t10k-…`` if it is there.

    Each file may be compressed (``.gz``); a plain one beside it is preferred. Images with a channel axis
    (``…-idx4-ubyte``) lie as the recipe's ``layout`` says.

    Raises:
        DataError: A file is missing, damaged or not what its name says.
    """
    folder = required_path(config, "folder")
    train = _read_part(folder, "train")
    if train is None:
        raise DataError(
            f"{folder} holds no IDX files of the name train-images-idx3-ubyte (or .gz), but: {_listing(folder)}",
            "keep the names under which the files are published",
        )
    return RawData(train, test=_read_part(folder, "t10k"))


def read_idx(path: Path, dimensions: tuple[int, ...]) -> np.ndarray:
    """Reads one IDX file of unsigned bytes, compressed or plain.

    Args:
        path: The file. Whether it is compressed shows in its first bytes: browsers unpack downloads and keep the name.
        dimensions: The numbers of dimensions that are accepted.

    Raises:
        DataError: The file cannot be read, is damaged, of another kind, or of another length than its header says.
    """
    try:
        require_plain(path, DataError)
        with path.open("rb") as file:
            if not file.peek(2).startswith(GZIP_MAGIC):
                return _array(path, file, dimensions)
            with gzip.GzipFile(fileobj=file) as unpacked:
                try:
                    return _array(path, unpacked, dimensions)
                except DataError:
                    unpacked.read(AT_ONCE)  # says so where what was unpacked is wrong because the file is damaged
                    raise
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a damaged gzip file: {error}", "download it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _array(path: Path, stream: IO[bytes] | gzip.GzipFile, dimensions: tuple[int, ...]) -> np.ndarray:
    """The array that a stream holds, of which no more is read than its header states and one value."""
    start = stream.read(4)
    if len(start) < 4 or start[:2] != b"\0\0":
        raise DataError(
            f"{path} is no IDX file: it must begin with two zero bytes, but begins with {start.hex(' ') or '(nothing)'}"
        )
    kind, rank = start[2], start[3]
    if kind != UNSIGNED_BYTE:
        raise DataError(f"{path} must hold unsigned bytes (type 0x08), but its header says type 0x{kind:02x}")
    if rank not in dimensions:
        raise DataError(f"{path} must have {' or '.join(map(str, dimensions))} dimensions, but its header says {rank}")
    sizes = stream.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise DataError(f"{path} ends inside its header, after {4 + len(sizes)} bytes", "download it again")
    shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4", rank))
    said = math.prod(shape)
    parts, held, most = [], 0, min(said, most_data_bytes())
    # In parts, since the header may state far more than the file holds, and then one more value, which must not be
    # there: what a compressed file unpacks to may be without end.
    while held <= most and (part := stream.read(min(AT_ONCE, most + 1 - held))):
        parts.append(part)
        held += len(part)
    if most < held <= said:
        check_data_bytes(path, said)
    if held != said:
        more = f"{held} or more" if held > said else held
        raise DataError(
            f"{path} must hold {said} values, as its header says ({'×'.join(map(str, shape))}), but holds {more}",
            "download it again",
        )
    return np.frombuffer(bytearray().join(parts), np.uint8).reshape(shape)  # of a bytearray, which can be written to


def _read_part(folder: Path, part: str) -> Samples | None:
    """The images and labels of ``train`` or ``t10k``; None where neither file is there."""
    images = _find(folder, f"{part}-images-idx3-ubyte", f"{part}-images-idx4-ubyte")
    labels = _find(folder, f"{part}-labels-idx1-ubyte")
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        present = labels or images
        missing = "images-idx3" if images is None else "labels-idx1"
        raise DataError(f"{present} is there, but {folder / f'{part}-{missing}-ubyte'} (or .gz) is missing")
    return Samples(read_idx(images, (3, 4)), read_idx(labels, (1,)))


def _find(folder: Path, *stems: str) -> Path | None:
    candidates = (folder / f"{stem}{suffix}" for stem in stems for suffix in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def _listing(folder: Path, most: int = 8) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "(nothing)"
