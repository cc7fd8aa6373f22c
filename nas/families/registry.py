"""The registry of families, the rules of their choices, and the check of a space against them.

A family is registered by a decorator around its builder, with one rule per choice. The rules alone say what is
legal: the builder receives an architecture that was checked against them, and a space is checked against them before
the first trial, so that none of its designs can be refused for a choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from torch import nn

from nas.design import Value
from nas.errors import DataError, SpaceError, unknown_name
from nas.families.blocks import FeatureMap, initialise
from nas.families.outline import Outline, Outlines
from nas.families.own import build_own
from nas.families.rules import OWN_RULES, Rule, each_stage, one_of, whole, with_rules
from nas.own_code import OwnFunction
from nas.own_family import declared_family, family_name, is_own_family, noted_spaces
from nas.own_module import FAMILY as OWN_MODULE
from nas.space import SearchSpace, load_space
from nas.surrogate.coded import Coded

__all__ = [
    "Architecture",
    "Family",
    "Rule",
    "build",
    "check_space",
    "each_stage",
    "families",
    "find_family",
    "one_of",
    "register",
    "whole",
    "with_rules",
]


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
    """A family: its builder and its rules, each after those that it depends on.

    Args:
        name: What designs call it.
        builder: Builds its networks.
        rules: The rules of its choices, by name.
        is_own: Whether it is a person's own, whose networks begin with the weights that the builder gives them.
        is_free: Whether it takes any choice with any value, since its builder states no rules.
        outline: Goes through the layers of its networks; None where only a built network shows them.
    """

    name: str
    builder: Builder
    rules: Mapping[str, Rule]
    is_own: bool = False
    is_free: bool = False
    outline: Outline | None = None

    def resolve(self, architecture: Mapping[str, Value]) -> Architecture:
        """Checks an architecture and fills in the defaults.

        Raises:
            SpaceError: A choice is unknown, missing, without meaning here, or has an illegal value.
        """
        if self.is_free:
            return Architecture(architecture)
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

    def outlines(
        self,
        columns: Mapping[str, Sequence[Value | None]],
        input_shape: tuple[int, int, int],
        classes: int,
        left: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> Outlines:
        """What the networks of N architectures are made of; only of a family that has an ``outline``.

        Args:
            columns: The values of each choice, N; None where an architecture does not have it, as where it has no
                meaning there. They are not checked.
            input_shape: (C, H, W) of one image.
            classes: The number of logits.
            left: How many channels pruning leaves of layers of so many, N of N; all where not given.
        """
        assert self.outline is not None
        count = len(next(iter(columns.values())))
        none = Coded.absent(count)
        filled = {name: Coded.of(columns.get(name, none)).filled(_absent(rule)) for name, rule in self.rules.items()}
        outlines = Outlines(count, input_shape, left)
        self.outline(filled, outlines)
        outlines.classifier(classes)
        return outlines

    def rule(self, name: str) -> Rule:
        """The rule of a choice.

        Raises:
            SpaceError: The family has no choice of that name.
        """
        if name not in self.rules:
            raise SpaceError(unknown_name(f"choice of family '{self.name}':", name, self.rules))
        return self.rules[name]


_FAMILIES: dict[str, Family] = {}
_OWN: dict[str, Family] = {}  # a person's own, by names that hold the digest of their source


def _absent(rule: Rule) -> Value:
    """What stands for a choice that an architecture does not have: its default, else anything, as it has no effect."""
    if rule.default is not None:
        return rule.default
    return rule.low if rule.values is None else rule.values[0]


def register(name: str, *rules: Rule, outline: Outline | None = None) -> Callable[[Builder], Builder]:
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
        _FAMILIES[name] = Family(name, builder, MappingProxyType(by_name), outline=outline)
        return builder

    return decorate


def families() -> tuple[str, ...]:
    """The names of all registered families."""
    return tuple(sorted(_FAMILIES))


def find_family(name: str) -> Family:
    """The family of that name; a person's own file is run, once.

    Raises:
        SpaceError: There is none.
        OwnCodeError: A person's own file cannot be run.
    """
    if is_own_family(name):
        return _own_family(name)
    if name == OWN_MODULE:
        raise SpaceError(
            f"a design alone does not say how to build a network of family '{OWN_MODULE}'",
            "name one of its trials, such as studies/resnet18:0",
        )
    if name not in _FAMILIES:
        raise SpaceError(unknown_name("family", name, (*_FAMILIES, OWN_MODULE)))
    return _FAMILIES[name]


def _own_family(name: str) -> Family:
    if name not in _OWN:
        declared = _declared(name)
        function = declared.load()
        if family_name(declared) != name:  # edited in this very moment
            raise SpaceError(f"{declared.label} changed while it was read", "start again")
        rules = getattr(function.function, OWN_RULES, None)

        def builder(architecture: Architecture, shape: FeatureMap, classes: int) -> nn.Module:
            return build_own(function, architecture.values, (shape.channels, shape.height, shape.width), classes)

        by_name = {rule.name: rule for rule in rules or ()}
        _OWN[name] = Family(name, builder, MappingProxyType(by_name), is_own=True, is_free=rules is None)
    return _OWN[name]


def _declared(name: str) -> OwnFunction:
    """The function of a person's own family, which a space declares that was read or that a recipe names."""
    try:
        return declared_family(name)
    except SpaceError:
        for path in noted_spaces():
            with suppress(SpaceError):  # one that is gone or broken may be another study's
                load_space(path)
        return declared_family(name)


def build(family: str, architecture: Mapping[str, Value], input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Builds a network with random weights, drawn from torch's global generator: the same after the same seed.

    A person's own family draws them as its builder does; ours are initialised alike.

    Args:
        family: The family's name.
        architecture: Its choices and their values; choices with a default may be absent.
        input_shape: (C, H, W) of one image.
        classes: The number of logits.

    Returns:
        A module that maps N×C×H×W float32 to N×classes logits; of our families the last layer is ``classifier``.

    Raises:
        SpaceError: The family is unknown, or a choice is unknown, missing or illegal.
        OwnCodeError: A person's own builder raised, or gave no network.
        ModuleError: The network that it gave does not take the images, or gives something else than logits.
        InfeasibleDesignError: A feature map would shrink to nothing, or a kernel would reach past it altogether.
        DataError: A side of the image is not positive, or there are fewer than two classes.
    """
    entry = find_family(family)
    if min(input_shape) < 1:
        raise DataError(f"channels, height and width must be at least 1, but got {input_shape}")
    if classes < 2:
        raise DataError(f"a network needs at least 2 classes to tell apart, but got {classes}")
    network = entry.builder(entry.resolve(architecture), FeatureMap(*input_shape), classes)
    if not entry.is_own:
        initialise(network)
    return network


def check_space(space: SearchSpace) -> None:
    """Checks that the space's family can build every one of its designs, as far as choices go.

    Shapes are not checked: they depend on the data, and a design that does not fit is infeasible, not wrong. Nor is a
    person's own module, which is built first. Checking a space of a person's own family runs its file.

    Raises:
        SpaceError: The family is unknown; it does not know a choice; a value is illegal; or some design of the space
            would lack a choice that it needs, or have one that means nothing there.
    """
    if space.module is not None:
        return  # its architecture is what it is; ``nas.families.module`` checks it when it builds it
    family = find_family(space.family)
    if family.is_free:
        return
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
