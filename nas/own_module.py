"""A person's own network as a search space names it: what builds it, its weights, its normalisation. Needs no torch.

The section ``module`` of a space file of family ``module``::

    module:
      source: resnet.py:resnet18        # a Python file, or an importable module; then what is called
      arguments: {classes: 10}          # optional: what it is called with
      weights: resnet18.safetensors     # optional; 'included' where the call gives the network with its weights
      mean: [0.485, 0.456, 0.406]       # optional: of x/255 for images, of the values themselves for float arrays
      std: [0.229, 0.224, 0.225]

Paths start at the space file's folder. ``nas.families.module`` builds the network from it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard

from nas.design import canonical_json
from nas.errors import SpaceError, unknown_name

FAMILY = "module"
INCLUDED = "included"
KEYS = ("source", "arguments", "weights", "mean", "std")


@dataclass(frozen=True)
class OwnModule:
    """Where a person's own network comes from.

    Args:
        place: A Python file's path (it ends in ``.py``) or the name of an importable module.
        callable: The name in it of a function or class that gives the network, or of the network itself.
        arguments: Keyword arguments of the call, JSON values.
        weights: The file of its trained weights; ``"included"`` where the call gives them; None where the network is
            to be trained.
        mean: What its own normalisation subtracts, one number for each channel or one for all; None where the study's
            normalisation serves.
        std: What it then divides by.
    """

    place: str
    callable: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", MappingProxyType(dict(self.arguments)))

    @property
    def is_file(self) -> bool:
        """Whether the place is a Python file, else a module to import."""
        return self.place.endswith(".py")

    @property
    def source(self) -> str:
        """Place and callable as a space file spells them."""
        return f"{self.place}:{self.callable}"

    @property
    def label(self) -> str:
        """The source as messages show it: without the file's folders."""
        return f"{Path(self.place).name if self.is_file else self.place}:{self.callable}"

    @property
    def is_trained(self) -> bool:
        """Whether it comes with weights."""
        return self.weights is not None

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "arguments": dict(self.arguments),
            "weights": self.weights,
            "mean": None if self.mean is None else list(self.mean),
            "std": None if self.std is None else list(self.std),
        }


def parse_module(data: object, folder: Path) -> OwnModule:
    """Reads the section ``module`` of a space file.

    Whether files are there and fit is seen when the network is built.

    Args:
        data: The section, as YAML gives it.
        folder: Where relative paths start: the space file's folder.

    Raises:
        SpaceError: A key is unknown or missing, or a value is not what it must be.
    """
    if not isinstance(data, dict):
        raise SpaceError(f"'module' must be a mapping with 'source', but got {data!r}")
    for key in data:
        if key not in KEYS:
            raise SpaceError(unknown_name("key in 'module':", key, KEYS))
    place, name = split_source(data.get("source"))
    weights = data.get("weights")
    if weights is not None and not (isinstance(weights, str) and weights):
        raise SpaceError(f"'weights' in 'module' must be the path of a file or '{INCLUDED}', but got {weights!r}")
    mean, std = (_numbers(key, data.get(key)) for key in ("mean", "std"))
    if (mean is None) != (std is None) or (mean is not None and std is not None and len(mean) != len(std)):
        raise SpaceError("'mean' and 'std' in 'module' go together, with equally many numbers", "give both or neither")
    if std is not None and min(std) <= 0:
        raise SpaceError(f"'std' in 'module' must be greater than 0, but got {data['std']}")
    return OwnModule(
        _resolved(place, folder) if place.endswith(".py") else place,
        name,
        _arguments(data.get("arguments", {})),
        weights if weights is None or weights == INCLUDED else _resolved(weights, folder),
        mean,
        std,
    )


def split_source(source: object) -> tuple[str, str]:
    """Place and callable of a source: ``resnet.py:resnet18`` → (resnet.py, resnet18).

    Raises:
        SpaceError: It does not read so.
    """
    place, colon, name = source.rpartition(":") if isinstance(source, str) else ("", "", "")
    importable = all(part.isidentifier() for part in place.split("."))
    if not (colon and name.isidentifier() and (place.endswith(".py") or importable)):
        raise SpaceError(
            f"a module's source must read FILE.py:CALLABLE or MODULE:CALLABLE, but got {source!r}",
            "such as resnet.py:resnet18 or torchvision.models:resnet18",
        )
    return place, name


def _resolved(path: str, folder: Path) -> str:
    return os.path.normpath(folder / Path(path).expanduser())


def _arguments(data: object) -> dict[str, Any]:
    if not isinstance(data, dict) or not all(isinstance(name, str) and name.isidentifier() for name in data):
        raise SpaceError(f"'arguments' in 'module' must be a mapping of names to values, but got {data!r}")
    try:
        canonical_json(data)
    except (TypeError, ValueError):
        raise SpaceError(
            f"'arguments' in 'module' takes numbers, texts, booleans, lists and mappings of them, but got {data!r}"
        ) from None
    return data


def _numbers(key: str, data: object) -> tuple[float, ...] | None:
    if data is None:
        return None
    values = data if isinstance(data, list) else [data]
    numbers = [float(value) for value in values if _is_number(value)]
    if not values or len(numbers) < len(values):
        raise SpaceError(f"'{key}' in 'module' must be a number for each channel, but got {data!r}")
    return tuple(numbers)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
