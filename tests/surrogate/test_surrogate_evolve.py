"""The inner evolution."""

from __future__ import annotations

import moocore
import numpy as np

from nas.surrogate.evolve import Operators, evolve, ranked

LENGTH = 12


def flip(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.where(rng.random(rows.shape) < 1 / LENGTH, ~rows, rows)


OPERATORS = Operators(
    lambda count, rng: rng.random((count, LENGTH)) < 0.5,
    flip,
    lambda a, b, rng: np.where(rng.random(a.shape) < 0.5, a, b),
)


def leading_and_trailing(rows: np.ndarray) -> np.ndarray:
    """Leading ones, trailing zeros: the front has all LENGTH + 1 ways to split a row, of 4096 rows."""
    leading = np.cumprod(rows, axis=1).sum(axis=1)
    trailing = np.cumprod(~rows[:, ::-1], axis=1).sum(axis=1)
    return np.stack([leading, trailing], axis=1).astype(float)


def test_it_finds_a_front_that_chance_does_not() -> None:
    rng = np.random.default_rng(0)
    found = evolve(OPERATORS, leading_and_trailing, rng, population=40, generations=25)
    by_chance = leading_and_trailing(OPERATORS.sample(found.judged, np.random.default_rng(1)))
    splits = {(float(n), float(LENGTH - n)) for n in range(LENGTH + 1)}
    evolved = splits & set(map(tuple, found.promises))
    assert len(evolved) >= 10
    assert len(splits & set(map(tuple, by_chance))) < len(evolved)
    assert found.judged <= 26 * 40
    np.testing.assert_array_equal(leading_and_trailing(found.rows), found.promises)


def test_it_is_the_same_again_and_holds_no_design_twice() -> None:
    runs = [
        evolve(OPERATORS, leading_and_trailing, np.random.default_rng(4), population=20, generations=5)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(runs[0].rows, runs[1].rows)
    assert len(np.unique(runs[0].rows, axis=0)) == len(runs[0].rows)


def test_it_begins_with_what_is_given_and_keeps_the_best() -> None:
    best = np.arange(LENGTH)[None, :] < 6
    found = evolve(OPERATORS, leading_and_trailing, np.random.default_rng(4), first=best, population=10, generations=3)
    assert (found.rows == best).all(axis=1).any()


def test_rows_may_be_objects() -> None:
    words = np.array(["a", "bb", "ccc", "dddd"], dtype=object)
    operators = Operators(
        lambda count, rng: words[rng.integers(4, size=count)],
        lambda rows, rng: words[rng.integers(4, size=len(rows))],
        lambda a, b, rng: a,
    )
    found = evolve(
        operators,
        lambda rows: np.array([[float(len(word))] for word in rows]),
        np.random.default_rng(0),
        population=4,
        generations=10,
        key=list,
    )
    assert found.rows.tolist() == ["dddd", "ccc", "bb", "a"]


def test_the_order_is_by_rank_then_by_loneliness() -> None:
    points = np.array([[0, 4], [4, 0], [1.9, 2.1], [2, 2], [2.1, 1.9], [0, 0], [1, 1.0]])
    order = ranked(points).tolist()
    ranks = moocore.pareto_rank(points, maximise=True)[order]
    assert (np.diff(ranks) >= 0).all()
    assert set(order[:2]) == {0, 1}
    assert order[4] == 3  # the middle of three that stand close
    assert order[-1] == 5
