"""What a sensitivity analysis found, as frozen values with a JSON and a CSV form. Needs no torch.

A *stage* is a part of the network (``stem``, ``stage2``, ``layer1.0.conv1``), a *setting* what is done to one stage
while all others stay as they were trained, an *effect* what that costs and saves. Accuracy is the exported file's on
validation images; nothing is fine-tuned afterwards, so a loss by pruning is an upper end of what a search will see.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nas.compression import IDENTITY, Value
from nas.design import Design, sha256_of
from nas.errors import NasError, RecipeError
from nas.safety.json_text import read_json

VERSION = 1


@dataclass(frozen=True)
class Setting:
    """What is done to one stage: a share of its channels pruned, or fewer bits for its weights and activations."""

    pruning_ratio: float = 0.0
    weight_bits: int = 32
    activation_bits: int = 32

    @property
    def prunes(self) -> bool:
        return self.pruning_ratio > 0

    @property
    def label(self) -> str:
        """``−25 %`` of the channels, or bits of weights/activations: ``4/8``."""
        return f"−{100 * self.pruning_ratio:g} %" if self.prunes else f"{self.weight_bits}/{self.activation_bits}"

    def compression(self, stage: str) -> dict[str, Value]:
        """The compression choices that do this to one stage and nothing to the others."""
        return {f"{stage}.{name}": value for name, value in asdict(self).items() if value != IDENTITY[name]}


# What every stage goes through.
SETTINGS = (
    *(Setting(pruning_ratio=ratio) for ratio in (0.25, 0.5, 0.75)),
    *(Setting(weight_bits=weights, activation_bits=activations) for weights, activations in ((8, 8), (4, 8), (4, 32))),
)


@dataclass(frozen=True)
class Effect:
    """What a setting does to the network by way of one stage.

    Args:
        setting: What was done.
        lost: Accuracy of the float file less that of the changed one, as a share: 0.01 is a point. None where the
            setting changes nothing on this stage, or was refused.
        error: Standard error of ``lost``; see ``nas.sensitivity.analysis.difference``.
        macs: Multiply-adds of the whole network afterwards.
        params: Parameters of the whole network afterwards.
        size_bytes: Size of the exported file afterwards.
        refused: Whether a technique refused the setting on this stage.
        reason: Where ``lost`` is None, why.

    Raises:
        ValueError: A number is none, NaN or infinite, or ``lost`` is given without the others.
    """

    setting: Setting
    lost: float | None = None
    error: float | None = None
    macs: int | None = None
    params: int | None = None
    size_bytes: int | None = None
    refused: bool = False
    reason: str = ""

    def __post_init__(self) -> None:
        numbers = (self.lost, self.error, self.macs, self.params, self.size_bytes)
        if all(number is None for number in numbers):
            return
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise ValueError(f"the effect of {self.setting.label} must have all its numbers or none, but has {numbers}")


@dataclass(frozen=True)
class Stage:
    """A stage of the network, and the effect of each setting that it went through.

    Args:
        name: What compression choices call it, such as ``stage2``.
        path: Where it lies in the network, such as ``features.stage2``.
        macs: Its own multiply-adds.
        params: Its own parameters.
        effects: One for each setting.
    """

    name: str
    path: str
    macs: int
    params: int
    effects: tuple[Effect, ...]

    def effect(self, setting: Setting) -> Effect | None:
        """The effect of a setting, or None where the stage did not go through it."""
        return next((effect for effect in self.effects if effect.setting == setting), None)


@dataclass(frozen=True)
class Sensitivity:
    """A trained network's sensitivity, stage by stage.

    Args:
        study: The study's name.
        trial: Whose architecture it is.
        design: That architecture, uncompressed.
        images: How many validation images accuracy is of.
        accuracy: That of the uncompressed float file on them.
        macs: Multiply-adds of the uncompressed network.
        params: Its parameters.
        size_bytes: The size of its file.
        stages: From input to output, those with convolutions or linear layers.
    """

    study: str
    trial: int
    design: Design
    images: int
    accuracy: float
    macs: int
    params: int
    size_bytes: int
    stages: tuple[Stage, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of all that stands in it, in hexadecimal."""
        return sha256_of(self.to_json())

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Every setting that some stage went through, in the order in which they come."""
        return tuple(dict.fromkeys(effect.setting for stage in self.stages for effect in stage.effects))

    @property
    def largest_error(self) -> float:
        """The largest standard error of a loss, as a share; 0 where nothing could be carried out."""
        return max((effect.error for stage in self.stages for effect in stage.effects if effect.error), default=0.0)

    def saved(self, effect: Effect) -> float | None:
        """What an effect saves, as a share of the whole network: of MACs by pruning, of the file's bytes by bits."""
        if effect.macs is None or effect.size_bytes is None:
            return None
        return 1 - effect.macs / self.macs if effect.setting.prunes else 1 - effect.size_bytes / self.size_bytes

    def to_json(self) -> dict[str, Any]:
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            "version": VERSION,
            **data,
            "design": self.design.to_json(),
            "stages": [asdict(stage) | {"effects": [asdict(e) for e in stage.effects]} for stage in self.stages],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sensitivity:
        """Reads what ``to_json`` wrote.

        Raises:
            KeyError, TypeError, ValueError: A part is missing, unknown, or not what it must be.
            SpaceError: The design is malformed.
        """
        if data["version"] != VERSION:
            raise ValueError(f"its version must be {VERSION}, but is {data['version']!r}")
        stages = tuple(
            Stage(
                str(stage["name"]),
                str(stage["path"]),
                int(stage["macs"]),
                int(stage["params"]),
                tuple(Effect(**{**effect, "setting": Setting(**effect["setting"])}) for effect in stage["effects"]),
            )
            for stage in data["stages"]
        )
        if not stages:
            raise ValueError("it names no stage")
        counts = {name: int(data[name]) for name in ("trial", "images", "macs", "params", "size_bytes")}
        if min(counts[name] for name in ("images", "macs", "params", "size_bytes")) < 1:
            raise ValueError("images, macs, params and size_bytes must be at least 1")
        design = Design.from_json(data["design"])
        return cls(study=str(data["study"]), design=design, accuracy=float(data["accuracy"]), stages=stages, **counts)

    def to_csv(self) -> str:
        """A row for each stage and setting; shares are of the whole network, empty where there is no number."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(
            [
                *("stage", "path", "stage_macs", "stage_params", "pruning_ratio", "weight_bits", "activation_bits"),
                *("accuracy_lost", "standard_error", "macs", "params", "size_bytes", "reason"),
            ]
        )
        for stage in self.stages:
            for effect in stage.effects:
                numbers = (effect.lost, effect.error, effect.macs, effect.params, effect.size_bytes)
                settings = asdict(effect.setting).values()
                writer.writerow([stage.name, stage.path, stage.macs, stage.params, *settings, *numbers, effect.reason])
        return stream.getvalue()


def load_sensitivity(path: Path) -> Sensitivity:
    """Reads a sensitivity file that a recipe names as its prior.

    Raises:
        RecipeError: The file is missing, or holds no sensitivity.
    """
    hint = "nas sensitivity STUDY --trial N writes one: STUDY/sensitivity-NNNNN.json"
    try:
        return Sensitivity.from_json(read_json(path))
    except OSError as error:
        raise RecipeError(f"the prior {path} cannot be read: {error.strerror or error}", hint) from None
    except (ValueError, KeyError, TypeError, AttributeError, NasError) as error:
        problem = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else str(error)
        raise RecipeError(f"the prior {path} holds no sensitivity: {problem}", hint) from None
