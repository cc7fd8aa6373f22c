"""How reliable a search's ranking was: against counting pairs, in extreme cases, and where it cannot be said."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from finalize_fakes import BUDGET, make_history
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nas.finalized import rankings
from nas.finalized.ranking import _kendall, _spearman, ranking


def one_each(values: list[float]) -> list[list[float]]:
    return [[value] for value in values]


@given(st.permutations(range(6)))
def test_without_ties_tau_counts_pairs_and_rho_squares_differences(order: list[int]) -> None:
    cheap = [float(value) for value in range(6)]
    found = ranking("accuracy", cheap, one_each([float(value) for value in order]))
    pairs = [np.sign(order[j] - order[i]) for i, j in combinations(range(6), 2)]
    squares = sum((i - value) ** 2 for i, value in enumerate(order))
    assert found.kendall is not None
    assert found.spearman is not None
    assert found.kendall.value == pytest.approx(sum(pairs) / len(pairs))
    assert found.spearman.value == pytest.approx(1 - 6 * squares / (6 * 35))
    assert -1 <= found.kendall.low <= found.kendall.value <= found.kendall.high <= 1
    assert found.designs == 6


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=12))
def test_with_ties_they_are_scipy_s(pairs: list[tuple[int, int]]) -> None:
    first, second = (np.array([column], float) for column in zip(*pairs, strict=True))
    if min(len(set(first[0])), len(set(second[0]))) == 1:
        assert np.isnan(_kendall(first, second)[0])
        assert np.isnan(_spearman(first, second)[0])
    else:
        assert _kendall(first, second)[0] == pytest.approx(stats.kendalltau(first[0], second[0]).statistic)
        assert _spearman(first, second)[0] == pytest.approx(stats.spearmanr(first[0], second[0]).statistic)


def test_chance_gives_the_same_order_of_four_or_its_reverse_twice_in_24_times() -> None:
    found = ranking("accuracy", [1, 2, 3, 4], one_each([0.1, 0.2, 0.3, 0.4]))
    assert found.chance == pytest.approx(2 / 24)
    assert found.kendall.value == 1


def test_seeds_that_disagree_widen_the_interval() -> None:
    cheap = [0.1 * index for index in range(8)]
    steady = ranking("accuracy", cheap, [[value, value, value] for value in cheap])
    shaky = ranking("accuracy", cheap, [[value - 0.5, value, value + 0.5] for value in cheap])
    assert steady.kendall.value == shaky.kendall.value == 1
    assert steady.kendall.low == pytest.approx(1)
    assert shaky.kendall.low < 0.8


def test_the_same_accuracies_give_the_same_interval() -> None:
    cheap, full = [0.1, 0.4, 0.2, 0.3], [[0.5, 0.6], [0.9, 0.8], [0.7, 0.6], [0.6, 0.9]]
    assert ranking("accuracy", cheap, full) == ranking("accuracy", cheap, full)


@pytest.mark.parametrize(
    ("cheap", "full", "why"),
    [
        ([0.5], [0.6], "at least 3 designs at full budget, and there is 1"),
        ([0.5, 0.6], [0.6, 0.7], "at least 3 designs at full budget, and there are 2"),
        ([0.5, 0.5, 0.5], [0.1, 0.2, 0.3], "the search found all 3 designs equally accurate"),
        ([0.1, 0.2, 0.3], [0.5, 0.5, 0.5], "the final training found all 3 designs equally accurate"),
    ],
)
def test_where_nothing_can_be_said_it_says_why(cheap: list[float], full: list[float], why: str) -> None:
    found = ranking("accuracy", cheap, one_each(full))
    assert (found.kendall, found.spearman, found.chance) == (None, None, None)
    assert why in found.why_not


def test_validation_and_test_accuracies_are_ranked_each_by_its_own() -> None:
    """Test accuracies are 2 points below here, in the same order, which is the reverse of the search's."""
    accuracies = {1: [0.9, 0.92], 2: [0.8, 0.82], 3: [0.7, 0.72]}
    done = [make_history(trial, values).at(BUDGET) for trial, values in accuracies.items()]
    validation, test = rankings({1: 0.5, 2: 0.6, 3: 0.7, 4: 0.1}, [item for item in done if item is not None])
    assert (validation.name, test.name) == ("accuracy", "test_accuracy")
    assert validation.kendall.value == test.kendall.value == -1
