"""The sections of a recipe: data, training, teacher, budget, strategy; and the types that their fields have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from nas.design import Design
from nas.errors import unknown_name
from nas.own_code import OwnFunction, is_own, parse_own

SOURCES = ("digits", "idx", "npz", "folder", "python", "huggingface")
AUTO = "auto"  # the layout of images of which a source finds it out
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


def as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _path(value: object) -> object:
    return Path(value) if isinstance(value, str) else value


def one_of(kind: str, valid: Sequence[str]) -> AfterValidator:
    """Checks that a text is one of the valid names, and says what ``kind`` of name it should have been."""

    def check(value: str) -> str:
        if value not in valid:
            raise ValueError(unknown_name(kind, value, valid))
        return value

    return AfterValidator(check)


# What YAML holds, as strict types want it. Beyond these nothing is coerced: "40", 40.0 and true are no trials.
Number = Annotated[float, BeforeValidator(_number)]
Fraction = Annotated[float, Field(gt=0, lt=1), BeforeValidator(_number)]
Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Texts = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
Numbers = Annotated[tuple[Number, ...], Field(min_length=1), BeforeValidator(as_tuple)]
Size = Annotated[tuple[Positive, Positive], BeforeValidator(as_tuple)]
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


class Columns(Section):
    """Names of the columns of a Hugging Face data set; what is not named is found."""

    image: str | None = None
    label: str | None = None


class DataConfig(Section):
    """Where the data lies and how it is split.

    ``source`` is ``digits`` (embedded in scikit-learn), ``idx`` (a folder of IDX files as MNIST publishes them),
    ``npz`` (one file of named arrays), ``folder`` (images in one sub-folder per class), ``python`` (a function of one's
    own, ``path: my_data.py:load``, which is run) or ``huggingface`` (a directory by ``datasets.save_to_disk``).
    ``validation`` and ``test`` are fractions of what is split; where the source brings a test set, that is the test set
    and ``test`` is unused. ``layout: auto`` is for ``python`` alone, and there what is meant where none is given.
    """

    source: Annotated[str, one_of("data source", SOURCES)]
    path: FilePath | None = None
    validation: Fraction = 0.2
    test: Fraction = 0.2
    train_limit: Positive | None = None
    validation_limit: Positive | None = None
    split_seed: Seed = 0
    arrays: Arrays = Arrays()
    columns: Columns = Columns()
    layout: Literal["NHWC", "NCHW", "auto"] = "NHWC"
    resize: Size | None = None
    class_names: Texts | None = None

    @model_validator(mode="before")
    @classmethod
    def _layout_is_found_out(cls, data: Any) -> Any:
        return {"layout": AUTO, **data} if isinstance(data, dict) and data.get("source") == "python" else data

    @model_validator(mode="after")
    def _path_where_needed(self) -> DataConfig:
        if (self.path is None) != (self.source == "digits"):
            need = "needs no 'path'" if self.source == "digits" else "needs a 'path'"
            raise ValueError(f"data source '{self.source}' {need}")
        if self.resize is not None and self.source not in ("folder", "huggingface"):
            raise ValueError("'resize' is for the data sources 'folder' and 'huggingface' only")
        if self.columns != Columns() and self.source != "huggingface":
            raise ValueError("'columns' is for the data source 'huggingface' only")
        if self.layout == AUTO and self.source != "python":
            raise ValueError("'layout: auto' is for the data source 'python' only")
        if self.source == "python" and self.path is not None and not is_own(str(self.path)):
            raise ValueError(f"data source 'python' needs 'path: FILE.py:FUNCTION', but got '{self.path}'")
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


class OwnObjectiveConfig(Section):
    """A number that a Python function of one's own makes of an artifact, see ``nas.own_objective``.

    ``source`` reads ``my_objective.py:energy``. ``unit`` is that of its values; without one they have none. What is to
    be maximised is a quality, a share from 0 to 1 as accuracy is; a cost may be any number from 0 on. ``sha256`` is
    filled in when a recipe is read: the digest of the source that a study began with.
    """

    source: str
    unit: str = ""
    direction: Annotated[str, one_of("direction", ("minimise", "maximise"))] = "minimise"
    sha256: str | None = None

    @field_validator("source")
    @classmethod
    def _names_a_function(cls, value: str) -> str:
        parse_own(value, Path())
        return value

    def function(self, folder: Path) -> OwnFunction:
        """The function; relative paths start at the folder."""
        return parse_own(self.source, folder)


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

    ``screening`` spends nothing on designs that cannot reach the front. ``rungs`` stops trainings that fall behind: at
    each rung one in ``reduction`` may go on, and whatever nothing beats, and the epochs of one rung are ``reduction``
    times those of the one before. ``fans`` tries further compressions of trained networks. ``inheritance`` starts a
    training from the weights of the most similar network trained so far.
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


class WorkersConfig(Section):
    """Where trials are evaluated, and what that may cost; no part of what a study's results depend on but threads.

    ``count`` processes of their own evaluate at the same time and divide the cores among them; 0 evaluates in the
    search's own process, one trial after the other. Each may take ``memory_mb`` of memory, and ``minutes`` for one
    evaluation; what takes more costs its trial. An evaluation that failed for a cause that is not the design's is
    begun ``attempts`` times at most.
    """

    count: Annotated[int, Field(ge=0, le=1024)] = 0
    memory_mb: Annotated[int, Field(gt=0, le=10**8)] | None = None
    minutes: Annotated[Number, Field(gt=0, le=10**6)] | None = None
    attempts: Annotated[int, Field(gt=0, le=100)] = 2
