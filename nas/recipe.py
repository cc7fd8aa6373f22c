"""The recipe: what one study searches, on which data, for what, within which budget. A YAML file in ``studies/``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from nas.design import Design, canonical_json, sha256_of
from nas.errors import NasError, RecipeError, unknown_name
from nas.objectives import Constraint, Objective
from nas.target import Place, Target

SAMPLERS = ("predictor", "tpe", "nsga2", "gp", "random")
STRATEGIES = ("auto", "guided", "plain", "supernet")
# What of a budget may change while a study goes on.
ENDS = ("trials", "minutes", "patience_minutes")
SPACE_SUFFIXES = (".yaml", ".yml")
SOURCES = ("digits", "idx", "npz", "folder")
# What a teacher's file is, by its suffix; where a family is named, .pt and .pth hold weights too.
TEACHER_KINDS = {
    ".onnx": "onnx",
    ".pt": "torchscript",
    ".pth": "torchscript",
    ".ts": "torchscript",
    ".pt2": "exported program",
    ".safetensors": "weights",
}
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth")

# YAML 1.1, which PyYAML reads, takes 1e-3 for text: to it a number with an exponent has a point and a sign.
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def _number(value: object) -> object:
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _path(value: object) -> object:
    return Path(value) if isinstance(value, str) else value


# What YAML holds, as strict types want it. Beyond these nothing is coerced: "40", 40.0 and true are no trials.
Number = Annotated[float, BeforeValidator(_number)]
Fraction = Annotated[float, Field(gt=0, lt=1), BeforeValidator(_number)]
Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_tuple)]
Numbers = Annotated[tuple[Number, ...], Field(min_length=1), BeforeValidator(_tuple)]
Size = Annotated[tuple[Positive, Positive], BeforeValidator(_tuple)]
FilePath = Annotated[Path, BeforeValidator(_path)]


class Section(BaseModel):
    """A part of a recipe: frozen, an unknown key or another type is an error, and so is NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Arrays(Section):
    """Names of the arrays in an ``.npz`` file. The test arrays are optional: without them a test set is split off."""

    images: str = "images"
    labels: str = "labels"
    test_images: str = "test_images"
    test_labels: str = "test_labels"


class DataConfig(Section):
    """Where the data lies and how it is split.

    ``source`` is ``digits`` (embedded in scikit-learn), ``idx`` (a folder of IDX files as MNIST publishes them),
    ``npz`` (one file of named arrays) or ``folder`` (images in one sub-folder per class). ``validation`` and ``test``
    are fractions of what is split; where the source brings a test set, that is the test set and ``test`` is unused.
    """

    source: str
    path: FilePath | None = None
    validation: Fraction = 0.2
    test: Fraction = 0.2
    train_limit: Positive | None = None
    validation_limit: Positive | None = None
    split_seed: Seed = 0
    arrays: Arrays = Arrays()
    layout: Literal["NHWC", "NCHW"] = "NHWC"
    resize: Size | None = None
    class_names: Texts | None = None

    @field_validator("source")
    @classmethod
    def _known_source(cls, value: str) -> str:
        if value not in SOURCES:
            raise ValueError(unknown_name("data source", value, SOURCES))
        return value

    @model_validator(mode="after")
    def _path_where_needed(self) -> DataConfig:
        if (self.path is None) != (self.source == "digits"):
            need = "needs no 'path'" if self.source == "digits" else "needs a 'path'"
            raise ValueError(f"data source '{self.source}' {need}")
        if self.resize is not None and self.source != "folder":
            raise ValueError("'resize' is for the data source 'folder' only")
        if self.validation + self.test >= 1:
            raise ValueError(
                f"'validation' and 'test' must leave data to train on, but {self.validation} + {self.test} >= 1"
            )
        return self


class Augmentation(Section):
    """Random changes of training images: shift by up to so many pixels, mirror left to right, erase a patch."""

    shift: Annotated[int, Field(ge=0)] = 0
    flip: bool = False
    erase: Annotated[Number, Field(ge=0, lt=1)] = 0.0


class TrainingConfig(Section):
    """How each network is trained. ``precision: auto`` is bfloat16 where the hardware multiplies it fast."""

    batch_size: Positive = 128
    learning_rate: Annotated[Number, Field(gt=0)] = 2e-3
    finetune_learning_rate: Annotated[Number, Field(gt=0)] = 1e-3
    weight_decay: Annotated[Number, Field(ge=0)] = 1e-2
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = 0.05
    class_weights: bool = False
    augmentation: Augmentation = Augmentation()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    # Networks as small and trained as briefly as here lose by the higher ones that large students like.
    distillation_temperature: Annotated[Number, Field(gt=0)] = 1.0
    distillation_weight: Annotated[Number, Field(gt=0, le=1)] = 0.5


class TeacherConfig(Section):
    """A trained network that distilled designs learn from, in place of the study's own best float network.

    ``path`` names an ONNX file (``.onnx``; such as an artifact of another study), a TorchScript file (``.pt``,
    ``.pth``, ``.ts``), an exported program (``.pt2``), or weights (``.safetensors``, or a state_dict in ``.pt`` or
    ``.pth``) of the ``family`` and ``architecture`` given with them. ``mean`` and ``std`` are those that it was
    trained with, one number for each channel: of pixels from 0 to 1 for images, of the values as they are for float
    arrays. Without them the teacher gets what the study's own networks get.
    """

    path: FilePath
    family: str | None = None
    architecture: dict[str, Any] | None = None
    mean: Numbers | None = None
    std: Numbers | None = None

    @property
    def kind(self) -> str:
        """What the file is: one of ``TEACHER_KINDS``."""
        return "weights" if self.family is not None else TEACHER_KINDS[self.path.suffix.lower()]

    @model_validator(mode="after")
    def _file_and_network(self) -> TeacherConfig:
        suffix = self.path.suffix.lower()
        if suffix not in TEACHER_KINDS:
            raise ValueError(f"'path' must end in {', '.join(TEACHER_KINDS)}, but is '{self.path}'")
        if (self.family is None) != (self.architecture is None):
            raise ValueError("'family' and 'architecture' go together: the network that the weights are for")
        if self.family is None and suffix == ".safetensors":
            raise ValueError("a .safetensors file holds weights alone: give 'family' and 'architecture' with it")
        if self.family is not None and suffix not in WEIGHT_SUFFIXES:
            raise ValueError(f"'family' is for weights ({', '.join(WEIGHT_SUFFIXES)}), but 'path' is '{self.path}'")
        if self.family is not None and self.architecture is not None:
            Design(self.family, self.architecture, {})  # refuses values that no choice can have
        return self

    @model_validator(mode="after")
    def _normalisation(self) -> TeacherConfig:
        if (self.mean is None) != (self.std is None):
            raise ValueError("'mean' and 'std' go together")
        if self.mean is not None and self.std is not None:
            if len(self.mean) != len(self.std):
                raise ValueError(f"'mean' has {len(self.mean)} numbers, but 'std' has {len(self.std)}")
            if min(self.std) <= 0:
                raise ValueError(f"'std' must be greater than 0, but got {min(self.std):g}")
        return self


class Budget(Section):
    """When the search ends (trials, minutes, or whichever comes first) and how long each network trains.

    With ``patience_minutes`` it ends, too, when the hypervolume has not grown for so long.
    """

    trials: Positive | None = None
    minutes: Annotated[Number, Field(gt=0)] | None = None
    patience_minutes: Annotated[Number, Field(gt=0)] | None = None
    epochs: Positive = 10
    finetune_epochs: Positive = 3

    @model_validator(mode="after")
    def _some_end(self) -> Budget:
        if self.trials is None and self.minutes is None:
            raise ValueError("needs 'trials' or 'minutes', or both")
        return self


class GuidedConfig(Section):
    """What strategy ``guided`` does beside sampling; each part can be left out.

    ``screening`` spends nothing on designs that cannot reach the front. ``rungs`` stops trainings that fall behind:
    at each rung a share of 1 / ``reduction`` goes on, and the epochs of one rung are ``reduction`` times those of the
    one before. ``fans`` tries further compressions of trained networks. ``inheritance`` starts a training from the
    weights of the most similar network trained so far.
    """

    screening: bool = True
    rungs: bool = True
    reduction: Annotated[int, Field(ge=2)] = 3
    fans: bool = True
    inheritance: bool = False


class SupernetConfig(Section):
    """How strategy ``supernet`` trains the network that all designs share.

    ``share`` of the budget goes into it: of the minutes, or of the epochs that the trials would train where only trials
    are limited. Each step trains the largest and the smallest network and others at random, ``subnets`` in all.
    """

    share: Fraction = 0.4
    subnets: Annotated[int, Field(ge=3)] = 4


class Recipe(Section):
    """All that a study is defined by.

    ``strategy`` says how a search goes about it, ``auto`` chooses by budget and space; ``sampler`` says who proposes
    designs. ``warm_start`` lists folders of earlier studies, on other data or targets, that this one learns from.

    ``prior`` is a file that ``nas sensitivity`` wrote (``sensitivity-00012.json``): its network's architecture,
    compressed where that cost least, gives the first trials, see ``nas.sensitivity.prior``.

    ``targets`` lists what else latency is measured on. Objectives and constraints may name a target, or a place, such
    as ``latency_ms@cpu-b1``: then each artifact is timed on every one of ``targets`` there (runtimes, threads), and the
    fastest serves it: its latency is the trial's, and accuracy is what that runtime makes of the artifact.
    """

    data: DataConfig
    space: str
    objectives: Texts = ("accuracy", "latency_ms@onnxruntime-cpu-1t-b1")
    constraints: Texts = ()
    targets: Texts = ()
    budget: Budget
    training: TrainingConfig = TrainingConfig()
    teacher: TeacherConfig | None = None
    prior: FilePath | None = None
    seed: Seed = 0
    strategy: str = "auto"
    sampler: str = "predictor"
    guided: GuidedConfig = GuidedConfig()
    supernet: SupernetConfig = SupernetConfig()
    warm_start: Annotated[tuple[FilePath, ...], BeforeValidator(_tuple)] = ()
    cache_limit_mb: Positive = 2000

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, value: str) -> str:
        if value not in SAMPLERS:
            raise ValueError(unknown_name("sampler", value, SAMPLERS))
        return value

    @field_validator("strategy")
    @classmethod
    def _known_strategy(cls, value: str) -> str:
        if value not in STRATEGIES:
            raise ValueError(unknown_name("strategy", value, STRATEGIES))
        return value

    @field_validator("objectives")
    @classmethod
    def _two_to_four(cls, value: tuple[str, ...]) -> tuple[str, ...]:
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
    def _constraints_parse(cls, value: tuple[str, ...]) -> tuple[str, ...]:
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
        """Digest of all that a study's results depend on: everything but its end and the cache size."""
        return sha256_of(self.comparable())

    def comparable(self) -> dict[str, Any]:
        """The recipe without what may change while a study goes on.

        Where data, a teacher, a prior and a space of one's own lie may change too: a study keeps digests of what they
        hold.
        """
        data = self.to_json()
        data.pop("cache_limit_mb")
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
        text = path.read_text(encoding="utf-8")
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
        data = yaml.load(text, _UniqueKeys)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2024-13-45
        problem = " ".join(str(error).split()).replace('in "<unicode string>", line', "in line")
        raise RecipeError(f"the recipe {path} is not valid YAML: {problem}") from None
    if not isinstance(data, dict):
        kind = "empty" if data is None else type(data).__name__
        raise RecipeError(f"the recipe {path} must be a mapping of keys to values, but is {kind}")
    recipe = parse_recipe(data, str(path))
    try:
        return recipe.model_copy(update=_resolved(recipe, path.resolve().parent))
    except RuntimeError as error:  # '~' where there is no home
        raise RecipeError(
            f"{path}: 'data.path', 'teacher.path', 'prior', 'warm_start' or 'space' cannot be resolved: {error}"
        ) from None


class _UniqueKeys(yaml.SafeLoader):
    """Reads YAML as ``safe_load`` does, but refuses a key that stands twice, where YAML would let the last one win."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.composer.ComposerError(None, None, f"the key '{key.value}' stands twice", key.start_mark)
            seen.add(key.value)
        return node


def _resolved(recipe: Recipe, folder: Path) -> dict[str, Any]:
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
    return changes


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
