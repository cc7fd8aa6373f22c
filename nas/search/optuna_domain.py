"""Optuna's distributions as a domain of designs."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from nas.surrogate.activity import Activity, AskedActivity, learned
from nas.surrogate.coded import Coded
from nas.surrogate.domain import Axis, Domain
from nas.surrogate.encode import Column, value_key

# Numbers of more steps than this are taken as if they had none; of no more than that all values are kept.
LONGEST_GRID, SHORT_GRID = 10_000, 100
# On so many designs at random is asked what plays a part, and on so many more whether what was learned holds.
ASKED, CHECKED = 192, 64

Params = Mapping[str, Any]
# What plays a part is asked once for each space and whoever answers, of so many of them.
REMEMBERED = 4
_LOCK = threading.Lock()
_ACTIVITIES: OrderedDict[Any, Activity] = OrderedDict()
# What no category equals, and no number.
_MISSING = "\0 missing"


def column_of(name: str, distribution: BaseDistribution, conditional: bool = False, costless: bool = False) -> Column:
    """A parameter as a column."""
    if isinstance(distribution, CategoricalDistribution):
        return Column(name, values=tuple(distribution.choices), conditional=conditional, costless=costless)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = distribution.low, distribution.high
    return Column(name, low=low, high=high, log=distribution.log, conditional=conditional, costless=costless)


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


def params_of(space: Mapping[str, BaseDistribution], domain: Domain, rows: np.ndarray) -> list[dict[str, Any]]:
    """N full rows of the domain as parameters."""
    columns = columns_of(space, domain, rows).values()
    return [dict(zip(space, values, strict=True)) for values in zip(*columns, strict=True)]


def columns_of(space: Mapping[str, BaseDistribution], domain: Domain, rows: np.ndarray) -> dict[str, Coded]:
    """N full rows of the domain as parameters, by parameter its N values."""

    def nearest(name: str) -> Callable[[Any], Any]:
        return lambda value: value_of(space[name], value)

    asked = {axis.column.name for axis in domain.axes if axis.values is None}
    columns = domain.columns(rows).items()
    return {name: values.mapped(nearest(name)) if name in asked else values for name, values in columns}


def positions_of(space: Mapping[str, BaseDistribution], params: Sequence[Params]) -> np.ndarray:
    """Where N trials' parameters lie, N×columns positions of ``Column``; NaN for what they lack.

    A value that does not lie in the space as it is now counts as lacking.
    """
    positions = np.full((len(params), len(space)), np.nan)
    for index, (name, distribution) in enumerate(space.items()):
        given = [own.get(name, _MISSING) for own in params]
        column = column_of(name, distribution)
        if column.values is not None:
            places = {value_key(value): float(place) for place, value in enumerate(column.values)}
            positions[:, index] = [places.get(value_key(value), math.nan) for value in given]
            continue
        numbers = np.array([math.nan if isinstance(v, str | bool) or v is None else v for v in given], dtype=float)
        inside = (numbers >= column.low) & (numbers <= column.high)
        positions[inside, index] = column.positions(list(numbers[inside]))
    return positions


def domain_of(
    space: Mapping[str, BaseDistribution],
    positions: np.ndarray,
    active: Callable[[Params], Collection[str]] | None,
    costless: Collection[str] = (),
) -> Domain:
    """The designs of a space.

    Args:
        space: Its parameters.
        positions: Those of all trials, from which is learned what plays a part where.
        active: Of all parameters those that do; where given it is asked instead.
        costless: Parameters that no cost depends on.
    """
    plain = [column_of(name, distribution) for name, distribution in space.items()]
    if active is None:
        activity: Activity = learned(positions)
    else:
        activity = _remembered(space, plain, active)
    axes = []
    for (name, distribution), conditional in zip(space.items(), activity.conditional, strict=True):
        axes.append(_axis(column_of(name, distribution, conditional, name in costless), distribution))
    return Domain(axes, activity)


def _remembered(
    space: Mapping[str, BaseDistribution], columns: Sequence[Column], active: Callable[[Params], Collection[str]]
) -> Activity:
    """As ``_asked``, whose answer depends on nothing else."""
    key = (active, tuple(space.items()))
    try:
        hash(key)
    except TypeError:  # an object that compares by value
        return _asked(space, columns, active)
    with _LOCK:
        if (found := _ACTIVITIES.get(key)) is not None:
            return found
    activity = _asked(space, columns, active)
    if isinstance(activity, AskedActivity):  # it keeps every answer, which is for one proposal
        return activity
    with _LOCK:
        _ACTIVITIES[key] = activity
        if len(_ACTIVITIES) > REMEMBERED:
            _ACTIVITIES.popitem(last=False)
    return activity


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
    return AskedActivity(answer, [not present[:, column].all() for column in range(rows.shape[1])])


def _axis(column: Column, distribution: BaseDistribution) -> Axis:
    """A column with the positions that its parameter may take."""
    if isinstance(distribution, CategoricalDistribution):
        return Axis(column, np.arange(len(distribution.choices), dtype=float), tuple(distribution.choices))
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if distribution.step is None:
        return Axis(column, None)
    count = round((distribution.high - distribution.low) / distribution.step) + 1
    if count > LONGEST_GRID:
        return Axis(column, None)
    grid = column.positions(list(distribution.low + distribution.step * np.arange(count)))
    if count > SHORT_GRID:
        return Axis(column, grid)
    return Axis(column, grid, tuple(value_of(distribution, column.value_at(float(at))) for at in grid))
