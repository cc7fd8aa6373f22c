"""The search space: the declared choices of architecture and compression, read from a YAML file.

A choice is a name and the values that it may take. It may depend on choices declared before it (``when``): where
their values are others, or where they are inactive themselves, it is inactive and no part of the design. A design is
what one gets by going through the choices in order and picking a value for each active one, so the space is a tree,
and its designs are the tree's leaves.

A file reads::

    family: convnet
    description: One or two sentences.
    architecture:
      stem.width: [8, 16, 32]                                   # short for {values: [8, 16, 32]}
      stages: {range: {low: 1, high: 3, step: 1}}               # or factor: 2 for 8, 16, 32 …
      stage2.conv: {values: [standard, separable], when: {stages: [2, 3]}}
    compression:
      weight_bits: [32, 8]
      activation_bits: {values: [32, 8], when: {weight_bits: [8]}}
    baseline: {stem.width: 32, stages: 1}                       # optional: the design that a search starts with
    first: [{weight_bits: 8, activation_bits: 8}]               # optional: what is tried next, before any sampling

``family: my_family.py:build`` is a function of one's own, in a file beside the space's (see ``nas.own_family``).

A space of family ``module`` is of a person's own network: it has a section ``module`` (see ``nas.own_module``) in
place of ``architecture``, and its baseline is that network as it is.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from nas.choice import (
    YAML_HINT,
    Choice,
    Group,
    check_together,
    combinations,
    legal_choice,
    listed,
    range_values,
    same_value,
)
from nas.compression import split_name
from nas.design import IDENTITY, Design, Value, sha256_of
from nas.errors import SpaceError, unknown_name
from nas.own_code import is_own
from nas.own_family import declare_family
from nas.own_module import FAMILY as OWN_MODULE
from nas.own_module import OwnModule, parse_module
from nas.safety.files import read_bytes
from nas.safety.limits import MOST_YAML_BYTES
from nas.safety.yaml_text import DoubleKeyError, load_yaml

__all__ = [
    "Choice",
    "SearchSpace",
    "list_spaces",
    "load_space",
    "parse_space",
    "same_value",
    "size_words",
    "spaces_folder",
]

VERSION = 1


@dataclass(frozen=True)
class SearchSpace:
    """The declared choices, in order, and the family that builds networks from them.

    Args:
        name: What the space is called: its file's name without the suffix.
        family: The builder that turns an architecture into a network; of a person's own, the name with its digest.
        description: What the space is for, in a sentence or two.
        choices: Every choice, each after those that it depends on.
        baseline: The design that a search starts with, if any: what accuracy costs where nothing is saved, and the
            first teacher.
        first: Designs that a search tries next, before its sampler proposes any.
        module: Where the network of a space of family ``module`` comes from; None in every other.

    Raises:
        SpaceError: A name stands twice, a condition names no earlier choice or no value of it, or a compression
            choice is not one that can be carried out.
    """

    name: str
    family: str
    description: str
    choices: tuple[Choice, ...]
    baseline: Design | None = None
    first: tuple[Design, ...] = ()
    module: OwnModule | None = None

    def __post_init__(self) -> None:
        earlier: dict[str, Choice] = {}
        for choice in self.choices:
            if choice.name in earlier:
                raise SpaceError(f"choice '{choice.name}' is declared twice")
            if choice.group == "compression":
                choice = legal_choice(choice)
            earlier[choice.name] = replace(choice, when=_resolved_conditions(choice, earlier, self.choices))
        object.__setattr__(self, "choices", tuple(earlier.values()))
        check_together(self.choices)

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def by_name(self) -> Mapping[str, Choice]:
        """Every choice by its name, in declared order."""
        return MappingProxyType({choice.name: choice for choice in self.choices})

    def size(self) -> int:
        """The exact number of distinct designs."""
        return _combinations(self.choices)

    def architectures(self) -> int:
        """The exact number of distinct architectures."""
        return _combinations([choice for choice in self.choices if choice.group == "architecture"])

    def completed(self, values: Mapping[str, Value]) -> Design:
        """The design of these values; a choice that is active and not named has its first, others are left out."""
        return self.choose(lambda choice: values.get(choice.name, choice.values[0]))

    def choose(self, pick: Callable[[Choice], Value]) -> Design:
        """The design that results from picking a value for each active choice, in declared order.

        Raises:
            SpaceError: ``pick`` gave a value that the choice does not have.
        """
        chosen: dict[str, Value] = {}
        for choice in self.choices:
            if choice.active(chosen):
                chosen[choice.name] = choice.find(pick(choice))
        return self._design(chosen)

    def design(self, values: Mapping[str, Value]) -> Design:
        """The design of given values: of all choices, or at least of the active ones; inactive ones are dropped.

        Raises:
            SpaceError: An unknown name, a value that its choice does not have, or an active choice without a value.
        """
        for name in values:
            if name not in self.by_name:
                raise SpaceError(unknown_name(f"choice of search space '{self.name}':", name, self.by_name))
        given = {name: self.by_name[name].find(value) for name, value in values.items()}

        def pick(choice: Choice) -> Value:
            if choice.name not in given:
                raise SpaceError(f"a value for choice '{choice.name}' is missing", f"one of {listed(choice.values)}")
            return given[choice.name]

        return self.choose(pick)

    def flat(self, design: Design) -> dict[str, Value]:
        """A value for every choice, in declared order: the design's own; of inactive choices the first.

        Raises:
            SpaceError: The design does not lie in this space.
        """
        if not self.contains(design):
            raise SpaceError(f"design {design.digest[:12]} does not lie in search space '{self.name}'")
        values = {**design.architecture, **design.compression}
        return {choice.name: values.get(choice.name, choice.values[0]) for choice in self.choices}

    def contains(self, design: Design) -> bool:
        """Whether the design is one of this space's."""
        try:
            own = self.design({**design.architecture, **design.compression})
        except SpaceError:
            return False
        return own.digest == design.digest

    def sample(self, rng: random.Random) -> Design:
        """A random design: each active choice uniform among its values."""
        return self.choose(lambda choice: rng.choice(choice.values))

    def designs(self) -> Iterator[Design]:
        """All designs, lazily; the last choice changes fastest."""
        yield from (self._design(chosen) for chosen in combinations(self.choices))

    def _design(self, chosen: Mapping[str, Value]) -> Design:
        halves: dict[str, dict[str, Value]] = {"architecture": {}, "compression": {}}
        for name, value in chosen.items():
            halves[self.by_name[name].group][name] = value
        return Design(self.family, halves["architecture"], halves["compression"])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of family and choices, in hexadecimal: spaces that share it hold the same designs, in one order."""
        return sha256_of({"family": self.family, "choices": [choice.to_json() for choice in self.choices]})

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "name": self.name,
            "family": self.family,
            "description": self.description,
            "choices": [choice.to_json() for choice in self.choices],
            "baseline": self.baseline.to_json() if self.baseline else None,
            "first": [design.to_json() for design in self.first],
            "module": self.module.to_json() if self.module else None,
        }


def _resolved_conditions(
    choice: Choice, earlier: Mapping[str, Choice], declared: tuple[Choice, ...]
) -> dict[str, tuple[Value, ...]]:
    """A choice's conditions in its parents' own values, checked against the choices declared before it."""
    conditions: dict[str, tuple[Value, ...]] = {}
    for name, values in choice.when.items():
        if name not in earlier:
            if any(other.name == name for other in declared):
                message = f"choice '{choice.name}' depends on '{name}', which is not declared before it"
                raise SpaceError(message, "move it down, architecture before compression")
            raise SpaceError(f"'when' of choice '{choice.name}': {unknown_name('choice', name, earlier)}")
        if choice.group == "architecture" and earlier[name].group == "compression":
            raise SpaceError(f"architecture choice '{choice.name}' must not depend on compression choice '{name}'")
        if not values:
            raise SpaceError(
                f"'when' of choice '{choice.name}' lists no values of '{name}'", "the choice is never active"
            )
        try:
            conditions[name] = tuple(earlier[name].find(value) for value in values)
        except SpaceError as error:
            raise SpaceError(f"'when' of choice '{choice.name}': {error.message}") from None
    return conditions


def spaces_folder() -> Path:
    """Where the project's search spaces lie: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


def list_spaces() -> list[SearchSpace]:
    """The project's search spaces, by name."""
    paths = sorted(spaces_folder().glob("*.yaml"), key=lambda path: path.stem)
    return [_read_space(path) for path in paths]


def _combinations(choices: Sequence[Choice]) -> int:
    """How many distinct selections of values there are.

    Counted without enumerating them: going through the choices in order, selections that agree in all that a later
    condition still mentions are counted together.
    """
    counts: dict[tuple[tuple[str, Value], ...], int] = {(): 1}
    for index, choice in enumerate(choices):
        mentioned = {name for later in choices[index + 1 :] for name in later.when}
        after: Counter[tuple[tuple[str, Value], ...]] = Counter()
        for state, count in counts.items():
            chosen = dict(state)
            branches = [chosen]
            if choice.active(chosen) and choice.name in mentioned:
                branches = [chosen | {choice.name: value} for value in choice.values]
            elif choice.active(chosen):
                count *= len(choice.values)
            for branch in branches:
                after[tuple(item for item in branch.items() if item[0] in mentioned)] += count
        counts = after
    return sum(counts.values())


def size_words(size: int) -> str:
    """A number of designs as a person reads it: ``6,240``, from a million on ``3.4 × 10¹²``."""
    if size < 10**6:
        return f"{size:,}"
    mantissa, exponent = f"{size:.1e}".split("e")
    return f"{mantissa} × 10" + str(int(exponent)).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def load_space(name_or_path: str, near: Path | None = None) -> SearchSpace:
    """Reads and checks a search space.

    Args:
        name_or_path: The name of one of the project's spaces, or the path of a ``.yaml`` file.
        near: A folder that a relative path may also start from, such as the recipe's; the current one comes first.

    Raises:
        SpaceError: No such space, or the file breaks a rule; the message names file and choice.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path).expanduser()
        candidates = [path] if near is None or path.is_absolute() else [path, near / path]
        for candidate in candidates:
            if candidate.exists():
                return _read_space(candidate)
        raise SpaceError(f"there is no search space file {' or '.join(str(item) for item in candidates)}")
    names = {path.stem: path for path in spaces_folder().glob("*.yaml")}
    if name_or_path not in names:
        raise SpaceError(unknown_name("search space", name_or_path, names), "or give the path of a .yaml file")
    return _read_space(names[name_or_path])


def _read_space(path: Path) -> SearchSpace:
    try:
        text = read_bytes(path, MOST_YAML_BYTES, SpaceError).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SpaceError(f"the search space {path} cannot be read: {error}") from None
    try:
        return parse_space(path.stem, load_yaml(text), path.resolve().parent)
    except DoubleKeyError as error:
        problem = f"key '{error.key}' stands twice in the mapping that starts in line {error.line}"
        raise SpaceError(f"search space {path}: {problem}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none
        raise SpaceError(f"the search space {path} is no YAML: {' '.join(str(error).split())}") from None
    except SpaceError as error:
        raise SpaceError(f"search space {path}: {error.message}", error.hint) from None


KEYS = ("family", "description", "architecture", "module", "compression", "baseline", "first")


def parse_space(name: str, data: object, folder: Path) -> SearchSpace:
    """Checks a search space that was read from elsewhere.

    Args:
        name: What it is to be called.
        data: A space file's content, as YAML gives it.
        folder: Where its relative paths start.

    Raises:
        SpaceError: It breaks a rule; the message names the choice.
    """
    content = _mapping("the file", data, KEYS)
    for key in ("family", "description"):
        if not isinstance(content.get(key, ""), str):
            raise SpaceError(f"'{key}' must be text, but got {content[key]!r}", YAML_HINT)
    if "family" not in content:
        raise SpaceError("'family' is missing")
    module = _parse_own_module(content, folder)
    if module is None and "architecture" not in content:
        raise SpaceError("'architecture' is missing")
    groups: tuple[Group, ...] = ("architecture", "compression")
    choices = [
        _parse_choice(str(key), group, value)
        for group in groups
        for key, value in _mapping(f"'{group}'", content.get(group, {})).items()
    ]
    if module is not None:
        choices.insert(0, Choice(OWN_MODULE, "architecture", (module.callable,)))
    elif not any(choice.group == "architecture" for choice in choices):
        raise SpaceError("'architecture' declares no choice", "give at least one")
    description = " ".join(content.get("description", "").split())
    family = declare_family(content["family"], folder) if is_own(content["family"]) else content["family"]
    space = SearchSpace(name, family, description, tuple(choices), module=module)
    if module is not None:
        space = replace(space, baseline=_untouched(space))
    elif "baseline" in content:
        space = replace(space, baseline=_parse_start(space, "baseline", content["baseline"]))
    return replace(space, first=_parse_first(space, content.get("first", [])))


def _parse_own_module(content: Mapping[str, Any], folder: Path) -> OwnModule | None:
    """The section ``module``, which a space has where its family is ``module``, and nothing that would not fit it."""
    if content["family"] != OWN_MODULE:
        if "module" in content:
            raise SpaceError(f"'module' is for family '{OWN_MODULE}', but the family is '{content['family']}'")
        return None
    if "module" not in content:
        raise SpaceError(f"family '{OWN_MODULE}' needs a section 'module'", "with 'source': FILE.py:CALLABLE")
    if content.get("architecture"):
        raise SpaceError("a module's architecture has no choices, but 'architecture' declares some", "leave it out")
    if "baseline" in content:
        raise SpaceError("the baseline of a module is the module as it is", "leave 'baseline' out")
    return parse_module(content["module"], folder)


def _untouched(space: SearchSpace) -> Design:
    """The design of a person's own network as it is, which the space must hold: all others are compared with it."""
    least = identities(space)
    for choice in space.choices:
        if choice.group == "compression" and choice.active(least) and least[choice.name] != _identity(choice):
            raise SpaceError(
                f"choice '{choice.name}' must offer {_identity(choice)!r}, which leaves it out",
                "the module as it is comes first, and all others are compared with it",
            )
    return space.design(least | {OWN_MODULE: space.by_name[OWN_MODULE].values[0]})


def _identity(choice: Choice) -> Value:
    return IDENTITY[split_name(choice.name)[1]]


def identities(space: SearchSpace) -> dict[str, Value]:
    """For every compression choice the value that leaves it out, or its first where it offers none such."""
    return {
        choice.name: _identity(choice) if _identity(choice) in choice.values else choice.values[0]
        for choice in space.choices
        if choice.group == "compression"
    }


def _parse_start(space: SearchSpace, where: str, data: object) -> Design:
    """A design to start with: a compression choice that it does not name is left out, or takes its first value.

    Where the space has a baseline, its architecture serves for choices of architecture that are not named.
    """
    architecture = space.baseline.architecture if space.baseline else {}
    try:
        return space.design({**identities(space), **architecture, **_mapping(f"'{where}'", data)})
    except SpaceError as error:
        raise SpaceError(f"'{where}': {error.message}", error.hint) from None


def _parse_first(space: SearchSpace, data: object) -> tuple[Design, ...]:
    if not isinstance(data, list):
        raise SpaceError(f"'first' must be a list of designs, but got {data!r}", "write - {choice: value, …}")
    return tuple(_parse_start(space, f"first[{number}]", values) for number, values in enumerate(data))


def _mapping(what: str, data: object, keys: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Data that must be a mapping with texts as keys, and with none but the given ones."""
    if not isinstance(data, dict):
        raise SpaceError(f"{what} must be a mapping of names to values, but got {data!r}")
    for key in data:
        if not isinstance(key, str):
            raise SpaceError(f"a name in {what} must be text, but got {key!r}", YAML_HINT)
        if keys is not None and key not in keys:
            raise SpaceError(unknown_name(f"key in {what}:", key, keys))
    return data


def _parse_choice(name: str, group: Group, data: object) -> Choice:
    if not isinstance(data, list | dict):
        raise SpaceError(f"choice '{name}' must be a list of values, but got {data!r}", f"write [{data}]")
    if isinstance(data, list):
        data = {"values": data}
    parts = _mapping(f"choice '{name}'", data, ("values", "range", "when"))
    if ("values" in parts) == ("range" in parts):
        raise SpaceError(f"choice '{name}' needs either 'values' or 'range'")
    values = _parse_range(name, parts["range"]) if "range" in parts else parts["values"]
    if not isinstance(values, list | tuple):
        raise SpaceError(f"'values' of choice '{name}' must be a list, but got {values!r}", f"write [{values}]")
    when = _mapping(f"'when' of choice '{name}'", parts.get("when", {}))
    for parent, allowed in when.items():
        if not isinstance(allowed, list):
            message = f"'when' of choice '{name}' must list the values of '{parent}', but got {allowed!r}"
            raise SpaceError(message, f"write {parent}: [{allowed}]")
    return Choice(name, group, tuple(values), {parent: tuple(allowed) for parent, allowed in when.items()})


def _parse_range(name: str, data: object) -> tuple[Value, ...]:
    what = f"'range' of choice '{name}'"
    bounds = _mapping(what, data, ("low", "high", "step", "factor"))
    for key, value in bounds.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise SpaceError(f"{what}: '{key}' must be a number, but got {value!r}")
    if not {"low", "high"} <= bounds.keys() or ("step" in bounds) == ("factor" in bounds):
        raise SpaceError(f"{what} needs 'low', 'high' and either 'step' or 'factor'")
    return range_values(what, bounds)
