"""Normalisation constants, computed on training images or given, and exported inside the artifact."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nas.artifact import InputSpec
from nas.errors import DataError

CHUNK_VALUES = 2**20  # values converted to a wider type at a time: 8 MiB


@dataclass(frozen=True)
class Normalisation:
    """What a network's first step subtracts and divides by: ``(x − mean) / std``, one entry for each channel.

    Computed for uint8 images all entries are equal and the mean is a whole number. The exported graph normalises them
    with a single DequantizeLinear, which casts, subtracts and scales in one pass over the input; its zero point is of
    the input's type, so an integer from 0 to 255, and one scale serves the whole tensor. What rounding the mean and
    sharing the scale leave over, an offset of at most half a grey level and channels of slightly different spread, the
    first layer's weights take up. Float arrays are normalised channel by channel, since their channels may have
    different units; and so is whatever a person gave, who trained the first layer with it.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def is_one_dequantisation(self) -> bool:
        """Whether a single DequantizeLinear of uint8 images does it: one scale, one zero point from 0 to 255."""
        mean = self.mean[0]
        return len(set(self.mean)) == len(set(self.std)) == 1 and 0 <= mean <= 255 and mean == math.floor(mean)


def given_normalisation(mean: Sequence[float], std: Sequence[float], input: InputSpec) -> Normalisation:
    """A person's own normalisation: of x/255 for uint8 images, of the values as they are for float arrays.

    Args:
        mean: One number for each channel, or one for all.
        std: Likewise, greater than 0.
        input: What the artifact takes.

    Raises:
        DataError: The data has another number of channels.
    """
    channels = input.channels_first[0]
    if len(mean) not in (1, channels):
        raise DataError(
            f"'mean' and 'std' are given for {len(mean)} channels, but the data has {channels}",
            "give one number for each channel, or one for all",
        )
    scale = 255.0 if input.dtype == "uint8" else 1.0
    repeat = channels // len(mean)
    return Normalisation(
        tuple(scale * value for value in mean) * repeat, tuple(scale * value for value in std) * repeat
    )


def normalisation_of(images: np.ndarray, input: InputSpec) -> Normalisation:
    """Mean and standard deviation (of the population) of training images.

    A channel without spread gets the standard deviation 1. Images are read in chunks: no wider copy of the whole array
    is made.

    Args:
        images: N×H×W×C or N×C×H×W, of the type and shape that ``input`` says.
        input: What the artifact takes.

    Raises:
        ValueError: The images are not what ``input`` says, or there are none.
    """
    if images.dtype != np.dtype(input.dtype) or images.shape[1:] != input.shape or not len(images):
        raise ValueError(
            f"images must be {input.dtype} of shape N×{input.shape}, but are {images.dtype} {images.shape}"
        )
    channels = input.channels_first[0]
    if images.dtype == np.uint8:
        mean, std = _of_bytes(images)
        return Normalisation((mean,) * channels, (std,) * channels)
    return _of_floats(images, 3 if input.layout == "NHWC" else 1)


def _chunks(images: np.ndarray) -> Iterator[np.ndarray]:
    step = max(1, CHUNK_VALUES // math.prod(images.shape[1:]))
    return (images[start : start + step] for start in range(0, len(images), step))


def _of_bytes(images: np.ndarray) -> tuple[float, float]:
    """Whole-number mean and standard deviation of all values, exact up to the last division: from a histogram."""
    histogram = np.zeros(256, dtype=np.int64)
    for chunk in _chunks(images):
        histogram += np.bincount(chunk.reshape(-1), minlength=256)
    values = np.arange(256)
    mean = float(histogram @ values) / images.size
    variance = float(histogram @ (values - mean) ** 2) / images.size
    constant = np.count_nonzero(histogram) == 1
    return float(math.floor(mean + 0.5)), 1.0 if constant else math.sqrt(variance)


def _of_floats(images: np.ndarray, channel_axis: int) -> Normalisation:
    """Per channel, in two passes with sums in float64: the one-pass formula loses small spreads on large means."""
    channels = images.shape[channel_axis]
    others = tuple(axis for axis in range(4) if axis != channel_axis)
    count = images.size // channels
    total = np.zeros(channels)
    low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
    for chunk in _chunks(images):
        total += chunk.sum(axis=others, dtype=np.float64)
        low, high = np.minimum(low, chunk.min(axis=others)), np.maximum(high, chunk.max(axis=others))
    mean = total / count
    shape = [1, 1, 1, 1]
    shape[channel_axis] = channels
    squares = np.zeros(channels)
    for chunk in _chunks(images):
        squares += np.square(chunk - mean.reshape(shape)).sum(axis=others)
    std = np.sqrt(squares / count)
    # Dividing by a spread below float32's smallest normal number would overflow in the graph.
    flat = (low == high) | (std < np.finfo(np.float32).tiny)
    return Normalisation(tuple(mean.tolist()), tuple(np.where(flat, 1.0, std).tolist()))
