"""Choices of a search space as Optuna's parameters, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from nas.design import Design, Value
from nas.space import Choice, SearchSpace

# Put on a parameter's name where Optuna sees the position of a value in its choice's list instead of the value.
POSITION = "[position]"


class Parameters:
    """What a sampler is asked for: one parameter for each choice that has more than one value.

    Args:
        space: Whose choices they are.
        flat: Whether every trial has all parameters. Those of inactive choices then have their first value, so that
            equal designs have equal parameters.
    """

    def __init__(self, space: SearchSpace, flat: bool) -> None:
        self.space = space
        self.flat = flat
        self.varied = tuple(choice for choice in space.choices if len(choice.values) > 1)

    @cached_property
    def distributions(self) -> Mapping[str, BaseDistribution]:
        """By parameter, in the choices' order."""
        return {parameter_name(choice): distribution_of(choice) for choice in self.varied}

    def params(self, design: Design) -> dict[str, Any]:
        """A design's parameters.

        Raises:
            SpaceError: The design does not lie in the space.
        """
        values = self.space.flat(design)
        active = {*design.architecture, *design.compression}
        return {
            parameter_name(choice): encode(choice, values[choice.name])
            for choice in self.varied
            if self.flat or choice.name in active
        }

    def design(self, params: Mapping[str, Any]) -> Design:
        """The design that a trial's parameters give.

        Raises:
            KeyError: The parameter of an active choice is missing.
        """
        return self.space.choose(lambda choice: _value(choice, lambda choice: params[parameter_name(choice)]))

    def pick(self, ask: Callable[[Choice], Any]) -> Design:
        """The design that results from asking for the parameters of the active choices.

        Where parameters are flat, every choice is asked for, active or not, as samplers of that kind expect.
        """
        if self.flat:
            return self.space.design({choice.name: _value(choice, ask) for choice in self.space.choices})
        return self.space.choose(lambda choice: _value(choice, ask))

    def active(self, params: Mapping[str, Any]) -> frozenset[str]:
        """The parameters of choices that are active, given those of earlier ones.

        Args:
            params: In Optuna's terms, complete or not. A choice that depends on one that is missing is not active.
        """
        chosen: dict[str, Value] = {}
        names = set()
        for choice in self.space.choices:
            name = parameter_name(choice)
            if not choice.active(chosen):
                continue
            if len(choice.values) > 1:
                names.add(name)
            if len(choice.values) == 1 or name in params:
                chosen[choice.name] = _value(choice, lambda choice: params[parameter_name(choice)])
        return frozenset(names)


def parameter_name(choice: Choice) -> str:
    """The choice's name in Optuna."""
    return choice.name + POSITION if _is_position(choice) else choice.name


def distribution_of(choice: Choice) -> BaseDistribution:
    """What its parameter may be, for a choice of more than one value."""
    if not choice.ordered:
        return CategoricalDistribution(choice.values)
    if _is_position(choice):
        return IntDistribution(0, len(choice.values) - 1)
    low, second, high = choice.values[0], choice.values[1], choice.values[-1]
    if all(isinstance(value, int) for value in choice.values):
        return IntDistribution(int(low), int(high), step=int(second) - int(low))
    return FloatDistribution(float(low), float(high), step=float(second) - float(low))


def encode(choice: Choice, value: Value) -> Value:
    """A choice's value as its parameter has it."""
    return choice.values.index(value) if _is_position(choice) else value


def decode(choice: Choice, stored: Any) -> Value:
    """The choice's value that a parameter stands for; of numbers in steps the nearest, which undoes rounding."""
    if _is_position(choice):
        return choice.values[stored]
    if choice.ordered:
        return min(choice.values, key=lambda value: abs(float(value) - float(stored)))
    return choice.find(stored)


def _value(choice: Choice, ask: Callable[[Choice], Any]) -> Value:
    """A choice's value; one of a single value is no question."""
    return choice.values[0] if len(choice.values) == 1 else decode(choice, ask(choice))


def _is_position(choice: Choice) -> bool:
    """Whether Optuna gets positions: numbers in order, but not in equal steps, so that the order is not lost."""
    return len(choice.values) > 1 and choice.ordered and not _equal_steps(choice.values)


def _equal_steps(values: Sequence[Value]) -> bool:
    numbers = [float(value) for value in values]
    step = numbers[1] - numbers[0]
    return all(math.isclose(b - a, step, rel_tol=1e-9) for a, b in pairwise(numbers))
