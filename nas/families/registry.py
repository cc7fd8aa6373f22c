"""The registry of families, the rules of their choices, and the check of a space against them.

A family is registered by a decorator around its builder, with one rule per choice. The rules alone say what is
legal: the builder receives an architecture that was checked against them, and a space is checked against them before
the first trial, so that none of its designs can be refused for a choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from torch import nn

from nas.choice import YAML_HINT, listed
from nas.design import Value
from nas.errors import DataError, SpaceError, unknown_name
from nas.families.blocks import FeatureMap, initialise
from nas.own_module import FAMILY as OWN_MODULE
from nas.space import SearchSpace


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


class Architecture:
    """An architecture that was checked against its family's rules, with the defaults filled in."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self.values = MappingProxyType(dict(values))

    def whole(self, name: str) -> int:
        value = self.values[name]
        assert isinstance(value, int), name
        return value

    def text(self, name: str) -> str:
        value = self.values[name]
        assert isinstance(value, str), name
        return value

    def flag(self, name: str) -> bool:
        value = self.values[name]
        assert isinstance(value, bool), name
        return value


Builder = Callable[[Architecture, FeatureMap, int], nn.Module]


@dataclass(frozen=True)
class Family:
    """A registered family: its builder and its rules, each after those that it depends on."""

    name: str
    builder: Builder
    rules: Mapping[str, Rule]

    def resolve(self, architecture: Mapping[str, Value]) -> Architecture:
        """Checks an architecture and fills in the defaults.

        Raises:
            SpaceError: A choice is unknown, missing, without meaning here, or has an illegal value.
        """
        for name in architecture:
            self.rule(name)
        values: dict[str, Value] = {}
        for name, rule in self.rules.items():
            given = architecture.get(name)
            if not rule.active(values):
                if given is not None:
                    raise SpaceError(f"choice '{name}' has no meaning where {_cause(rule, values)}", "leave it out")
                continue
            value = rule.default if given is None else given
            if value is None:
                raise SpaceError(f"family '{self.name}' needs choice '{name}', which is missing")
            rule.check(value)
            values[name] = value
        return Architecture(values)

    def rule(self, name: str) -> Rule:
        """The rule of a choice.

        Raises:
            SpaceError: The family has no choice of that name.
        """
        if name not in self.rules:
            raise SpaceError(unknown_name(f"choice of family '{self.name}':", name, self.rules))
        return self.rules[name]


_FAMILIES: dict[str, Family] = {}


def register(name: str, *rules: Rule) -> Callable[[Builder], Builder]:
    """Registers the decorated builder as a family.

    The builder takes the checked architecture, the input as a feature map and the number of classes. It returns a
    network that maps N×C×H×W float32 to N×classes logits and whose last layer is the ``nn.Linear`` in its attribute
    ``classifier``.

    Raises:
        ValueError: The name is taken, or a rule stands twice.
    """
    by_name = {rule.name: rule for rule in rules}
    if name in _FAMILIES:
        raise ValueError(f"family '{name}' is registered already")
    if len(by_name) < len(rules):
        raise ValueError(f"family '{name}' has two rules of one name")

    def decorate(builder: Builder) -> Builder:
        _FAMILIES[name] = Family(name, builder, MappingProxyType(by_name))
        return builder

    return decorate


def families() -> tuple[str, ...]:
    """The names of all registered families."""
    return tuple(sorted(_FAMILIES))


def find_family(name: str) -> Family:
    """The family of that name.

    Raises:
        SpaceError: There is none.
    """
    if name == OWN_MODULE:
        raise SpaceError(
            f"a design alone does not say how to build a network of family '{OWN_MODULE}'",
            "name one of its trials, such as studies/resnet18:0",
        )
    if name not in _FAMILIES:
        raise SpaceError(unknown_name("family", name, (*_FAMILIES, OWN_MODULE)))
    return _FAMILIES[name]


def build(family: str, architecture: Mapping[str, Value], input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Builds a network with random weights, drawn from torch's global generator: the same after the same seed.

    Args:
        family: The family's name.
        architecture: Its choices and their values; choices with a default may be absent.
        input_shape: (C, H, W) of one image.
        classes: The number of logits.

    Returns:
        A module that maps N×C×H×W float32 to N×classes logits; its last layer is ``classifier``.

    Raises:
        SpaceError: The family is unknown, or a choice is unknown, missing or illegal.
        InfeasibleDesignError: A feature map would shrink to nothing, or a kernel would reach past it altogether.
        DataError: A side of the image is not positive, or there are fewer than two classes.
    """
    entry = find_family(family)
    if min(input_shape) < 1:
        raise DataError(f"channels, height and width must be at least 1, but got {input_shape}")
    if classes < 2:
        raise DataError(f"a network needs at least 2 classes to tell apart, but got {classes}")
    network = entry.builder(entry.resolve(architecture), FeatureMap(*input_shape), classes)
    initialise(network)
    return network


def check_space(space: SearchSpace) -> None:
    """Checks that the space's family can build every one of its designs, as far as choices go.

    Shapes are not checked: they depend on the data, and a design that does not fit is infeasible, not wrong. Nor is a
    person's own module, which is built first.

    Raises:
        SpaceError: The family is unknown; it does not know a choice; a value is illegal; or some design of the space
            would lack a choice that it needs, or have one that means nothing there.
    """
    if space.module is not None:
        return  # its architecture is what it is; ``nas.families.module`` checks it when it builds it
    family = find_family(space.family)
    try:
        for choice in space.choices:
            if choice.group == "architecture":
                rule = family.rule(choice.name)
                for value in choice.values:
                    rule.check(value)
        for rule in family.rules.values():
            _check_presence(space, family, rule)
    except SpaceError as error:
        raise SpaceError(f"search space '{space.name}': {error.message}", error.hint) from None


def _check_presence(space: SearchSpace, family: Family, rule: Rule) -> None:
    """Checks that designs have a choice where the family needs it, and only where it has a meaning there.

    Only what decides that is gone through: the choice itself, those that its rule names, and those that any of these
    depend on in the space.
    """
    needed = {rule.name, *_gates(family, rule)}
    for choice in reversed(space.choices):
        if choice.name in needed:
            needed |= choice.when.keys()
    relevant = [choice for choice in space.choices if choice.name in needed]
    if not any(rule.name in choice.when for choice in relevant):  # then only whether it is there matters
        relevant = [
            replace(choice, values=choice.values[:1]) if choice.name == rule.name else choice for choice in relevant
        ]
    part = SearchSpace(space.name, space.family, space.description, tuple(relevant))
    for design in part.designs():
        values = dict(design.architecture)
        for gate in _gates(family, rule):  # rules stand after those that they depend on
            default = family.rules[gate].default
            if default is not None and family.rules[gate].active(values):
                values.setdefault(gate, default)
        present, active = rule.name in design.architecture, rule.active(values)
        if present and not active:
            message = f"choice '{rule.name}' is offered where it has no meaning: where {_cause(rule, values)}"
            raise SpaceError(message, f"add when: {_condition(rule, space)}")
        if active and not present and rule.default is None:
            where = ", ".join(f"{name} is {value}" for name, value in values.items())
            message = f"family '{family.name}' needs choice '{rule.name}'{f' where {where}' if where else ''}"
            hint = "declare it" if rule.name not in space.by_name else "widen its 'when'"
            raise SpaceError(message, hint)


def _gates(family: Family, rule: Rule) -> list[str]:
    """The choices that decide whether a rule is active, each after those that it depends on itself."""
    gates: list[str] = []
    for name in rule.when:
        gates += [gate for gate in (*_gates(family, family.rules[name]), name) if gate not in gates]
    return gates


def _cause(rule: Rule, values: Mapping[str, Value]) -> str:
    """Why a rule is inactive: the conditions that do not hold."""
    failed = [name for name, allowed in rule.when.items() if name not in values or values[name] not in allowed]
    return " and ".join(f"{name} is {values.get(name, 'absent')}" for name in failed)


def _condition(rule: Rule, space: SearchSpace) -> str:
    """A rule's condition as the space would write it: of the values that it allows, those that the space offers."""
    parts = []
    for name, allowed in rule.when.items():
        offered = space.by_name[name].values if name in space.by_name else allowed
        parts.append(f"{name}: [{', '.join(str(value) for value in allowed if value in offered)}]")
    return "{" + ", ".join(parts) + "}"
