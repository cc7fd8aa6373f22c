"""What comes of trainings at a rung, from trials that were made up by a rule."""

from __future__ import annotations

import numpy as np
import pytest

from nas.design import Value
from nas.search.rung_gains import FEWEST_GAINS, GAIN_SPREAD, PRUNING_COSTS, RungGains

PLAIN: dict[str, Value] = {"pruning_ratio": 0.0, "weight_bits": 32, "distillation": False}
PRUNED = {**PLAIN, "pruning_ratio": 0.5, "pruning_criterion": "l1"}
EIGHT = {**PLAIN, "weight_bits": 8, "activation_bits": 8}
BOTH = {**PRUNED, **{"weight_bits": 8, "activation_bits": 8}}


def test_too_few_tell_nothing_but_what_pruning_usually_costs() -> None:
    gains = RungGains()
    numbers = [gains.compression(choices) for choices in (PLAIN, PRUNED, EIGHT)]
    for _ in range(FEWEST_GAINS - 1):
        gains.add(1, numbers[0], -0.3)
    assert np.isnan(gains.expected(1, numbers)).all()
    assert np.isnan(gains.spread(1))
    assert RungGains().by_compression([]).shape == (0,)
    assert gains.by_compression(numbers) == pytest.approx([0.0, PRUNING_COSTS / 4, 0.0], abs=0.01)


def test_training_and_compression_are_told_apart() -> None:
    gains = RungGains()
    plain, pruned, eight, both = (gains.compression(choices) for choices in (PLAIN, PRUNED, EIGHT, BOTH))
    rng = np.random.default_rng(0)
    for _ in range(20):
        for number, change in ((plain, -0.3), (pruned, -0.1), (eight, -0.2)):
            gains.add(1, number, change + 0.02 * rng.standard_normal())
            gains.add(3, number, change + 0.2 + 0.02 * rng.standard_normal())
    assert gains.expected(1, [plain, pruned, eight, both]) == pytest.approx([-0.3, -0.1, -0.2, 0.0], abs=0.03)
    assert gains.expected(3, [plain, both]) == pytest.approx([-0.1, 0.2], abs=0.03)
    assert gains.spread(1) == pytest.approx(0.02, rel=0.4)
    assert np.isnan(gains.expected(2, [plain])).all(), "nobody went on from there"


def test_what_was_never_seen_is_taken_for_nothing() -> None:
    gains = RungGains()
    plain = gains.compression(PLAIN)
    for _ in range(FEWEST_GAINS):
        gains.add(1, plain, -0.3)
    assert gains.expected(1, [gains.compression(EIGHT)]) == pytest.approx([-0.3], abs=0.01)
    assert gains.spread(1) == GAIN_SPREAD, "three do not tell how far they scatter"


def test_the_same_compression_has_the_same_number() -> None:
    gains = RungGains()
    assert gains.compression(PLAIN) == gains.compression({})
    assert gains.compression(PRUNED) == gains.compression({**PRUNED, "pruning_criterion": "l1"})
    assert len({gains.compression(choices) for choices in (PLAIN, PRUNED, EIGHT, BOTH)}) == 4
