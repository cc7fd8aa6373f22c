"""Cues in their roles: what is linear, and what costs add up from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from nas.surrogate.cues import OVERHEAD as EXPECTED
from nas.surrogate.cues import Amount, Cost, CueColumns, Role
from nas.surrogate.outlook import Outlook

ROLES: tuple[Role, ...] = ("any", "quality", "time", "time")
RNG = np.random.default_rng(0)
CUES = np.stack(
    [RNG.normal(size=40), RNG.normal(size=40), RNG.uniform(1e3, 1e6, 40), RNG.integers(2, 12, 40).astype(float)], axis=1
)
OVERHEAD, A_UNIT, A_LAYER = 0.01, 1e-7, 0.002
COSTS = OVERHEAD + A_UNIT * CUES[:, 2] + A_LAYER * CUES[:, 3]


def test_costs_add_up_from_amounts() -> None:
    columns = CueColumns.fit(CUES, COSTS, ROLES, cost="time")
    assert columns.weights == pytest.approx([OVERHEAD, A_UNIT, A_LAYER], rel=0.3)
    seen = columns(CUES)
    assert seen.shape == (40, 2), "what holds for all, and the sum"
    assert seen.mean(axis=0) == pytest.approx([0, 0], abs=1e-9)
    assert seen.std(axis=0) == pytest.approx([1, 1])
    assert np.corrcoef(seen[:, 1], np.log(COSTS))[0, 1] > 0.999


def test_a_cost_has_the_amounts_of_its_kind_alone() -> None:
    columns = CueColumns.fit(CUES, COSTS, ("any", "quality", "time", "space"), cost="space")
    assert columns.amounts.tolist() == [False, False, False, True]
    assert columns(CUES).shape == (40, 2)


def test_the_overhead_is_not_taken_for_nothing_while_few_tell() -> None:
    few = [int(np.argmax(COSTS)), int(np.argsort(COSTS)[20])]
    columns = CueColumns.fit(CUES[few], COSTS[few], ROLES, cost="time")
    assert columns.weights[0] > EXPECTED / 2 * COSTS[few].min()


def test_no_amount_lowers_a_cost() -> None:
    columns = CueColumns.fit(CUES, 1 / COSTS, ROLES, cost="time")
    assert (columns.weights >= 0).all()


@pytest.mark.parametrize(("values", "cost"), [(COSTS, None), (COSTS - 0.1, "time")])
def test_qualities_and_what_is_negative_have_no_amounts(values: np.ndarray, cost: Cost | None) -> None:
    columns = CueColumns.fit(CUES, values, ROLES, cost)
    assert not len(columns.weights)
    assert columns(CUES) == pytest.approx((CUES[:, :2] - CUES[:, :2].mean(axis=0)) / CUES[:, :2].std(axis=0))


def test_what_is_unknown_tells_as_much_as_the_mean() -> None:
    columns = CueColumns.fit(CUES, COSTS, ROLES, cost="time")
    assert (columns(np.full((1, 4), np.nan)) == 0).all()


def test_what_amounts_cost_is_learned_anew_and_the_scale_is_kept() -> None:
    columns = CueColumns.fit(CUES, COSTS, ROLES, cost="time")
    again = columns.learned(CUES, 2 * COSTS)
    assert again.weights == pytest.approx(2 * columns.weights)
    assert (again.middle == columns.middle).all()
    assert columns.learned(CUES[:0], COSTS[:0]) is columns


def test_what_is_expected_of_amounts_counts_as_long_as_few_tell() -> None:
    """Of six amounts; what is expected is off by a factor of up to two."""
    rng = np.random.default_rng(2)
    amounts = rng.uniform(0, 1, (200, 6)) ** 2
    units = np.array([0.02, 0.05, 0.01, 0.04, 0.002, 0.03])
    costs = (OVERHEAD + amounts @ units) * np.exp(0.05 * rng.standard_normal(200))
    expected = units / costs.min() * np.array([2, 0.5, 2, 0.6, 2, 1.5])
    with_them, without = [Amount("time", value) for value in expected.tolist()], ["time"] * 6

    def off(count: int, roles: Sequence[Role]) -> float:
        """By how much costs are off after so many trials, in the middle of draws."""
        found = []
        for _ in range(30):
            trials = np.append(np.argmin(costs), rng.permutation(200)[: count - 1])
            columns = CueColumns.fit(amounts[trials], costs[trials], roles, cost="time")
            foretold = columns.weights[0] + amounts @ columns.weights[1:]
            found.append(float(np.sqrt(np.mean(np.log(foretold / costs) ** 2))))
        return float(np.median(found))

    assert off(4, with_them) < 0.8 * off(4, without)
    assert off(200, with_them) < 0.08, "and is forgotten"


def test_what_is_counted_adds_up_from_the_same_amounts_and_nothing_is_expected_of_it() -> None:
    roles: tuple[Role, ...] = ("any", "quality", Amount("time", 1.0), Amount("time", 1.0))
    plain = CueColumns.fit(CUES, COSTS, ROLES, cost="time")
    counted = CueColumns.fit(CUES, COSTS, roles, cost="work")
    assert counted.weights == pytest.approx(plain.weights)
    assert CueColumns.fit(CUES, COSTS, roles, cost="time").weights != pytest.approx(plain.weights, rel=0.1)
    assert not len(CueColumns.fit(CUES, COSTS, roles, cost="space").weights)


def test_slow_ones_are_foretold_after_fast_ones() -> None:
    """Most of what a search measures first is fast and alike; what lies far beyond takes as long as its sum says."""
    rng = np.random.default_rng(1)
    fast, slow = rng.uniform(1e3, 2e4, 30), np.array([1e5, 2e5, 2e6])
    amounts = np.concatenate([fast, slow[:2], slow])[:, None]
    costs = (0.01 + 1e-7 * amounts) * np.exp(0.02 * rng.standard_normal(amounts.shape))
    known, x = slice(0, 32), rng.integers(0, 2, (35, 2)).astype(float)
    outlook = Outlook.fit(x[known], costs[known], [False], cues=amounts[known], roles=["time"], costs=["time"])
    told, _ = outlook.interval(x[32:], 0.0, amounts[32:])
    assert np.log(told[:, 0] / costs[32:, 0]) == pytest.approx([0, 0, 0], abs=0.3)


def test_a_surrogate_does_not_promise_that_the_smallest_takes_no_time() -> None:
    """Of a dozen designs, in three of which a choice matters beside the amounts."""
    choice = (np.arange(40) % 4 == 0).astype(float)[:, None]
    costs = (COSTS * (1 + 0.5 * choice[:, 0]))[:, None]
    known = slice(0, 16)
    outlook = Outlook.fit(choice[known], costs[known], [False], cues=CUES[known], roles=ROLES, costs=["time"])
    told, _ = outlook.interval(choice[16:], 0.0, CUES[16:])
    assert np.log(told[:, 0]) == pytest.approx(np.log(costs[16:, 0]), abs=0.2)
    smallest = np.array([[0.0, 0.0, 1.0, 1.0]])
    middle, _ = outlook.interval(np.zeros((1, 1)), 0.0, smallest)
    assert 0.8 * OVERHEAD < middle[0, 0] < 2 * (OVERHEAD + A_LAYER)
    rough = outlook.rough(choice[16:], 2, CUES[16:]).mean[:, 0]
    assert rough == pytest.approx(outlook.predict(choice[16:], CUES[16:]).mean[:, 0], abs=1e-3)
    updated = outlook.updated(choice, costs, None, CUES)
    assert updated.interval(choice, 0.0, CUES)[0][:, 0] == pytest.approx(costs[:, 0], rel=0.1)
