"""Optuna's distributions as the columns of a domain of designs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from nas.surrogate.activity import Activity, learned
from nas.surrogate.domain import Axis, Domain
from nas.surrogate.encode import Column, Encoding

LONGEST_GRID = 10_000


def column_of(name: str, distribution: BaseDistribution, conditional: bool = False) -> Column:
    """A parameter as a column."""
    if isinstance(distribution, CategoricalDistribution):
        return Column(name, values=tuple(distribution.choices), conditional=conditional)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return Column(name, low=distribution.low, high=distribution.high, log=distribution.log, conditional=conditional)


def axis_of(column: Column, distribution: BaseDistribution) -> Axis:
    """A column with the positions that its parameter may take."""
    if isinstance(distribution, CategoricalDistribution):
        return Axis(column, np.arange(len(distribution.choices), dtype=float))
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if distribution.step is None:
        return Axis(column, None)
    count = round((distribution.high - distribution.low) / distribution.step) + 1
    if count > LONGEST_GRID:
        return Axis(column, None)
    numbers = distribution.low + distribution.step * np.arange(count)
    return Axis(column, column.positions(list(numbers)))


def value_of(distribution: BaseDistribution, value: Any) -> Any:
    """A column's value as one that the parameter may take."""
    if isinstance(distribution, CategoricalDistribution):
        return value
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    number = float(value)
    if distribution.step is not None:
        number = distribution.low + round((number - distribution.low) / distribution.step) * distribution.step
    number = min(distribution.high, max(distribution.low, number))
    return int(number) if isinstance(distribution, IntDistribution) else float(number)


def domain_of(
    space: Mapping[str, BaseDistribution],
    trials: Sequence[FrozenTrial],
    active: Callable[[Mapping[str, Any]], Collection[str]] | None,
) -> Domain:
    plain = Encoding([column_of(name, distribution) for name, distribution in space.items()])
    activity = learned(plain.positions([{n: v for n, v in t.params.items() if n in space and space[n]._contains(space[n].to_internal_repr(v))} for t in trials]))
    axes = [
        axis_of(column_of(name, distribution, conditional), distribution)
        for (name, distribution), conditional in zip(space.items(), activity.conditional, strict=True)
    ]
    return Domain(axes, activity)
