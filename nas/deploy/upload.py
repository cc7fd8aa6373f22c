"""What somebody sends to be classified: an image file, a ``.npy`` array or JSON, read without trusting any of it."""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from nas.artifact import InputSpec
from nas.data.images import FORMATS, ImageBytes, read_image
from nas.deploy.deployment import image_mode
from nas.deploy.predict import fitted
from nas.errors import DataError, NasError, one_line
from nas.safety.json_text import parse_json

NPY_VERSION = b"\x01\x00"

# A file of few bytes may hold an image of many pixels, whose decoding fills the memory: 50 million take 150 MB.
MOST_PIXELS = 50_000_000


class UploadError(NasError):
    """What was sent cannot be classified.

    Args:
        status: HTTP's number for it: 400 malformed, 413 too large, 415 of a type that is not taken, 422 does not fit.
        message: What is wrong.
        hint: How to mend it.
    """

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.status = status


def read_upload(content: bytes, kind: str, input: InputSpec, name: str = "the upload") -> np.ndarray:
    """Images of one upload, as the model takes them, batch first.

    What it is is read off its first bytes; ``kind`` decides only between JSON and what is not taken.

    Args:
        content: The body, or a form's file.
        kind: Its content type, such as ``image/png``; empty where none was said.
        input: What the model takes.
        name: What it is called in what is said of it.

    Raises:
        UploadError: It is malformed, too large, of another type, or does not fit the model.
    """
    if not content:
        raise UploadError(400, f"{name} is empty", "send an image file, a .npy file or JSON")
    if content.startswith(npy_format.MAGIC_PREFIX):
        return _batch(_fitted(_read_npy(content, name), input, name), input)
    if kind == "application/json" or (kind not in ("text/plain", "text/html") and content[:1] in (b"[", b"{")):
        return _batch(_fitted(_read_json(content, input, name), input, name), input)
    return _read_image(content, kind, input, name)[np.newaxis]


def _batch(array: np.ndarray, input: InputSpec) -> np.ndarray:
    return array if array.ndim > len(input.shape) else array[np.newaxis]


def _fitted(array: np.ndarray, input: InputSpec, name: str) -> np.ndarray:
    try:
        return fitted(array, input, name)
    except DataError as error:
        raise UploadError(422, error.message, error.hint) from error


def _read_npy(content: bytes, name: str) -> np.ndarray:
    """An array whose header promises just as many bytes as follow it: nothing is allocated on its word alone."""
    try:
        start = _header_end(content)
        shape, is_fortran, dtype = _read_header(content[:start])
    except Exception as error:  # numpy has Python's parser read the header, which raises whatever it stumbles over
        raise UploadError(400, f"{name} is a damaged .npy file: {one_line(error)}", "save it anew") from error
    if dtype.hasobject or dtype.kind not in "buif":
        raise UploadError(422, f"{name} must hold numbers, but holds {dtype}", "save an array of numbers")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(content) - start:
        raise UploadError(400, f"{name} is a damaged .npy file: its header states another size", "save it anew")
    return np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if is_fortran else "C")


def _header_end(content: bytes) -> int:
    """Where the values of a ``.npy`` file begin: after magic, version, and a text of a length that it states."""
    begin = npy_format.MAGIC_LEN
    if content[begin - 2 : begin] != NPY_VERSION:
        raise ValueError("its version is for very long headers, which no array of numbers needs")
    return begin + 2 + int.from_bytes(content[begin : begin + 2], "little")


@lru_cache(16)  # whoever sends many arrays sends them alike, and Python's parser takes longer than all the rest
def _read_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type, from the begin of a ``.npy`` file."""
    stream = io.BytesIO(header)
    stream.seek(npy_format.MAGIC_LEN)
    return npy_format.read_array_header_1_0(stream)  # type: ignore[no-untyped-call,no-any-return]


def _read_json(content: bytes, input: InputSpec, name: str) -> np.ndarray:
    """An array of numbers, bare or under the key ``images`` or ``image``."""
    try:
        data = parse_json(content)
    except ValueError as error:
        raise UploadError(400, f"{name} is no JSON: {one_line(error)}") from error
    if isinstance(data, dict):
        data = next((data[key] for key in ("images", "image") if key in data), None)
    if not isinstance(data, list):
        raise UploadError(422, f"{name} must be an array of numbers, or hold one under the key 'images'")
    return _numbers(data, input, name)


def _numbers(data: list[Any], input: InputSpec, name: str) -> np.ndarray:
    if not _numbers_alone(data):  # before numpy makes room for each to be as long as the longest text among them
        raise UploadError(422, f"{name} must hold numbers only, and some")
    try:
        array = np.array(data)
    except (ValueError, OverflowError) as error:
        raise UploadError(422, f"{name} must be an array whose rows are of one length") from error
    if array.dtype.kind not in "iuf" or not array.size:
        raise UploadError(422, f"{name} must hold numbers only, and some")
    if input.dtype == "float32":
        return array.astype(np.float64)
    if array.dtype.kind == "f" or array.min() < 0 or array.max() > 255:
        raise UploadError(422, f"{name} must hold whole numbers from 0 to 255, as the model takes pixels")
    return array.astype(np.uint8)


def _numbers_alone(data: list[Any]) -> bool:
    """Whether lists hold nothing but lists and, in the end, numbers."""
    waiting = [data]
    while waiting:
        rows = waiting.pop()
        kinds = set(map(type, rows))
        if list in kinds and len(kinds) == 1:
            waiting += rows
        elif not kinds <= {int, float, bool}:
            return False
    return True


def _read_image(content: bytes, kind: str, input: InputSpec, name: str) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    if image_mode(input) is None:
        shape = "×".join(map(str, input.shape))
        raise UploadError(
            415, f"this model takes no image files, but arrays {shape} {input.dtype}", "send .npy or JSON"
        )
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            pixels = image.width * image.height
    except UnidentifiedImageError:
        said = f" ({kind})" if kind else ""
        taken = ", ".join(FORMATS)
        raise UploadError(415, f"{name}{said} is no image that is taken", f"send {taken}, .npy or JSON") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pixels = MOST_PIXELS + 1
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them stumble over
        raise UploadError(400, f"{name} is a damaged image: {one_line(error)}", "save it anew") from error
    if pixels > MOST_PIXELS:
        raise UploadError(413, f"{name} has more than {MOST_PIXELS:,} pixels", "make it smaller")
    try:
        return read_image(ImageBytes(content, name), input)
    except DataError as error:
        damaged = "cannot be read" in error.message
        raise UploadError(400 if damaged else 422, error.message, error.hint) from error
