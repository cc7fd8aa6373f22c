"""What a data source gives before it is split, and the registry of sources by the names that recipes use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from nas.artifact import Resize
from nas.errors import DataError, unknown_name
from nas.recipe_sections import SOURCES, DataConfig


@dataclass(frozen=True, eq=False)
class Samples:
    """Images and labels as a file holds them.

    Args:
        images: uint8 or float32; N×H×W, or with a channel axis where the recipe's ``layout`` says.
        labels: One for each image: integers or text of any values.
    """

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class RawData:
    """What a source reads. Parts that it does not bring are split off ``train`` afterwards.

    Args:
        train: All samples, or those that are not in the other parts.
        validation: Samples that the source keeps for validation.
        test: Samples that the source keeps for testing.
        resize: How images were resized; None where they are as the files hold them.
        layout: How images with a channel axis lie, where the source found that out; else as the recipe says.
        class_names: The classes' names in the order of the sorted labels of train, where the source has them.
    """

    train: Samples
    validation: Samples | None = None
    test: Samples | None = None
    resize: Resize | None = None
    layout: str | None = None
    class_names: tuple[str, ...] | None = None


Reader = Callable[[DataConfig], RawData]

_READERS: dict[str, Reader] = {}


def source(name: str) -> Callable[[Reader], Reader]:
    """Registers a function that reads a data source.

    Raises:
        ValueError: Recipes know no source of that name, or it is registered already.
    """
    if name not in SOURCES:
        raise ValueError(unknown_name("data source", name, SOURCES))

    def register(reader: Reader) -> Reader:
        if name in _READERS:
            raise ValueError(f"the data source '{name}' is registered already")
        _READERS[name] = reader
        return reader

    return register


def sources() -> tuple[str, ...]:
    """The names of all registered sources."""
    return tuple(sorted(_READERS))


def reader_of(name: str) -> Reader:
    """The function that reads a source.

    Raises:
        DataError: There is none of that name.
    """
    if name not in _READERS:
        raise DataError(unknown_name("data source", name, _READERS))
    return _READERS[name]


def required_path(config: DataConfig, kind: Literal["file", "folder"]) -> Path:
    """The path that a recipe gives, which must be there and of that kind.

    Raises:
        DataError: It is missing or of the other kind.
    """
    if config.path is None:
        raise DataError(f"data source '{config.source}' needs a 'path'")
    path = config.path.expanduser()
    where = f"the data path {path}"
    if not path.exists():
        raise DataError(
            f"{where} does not exist", f"relative paths start at {Path.cwd()}" if not path.is_absolute() else ""
        )
    if not (path.is_file() if kind == "file" else path.is_dir()):
        raise DataError(f"{where} is not a {kind}, as data source '{config.source}' needs")
    return path
