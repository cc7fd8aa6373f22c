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


def learned(*changes: tuple[int, dict[str, Value], float], networks: int = 1) -> RungGains:
    """Gains of so many networks, each with a file for every change (epochs of the rung, compression, change)."""
    gains = RungGains()
    for network in range(networks):
        for epochs, choices, change in changes:
            name = f"{network} {choices}"
            gains.stood(name, epochs, -2.0)
            gains.ended(name, gains.compression(choices), -2.0 + change)
    return gains


def test_too_few_networks_tell_nothing_but_what_pruning_usually_costs() -> None:
    gains = learned((1, PLAIN, -0.3), networks=FEWEST_GAINS - 1)
    for _ in range(5):
        gains.ended("0 " + str(PLAIN), gains.compression(EIGHT), -2.3)  # files of networks that are known
    numbers = [gains.compression(choices) for choices in (PLAIN, PRUNED, EIGHT)]
    assert np.isnan(gains.expected(1, np.full(3, -2.0), numbers)).all()
    assert np.isnan(gains.spread(1))
    assert RungGains().by_compression([]).shape == (0,)
    assert gains.by_compression(numbers) == pytest.approx([0.0, PRUNING_COSTS / 4, 0.0], abs=0.01)


def test_training_and_compression_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    gains = RungGains()
    changes = ((PLAIN, -0.3), (PRUNED, -0.1), (EIGHT, -0.2))
    for network in range(20):
        start = -2.0 + 0.3 * rng.standard_normal()
        gains.stood(str(network), 1, start)
        for choices, change in changes:
            gains.ended(str(network), gains.compression(choices), start + change + 0.02 * rng.standard_normal())
        gains.stood(str(network), 3, start - 0.2)  # told after its files
    plain, pruned, eight, both = (gains.compression(choices) for choices in (PLAIN, PRUNED, EIGHT, BOTH))
    assert gains.expected(1, np.full(4, -2.0), [plain, pruned, eight, both]) == pytest.approx(
        [-0.3, -0.1, -0.2, 0.0], abs=0.03
    )
    assert gains.expected(3, np.full(2, -2.2), [plain, both]) == pytest.approx([-0.1, 0.2], abs=0.03)
    assert gains.spread(1) == pytest.approx(0.02, rel=0.4)
    assert np.isnan(gains.expected(2, np.full(1, -2.0), [plain])).all(), "nobody went on from there"


def test_whoever_is_behind_at_a_rung_catches_up() -> None:
    rng, gains = np.random.default_rng(0), RungGains()
    for network in range(30):
        start = -2.0 + 0.3 * rng.standard_normal()
        gains.stood(str(network), 0.333, start)
        gains.ended(str(network), gains.compression(PLAIN), -2.4 + 0.7 * (start + 2.0))
    changes = gains.expected(0.333, np.array([-2.3, -2.0, -1.7]), [gains.compression(PLAIN)] * 3)
    assert changes == pytest.approx([-0.31, -0.4, -0.49], abs=0.02)
    assert gains.spread(0.333) < 0.02


def test_what_was_never_seen_is_taken_for_nothing() -> None:
    gains = learned((1, PLAIN, -0.3), networks=FEWEST_GAINS)
    assert gains.expected(1, np.full(1, -2.0), [gains.compression(EIGHT)]) == pytest.approx([-0.3], abs=0.01)
    assert gains.spread(1) == GAIN_SPREAD, "three do not tell how far they scatter"


def test_the_order_does_not_matter() -> None:
    one, other = RungGains(), RungGains()
    for network in ("a", "b", "c", "d"):
        one.stood(network, 1, -2.0)
        one.ended(network, one.compression(PLAIN), -2.3)
        other.ended(network, other.compression(PLAIN), -2.3)
    for network in ("d", "c", "b", "a"):
        other.stood(network, 1, -2.0)
        other.stood(network, 1, -2.0)  # of another trial of the same network
    assert other.expected(1, np.full(1, -2.0), [0]) == pytest.approx(one.expected(1, np.full(1, -2.0), [0]))
    assert other.spread(1) == one.spread(1)


def test_the_same_compression_has_the_same_number() -> None:
    gains = RungGains()
    assert gains.compression(PLAIN) == gains.compression({})
    assert gains.compression(PRUNED) == gains.compression({**PRUNED, "pruning_criterion": "l1"})
    assert gains.compression(EIGHT) == gains.compression({**EIGHT, "stage2.weight_bits": 8})
    assert gains.compression(EIGHT) != gains.compression({**EIGHT, "stage2.weight_bits": 32})
    assert len({gains.compression(choices) for choices in (PLAIN, PRUNED, EIGHT, BOTH)}) == 4
