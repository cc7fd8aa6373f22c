"""From a recipe's ``data`` section to a data set: read, check, number the classes, split, limit."""

from __future__ import annotations

import numpy as np

from nas.artifact import InputSpec, Resize
from nas.data.dataset import Dataset, Split, digest_of
from nas.data.source import RawData, Samples, reader_of
from nas.data.split import Purpose, SplitIndices, limit_indices, split_indices
from nas.errors import DataError
from nas.recipe_sections import DataConfig


def load(config: DataConfig) -> Dataset:
    """Reads a data set into memory and splits it.

    A test or validation set that the source brings is used whole (but for ``validation_limit``). The same files and
    the same section give the same arrays in the same order, wherever the files lie.

    Raises:
        DataError: The data is missing, damaged, or cannot be learned from.
    """
    raw = reader_of(config.source)(config)
    where = "the digits" if config.path is None else str(config.path)
    layout = raw.layout or config.layout
    parts = _checked_parts(raw, where, layout)
    labels, classes = _numbered(parts, where)
    class_names = _names(classes, config.class_names or raw.class_names, where)
    indices = split_indices(
        labels["train"],
        class_names,
        validation=None if "validation" in parts else config.validation,
        test=None if "test" in parts else config.test,
        seed=config.split_seed,
        where=where,
    )
    wholes = {name: Split(parts[name].images, labels[name]) for name in parts}
    splits = _limited(_split(wholes, indices), class_names, config)
    input = _input_of(splits["train"].images, layout, raw.resize)
    return Dataset(
        splits["train"], splits["validation"], splits["test"], class_names, input, digest_of(splits, class_names, input)
    )


def _checked_parts(raw: RawData, where: str, layout: str) -> dict[str, Samples]:
    """The parts that the source brings, each with a channel axis, none empty, all images of one shape and type."""
    found = {"train": raw.train, "validation": raw.validation, "test": raw.test}
    parts = {name: _with_channels(part, f"{where}, {name}", layout) for name, part in found.items() if part is not None}
    first = parts["train"].images
    for name, part in parts.items():
        if part.images.shape[1:] != first.shape[1:] or part.images.dtype != first.dtype:
            raise DataError(
                f"{where}: images must be of one size and type, but those of train are {_shape(first)} {first.dtype} "
                f"and those of {name} {_shape(part.images)} {part.images.dtype}"
            )
    return parts


def _with_channels(samples: Samples, where: str, layout: str) -> Samples:
    images, labels = samples.images, samples.labels
    if images.ndim not in (3, 4):
        axes = "N×H×W×C" if layout == "NHWC" else "N×C×H×W"
        raise DataError(f"{where}: images must be an array N×H×W or {axes}, but the shape is {images.shape}")
    if len(images) != len(labels):
        raise DataError(
            f"{where}: there must be one label for each image, but {len(images)} images have {len(labels)} labels"
        )
    if not len(images):
        raise DataError(f"{where}: the set is empty")
    if not images.size:
        raise DataError(f"{where}: images must have pixels, but the shape is {images.shape}")
    if images.ndim == 3:
        images = images[..., np.newaxis] if layout == "NHWC" else images[:, np.newaxis]
    return Samples(np.ascontiguousarray(images), labels)


def _numbered(parts: dict[str, Samples], where: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Class numbers for labels: a label's place among the sorted labels of train. Also those labels."""
    classes = np.unique(parts["train"].labels)
    if len(classes) < 2:
        raise DataError(f"{where}: there must be two classes or more, but every label is '{classes[0]}'")
    numbers: dict[str, np.ndarray] = {}
    for name, part in parts.items():
        if (part.labels.dtype.kind == "U") != (classes.dtype.kind == "U"):
            raise DataError(
                f"{where}: labels must be all text or all integers, but those of train are {classes.dtype} "
                f"and those of {name} {part.labels.dtype}"
            )
        unknown = np.setdiff1d(part.labels, classes)
        if len(unknown):
            listed = ", ".join(f"'{label}'" for label in unknown[:5]) + (", …" if len(unknown) > 5 else "")
            raise DataError(
                f"{where}: {name} holds classes that train does not know: {listed}",
                "add samples of them to train, or remove them",
            )
        numbers[name] = np.searchsorted(classes, part.labels).astype(np.int64)
    return numbers, classes


def _names(classes: np.ndarray, given: tuple[str, ...] | None, where: str) -> tuple[str, ...]:
    """The classes' names: those that the recipe gives, else the labels as text."""
    if given is None:
        return tuple(str(label) for label in classes)
    if len(given) != len(classes):
        raise DataError(
            f"{where}: 'class_names' must name {len(classes)} classes, but names {len(given)}",
            "give one name for each class, in the order of the sorted labels",
        )
    if len(set(given)) < len(given):
        twice = next(name for name in given if given.count(name) > 1)
        raise DataError(f"{where}: 'class_names' must differ, but '{twice}' stands twice")
    return given


def _split(wholes: dict[str, Split], indices: SplitIndices) -> dict[str, Split]:
    """Train, validation and test: what the source brings is kept, the rest taken from its train part."""
    whole = wholes["train"]
    chosen = {"train": indices.train, "validation": indices.validation, "test": indices.test}
    return {
        name: wholes[name] if name in wholes and name != "train" else Split(whole.images[index], whole.labels[index])
        for name, index in chosen.items()
    }


def _limited(splits: dict[str, Split], class_names: tuple[str, ...], config: DataConfig) -> dict[str, Split]:
    limits: tuple[tuple[str, Purpose, int | None], ...] = (
        ("train", "train_limit", config.train_limit),
        ("validation", "validation_limit", config.validation_limit),
    )
    limited = dict(splits)
    for name, purpose, limit in limits:
        split = splits[name]
        if limit is not None and limit < len(split):
            index = limit_indices(split.labels, class_names, limit, purpose, config.split_seed)
            limited[name] = Split(split.images[index], split.labels[index])
    return limited


def _input_of(images: np.ndarray, layout: str, resize: Resize | None) -> InputSpec:
    a, b, c = images.shape[1:]
    return InputSpec(str(images.dtype), (a, b, c), layout, resize)


def _shape(images: np.ndarray) -> str:
    return "×".join(str(size) for size in images.shape[1:])
