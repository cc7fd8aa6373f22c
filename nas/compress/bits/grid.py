"""The grids on which weights are stored: symmetric integers, one step (scale) for each output channel.

A weight w is stored as the integer q = round(w / s), clipped to ±largest, and stands for q·s; the zero point is 0, so
that a weight of zero stays zero (Jacob et al., CVPR 2018). 8 bits are fine enough for the step to be set by the
channel's largest weight; with 4 bits it pays to clip the few largest, and the step of the least squared error is taken
(Banner et al., NeurIPS 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

# The greatest integer that stands for a weight: of 8 bits, of 8 where products of 8-bit numbers would saturate, of 4.
LARGEST, LARGEST_REDUCED, LARGEST_FOUR_BIT = 127, 64, 7
# A channel of zeros has any step; this one keeps that of its bias, a multiple of it, small.
LEAST_PEAK = 1e-12
# Where clipping may begin, as shares of the channel's largest weight.
CLIPPING_SHARES = np.linspace(0.5, 1.0, 21)


@dataclass(frozen=True)
class Grid:
    """A grid for one weight.

    Args:
        scale: The step of each output channel, float32, one-dimensional.
        axis: The dimension of output channels.
        largest: The greatest integer, the least being its negative.
    """

    scale: np.ndarray
    axis: int
    largest: int

    def integers(self, weights: np.ndarray) -> np.ndarray:
        """The integers that weights are stored as: int8, of the same shape."""
        steps = np.round(weights / broadcast(self.scale, self.axis, weights.ndim))
        return np.asarray(np.clip(steps, -self.largest, self.largest).astype(np.int8))

    def values(self, integers: np.ndarray) -> np.ndarray:
        """What stored integers stand for, float32."""
        return np.asarray(integers.astype(np.float32) * broadcast(self.scale, self.axis, integers.ndim))


def broadcast(scale: np.ndarray, axis: int, dimensions: int) -> np.ndarray:
    """One value for each channel in a shape that multiplies with the weights: (64,) → (64, 1, 1, 1) for axis 0."""
    return scale.reshape([-1 if dimension == axis else 1 for dimension in range(dimensions)])


def channel_axis(node: onnx.NodeProto) -> int:
    """The dimension of output channels in the weight of a convolution, linear layer or product with a matrix."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if any(attribute.name == "transB" and attribute.i for attribute in node.attribute) else 1
    return 1  # ConvTranspose: C×N/group×…; MatMul: in × out


def grid_of(weights: np.ndarray, axis: int, bits: int, reduce_range: bool = False) -> Grid:
    """The grid of 8 or 4 bits for a weight.

    Args:
        weights: Float32, at least two dimensions.
        axis: The dimension of output channels.
        bits: 8 or 4.
        reduce_range: Use 7 of the 8 bits.
    """
    if bits == 4:
        return Grid(_least_error_scale(weights, axis), axis, LARGEST_FOUR_BIT)
    largest = LARGEST_REDUCED if reduce_range else LARGEST
    return Grid(_peaks(weights, axis) / np.float32(largest), axis, largest)


def _peaks(weights: np.ndarray, axis: int) -> np.ndarray:
    others = tuple(dimension for dimension in range(weights.ndim) if dimension != axis)
    return np.asarray(np.maximum(np.abs(weights).max(others), LEAST_PEAK), np.float32)


def _least_error_scale(weights: np.ndarray, axis: int) -> np.ndarray:
    """The step of each channel with the least mean squared error of 4-bit weights."""
    peaks = _peaks(weights, axis)
    others = tuple(dimension for dimension in range(weights.ndim) if dimension != axis)
    best, least = peaks / np.float32(LARGEST_FOUR_BIT), np.full(peaks.shape, np.inf)
    # From the largest share down, so that of equal errors the widest range wins.
    for share in CLIPPING_SHARES[::-1]:
        grid = Grid((peaks * share / LARGEST_FOUR_BIT).astype(np.float32), axis, LARGEST_FOUR_BIT)
        errors = ((weights - grid.values(grid.integers(weights))).astype(np.float64) ** 2).mean(others)
        better = errors < least
        best, least = np.where(better, grid.scale, best), np.where(better, errors, least)
    return best
