"""Reading one image file exactly as the artifact takes it; training and prediction both read through here.

Values are those that Pillow decodes: no scaling, no rotation by EXIF, alpha dropped.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas.artifact import InputSpec
from nas.errors import DataError, NasError, unknown_name
from nas.safety.files import require_plain
from nas.safety.limits import MOST_IMAGE_PIXELS

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
GREY_MODES = frozenset({"1", "L", "LA", "La"})
MODES = {1: "L", 3: "RGB"}
# Pillow's decoders that are let near a file, whatever its name says; others start programs (EPS: Ghostscript), or are
# seldom looked after.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM", "TIFF")


@dataclass(frozen=True)
class Header:
    """What an image file says of itself before its pixels are decoded."""

    grey: bool
    height: int
    width: int


class ImageBytes(io.BytesIO):
    """An image file's content, which calls itself by a name in messages, as a path does."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.called = name

    def __str__(self) -> str:
        return self.called


def read_header(path: Path | ImageBytes) -> Header:
    """Size and kind of an image file.

    Raises:
        DataError: The file is missing or is no image that Pillow reads.
    """
    with _opened(path) as image:
        return Header(image.mode in GREY_MODES, image.height, image.width)


def read_image(path: Path | ImageBytes, input: InputSpec) -> np.ndarray:
    """One image as the artifact takes it, batch dimension left out.

    The image is first brought to the spec's channels (1: grey, by ITU-R 601-2 luma; 3: RGB), then, where the spec says
    how, resized.

    Args:
        path: The image file, or its content.
        input: What the artifact takes; uint8, with 1 or 3 channels.

    Returns:
        uint8 of shape ``input.shape``.

    Raises:
        DataError: The artifact takes no images, the file cannot be read, or its size is another and the spec does not
            say how to resize.
    """
    with _opened(path) as image:
        return image_pixels(image, input, str(path))


def image_pixels(image: Image, input: InputSpec, name: str) -> np.ndarray:
    """What ``read_image`` gives, of an image that was opened already; ``name`` is what messages call it."""
    from PIL import Image

    channels, height, width = input.channels_first
    if input.dtype != "uint8" or channels not in MODES:
        raise DataError(
            f"{name} cannot be used: the input is {input.dtype} with {channels} channels, which no image file gives",
            "give arrays instead",
        )
    resize = input.resize
    if resize is not None and resize.filter.upper() not in Image.Resampling.__members__:
        filters = [known.lower() for known in Image.Resampling.__members__]
        raise DataError(unknown_name("resize filter", resize.filter, filters))
    _check_pixels(name, image.height, image.width)
    image = _converted(name, image, MODES[channels])
    if resize is not None:
        _check_pixels(f"{name}, resized,", resize.height, resize.width)
        image = image.resize((resize.width, resize.height), Image.Resampling[resize.filter.upper()])
    if (image.height, image.width) != (height, width):
        raise DataError(
            f"{name} is {image.height}×{image.width} (height × width), but must be {height}×{width}",
            f"resize it to {height}×{width} first, or train on 'source: folder' data with "
            f"'resize: [{height}, {width}]' in the recipe",
        )
    pixels = np.array(image, dtype=np.uint8).reshape(height, width, channels)
    return pixels if input.layout == "NHWC" else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _converted(name: str, image: Image, mode: str) -> Image:
    if image.mode.startswith(("I", "F")):
        # Pillow's conversion would clip these to 0..255, and so turn most of the picture white.
        raise DataError(
            f"{name} holds more than 8 bits for each value (Pillow's mode {image.mode})",
            "convert it to 8 bits, or keep such data as float arrays in an .npz file",
        )
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


@contextmanager
def _opened(path: Path | ImageBytes) -> Iterator[Image]:
    """An open image; whatever goes wrong with it inside the block is a DataError that names the file."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if isinstance(path, Path):
                require_plain(path, DataError)
            with Image.open(path, formats=FORMATS) as image:
                _check_pixels(str(path), image.height, image.width)
                yield image
    except NasError:
        raise
    except FileNotFoundError:
        raise DataError(f"there is no image {path}") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, not an image", "name the files in it") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DataError(_too_many(str(path)), "make it smaller") from None
    except UnidentifiedImageError:
        raise DataError(f"{path} cannot be read as an image", "remove it, or save it as PNG or JPEG") from None
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them stumble over
        raise DataError(f"{path} cannot be read as an image: {error}", "remove it, or save it anew") from error


def _check_pixels(name: str, height: int, width: int) -> None:
    """Holds an image's size to the limit; by hand, since Pillow's own can be switched off by any other code.

    Raises:
        DataError: It has more pixels.
    """
    if height * width > _most_pixels():
        raise DataError(_too_many(name), "make it smaller")


def _too_many(name: str) -> str:
    return f"{name} has more pixels than are safe to decode ({_most_pixels():,})"


def _most_pixels() -> int:
    from PIL import Image

    return min(MOST_IMAGE_PIXELS, Image.MAX_IMAGE_PIXELS or MOST_IMAGE_PIXELS)
