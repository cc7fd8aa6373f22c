"""What is decided from a supernet's numbers: whether to fine-tune or to retrain."""

from __future__ import annotations

from typing import Any

import pytest

from nas.design import Design
from nas.supernet import Tried, better_for_its_cost


def tried(accuracies: list[float], seconds: float) -> list[Tried]:
    return [Tried(Design("convnet", {"number": n}, {}), value, seconds) for n, value in enumerate(accuracies)]


@pytest.mark.parametrize(
    ("retrained", "finetuned", "way"),
    [
        ((0.90, 10.0), (0.90, 10.0), "finetune"),  # equal
        ((0.90, 10.0), (0.89, 10.0), "retrain"),  # as dear, more accurate
        ((0.90, 20.0), (0.90, 10.0), "finetune"),  # dearer for nothing
        ((0.905, 20.0), (0.90, 10.0), "finetune"),  # twice as dear for a twentieth of the errors
        ((0.92, 20.0), (0.90, 10.0), "retrain"),  # for a fifth of them
        ((0.92, 80.0), (0.90, 10.0), "finetune"),  # eight times as dear for a fifth of them: 0.9³ = 0.73
        ((0.93, 80.0), (0.90, 10.0), "retrain"),
        ((0.895, 10.0), (0.90, 20.0), "retrain"),  # cheaper, and hardly worse
    ],
)
def test_the_dearer_way_must_be_worth_it(
    retrained: tuple[float, float], finetuned: tuple[float, float], way: str
) -> None:
    found = better_for_its_cost(tried([retrained[0]] * 3, retrained[1]), tried([finetuned[0]] * 3, finetuned[1]), 10**6)
    assert found is not None
    assert found.way == way
    assert found.designs == 3
    assert found.errors_ratio == pytest.approx((1 - retrained[0]) / (1 - finetuned[0]), rel=1e-4)
    assert found.seconds_ratio == pytest.approx(retrained[1] / finetuned[1])
    assert f"{found.errors_ratio:.2f} times the errors" in found.reason


def test_only_designs_that_were_trained_in_both_ways_count() -> None:
    found = better_for_its_cost(tried([0.9, 0.5], 10), tried([0.8], 10), 1000)
    assert found is not None
    assert found.designs == 1
    assert found.errors_ratio == pytest.approx(100.5 / 200.5)
    assert better_for_its_cost(tried([0.9], 10), [], 1000) is None


def test_networks_without_an_error_can_be_compared() -> None:
    found = better_for_its_cost(tried([1.0], 10), tried([1.0], 20), 100)
    assert found is not None
    assert found.way == "retrain"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples must be at least 1"),
        ({"worth": 1.0}, "'worth' must be between 0 and 1"),
        ({"finetuned": tried([1.5], 1)}, "from 0 to 1, but got 1.5"),
        ({"finetuned": tried([0.5], 0)}, "seconds must be greater than 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        better_for_its_cost(**{"retrained": tried([0.5], 1), "finetuned": tried([0.5], 1), "samples": 10} | options)
