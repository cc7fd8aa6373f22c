"""A Python function of one's own that gives the data set, named as ``path: my_data.py:load``.

It gives ``(images, labels)`` or ``(images, labels, class_names)``, or a dictionary ``{"train": (images, labels)}``
with ``"validation"``, ``"test"`` and ``"class_names"`` where there are any. Arrays are NumPy's, torch's, or lists of
numbers.

Images are N×H×W, or have a channel axis. Where the recipe gives no ``layout`` that is the axis with at most 4 entries:
the last (N×H×W×C) or the second (N×C×H×W); where both or neither has so few, the recipe must say.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nas.data.arrays import as_images, as_labels
from nas.data.source import RawData, Samples, source
from nas.errors import DataError, unknown_name
from nas.own_code import LoadedFunction, parse_own
from nas.recipe_sections import AUTO, DataConfig

PARTS = ("train", "validation", "test")
CLASS_NAMES = "class_names"
MOST_CHANNELS = 4
SHAPES = "give (images, labels), or {'train': (images, labels), 'test': (images, labels)}"


@source("python")
def read_python(config: DataConfig) -> RawData:
    """Runs the file that the recipe names and takes what its function gives.

    Raises:
        OwnCodeError: The file or function is missing, cannot be run, or raises; the message names the line.
        DataError: What it gives cannot be learned from.
    """
    assert config.path is not None  # as the recipe's section makes sure
    function = parse_own(str(config.path), Path.cwd()).load()
    parts, names = _parts(function, function())
    arrays = {part: _pair(function, part, given) for part, given in parts.items()}
    where = str(function.source.path)
    labels = {part: as_labels(where, f"{part} labels", given) for part, (_, given) in arrays.items()}
    images = as_images(where, {f"{part} images": given for part, (given, _) in arrays.items()})
    samples = {part: Samples(images[f"{part} images"], labels[part]) for part in parts}
    layout = _layout(function, config, samples["train"].images)
    return RawData(
        samples["train"], samples.get("validation"), samples.get("test"), layout=layout, class_names=_names(names)
    )


def _parts(function: LoadedFunction, given: Any) -> tuple[dict[str, Any], Any]:
    """Images and labels of each part that the function gives, and the classes' names or None."""
    if isinstance(given, Mapping):
        for key in given:
            if key not in (*PARTS, CLASS_NAMES):
                raise function.refuse(unknown_name("part", key, (*PARTS, CLASS_NAMES)).replace("unknown", "gives the"))
        if "train" not in given:
            raise function.refuse(f"gives no 'train', but {', '.join(map(str, given)) or 'nothing'}", SHAPES)
        return {part: given[part] for part in PARTS if part in given}, given.get(CLASS_NAMES)
    if isinstance(given, tuple | list) and len(given) in (2, 3):
        return {"train": tuple(given[:2])}, given[2] if len(given) == 3 else None
    raise function.refuse(f"must give images and labels, but gave {_words(given)}", SHAPES)


def _pair(function: LoadedFunction, part: str, given: Any) -> tuple[np.ndarray, np.ndarray]:
    if not (isinstance(given, tuple | list) and len(given) == 2):
        raise function.refuse(f"must give images and labels for '{part}', but gave {_words(given)}", SHAPES)
    images, labels = _array(function, f"{part} images", given[0]), _array(function, f"{part} labels", given[1])
    if images.ndim not in (3, 4):
        raise function.refuse(f"must give images as N×H×W, N×H×W×C or N×C×H×W, but {part} has shape {images.shape}")
    if labels.ndim and len(images) != len(labels):
        raise function.refuse(f"gives {len(images)} images but {len(labels)} labels for '{part}'")
    return images, labels


def _array(function: LoadedFunction, name: str, given: Any) -> np.ndarray:
    """An array of what a person gave: torch's tensors, NumPy's arrays, lists."""
    try:
        if hasattr(given, "detach"):  # a tensor of torch, which is not imported for this
            tensor = given.detach().cpu()
            given = tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor
            return np.array(given.numpy())
        array = np.array(given)  # a copy, since the function may keep and change its own
    except (ValueError, TypeError, RuntimeError) as error:  # such as lists of different lengths
        raise function.refuse(f"gives {name} that are no array: {' '.join(str(error).split())}") from None
    if array.dtype.kind == "O":
        raise function.refuse(f"gives {name} that are no array of numbers or text", "are all images of one size?")
    return array


def _layout(function: LoadedFunction, config: DataConfig, images: np.ndarray) -> str:
    """How images lie: as the recipe says, else by the axis that is short enough to be that of the channels."""
    if config.layout != AUTO:
        return config.layout
    if images.ndim == 3:
        return "NHWC"
    last, second = images.shape[3] <= MOST_CHANNELS, images.shape[1] <= MOST_CHANNELS
    if last == second:
        raise function.refuse(
            f"gives images of shape {images.shape}, of which the channel axis is not clear",
            "write 'layout: NHWC' or 'layout: NCHW' under 'data' in the recipe",
        )
    return "NHWC" if last else "NCHW"


def _names(given: Any) -> tuple[str, ...] | None:
    if given is None:
        return None
    if isinstance(given, str) or not all(isinstance(name, str) for name in given):
        raise DataError(f"'{CLASS_NAMES}' must be a list of texts, but got {given!r}")
    return tuple(given)


def _words(given: Any) -> str:
    """What was given, in a few words."""
    if isinstance(given, tuple | list):
        return f"{len(given)} things"
    return "nothing" if given is None else f"a {type(given).__name__}"
