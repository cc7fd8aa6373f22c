from __future__ import annotations

import numpy as np
import pytest

from nas.artifact import InputSpec
from nas.data import normalise
from nas.data.normalise import Normalisation, given_normalisation, normalisation_of
from nas.errors import DataError


def spec(images: np.ndarray, layout: str = "NHWC") -> InputSpec:
    a, b, c = images.shape[1:]
    return InputSpec(str(images.dtype), (a, b, c), layout)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(("layout", "shape"), [("NHWC", (50, 6, 7, 3)), ("NCHW", (50, 3, 6, 7))])
def test_bytes_share_one_whole_mean_and_one_std(layout: str, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    images = rng.integers(20, 200, shape, dtype=np.uint8)
    found = normalisation_of(images, spec(images, layout))
    assert found.mean == (float(np.floor(images.mean() + 0.5)),) * 3
    assert found.std == pytest.approx((images.astype(np.float64).std(),) * 3, rel=1e-12)


@pytest.mark.parametrize(("layout", "axes"), [("NHWC", (0, 1, 2)), ("NCHW", (0, 2, 3))])
def test_floats_are_normalised_per_channel(layout: str, axes: tuple[int, ...], rng: np.random.Generator) -> None:
    channels = np.array([0.0, 5.0, -1000.0]).reshape((1, 1, 1, 3) if layout == "NHWC" else (1, 3, 1, 1))
    shape = (50, 6, 7, 3) if layout == "NHWC" else (50, 3, 6, 7)
    images = (rng.normal(size=shape) + channels).astype(np.float32)
    found = normalisation_of(images, spec(images, layout))
    wide = images.astype(np.float64)
    assert found.mean == pytest.approx(tuple(wide.mean(axis=axes)), rel=1e-12)
    assert found.std == pytest.approx(tuple(wide.std(axis=axes)), rel=1e-9)


def test_a_small_spread_on_a_large_mean_is_not_lost(rng: np.random.Generator) -> None:
    images = (1e6 + rng.integers(0, 2, (200, 4, 4, 1))).astype(np.float32)
    assert normalisation_of(images, spec(images)).std == pytest.approx((images.astype(np.float64).std(),), rel=1e-9)


@pytest.mark.parametrize("value", [0.1, 0.0, -1e30])
def test_a_constant_channel_has_std_one(value: float, rng: np.random.Generator) -> None:
    images = rng.normal(size=(30, 4, 4, 2)).astype(np.float32)
    images[..., 1] = value
    found = normalisation_of(images, spec(images))
    assert found.std[1] == 1.0
    assert found.mean[1] == pytest.approx(float(np.float32(value)), rel=1e-12)
    assert found.std[0] != 1.0


def test_a_spread_too_small_to_divide_by_counts_as_none() -> None:
    images = np.array([0, 1e-45], dtype=np.float32).reshape(2, 1, 1, 1)
    assert images.max() > 0
    assert normalisation_of(images, spec(images)).std == (1.0,)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_constant_bytes(value: int) -> None:
    images = np.full((3, 2, 2, 1), value, dtype=np.uint8)
    assert normalisation_of(images, spec(images)) == Normalisation((float(value),), (1.0,))


def test_a_mean_at_the_half_is_rounded_up_and_the_std_is_about_the_true_mean() -> None:
    images = np.array([2, 3], dtype=np.uint8).reshape(2, 1, 1, 1)
    assert normalisation_of(images, spec(images)) == Normalisation((3.0,), (0.5,))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_chunks_change_nothing(dtype: type, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    images = rng.integers(0, 256, (101, 5, 3, 2)).astype(dtype)
    whole = normalisation_of(images, spec(images))
    monkeypatch.setattr(normalise, "CHUNK_VALUES", 70)  # two images at a time, and one over
    parts = normalisation_of(images, spec(images))
    assert parts.mean == pytest.approx(whole.mean, rel=1e-12)
    assert parts.std == pytest.approx(whole.std, rel=1e-12)


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 4, 4, 1), np.float32), np.zeros((2, 4, 5, 1), np.uint8), np.zeros((0, 4, 4, 1), np.uint8)],
)
def test_images_that_are_not_of_the_input(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"images must be uint8 of shape N×\(4, 4, 1\), but are"):
        normalisation_of(images, InputSpec("uint8", (4, 4, 1)))


@pytest.mark.parametrize(
    ("dtype", "mean", "expected"),
    [("uint8", (0.5, 0.4, 0.2), (127.5, 102.0, 51.0)), ("uint8", (0.2,), (51.0,) * 3), ("float32", (7.0,), (7.0,) * 3)],
)
def test_what_is_given_is_of_pixels_from_0_to_1_or_of_floats_as_they_are(
    dtype: str, mean: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    found = given_normalisation(mean, mean, InputSpec(dtype, (4, 4, 3)))
    assert found.mean == pytest.approx(expected)
    assert found.std == pytest.approx(expected)


def test_what_is_given_for_other_channels_is_refused() -> None:
    with pytest.raises(DataError, match="given for 2 channels, but the data has 3"):
        given_normalisation((0.5, 0.5), (1.0, 1.0), InputSpec("uint8", (4, 4, 3)))


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        ((73.0, 73.0), (90.5, 90.5), True),
        ((0.0,), (1.0,), True),
        ((255.0,), (1.0,), True),
        ((73.5, 73.5), (90.0, 90.0), False),
        ((73.0, 74.0), (90.0, 90.0), False),
        ((73.0, 73.0), (90.0, 91.0), False),
        ((256.0,), (90.0,), False),
        ((-1.0,), (90.0,), False),
    ],
)
def test_one_dequantisation_has_one_scale_and_a_zero_point_of_a_byte(
    mean: tuple[float, ...], std: tuple[float, ...], expected: bool
) -> None:
    assert Normalisation(mean, std).is_one_dequantisation is expected
