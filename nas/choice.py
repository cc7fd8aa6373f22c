"""A choice of a search space: its name and values, when it is active, and what compression can be carried out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Literal

from nas.design import IDENTITY, Value
from nas.errors import SpaceError, unknown_name

MOST_RANGE_VALUES = 1000
YAML_HINT = "YAML reads yes, no, on and off as booleans and null as nothing: put such a word in quotes"

Group = Literal["architecture", "compression"]


def same_value(a: object, b: object) -> bool:
    """Whether two values mean the same: 1 and 1.0 do; 1 and true, or 1 and "1", do not."""
    return isinstance(a, bool) == isinstance(b, bool) and a == b


@dataclass(frozen=True)
class Choice:
    """One choice of a search space.

    Args:
        name: Its name, such as ``stage1.width``.
        group: ``"architecture"`` or ``"compression"``.
        values: What it may be: all of one type (whole numbers among fractions become fractions), all different.
        when: Names of choices declared before it, and the values of each with which this one is active; all must hold.

    Raises:
        SpaceError: The values are none, doubled, of different types, or no numbers, texts or booleans.
    """

    name: str
    group: Group
    values: tuple[Value, ...]
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _uniform(self.name, self.values))
        when = {name: tuple(values) for name, values in self.when.items()}
        object.__setattr__(self, "when", MappingProxyType(when))

    def __hash__(self) -> int:
        return hash((self.name, self.group, self.values))

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers in ascending order, so that a sampler may take neighbours for similar."""
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values)
        return numeric and all(a < b for a, b in zip(self.values, self.values[1:], strict=False))  # type: ignore[operator]

    def find(self, value: object) -> Value:
        """The choice's own spelling of a value (1.0 where 1 was given).

        Raises:
            SpaceError: It is none of the choice's values.
        """
        for own in self.values:
            if same_value(own, value):
                return own
        raise SpaceError(f"choice '{self.name}' must be one of {listed(self.values)}, but got {value!r}")

    def active(self, chosen: Mapping[str, Value]) -> bool:
        """Whether the choice is to be made, given the active choices made before it."""
        return all(name in chosen and chosen[name] in values for name, values in self.when.items())

    def to_json(self) -> dict[str, Any]:
        when = {name: list(values) for name, values in self.when.items()}
        return {"name": self.name, "group": self.group, "values": list(self.values), "when": when}


@dataclass(frozen=True)
class Legality:
    """What a compression choice may be: the type of its values, which of them are legal, and the rule in words."""

    kind: type
    legal: Callable[[Any], bool]
    rule: str


# What can be carried out today. A new bit width or a codebook is one more value here, once the stage exists.
LEGAL: Mapping[str, Legality] = MappingProxyType(
    {
        "pruning_ratio": Legality(float, lambda value: 0 <= value < 1, "at least 0 and less than 1"),
        "distillation": Legality(bool, lambda value: True, "true or false"),
        "weight_sharing": Legality(str, lambda value: value == "none", "'none' (weight sharing is not yet supported)"),
        "weight_bits": Legality(int, lambda value: value in (32, 8), "32 or 8"),
        "activation_bits": Legality(int, lambda value: value in (32, 8), "32 or 8"),
    }
)

# (choice, value) → the other choice that must then have one of these values.
NEEDS: Mapping[tuple[str, Value], tuple[str, tuple[Value, ...]]] = MappingProxyType(
    {("activation_bits", 8): ("weight_bits", (8,))}
)


def listed(values: tuple[Value, ...]) -> str:
    """Values as an error message shows them."""
    return ", ".join(repr(value) for value in values)


def _uniform(name: str, values: tuple[Value, ...]) -> tuple[Value, ...]:
    """A choice's values, checked; whole numbers among fractions become fractions."""
    if not values:
        raise SpaceError(f"choice '{name}' has no values", "give at least one")
    for value in values:
        if not isinstance(value, bool | int | float | str):
            raise SpaceError(f"choice '{name}' takes numbers, texts or booleans, but got {value!r}", YAML_HINT)
        if isinstance(value, float) and not math.isfinite(value):
            raise SpaceError(f"choice '{name}' takes finite numbers, but got {value!r}")
    kinds = {type(value) for value in values}
    if kinds == {int, float}:
        values, kinds = tuple(float(value) for value in values), {float}
    if len(kinds) > 1:
        hint = YAML_HINT if kinds == {bool, str} else "numbers, texts or booleans, not several of these"
        raise SpaceError(f"choice '{name}' mixes types in {listed(values)}", hint)
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise SpaceError(f"choice '{name}' has the value {twice!r} twice")
    return tuple(values)


def legal_choice(choice: Choice, earlier: Mapping[str, Choice]) -> Choice:
    """A compression choice whose values can be carried out, in the type that the pipeline expects."""
    if choice.name not in LEGAL:
        raise SpaceError(unknown_name("compression choice", choice.name, LEGAL))
    if choice.name == "distillation" and False not in choice.values:
        raise SpaceError(
            "choice 'distillation' must offer false: before the first trial there is no teacher", "write [false, true]"
        )
    legality = LEGAL[choice.name]
    if legality.kind is float and type(choice.values[0]) is int:
        choice = replace(choice, values=tuple(float(value) for value in choice.values))
    for value in choice.values:
        if type(value) is not legality.kind or not legality.legal(value):
            hint = YAML_HINT if legality.kind is str and isinstance(value, bool) else ""
            raise SpaceError(f"compression choice '{choice.name}' must be {legality.rule}, but got {value!r}", hint)
        if (choice.name, value) in NEEDS:
            _check_need(choice, value, earlier)
    return choice


def _check_need(choice: Choice, value: Value, earlier: Mapping[str, Choice]) -> None:
    """Checks that a value is offered only where the other choice that it needs has a value that it needs."""
    other, needed = NEEDS[choice.name, value]
    possible: tuple[Value, ...] = choice.when.get(other, ())
    if not possible:
        parent = earlier.get(other)
        possible = parent.values if parent else ()
        if parent is None or parent.when:  # absent or at times inactive: then it has its identity
            possible = (*possible, IDENTITY[other])
    if not all(item in needed for item in possible):
        raise SpaceError(
            f"compression choice '{choice.name}' offers {value!r} without {other} {listed(needed)}",
            f"declare '{other}' before it and add when: {{{other}: [{listed(needed)}]}}",
        )


def range_values(what: str, bounds: Mapping[str, int | float]) -> tuple[Value, ...]:
    """The values of ``{low, high, step}`` (arithmetic) or ``{low, high, factor}`` (geometric).

    They are whole numbers where all of them and both ends are, else fractions. Decimal spellings are taken exactly:
    three steps of 0.1 are 0.3.

    Raises:
        SpaceError: Upside down, without progress, past ``MOST_RANGE_VALUES``, or the steps do not land on ``high``.
    """
    low, high, stride = (
        Fraction(str(bounds[key])) for key in ("low", "high", "step" if "step" in bounds else "factor")
    )
    if low > high:
        raise SpaceError(f"{what}: 'low' must not be above 'high', but got {bounds['low']} and {bounds['high']}")
    if "step" in bounds and stride <= 0:
        raise SpaceError(f"{what}: 'step' must be greater than 0, but got {bounds['step']}")
    if "factor" in bounds and (stride <= 1 or low <= 0):
        got = f"factor {bounds['factor']} and low {bounds['low']}"
        raise SpaceError(f"{what}: 'factor' must be greater than 1 and 'low' greater than 0, but got {got}")
    values = [low]
    while values[-1] < high and len(values) <= MOST_RANGE_VALUES:
        values.append(values[-1] + stride if "step" in bounds else values[-1] * stride)
    if len(values) > MOST_RANGE_VALUES:
        raise SpaceError(f"{what} has more than {MOST_RANGE_VALUES} values", "take larger steps")
    if values[-1] != high:
        way = f"steps of {bounds['step']}" if "step" in bounds else f"factors of {bounds['factor']}"
        message = f"{what}: {way} from {bounds['low']} do not land on {bounds['high']}"
        raise SpaceError(message, f"let it end at {float(values[-2]):g} or {float(values[-1]):g}")
    whole = all(value.denominator == 1 for value in values)
    if whole and isinstance(bounds["low"], int) and isinstance(bounds["high"], int):
        return tuple(int(value) for value in values)
    return tuple(float(value) for value in values)
