"""A data set of the library ``datasets`` (Hugging Face), as ``save_to_disk`` wrote it into a directory.

Read where it lies: nothing is looked up or downloaded. A directory of one data set is split here; of several, as a
``DatasetDict`` writes them, ``train``, ``validation`` and ``test`` are taken by their names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.artifact import InputSpec, Resize
from nas.data.arrays import as_images, as_labels
from nas.data.images import GREY_MODES, ImageBytes, read_header, read_image
from nas.data.source import RawData, Samples, required_path, source
from nas.errors import DataError, UnsupportedError, one_line, unknown_name
from nas.recipe_sections import DataConfig
from nas.safety.arrays import check_data_bytes

if TYPE_CHECKING:
    from datasets import Dataset

PARTS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
IMAGE_NAMES, LABEL_NAMES = ("image", "img", "images", "pixels"), ("label", "labels", "fine_label", "class", "target")


@source("huggingface")
def read_huggingface(config: DataConfig) -> RawData:
    """Reads a directory that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote.

    The image column holds images, or arrays of numbers of one shape; the label column classes, integers or text. Where
    ``columns`` does not name them, they are the only columns of these kinds, or those of the usual names.

    Raises:
        UnsupportedError: The package ``datasets`` is not installed.
        DataError: It is no such directory, a column is missing or not clear, or images are of different sizes and the
            recipe does not say to resize.
    """
    root = required_path(config, "folder")
    parts = _opened(root)
    train = parts["train"]
    image, label = _columns(root, train, config)
    names = _class_names(train, label)
    numbers = {part: as_labels(root, label, np.array(rows[label])) for part, rows in parts.items()}
    if _is_image(train.features[image]):
        images, resize = _pixels(root, parts, image, config)
    else:
        images, resize = as_images(root, {part: _numbers(root, rows, image) for part, rows in parts.items()}), None
    samples = {part: Samples(images[part], numbers[part]) for part in parts}
    present = np.unique(numbers["train"])
    known = names and numbers["train"].dtype.kind != "U" and present.min() >= 0 and present.max() < len(names)
    return RawData(
        samples["train"],
        samples.get("validation"),
        samples.get("test"),
        resize,
        class_names=tuple(names[number] for number in present) if names and known else None,
    )


def _opened(root: Path) -> dict[str, Dataset]:
    """The data sets in a directory, by the part that each is."""
    try:
        import datasets
    except ImportError:
        raise UnsupportedError(
            "data source 'huggingface' needs the package 'datasets', which is not installed",
            "pip install 'nas-front[huggingface]'",
        ) from None
    try:
        found = datasets.load_from_disk(str(root), keep_in_memory=True)
    except Exception as error:  # whatever the library raises for a directory that is none of its own, or damaged
        raise DataError(
            f"{root} cannot be read as a data set of 'datasets': {one_line(error)}", "write it with save_to_disk"
        ) from error
    if isinstance(found, datasets.Dataset):
        return {"train": found}
    parts: dict[str, Dataset] = {}
    for name, rows in found.items():
        part = PARTS.get(str(name))
        if part is not None and part in parts:
            raise DataError(f"{root} must hold one {part} set, but holds several: {', '.join(map(str, found))}")
        if part is not None:
            parts[part] = rows
    if "train" not in parts:
        raise DataError(f"{root} must hold a set 'train', but holds {', '.join(map(str, found)) or 'none'}")
    return parts


def _columns(root: Path, rows: Dataset, config: DataConfig) -> tuple[str, str]:
    """The names of the image and the label column."""
    features = dict(rows.features)
    images = [name for name, feature in features.items() if _is_image(feature) or _is_array(feature)]
    labels = [name for name, feature in features.items() if hasattr(feature, "names")]  # ClassLabel
    labels = labels or [name for name, feature in features.items() if _is_plain(feature)]
    chosen = []
    for kind, given, found, usual in (
        ("image", config.columns.image, images, IMAGE_NAMES),
        ("label", config.columns.label, labels, LABEL_NAMES),
    ):
        if given is not None and given not in features:
            raise DataError(f"{root}: {unknown_name('column', given, features)}", "see 'columns' in the recipe")
        named = [name for name in usual if name in found]
        if given is None and not named and len(found) != 1:
            raise DataError(
                f"{root}: which column holds the {kind}s is not clear; there are: {', '.join(features)}",
                f"write 'columns: {{{kind}: NAME}}' under 'data' in the recipe",
            )
        chosen.append(given or (named or found)[0])
    return chosen[0], chosen[1]


def _is_image(feature: Any) -> bool:
    return type(feature).__name__ == "Image"


def _is_array(feature: Any) -> bool:
    return type(feature).__name__ in ("Array2D", "Array3D")


def _is_plain(feature: Any) -> bool:
    """Whether a column holds single integers or texts."""
    return str(getattr(feature, "dtype", "")).startswith(("int", "uint", "string")) and not _is_image(feature)


def _class_names(rows: Dataset, label: str) -> list[str] | None:
    return getattr(rows.features[label], "names", None)


def _numbers(root: Path, rows: Dataset, column: str) -> np.ndarray:
    try:
        return np.array(rows.with_format("numpy")[column][:])
    except (ValueError, TypeError) as error:  # arrays of different shapes
        raise DataError(f"{root}: column '{column}' holds no arrays of one shape: {one_line(error)}") from None


def _pixels(
    root: Path, parts: dict[str, Dataset], column: str, config: DataConfig
) -> tuple[dict[str, np.ndarray], Resize | None]:
    """All images as arrays: grey if every image is, else RGB."""
    grey, sizes = True, set()
    for part, rows in parts.items():
        mode = rows.features[column].mode
        for image in _encoded(root, part, rows, column):
            header = read_header(image)
            grey &= header.grey if mode is None else mode in GREY_MODES
            sizes.add((header.height, header.width))
    if config.resize is None and len(sizes) > 1:
        first, other = sorted(sizes)[:2]
        raise DataError(
            f"{root}: images must have one size (height × width), but are {first[0]}×{first[1]}, "
            f"{other[0]}×{other[1]}{' and others' if len(sizes) > 2 else ''}",
            f"add 'resize: [{first[0]}, {first[1]}]' (height, width) under 'data' in the recipe",
        )
    if not sizes:
        raise DataError(f"{root}: the set is empty")
    resize = Resize(*config.resize) if config.resize else None
    height, width = config.resize or next(iter(sizes))
    channels = 1 if grey else 3
    shape = (height, width, channels) if config.layout == "NHWC" else (channels, height, width)
    check_data_bytes(root, sum(len(rows) for rows in parts.values()) * math.prod(shape))
    input = InputSpec("uint8", shape, config.layout, resize)
    return {
        part: np.stack([read_image(image, input) for image in _encoded(root, part, rows, column)])
        for part, rows in parts.items()
    }, resize


def _encoded(root: Path, part: str, rows: Dataset, column: str) -> Iterator[ImageBytes]:
    """The image files that a column holds, not decoded by the library, which lets any decoder at them.

    Raises:
        DataError: An image is missing, or is only named: a file elsewhere, or an address that would be asked for it.
    """
    import datasets

    for number, item in enumerate(rows.cast_column(column, datasets.Image(decode=False))[column]):
        name = f"{root}, image {number} of {part}"
        if item is None:
            raise DataError(f"{root}: image {number} of {part} is missing", "remove the row")
        if not item["bytes"]:
            raise DataError(
                f"{name} is not in the data set, which only says where it lies", "write it with save_to_disk"
            )
        yield ImageBytes(item["bytes"], name)
