from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import random_images, write_image
from PIL import Image

from nas.artifact import InputSpec, Resize
from nas.data import read_image
from nas.data.images import read_header
from nas.errors import DataError

GREY = InputSpec("uint8", (4, 5, 1))
RGB = InputSpec("uint8", (4, 5, 3))


def test_grey_values_are_untouched(tmp_path: Path) -> None:
    pixels = random_images(1, 4, 5)[0]
    found = read_image(write_image(tmp_path / "a.png", pixels), GREY)
    assert found.dtype == np.uint8
    assert np.array_equal(found, pixels[..., np.newaxis])


def test_channels_first(tmp_path: Path) -> None:
    pixels = random_images(1, 4, 5, 3)[0]
    found = read_image(write_image(tmp_path / "a.png", pixels), InputSpec("uint8", (3, 4, 5), "NCHW"))
    assert np.array_equal(found, pixels.transpose(2, 0, 1))
    assert found.flags.c_contiguous


def test_colour_becomes_luma_where_the_artifact_is_grey(tmp_path: Path) -> None:
    pixels = random_images(1, 4, 5, 3)[0]
    found = read_image(write_image(tmp_path / "a.png", pixels), GREY)[..., 0]
    # ITU-R 601-2: L = 0.299 R + 0.587 G + 0.114 B
    assert np.abs(found - pixels @ [0.299, 0.587, 0.114]).max() <= 1


def test_grey_becomes_three_equal_channels_where_the_artifact_is_in_colour(tmp_path: Path) -> None:
    pixels = random_images(1, 4, 5)[0]
    found = read_image(write_image(tmp_path / "a.png", pixels), RGB)
    assert all(np.array_equal(found[..., channel], pixels) for channel in range(3))


def test_alpha_is_dropped(tmp_path: Path) -> None:
    pixels = random_images(1, 4, 5, 4)[0]
    assert np.array_equal(read_image(write_image(tmp_path / "a.png", pixels), RGB), pixels[..., :3])


def test_a_palette_is_looked_up_with_and_without_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (5, 4))
    image.putpalette([10, 20, 30, 40, 50, 60] + [0] * 762)
    image.putpixel((0, 0), 1)
    for name, extra in (("plain.png", {}), ("clear.png", {"transparency": bytes([0, 255])})):
        image.save(tmp_path / name, **extra)
        found = read_image(tmp_path / name, RGB)
        assert found[0, 0].tolist() == [40, 50, 60]
        assert found[1, 1].tolist() == [10, 20, 30]


def test_one_bit_images_are_black_and_white(tmp_path: Path) -> None:
    bits = random_images(1, 4, 5)[0] > 127
    Image.fromarray(bits).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", GREY)[..., 0], bits * 255)


@pytest.mark.parametrize("filter", ["bilinear", "nearest", "bicubic"])
def test_resizing_is_pillows_after_the_change_of_channels(tmp_path: Path, filter: str) -> None:
    path = write_image(tmp_path / "a.png", random_images(1, 9, 7, 4)[0])
    expected = Image.open(path).convert("RGB").resize((5, 4), Image.Resampling[filter.upper()])
    found = read_image(path, InputSpec("uint8", (4, 5, 3), resize=Resize(4, 5, filter)))
    assert np.array_equal(found, np.asarray(expected))


def test_an_image_of_the_right_size_is_not_changed_by_resizing(tmp_path: Path) -> None:
    pixels = random_images(1, 4, 5, 3)[0]
    path = write_image(tmp_path / "a.png", pixels)
    assert np.array_equal(read_image(path, InputSpec("uint8", (4, 5, 3), resize=Resize(4, 5))), pixels)


def test_a_wrong_size_says_both_and_the_remedy(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", random_images(1, 9, 7)[0])
    message = (
        r"a\.png is 9×7 \(height × width\), but must be 4×5 "
        r"\(resize it to 4×5 first, or train on 'source: folder' data with 'resize: \[4, 5\]'"
    )
    with pytest.raises(DataError, match=message):
        read_image(path, GREY)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_more_than_eight_bits_are_refused_rather_than_clipped(tmp_path: Path, dtype: type) -> None:
    path = write_image(tmp_path / "a.tiff", (random_images(1, 4, 5)[0] * 100.0).astype(dtype))
    with pytest.raises(DataError, match=r"a\.tiff holds more than 8 bits for each value \(Pillow's mode [IF]"):
        read_image(path, GREY)


@pytest.mark.parametrize("input", [InputSpec("float32", (4, 5, 1)), InputSpec("uint8", (4, 5, 2))])
def test_an_artifact_that_takes_no_image_files(tmp_path: Path, input: InputSpec) -> None:
    path = write_image(tmp_path / "a.png", random_images(1, 4, 5)[0])
    message = rf"a\.png cannot be used: the input is {input.dtype} with {input.shape[2]} channels"
    with pytest.raises(DataError, match=message):
        read_image(path, input)


def test_an_unknown_filter(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", random_images(1, 4, 5)[0])
    with pytest.raises(DataError, match=r"unknown resize filter 'bilinea'; did you mean 'bilinear'\?"):
        read_image(path, InputSpec("uint8", (4, 5, 1), resize=Resize(4, 5, "bilinea")))


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder, not an image \(name the files in it\)"):
        read_image(tmp_path, GREY)


def test_a_missing_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no image .*a\.png"):
        read_image(tmp_path / "a.png", GREY)


def png_bytes(folder: Path) -> bytes:
    return write_image(folder / "whole.png", random_images(1, 40, 50)[0]).read_bytes()


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "overwritten"])
def test_a_damaged_image_is_named(tmp_path: Path, kind: str) -> None:
    whole = png_bytes(tmp_path)
    content = {
        "empty": b"",
        "text": b"not an image",
        "truncated": whole[: len(whole) // 2],
        "overwritten": whole[:60] + b"\xff" * 100 + whole[160:],
    }[kind]
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(path)) + " cannot be read as an image"):
        read_image(path, InputSpec("uint8", (40, 50, 1)))


@pytest.mark.parametrize("limit", [15, 5])  # Pillow warns of 20 pixels at the first limit, and refuses at the second
@pytest.mark.parametrize("function", [read_header, lambda path: read_image(path, GREY)])
def test_decompression_bombs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, function: Callable[[Path], object]
) -> None:
    path = write_image(tmp_path / "a.png", random_images(1, 4, 5)[0])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(
        DataError, match=rf"a\.png has more pixels than are safe to decode \({limit}\) \(make it smaller"
    ):
        function(path)
