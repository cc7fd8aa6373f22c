"""What designs cost before any trial has told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from torch import nn

from nas.design import Design
from nas.errors import InfeasibleDesignError
from nas.search.rough import MACS_PER_VALUE, rough_costs, work


def test_values_that_layers_write_count_and_multiply_adds_for_less() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    written = 4 * 36 + 4 * 36 + 4 * 36 + 10
    macs = 9 * 4 * 36 + 4 * 36 * 10
    assert work(network, (1, 6, 6)) == pytest.approx(written + macs / MACS_PER_VALUE)


def test_a_depthwise_convolution_has_a_channels_weights_alone() -> None:
    network = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    assert work(network, (8, 5, 5)) == pytest.approx(8 * 25 + 9 * 8 * 25 / MACS_PER_VALUE)


def test_each_architecture_is_built_once_and_what_cannot_be_built_costs_most() -> None:
    built = []

    def build(design: Design) -> nn.Module:
        built.append(design.architecture["width"])
        if design.architecture["width"] == 3:
            raise InfeasibleDesignError("too small")
        return nn.Conv2d(1, int(design.architecture["width"]), 1)

    designs = [Design("f", {"width": width}, {"bits": bits}) for width in (2, 3, 9) for bits in (8, 32)]
    costs = rough_costs(build, (1, 4, 4))
    found = costs(designs)
    np.testing.assert_array_equal(costs(designs), found)
    assert built == [2, 3, 9]
    assert found[0] == found[1] < found[4]
    assert math.isinf(found[2])
