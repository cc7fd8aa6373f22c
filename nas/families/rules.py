"""The rules of a family's choices: what each may be, and where it has a meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from nas.choice import YAML_HINT, listed
from nas.design import Value
from nas.errors import SpaceError

OWN_RULES = "nas_rules"  # the attribute in which a person's own builder carries its rules

Function = TypeVar("Function", bound=Callable[..., object])


@dataclass(frozen=True)
class Rule:
    """What a family allows for one of its choices.

    Args:
        name: The choice's name.
        values: The legal values; None where any whole number from ``low`` to ``high`` is.
        low: The least whole number.
        high: The greatest whole number.
        default: The value where a design does not have the choice; None where it must have it.
        when: Other choices of the family and their values with which this one has a meaning; all must hold.
    """

    name: str
    values: tuple[Value, ...] | None = None
    low: int = 1
    high: int = 4096
    default: Value | None = None
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    def active(self, chosen: Mapping[str, Value]) -> bool:
        """Whether the choice has a meaning, given the values of the others."""
        return all(name in chosen and chosen[name] in values for name, values in self.when.items())

    def check(self, value: Value) -> None:
        """Refuses an illegal value.

        Raises:
            SpaceError: The value is not legal for this choice.
        """
        if self.values is None:
            legal = type(value) is int and self.low <= value <= self.high
            allowed = f"a whole number from {self.low} to {self.high}"
        else:
            legal = any(type(own) is type(value) and own == value for own in self.values)
            allowed = f"one of {listed(self.values)}"
        if not legal:
            misread = isinstance(value, bool) and self.values is not None and isinstance(self.values[0], str)
            message = f"choice '{self.name}' must be {allowed}, but got {value!r}"
            raise SpaceError(message, YAML_HINT if misread else "")


def one_of(name: str, *values: Value, default: Value | None = None) -> Rule:
    """A choice among listed values."""
    return Rule(name, values, default=default)


def whole(name: str, low: int = 1, high: int = 4096, default: Value | None = None) -> Rule:
    """A choice of any whole number between bounds."""
    return Rule(name, low=low, high=high, default=default)


def each_stage(count: str, prefix: str, most: int, *rules: Rule) -> tuple[Rule, ...]:
    """The rules of a stage, for stages 1 to ``most``: ``prefix`` and number before each name.

    Args:
        count: The choice that says how many stages there are; stage n has a meaning where it is n or more.
        prefix: ``"stage"`` for names such as ``stage2.width``.
        most: The greatest number of stages.
        rules: One for each choice of a stage.
    """
    return tuple(
        replace(rule, name=f"{prefix}{number}.{rule.name}", when={count: tuple(range(number, most + 1))})
        for number in range(1, most + 1)
        for rule in rules
    )


def with_rules(*rules: Rule) -> Callable[[Function], Function]:
    """Gives the builder of a person's own family the rules of its choices, so that a space is checked against them.

    Without it any choice with any value is handed to the builder.

    Raises:
        ValueError: A rule stands twice.
    """
    if len({rule.name for rule in rules}) < len(rules):
        raise ValueError("two rules have one name")

    def decorate(builder: Function) -> Function:
        setattr(builder, OWN_RULES, rules)
        return builder

    return decorate
