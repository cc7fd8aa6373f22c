from __future__ import annotations

import hashlib

import pytest

from nas.estimate.check import FOLDS, check, fold_of


def test_errors_are_relative_to_the_measured_latency() -> None:
    found = check("predicted_ms", [1.09, 2.0, 1.5, 8.0], [1.0, 2.0, 3.0, 4.0])
    assert (found.name, found.networks) == ("predicted_ms", 4)
    assert found.median_error == pytest.approx((0.09 + 0.5) / 2)
    assert found.within == 0.5


@pytest.mark.parametrize(("estimated", "order"), [([10.0, 20.0, 30.0], 1), ([3.0, 2.0, 1.0], -1), ([5.0, 5.0, 5.0], 0)])
def test_order_alone_decides_the_rank_correlations(estimated: list[float], order: int) -> None:
    found = check("textbook_ms", estimated, [1.0, 2.0, 3.0])
    assert found.tau == pytest.approx(order)
    assert found.spearman == pytest.approx(order)


def test_one_pair_exchanged_of_four() -> None:
    assert check("x", [1.0, 2.0, 4.0, 3.0], [1.0, 2.0, 3.0, 4.0]).tau == pytest.approx((5 - 1) / 6)


def test_disturbed_measurements_are_counted() -> None:
    assert check("x", [1.0, 2.0], [1.0, 2.0], disturbed=1).disturbed == 1


@pytest.mark.parametrize(("estimated", "measured"), [([1.0], [1.0]), ([], []), ([1.0, 2.0], [1.0])])
def test_too_few_pairs_are_refused(estimated: list[float], measured: list[float]) -> None:
    with pytest.raises(ValueError, match="at least 2 pairs"):
        check("x", estimated, measured)


def test_every_part_gets_its_share() -> None:
    folds = [fold_of(hashlib.sha256(bytes([number])).hexdigest()) for number in range(200)]
    assert set(folds) == set(range(FOLDS))
    assert all(folds.count(fold) > 200 / FOLDS / 2 for fold in range(FOLDS))
