"""Calibration: ranges as numpy finds them, whatever the batches; clipped where the method says so."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from onnx_models import make_model

from nas.compress.bits import calibrate
from nas.compress.bits.calibrate import ranges
from nas.compression import CALIBRATIONS

IMAGE, SCALED, RECTIFIED = "images", "scaled", "rectified"


def body() -> bytes:
    """Triples the image, then cuts off what is negative."""
    nodes = [
        helper.make_node("Mul", [IMAGE, "three"], [SCALED], "scale"),
        helper.make_node("Relu", [SCALED], [RECTIFIED], "relu"),
        helper.make_node("Flatten", [RECTIFIED], ["probabilities"], "flatten"),
    ]
    return make_model(nodes, {"three": np.array(3, np.float32)}, ["batch", 2, 8, 8])


def images_of(count: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 2, 8, 8)).astype(np.float32)


def test_every_method_of_the_design_is_there() -> None:
    assert set(calibrate.METHODS) == set(CALIBRATIONS)


@pytest.mark.parametrize("at_once", [1, 1000, 2**25])
def test_minmax_is_what_was_seen_whatever_the_batches(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "ACTIVATIONS_AT_ONCE", at_once)
    images = images_of()
    found = ranges(body(), [IMAGE, SCALED, RECTIFIED], images, "minmax")
    low, high = float(images.min()), float(images.max())
    assert found[IMAGE] == (low, high)
    assert found[SCALED] == pytest.approx((3 * low, 3 * high))
    assert found[RECTIFIED] == (0.0, pytest.approx(3 * high))


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_zero_lies_in_every_range_and_constants_have_one(method: str) -> None:
    low, high = ranges(body(), [SCALED], np.abs(images_of()) + 5, method)[SCALED]
    assert low == 0
    assert high > 15
    assert ranges(body(), [SCALED], np.zeros((4, 2, 8, 8), np.float32), method)[SCALED] == (0, 0)
    low, high = ranges(body(), [SCALED], np.full((4, 2, 8, 8), -2, np.float32), method)[SCALED]
    assert (low, high) == (-6, 0)


def test_percentile_is_numpys_over_all_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "SAMPLES", 10**9)
    images = images_of(300)
    images[0, 0, 0, 0] = 1000  # one value in 38,400
    found = ranges(body(), [SCALED, RECTIFIED], images, "percentile")
    assert found[SCALED] == pytest.approx(tuple(np.percentile(3 * images, [0.005, 99.995])), rel=0.01)
    assert found[SCALED][1] < 30
    assert found[RECTIFIED][0] == 0


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_one_outlier_does_not_decide(method: str) -> None:
    images = images_of(300)
    images[0, 0, 0, 0] = 100
    low, high = ranges(body(), [SCALED], images, method)[SCALED]
    assert ranges(body(), [SCALED], images, "minmax")[SCALED][1] == pytest.approx(300)
    assert 6 < high < 60
    assert -20 < low < -3


def test_entropy_clips_little_where_there_is_no_tail() -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (300, 2, 8, 8)).astype(np.float32)
    low, high = ranges(body(), [SCALED], images, "entropy")[SCALED]
    assert low == pytest.approx(-3, rel=0.05)
    assert high == pytest.approx(3, rel=0.05)


def test_entropy_of_few_values_is_minmax() -> None:
    """A histogram of hardly more values than levels tells chance, not a distribution."""
    images = images_of(8)
    assert ranges(body(), [SCALED], images, "entropy") == ranges(body(), [SCALED], images, "minmax")


def test_a_sample_gives_nearly_the_range_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    images = images_of(400)
    whole = ranges(body(), [SCALED], images, "percentile")[SCALED]
    monkeypatch.setattr(calibrate, "SAMPLES", 8192)
    part = ranges(body(), [SCALED], images, "percentile")[SCALED]
    assert part == pytest.approx(whole, rel=0.2)
    assert ranges(body(), [SCALED], images, "percentile")[SCALED] == part, "the same sample each time"


def test_the_divergence_is_that_of_its_definition() -> None:
    """Two levels by hand: bins 0 to 3 are kept of 6, merged in pairs."""
    counts = np.array([4, 0, 1, 3, 2, 2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "LEVELS", 2)
        found = calibrate._divergence(counts, 0, 4)
    true = np.array([4, 0, 1, 7]) / 12  # what was cut off counts with the last bin
    told = np.array([4, 0, 2, 2]) / 8  # each pair's sum, spread over its bins that are not empty
    seen = true > 0
    assert found == pytest.approx(float((true[seen] * np.log(true[seen] / told[seen])).sum()))
