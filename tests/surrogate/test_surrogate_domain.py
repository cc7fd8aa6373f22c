"""All designs of a set of columns, and which choices play a part in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.surrogate.activity import Activity, AskedActivity, Rule, learned
from nas.surrogate.domain import Axis, Domain
from nas.surrogate.encode import Column

NAN = np.nan


def discrete(name: str, count: int, conditional: bool = False) -> Axis:
    column = Column(name, values=tuple(range(count)), conditional=conditional)
    return Axis(column, np.arange(count, dtype=float))


def family() -> Domain:
    """A kind of 3, of which 1 has a width, and that, where it is 2, a number of its own."""
    axes = [discrete("kind", 3), discrete("width", 3, True), discrete("inner", 2, True)]
    rules = [[], [Rule(0, frozenset({0.0, 2.0}))], [Rule(1, frozenset({0.0, 1.0}))]]
    return Domain(axes, Activity(rules))


def test_what_is_inactive_switches_off_what_depends_on_it() -> None:
    rows = np.array([[0, 2, 1], [1, 0, 1], [1, 2, 1]], dtype=float)
    active = family().active(rows)
    expected = np.array([[0, NAN, NAN], [1, 0, NAN], [1, 2, 1]])
    np.testing.assert_array_equal(active, expected)


def test_all_designs_once() -> None:
    domain = family()
    # kinds 0 and 2 alone, kind 1 with widths 0 and 1, with width 2 and either number
    assert domain.size == 18
    rows = domain.all()
    assert len(rows) == 6
    assert len(set(domain.keys(rows))) == 6


def test_rules_are_learned_from_designs() -> None:
    domain = family()
    activity = learned(domain.active(domain.all()))
    assert activity.conditional == (False, True, True)
    rows = domain.sample(200, np.random.default_rng(0))
    np.testing.assert_array_equal(activity.of(rows), domain.activity.of(rows))


def test_two_conditions_are_learned_together() -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(3, size=(200, 3)).astype(float)
    shown = rows.copy()
    shown[(rows[:, 0] != 1) | (rows[:, 1] == 2), 2] = NAN
    activity = learned(shown)
    assert {rule.parent for rule in activity.rules[2]} == {0, 1}
    np.testing.assert_array_equal(activity.of(rows), ~np.isnan(shown))


def test_a_threshold_of_a_number_is_learned() -> None:
    rng = np.random.default_rng(1)
    rows = rng.random((300, 2))
    shown = rows.copy()
    shown[rows[:, 0] < 0.4, 1] = NAN
    (rule,) = learned(shown).rules[1]
    assert rule.parent == 0
    assert rule.low == pytest.approx(0.4, abs=0.02)
    assert rule.high == np.inf


def test_what_nothing_explains_is_taken_as_active() -> None:
    rows = np.array([[0, 1], [0, NAN], [1, 1], [1, NAN]], dtype=float)
    activity = learned(rows)
    assert activity.rules == ((), ())
    assert activity.of(np.zeros((1, 2))).all()


def test_choices_that_come_together_do_not_explain_each_other() -> None:
    rows = np.array([[0, 1, 1], [1, NAN, NAN], [0, 0, 1]], dtype=float)
    activity = learned(rows)
    assert [[rule.parent for rule in rules] for rules in activity.rules] == [[], [0], [0]]


def test_answers_are_asked_once() -> None:
    asked = []

    def answer(row: np.ndarray) -> np.ndarray:
        asked.append(row)
        return np.array([True, bool(row[0] > 0)])

    activity = AskedActivity(answer, (False, True))
    rows = np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    assert activity.of(rows).tolist() == [[True, False], [True, True], [True, False]]
    assert len(asked) == 2
    assert activity.conditional == (False, True)


AXES = [
    discrete("op", 4),
    Axis(Column("steps", low=0, high=1), np.linspace(0, 1, 30)),
    Axis(Column("any", low=1e-4, high=1.0, log=True), None),
    discrete("one", 1),
]


@given(st.integers(0, 2**32 - 1))
def test_changes_stay_within_the_axes(seed: int) -> None:
    domain, rng = Domain(AXES, Activity([()] * 4)), np.random.default_rng(seed)
    rows = domain.sample(20, rng)
    changed = domain.mutate(rows, rng)
    near = domain.neighbours(rows[:3], rng, 100)
    crossed = domain.cross(rows, changed, rng)
    for made in (rows, changed, near, crossed):
        assert set(made[:, 0]) <= {0.0, 1.0, 2.0, 3.0}
        assert np.isin(made[:, 1], AXES[1].grid).all()
        assert ((made[:, 2] >= 0) & (made[:, 2] <= 1)).all()
        assert (made[:, 3] == 0).all()
    assert ((crossed == rows) | (crossed == changed)).all()
    assert ((near[:, None, :] != rows[None, :3, :]).sum(axis=2).min(axis=1) <= 1).all()


def test_a_mutation_changes_something() -> None:
    domain, rng = Domain([discrete("a", 3), discrete("b", 5)], Activity([(), ()])), np.random.default_rng(0)
    rows = domain.sample(100, rng)
    assert (domain.mutate(rows, rng) != rows).any(axis=1).all()


def test_designs_that_differ_in_what_plays_no_part_are_the_same() -> None:
    domain = family()
    rows = np.array([[0, 0, 0], [0, 2, 1], [1, 2, 0], [1, 2, 1]], dtype=float)
    assert len(set(domain.keys(rows))) == 3
    assert len(domain.distinct(rows)) == 3
    assert domain.keys(domain.full(domain.active(rows))) == domain.keys(rows)


def test_an_infinite_space_has_no_count() -> None:
    assert Domain(AXES, Activity([()] * 4)).size == np.inf


def test_domains_are_told_apart() -> None:
    labels = {family().label, Domain(family().axes, Activity([()] * 3)).label, Domain(AXES, Activity([()] * 4)).label}
    assert len(labels) == 3
    assert Domain(AXES, AskedActivity(lambda row: row > 0, (True,) * 4)).label is None
