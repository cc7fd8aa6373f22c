"""The recipe: what one study searches, on which data, for what, within which budget. A YAML file in ``studies/``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from nas.design import canonical_json, sha256_of
from nas.errors import NasError, RecipeError, unknown_name
from nas.objectives import Constraint, Objective, declare_own
from nas.own_code import is_own, parse_own
from nas.own_family import note_space
from nas.recipe_sections import (
    Budget,
    DataConfig,
    FilePath,
    GuidedConfig,
    OwnObjectiveConfig,
    Positive,
    Section,
    Seed,
    SupernetConfig,
    TeacherConfig,
    Texts,
    TrainingConfig,
    WorkersConfig,
    as_tuple,
    one_of,
)
from nas.safety.files import read_bytes
from nas.safety.limits import MOST_YAML_BYTES
from nas.safety.yaml_text import load_yaml
from nas.target import Place, Target

SAMPLERS = ("predictor", "tpe", "nsga2", "gp", "random")
STRATEGIES = ("auto", "guided", "plain", "supernet")
# What of a budget may change while a study goes on.
ENDS = ("trials", "minutes", "patience_minutes")
SPACE_SUFFIXES = (".yaml", ".yml")


class Recipe(Section):
    """All that a study is defined by.

    ``strategy`` says how a search goes about it, ``auto`` chooses by budget and space; ``sampler`` says who proposes
    designs. ``warm_start`` lists folders of earlier studies, on other data or targets, that this one learns from.

    ``prior`` is a file that ``nas sensitivity`` wrote (``sensitivity-00012.json``): its network's architecture,
    compressed where that cost least, gives the first trials, see ``nas.sensitivity.prior``.

    ``targets`` lists what else latency is measured on. Objectives and constraints may name a target, or a place, such
    as ``latency_ms@cpu-b1``: then each artifact is timed on every one of ``targets`` there (runtimes, threads), and the
    fastest serves it: its latency is the trial's, and accuracy is what that runtime makes of the artifact.

    ``own_objectives`` declares numbers that Python functions of one's own make of an artifact, by the names that
    objectives and constraints use. Either may name a function itself, ``my_objective.py:energy``: that declares
    ``energy``, a cost without unit.
    """

    data: DataConfig
    space: str
    own_objectives: dict[str, OwnObjectiveConfig] = Field(default_factory=dict)
    objectives: Texts = ("accuracy", "latency_ms@onnxruntime-cpu-1t-b1")
    constraints: Texts = ()
    targets: Texts = ()
    budget: Budget
    training: TrainingConfig = TrainingConfig()
    teacher: TeacherConfig | None = None
    prior: FilePath | None = None
    seed: Seed = 0
    strategy: Annotated[str, one_of("strategy", STRATEGIES)] = "auto"
    sampler: Annotated[str, one_of("sampler", SAMPLERS)] = "predictor"
    guided: GuidedConfig = GuidedConfig()
    supernet: SupernetConfig = SupernetConfig()
    warm_start: Annotated[tuple[FilePath, ...], BeforeValidator(as_tuple)] = ()
    workers: WorkersConfig = WorkersConfig()
    cache_limit_mb: Positive = 2000

    @model_validator(mode="before")
    @classmethod
    def _functions_are_named(cls, data: Any) -> Any:
        return named_functions(data) if isinstance(data, dict) else data

    @field_validator("own_objectives")
    @classmethod
    def _own_objectives_declared(cls, value: dict[str, OwnObjectiveConfig]) -> dict[str, OwnObjectiveConfig]:
        for name, own in value.items():
            declare_own(name, own.unit, own.direction == "maximise")
        return value

    @field_validator("objectives")
    @classmethod
    def _two_to_four(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "own_objectives" not in info.data:  # what is wrong with these is said, and what they declare is not known
            return value
        parsed = [Objective.parse(text) for text in value]
        if not 2 <= len(parsed) <= 4:
            raise ValueError(f"needs 2 to 4 objectives, but got {len(parsed)}")
        if len(set(parsed)) < len(parsed):
            raise ValueError(f"an objective stands twice in {', '.join(value)}")
        if not any(o.maximise for o in parsed) or all(o.maximise for o in parsed):
            raise ValueError(
                "needs at least one quality (accuracy, balanced_accuracy) and one cost (such as latency_ms)"
            )
        return tuple(objective.key for objective in parsed)  # one spelling, so that spaces make no other study

    @field_validator("constraints")
    @classmethod
    def _constraints_parse(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "own_objectives" not in info.data:
            return value
        keys = [Constraint.parse(text).key for text in value]
        if len(set(keys)) < len(keys):
            raise ValueError(f"a constraint stands twice in {', '.join(keys)}")
        return tuple(keys)

    @field_validator("targets")
    @classmethod
    def _targets_parse(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = [Target.parse(text).name for text in value]
        if len(set(names)) < len(names):
            raise ValueError(f"a target stands twice in {', '.join(names)}")
        return tuple(names)

    @model_validator(mode="after")
    def _places_have_targets(self) -> Recipe:
        for name in self.served:
            place = Place.parse(name)
            if place is None:
                Target.parse(name)
            elif not self.targets_at(place):
                raise RecipeError(
                    f"'{name}' is served by the fastest of the recipe's targets there, but 'targets' lists none",
                    f"such as targets: [onnxruntime-{place.device}-1t-b{place.batch}, "
                    f"openvino-{place.device}-1t-b{place.batch}]"
                    if place.device == "cpu"
                    else f"such as targets: [torch-cuda-b{place.batch}-fp16, tensorrt-cuda-b{place.batch}-fp16]",
                )
        return self

    @property
    def parsed_objectives(self) -> tuple[Objective, ...]:
        return tuple(Objective.parse(text) for text in self.objectives)

    @property
    def parsed_constraints(self) -> tuple[Constraint, ...]:
        return tuple(Constraint.parse(text) for text in self.constraints)

    @property
    def served(self) -> tuple[str, ...]:
        """Where trials are served: the targets and places that objectives and constraints name, in their order."""
        named = [*self.parsed_objectives, *(constraint.quantity for constraint in self.parsed_constraints)]
        return tuple(dict.fromkeys(item.target for item in named if item.target))

    @property
    def all_targets(self) -> tuple[str, ...]:
        """Every target that a trial is measured on: those listed and those that objectives and constraints name."""
        return tuple(dict.fromkeys([*self.targets, *(name for name in self.served if Place.parse(name) is None)]))

    def targets_at(self, place: Place) -> tuple[str, ...]:
        """The targets that a trial is measured on at a place."""
        return tuple(name for name in self.all_targets if Target.parse(name).place == place)

    @property
    def needs_fresh_process(self) -> bool:
        """Whether load time or peak memory is asked for, which only a fresh process can measure."""
        named = [*self.parsed_objectives, *(constraint.quantity for constraint in self.parsed_constraints)]
        return any(item.name in ("load_ms", "peak_memory_bytes") for item in named)

    def to_json(self) -> dict[str, Any]:
        """Every field with its value, defaults included, as JSON holds it."""
        return self.model_dump(mode="json")

    @property
    def identity(self) -> str:
        """Digest of all that a study's results depend on: everything but its end, its workers and the cache size."""
        return sha256_of(self.comparable())

    def comparable(self) -> dict[str, Any]:
        """The recipe without what may change while a study goes on.

        Where data, a teacher, a prior and a space of one's own lie may change too: a study keeps digests of what they
        hold. So may the files of own objectives, whose digests stand in the recipe itself.
        """
        data = self.to_json()
        data.pop("cache_limit_mb")
        data.pop("workers")
        for own in data["own_objectives"].values():
            own["source"] = parse_own(own["source"], Path()).label
        data["prior"] = None if self.prior is None else "given"
        data["warm_start"] = len(self.warm_start)
        data["data"].pop("path")
        if self.teacher is not None:
            given = {k: v for k, v in data["teacher"].items() if k != "path" and v is not None}
            data["teacher"] = {"kind": self.teacher.kind} | given
        if self.space.endswith(SPACE_SUFFIXES):
            data["space"] = Path(self.space).name
        data["budget"] = {k: v for k, v in data["budget"].items() if k not in ENDS}
        return data

    def differences(self, other: Recipe) -> list[str]:
        """Where two recipes differ in what results depend on: one line for each field, ``field: this, that``."""
        mine, theirs = _flatten(self.comparable()), _flatten(other.comparable())
        return [
            f"{name}: {mine.get(name, '(absent)')}, {theirs.get(name, '(absent)')}"
            for name in sorted(mine.keys() | theirs.keys())
            if mine.get(name) != theirs.get(name)
        ]


def load_recipe(path: Path) -> Recipe:
    """Reads and checks a recipe.

    Raises:
        RecipeError: The file is missing, is no YAML mapping, or breaks a rule; the message names file and field.
    """
    try:
        text = read_bytes(path, MOST_YAML_BYTES, RecipeError).decode()
    except IsADirectoryError:
        beside = path.with_suffix(".yaml")
        hint = f"did you mean {beside}?" if beside.is_file() else "name the YAML file"
        raise RecipeError(f"{path} is a folder, not a recipe", hint) from None
    except FileNotFoundError:
        near = ", ".join(sorted(str(p) for p in path.parent.glob("*.yaml"))) if path.parent.is_dir() else ""
        raise RecipeError(f"there is no recipe {path}", f"recipes there: {near}" if near else "") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe {path} cannot be read: {error}") from None
    try:
        data = load_yaml(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45
        problem = " ".join(str(error).split()).replace('in "<unicode string>", line', "in line")
        raise RecipeError(f"the recipe {path} is not valid YAML: {problem}") from None
    if not isinstance(data, dict):
        kind = "empty" if data is None else type(data).__name__
        raise RecipeError(f"the recipe {path} must be a mapping of keys to values, but is {kind}")
    recipe = parse_recipe(data, str(path))
    try:
        return recipe.model_copy(update=resolved(recipe, path.resolve().parent))
    except RuntimeError as error:  # '~' where there is no home
        raise RecipeError(
            f"{path}: 'data.path', 'teacher.path', 'prior', 'warm_start' or 'space' cannot be resolved: {error}"
        ) from None


def resolved(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """The recipe's paths as absolute ones: they are meant relative to the recipe's folder."""
    changes: dict[str, Any] = {}
    if recipe.data.path is not None:
        changes["data"] = recipe.data.model_copy(update={"path": folder / recipe.data.path.expanduser()})
    if recipe.teacher is not None:
        changes["teacher"] = recipe.teacher.model_copy(update={"path": folder / recipe.teacher.path.expanduser()})
    if recipe.prior is not None:
        changes["prior"] = folder / recipe.prior.expanduser()
    if recipe.warm_start:
        changes["warm_start"] = tuple(folder / path.expanduser() for path in recipe.warm_start)
    if recipe.space.endswith(SPACE_SUFFIXES):
        changes["space"] = str(folder / Path(recipe.space).expanduser())
        note_space(changes["space"])
    if recipe.own_objectives:
        changes["own_objectives"] = {name: _found(own, folder) for name, own in recipe.own_objectives.items()}
    return changes


def _found(own: OwnObjectiveConfig, folder: Path) -> OwnObjectiveConfig:
    """An own objective with its path resolved, and the digest of its source where the recipe has none.

    A study's own recipe has one: the study can be read when the file is gone.

    Raises:
        OwnCodeError: The file is missing, or defines no such function.
    """
    function = own.function(folder)
    source = f"{function.path}:{function.name}"
    if own.sha256 is not None:
        return own.model_copy(update={"source": source})
    function.check()
    return own.model_copy(update={"source": source, "sha256": function.digest})


def named_functions(data: dict[str, Any]) -> dict[str, Any]:
    """A recipe in which objectives and constraints name no functions, but what ``own_objectives`` declares.

    ``my_objective.py:energy`` becomes ``energy``, which is declared with that source.

    Raises:
        RecipeError: Two functions of different files have one name.
    """
    declared = dict(data.get("own_objectives") or {})

    def named(text: Any) -> Any:
        source, blank, rest = text.strip().partition(" ") if isinstance(text, str) else ("", "", "")
        if not is_own(source):
            return text
        name = source.rpartition(":")[2]
        known = declared.setdefault(name, {"source": source})
        if isinstance(known, dict) and known.get("source", source) != source:
            raise RecipeError(f"'{name}' is declared with the source {known['source']}, but {source} is another one")
        return name + blank + rest

    given = {key: data[key] for key in ("objectives", "constraints") if isinstance(data.get(key), list | tuple)}
    changed = {key: type(items)(map(named, items)) for key, items in given.items()}
    return data | changed | ({"own_objectives": declared} if declared else {})


def parse_recipe(data: dict[str, Any], source: str) -> Recipe:
    """Checks a recipe that was read from elsewhere; ``source`` names it in messages."""
    try:
        return Recipe.model_validate(data)
    except NasError as error:
        raise RecipeError(f"{source}: {error.message}", error.hint) from None
    except ValidationError as error:
        problems = "; ".join(_explain(item) for item in error.errors())
        raise RecipeError(f"{source}: {problems}") from None


# What pydantic says in terms of Python, in terms of YAML.
_WORDS = {
    "model_type": "must be a mapping of keys to values",
    "tuple_type": "must be a list",
    "too_long": "has too many items",
    "is_instance_of": "must be a path",
    "path_type": "must be a path",
}


def _explain(error: Any) -> str:
    """One pydantic error as 'field: what is wrong', with the closest valid key for an unknown one."""
    location: Sequence[str | int] = error["loc"]
    where = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        model: type[BaseModel] = Recipe
        for part in location[:-1]:
            if str(part) in model.model_fields:  # else the name of one of several sections
                model = _section(model.model_fields[str(part)].annotation)
        section = ".".join(str(part) for part in location[:-1])
        return unknown_name(f"key in '{section}':" if section else "key", location[-1], model.model_fields)
    if error["type"] == "missing":
        return f"'{where}' is missing"
    message = _WORDS.get(error["type"]) or str(error["msg"]).removeprefix("Value error, ")
    return f"'{where}': {message}" + ("" if error["type"] == "value_error" else f", but got {error['input']!r}")


def _section(annotation: Any) -> type[BaseModel]:
    """The section that a field holds, where it may be left out too (``TeacherConfig | None``)."""
    kinds = (annotation, *get_args(annotation))
    return next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))


def _flatten(data: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(data, dict):
        return {prefix: canonical_json(data)}
    flat: dict[str, str] = {}
    for name, value in data.items():
        flat |= _flatten(value, f"{prefix}.{name}" if prefix else name)
    return flat
