"""Choices of a search space as Optuna's parameters, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from nas.design import Design, Value
from nas.space import Choice, SearchSpace
from nas.surrogate.coded import Coded

# Put on a parameter's name where Optuna sees the position of a value in its choice's list instead of the value.
POSITION = "[position]"
# So many decoded values of each parameter are remembered.
DECODED = 1000


@dataclass(frozen=True)
class Parameter:
    """A choice of more than one value as Optuna has it.

    Args:
        choice: The choice.
        name: The parameter's name.
        distribution: What it may be.
        position: Whether it is a position among the choice's values: of numbers in order, but not in equal steps, so
            that the order is not lost.
    """

    choice: Choice
    name: str
    distribution: BaseDistribution
    position: bool

    @classmethod
    def of(cls, choice: Choice) -> Parameter:
        if not choice.ordered:
            return cls(choice, choice.name, CategoricalDistribution(choice.values), False)
        if not _equal_steps(choice.values):
            last = len(choice.values) - 1
            return cls(choice, choice.name + POSITION, IntDistribution(0, last), True)
        return cls(choice, choice.name, _stepped(choice.values), False)

    def encode(self, value: Value) -> Value:
        """A value of the choice as a value of the parameter."""
        return self.choice.values.index(value) if self.position else value

    def decode(self, stored: Any) -> Value:
        """The choice's value that the parameter's stands for; of numbers in steps the nearest, which undoes rounding.

        Raises:
            IndexError: There is no such position.
            SpaceError: It is none of the choice's values.
        """
        if self.position:
            return self.choice.values[int(stored)]
        if isinstance(self.distribution, FloatDistribution):
            return min(self.choice.values, key=lambda value: abs(float(value) - float(stored)))
        return self.choice.find(stored)


class Parameters:
    """What a sampler is asked for: a parameter for each choice that has more than one value.

    Args:
        space: Whose choices they are.
        flat: Whether every trial has all parameters. Those of inactive choices then have their first value, so that
            equal designs have equal parameters.
    """

    def __init__(self, space: SearchSpace, flat: bool) -> None:
        self.space = space
        self.flat = flat
        self._params: dict[str, dict[str, Any]] = {}
        self.by_choice = {choice.name: Parameter.of(choice) for choice in space.choices if len(choice.values) > 1}

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Of all parameters, by name, in alphabetical order."""
        return {one.name: one.distribution for one in sorted(self.by_choice.values(), key=lambda one: one.name)}

    @cached_property
    def peers(self) -> Mapping[str, dict[str, BaseDistribution]]:
        """For each parameter itself and those that are active whenever it is: their choices have equal conditions."""
        groups: dict[Any, dict[str, BaseDistribution]] = {}
        group_of = {}
        for one in self.by_choice.values():
            group = groups.setdefault(tuple(sorted(one.choice.when.items())), {})
            group[one.name] = one.distribution
            group_of[one.name] = group
        return group_of

    def params(self, design: Design) -> dict[str, Any]:
        """A design's parameters.

        Raises:
            SpaceError: The design does not lie in the space.
        """
        return dict(self.known_params(design))

    def known_params(self, design: Design) -> Mapping[str, Any]:
        """The same, as one object for each design."""
        if design.digest not in self._params:
            values = self.space.flat(design)
            row = values if self.flat else {**design.architecture, **design.compression}
            ones = self.by_choice.items()
            self._params[design.digest] = {one.name: one.encode(values[name]) for name, one in ones if name in row}
        return self._params[design.digest]

    def decode(self, params: Mapping[str, Any]) -> dict[str, Value]:
        """Parameters as the values of active choices, complete or not.

        A choice that depends on one that is missing is not active.
        """
        row: dict[str, Value] = {}
        for choice, one, known in self._in_turn:
            if choice.when and not choice.active(row):
                continue
            if one is None:
                row[choice.name] = choice.values[0]
            elif one.name in params:
                stored = params[one.name]
                key = stored.__class__, stored
                if key not in known:
                    known[key] = one.decode(stored)
                row[choice.name] = known[key]
        return row

    def columns(self, given: Mapping[str, Sequence[Any]]) -> dict[str, Coded]:
        """N sets of parameters, by parameter, as the values of all choices, by choice; absent where one is not active.

        What plays no part in a set may have any value there, as may what depends on it.

        Args:
            given: Of each parameter N values; one that is missing is absent from all.

        Raises:
            IndexError: There is no such position.
            SpaceError: A value is none of a choice's.
        """
        count = len(next(iter(given.values())))
        columns: dict[str, Coded] = {}
        for choice in self.space.choices:
            one = self.by_choice.get(choice.name)
            if one is None:
                column = Coded(choice.values, np.zeros(count, dtype=int))
            elif one.name in given:
                column = Coded.of(given[one.name]).mapped(self._decoders[choice.name])
            else:
                column = Coded.absent(count)
            for gate, allowed in choice.when.items():
                column = column.where(columns[gate].among(allowed))
            columns[choice.name] = column
        return columns

    @cached_property
    def _decoders(self) -> Mapping[str, Callable[[Any], Value]]:
        """By choice what decodes its parameter, with a memory."""
        return {name: lru_cache(DECODED, typed=True)(one.decode) for name, one in self.by_choice.items()}

    @cached_property
    def _in_turn(self) -> list[tuple[Choice, Parameter | None, dict[Any, Value]]]:
        """The choices, each with its parameter (None where it has one value), and what was decoded before."""
        return [(choice, self.by_choice.get(choice.name), {}) for choice in self.space.choices]

    def design(self, params: Mapping[str, Any]) -> Design:
        """The design that a trial's parameters give.

        Raises:
            SpaceError: A parameter is missing, or none of its choice's values.
            IndexError: There is no such position.
        """
        return self.space.design(self.decode(params))

    def pick(self, ask: Callable[[Parameter], Any]) -> Design:
        """The design that results from asking for the parameters of the active choices.

        Where parameters are flat, every one is asked for, active or not, as samplers of that kind expect.
        """

        def value(choice: Choice) -> Value:
            one = self.by_choice.get(choice.name)
            return choice.values[0] if one is None else one.decode(ask(one))

        if self.flat:
            return self.space.design({choice.name: value(choice) for choice in self.space.choices})
        return self.space.choose(value)

    def active(self, params: Mapping[str, Any]) -> frozenset[str]:
        """The parameters that play a part, given all of them, or those of the choices that others depend on."""
        row = self.decode(params)
        return frozenset(one.name for one in self.by_choice.values() if one.choice.active(row))


def _stepped(values: Sequence[Value]) -> BaseDistribution:
    low, second, high = values[0], values[1], values[-1]
    if all(isinstance(value, int) for value in values):
        return IntDistribution(int(low), int(high), step=int(second) - int(low))
    return FloatDistribution(float(low), float(high), step=float(second) - float(low))


def _equal_steps(values: Sequence[Value]) -> bool:
    numbers = [float(value) for value in values]
    step = numbers[1] - numbers[0]
    return all(math.isclose(b - a, step, rel_tol=1e-9) for a, b in pairwise(numbers))
