"""The interval of an accuracy over training seeds: against closed forms, other implementations, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from finalize_fakes import share
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nas.finalized import spread
from nas.scoring import wilson_interval


def test_of_one_seed_it_is_the_interval_of_the_images() -> None:
    found = spread([share(0.9, images=1000)])
    assert (found.low, found.high) == pytest.approx(wilson_interval(900, 1000))
    assert (found.mean, found.seeds, found.deviation, found.samples) == (0.9, 1, None, 1000)


def test_seeds_that_all_agree_do_not_narrow_what_the_images_leave_open() -> None:
    found = spread([share(0.9)] * 50)
    assert (found.low, found.high) == pytest.approx(wilson_interval(900, 1000))
    assert found.deviation == 0


def test_with_endless_images_it_is_the_t_interval_over_seeds() -> None:
    values = [0.70, 0.72, 0.77]
    found = spread([share(value, images=10**12) for value in values])
    expected = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-5)
    assert found.deviation == pytest.approx(np.std(values, ddof=1))


def test_both_sources_are_added_by_their_squares() -> None:
    values = [0.89, 0.90, 0.91]
    found = spread([share(value) for value in values])
    seeds = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    low, high = wilson_interval(900, 1000)
    assert found.mean - found.low == pytest.approx(math.hypot(0.9 - low, seeds))
    assert found.high - found.mean == pytest.approx(math.hypot(high - 0.9, seeds))
    assert found.half_width == pytest.approx(found.mean - found.low)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=6))
def test_it_holds_its_mean_and_stays_a_share(rights: list[int]) -> None:
    found = spread([share(right / 100, images=100) for right in rights])
    assert 0 <= found.low <= found.mean <= found.high <= 1
    assert found.mean == pytest.approx(np.mean(rights) / 100)


def test_it_covers_the_truth_where_seeds_and_images_are_both_drawn() -> None:
    """Networks of 90 % on average, a seed's own accuracy ±1 point, all scored on the same 400 images."""
    rng, covered, rounds = np.random.default_rng(5), 0, 400
    for _ in range(rounds):
        difficulty = rng.normal(0, 1, 400)  # of the images, the same for all seeds
        scores = []
        for _ in range(3):
            cut = stats.norm.ppf(np.clip(0.9 + rng.normal(0, 0.01), 0.5, 0.999)) * math.sqrt(2)
            right = difficulty + rng.normal(0, 1, 400) < cut
            scores.append(share(float(right.mean()), images=400))
        found = spread(scores)
        covered += found.low <= 0.9 <= found.high
    assert covered / rounds >= 0.94
