"""Grids of weights: exact where they can be, the nearest step elsewhere, clipped where that costs less."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from nas.compress.bits.grid import CLIPPING_SHARES, broadcast, channel_axis, grid_of


def weights_of(shape: tuple[int, ...] = (6, 4, 3, 3), seed: int = 0) -> np.ndarray:
    """Normal weights whose channels differ in spread by a factor of 100."""
    rng = np.random.default_rng(seed)
    spread = np.logspace(-1, 1, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return (rng.normal(size=shape) * spread).astype(np.float32)


def test_one_value_for_each_channel_multiplies_with_the_weights() -> None:
    assert broadcast(np.arange(3), 0, 4).shape == (3, 1, 1, 1)
    assert broadcast(np.arange(3), 1, 2).shape == (1, 3)


@pytest.mark.parametrize(
    ("operator", "attributes", "axis"),
    [
        ("Conv", {}, 0),
        ("ConvTranspose", {}, 1),
        ("Gemm", {"transB": 1}, 0),
        ("Gemm", {"transB": 0}, 1),
        ("Gemm", {}, 1),
        ("MatMul", {}, 1),
    ],
)
def test_output_channels_are_found(operator: str, attributes: dict[str, int], axis: int) -> None:
    assert channel_axis(helper.make_node(operator, ["x", "w"], ["y"], **attributes)) == axis


@pytest.mark.parametrize(
    ("bits", "reduce_range", "largest"), [(8, False, 127), (8, True, 64), (4, False, 7), (4, True, 7)]
)
def test_weights_on_the_grid_are_stored_exactly(bits: int, reduce_range: bool, largest: int) -> None:
    rng = np.random.default_rng(0)
    integers = rng.integers(-largest, largest + 1, (5, 40)).astype(np.int8)
    integers[:, 0] = largest  # each channel uses its whole range
    scale = (2.0 ** np.arange(-3, 2)).astype(np.float32)
    weights = integers * scale[:, None]
    grid = grid_of(weights, 0, bits, reduce_range)
    assert grid.largest == largest
    np.testing.assert_array_equal(grid.scale, scale)
    np.testing.assert_array_equal(grid.integers(weights), integers)
    np.testing.assert_array_equal(grid.values(grid.integers(weights)), weights)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("axis", [0, 1])
def test_what_is_stored_is_the_nearest_step_and_stays_it(bits: int, axis: int) -> None:
    weights = np.moveaxis(weights_of(), 0, axis)
    grid = grid_of(weights, axis, bits)
    integers = grid.integers(weights)
    assert integers.dtype == np.int8
    assert grid.scale.shape == (6,)
    assert grid.scale.dtype == np.float32
    scale, values = broadcast(grid.scale, axis, 4), grid.values(integers)
    inside = np.abs(weights) <= grid.largest * scale
    assert (np.abs(values - weights) <= 0.5001 * scale)[inside].all()
    assert (np.abs(integers)[~inside] == grid.largest).all()
    np.testing.assert_array_equal(grid.integers(values), integers)


def test_eight_bits_reach_to_the_largest_weight() -> None:
    grid = grid_of(weights_of(), 0, 8)
    peaks = np.abs(grid.integers(weights_of()).astype(int)).reshape(6, -1).max(1)
    assert (peaks == 127).all()


def test_four_bits_clip_where_that_errs_least() -> None:
    """By trying every share of the largest weight, one channel at a time, in double precision."""
    weights = weights_of((5, 300))
    weights[0, 0] = 6.0  # an outlier: more than fifty times the spread of its channel
    grid = grid_of(weights, 0, 4)
    for channel, scale in zip(weights.astype(np.float64), grid.scale, strict=True):
        peak = np.abs(channel).max()

        def error(step: float, channel: np.ndarray = channel) -> float:
            return float(((channel - np.clip(np.round(channel / step), -7, 7) * step) ** 2).mean())

        errors = [error(float(np.float32(peak * share / 7))) for share in CLIPPING_SHARES]
        assert error(float(scale)) == pytest.approx(min(errors), rel=1e-5)
    shares = grid.scale * 7 / np.abs(weights).max(1)
    assert ((shares > 0.499) & (shares < 1.001)).all()
    assert (shares < 0.95).any(), "or nothing would ever be clipped"


def test_a_channel_of_zeros_is_stored_as_zeros() -> None:
    weights = weights_of()
    weights[2] = 0
    for bits in (8, 4):
        grid = grid_of(weights, 0, bits)
        assert (grid.scale > 0).all()
        assert not grid.integers(weights)[2].any()
        assert np.isfinite(grid.values(grid.integers(weights))).all()
