"""A choice of a search space: its name and values, when it is active, and what compression can be carried out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

from nas.compression import CHOICES, RULES, Value, is_known, split_name
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
        try:
            return self._spellings[isinstance(value, bool), value]
        except (KeyError, TypeError):  # the latter of what has no hash
            pass
        raise SpaceError(f"choice '{self.name}' must be one of {listed(self.values)}, but got {value!r}")

    @cached_property
    def _spellings(self) -> Mapping[tuple[bool, object], Value]:
        """The values by what is equal to them: 1.0 is to 1, True is not."""
        return {(isinstance(value, bool), value): value for value in self.values}

    def active(self, chosen: Mapping[str, Value]) -> bool:
        """Whether the choice is to be made, given the active choices made before it."""
        return all(name in chosen and chosen[name] in values for name, values in self.when.items())

    def to_json(self) -> dict[str, Any]:
        when = {name: list(values) for name, values in self.when.items()}
        return {"name": self.name, "group": self.group, "values": list(self.values), "when": when}


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


def legal_choice(choice: Choice) -> Choice:
    """A compression choice whose values can be carried out, in the type that the pipeline expects."""
    if not is_known(choice.name):
        stage, bare = split_name(choice.name)
        if bare in CHOICES and stage is not None:
            open_to_stages = ", ".join(name for name, known in CHOICES.items() if known.per_stage)
            raise SpaceError(f"compression choice '{bare}' is for the whole network", f"per stage: {open_to_stages}")
        raise SpaceError(unknown_name("compression choice", bare, CHOICES))
    known = CHOICES[split_name(choice.name)[1]]
    if known.kind is float and type(choice.values[0]) is int:
        choice = replace(choice, values=tuple(float(value) for value in choice.values))
    for value in choice.values:
        if type(value) is not known.kind or not known.legal(value):
            hint = YAML_HINT if known.kind is str and isinstance(value, bool) else ""
            raise SpaceError(f"compression choice '{choice.name}' must be {known.rule}, but got {value!r}", hint)
    return choice


def combinations(choices: Sequence[Choice]) -> Iterator[dict[str, Value]]:
    """Every way to make choices, lazily: the values of the active ones; the last choice changes fastest."""
    yield from _combinations(choices, 0, {})


def _combinations(choices: Sequence[Choice], index: int, chosen: dict[str, Value]) -> Iterator[dict[str, Value]]:
    if index == len(choices):
        yield chosen
        return
    choice = choices[index]
    branches = [chosen | {choice.name: value} for value in choice.values] if choice.active(chosen) else [chosen]
    for branch in branches:
        yield from _combinations(choices, index + 1, branch)


def check_together(choices: Sequence[Choice]) -> None:
    """Checks that no design offers compression choices that do not go together.

    Only the choices that one rule looks at, and those that decide whether these are open, are gone through at a time.

    Raises:
        SpaceError: Some design's choices do not go together; the message says which.
    """
    compression = [choice.name for choice in choices if choice.group == "compression"]
    stages = sorted({stage for name in compression if (stage := split_name(name)[0]) is not None})
    for rule in RULES:
        for names in rule.looks_at(stages):
            looked_at = names & set(compression)
            for chosen in combinations(_with_gates(looked_at, choices)):
                found = rule.check({name: chosen[name] for name in sorted(looked_at & chosen.keys())})
                if found is not None:
                    raise SpaceError(*found)


def _with_gates(names: set[str], choices: Sequence[Choice]) -> list[Choice]:
    """The choices of these names and all that their conditions mention, in declared order.

    Of numbers that no condition mentions, the identity and one other stand for all.
    """
    needed = set(names)
    for choice in reversed(choices):
        if choice.name in needed:
            needed |= choice.when.keys()
    kept = [choice for choice in choices if choice.name in needed]
    mentioned = {name for choice in kept for name in choice.when}
    return [
        replace(choice, values=_representatives(choice))
        if choice.name not in mentioned and split_name(choice.name)[1] == "pruning_ratio"
        else choice
        for choice in kept
    ]


def _representatives(choice: Choice) -> tuple[Value, ...]:
    none = tuple(value for value in choice.values if value == 0)
    return (*none, *(value for value in choice.values if value != 0))[: len(none) + 1]


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
