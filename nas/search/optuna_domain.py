"""Optuna's distributions as a domain of designs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from nas.surrogate.activity import Activity, AskedActivity, learned
from nas.surrogate.domain import Axis, Domain
from nas.surrogate.encode import Column, Encoding

# Numbers of more steps than this are taken as if they had none.
LONGEST_GRID = 10_000
# On so many designs at random is asked what plays a part, and on so many more whether what was learned holds.
ASKED, CHECKED = 192, 64

Params = Mapping[str, Any]


def column_of(name: str, distribution: BaseDistribution, conditional: bool = False) -> Column:
    """A parameter as a column."""
    if isinstance(distribution, CategoricalDistribution):
        return Column(name, values=tuple(distribution.choices), conditional=conditional)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = distribution.low, distribution.high
    return Column(name, low=low, high=high, log=distribution.log, conditional=conditional)


def value_of(distribution: BaseDistribution, value: Any) -> Any:
    """A column's value as the nearest that the parameter may take."""
    if isinstance(distribution, CategoricalDistribution):
        return value
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    number = float(value)
    if distribution.step is not None:
        number = distribution.low + round((number - distribution.low) / distribution.step) * distribution.step
    number = min(distribution.high, max(distribution.low, number))
    return int(number) if isinstance(distribution, IntDistribution) else number


def row_of(space: Mapping[str, BaseDistribution], params: Params) -> dict[str, Any]:
    """Those of a trial's parameters that lie in the space as it is now."""
    row = {}
    for name, value in params.items():
        if (distribution := space.get(name)) is not None and _contains(distribution, value):
            row[name] = value
    return row


def domain_of(
    space: Mapping[str, BaseDistribution],
    rows: Sequence[Params],
    active: Callable[[Params], Collection[str]] | None,
) -> Domain:
    """The designs of a space.

    Args:
        space: Its parameters.
        rows: Those of all trials, from which is learned what plays a part where.
        active: Of all parameters those that do; where given it is asked instead.
    """
    plain = [column_of(name, distribution) for name, distribution in space.items()]
    if active is None:
        activity: Activity = learned(Encoding(plain).positions(rows))
    else:
        activity = _asked(space, plain, active)
    axes = []
    for (name, distribution), conditional in zip(space.items(), activity.conditional, strict=True):
        axes.append(_axis(column_of(name, distribution, conditional), distribution))
    return Domain(axes, activity)


def _asked(
    space: Mapping[str, BaseDistribution], columns: Sequence[Column], active: Callable[[Params], Collection[str]]
) -> Activity:
    """What is active as learned from answers; where that does not hold it is asked for each design."""
    domain = Domain([_axis(column, space[column.name]) for column in columns], Activity([()] * len(columns)))

    def answer(row: np.ndarray) -> np.ndarray:
        values = domain.values(row)
        named = set(active({name: value_of(space[name], value) for name, value in values.items()}))
        return np.array([name in named for name in values], dtype=bool)

    rows = domain.sample(ASKED + CHECKED, np.random.default_rng(0))
    present = np.array([answer(row) for row in rows], dtype=bool).reshape(rows.shape)
    activity = learned(np.where(present, rows, np.nan)[:ASKED])
    if (activity.of(rows) == present).all():
        return activity
    return AskedActivity(answer, tuple(bool(missing) for missing in ~present.all(axis=0)))


def _axis(column: Column, distribution: BaseDistribution) -> Axis:
    """A column with the positions that its parameter may take."""
    if isinstance(distribution, CategoricalDistribution):
        return Axis(column, np.arange(len(distribution.choices), dtype=float))
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if distribution.step is None:
        return Axis(column, None)
    count = round((distribution.high - distribution.low) / distribution.step) + 1
    if count > LONGEST_GRID:
        return Axis(column, None)
    return Axis(column, column.positions(list(distribution.low + distribution.step * np.arange(count))))


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a value is among a distribution's."""
    if isinstance(distribution, CategoricalDistribution):
        try:
            distribution.to_internal_repr(value)
        except ValueError:
            return False
        return True
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and distribution.low <= value <= distribution.high
