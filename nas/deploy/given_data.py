"""Labelled images that a deployment is checked on: a recipe's own, or a person's in an ``.npz`` file or a folder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas import data
from nas.data.dataset import Split
from nas.data.images import EXTENSIONS, read_image
from nas.data.npz import read_npz
from nas.deploy.deployment import Deployment
from nas.deploy.predict import fitted
from nas.errors import DataError
from nas.recipe import load_recipe
from nas.recipe_sections import DataConfig
from nas.safety.arrays import check_data_bytes


@dataclass(frozen=True)
class Given:
    """Labelled images.

    Args:
        split: The images, as the model takes them, and class numbers.
        key: The score to hold them to: ``accuracy``, ``test_accuracy``.
        is_the_studys: Whether they are the images that this score was taken on, so that it must come out again.
    """

    split: Split
    key: str
    is_the_studys: bool


def of_recipe(path: Path, deployment: Deployment) -> list[Given]:
    """Validation and test data of a study's recipe; the latter where the deployment states a test score.

    Raises:
        RecipeError: The recipe cannot be read.
        DataError: Its data cannot be read, or is of other classes or another kind than the model's.
    """
    dataset = data.load(load_recipe(path).data)
    if dataset.class_names != deployment.class_names:
        raise DataError(
            f"the data of {path} has other classes than {deployment.folder}: "
            f"{_some(dataset.class_names)} instead of {_some(deployment.class_names)}",
            "give the recipe of the study that the deployment is from",
        )
    if dataset.input != deployment.input:
        raise DataError(
            f"the data of {path} is {_shape(dataset.input.shape)} {dataset.input.dtype}, but {deployment.folder} takes "
            f"{_shape(deployment.input.shape)} {deployment.input.dtype}",
            "give the recipe of the study that the deployment is from",
        )
    parts = (("accuracy", dataset.validation), ("test_accuracy", dataset.test))
    return [Given(split, key, _is_as_many(deployment, key, split)) for key, split in parts if deployment.quantity(key)]


def of_files(path: Path, deployment: Deployment) -> list[Given]:
    """A person's own labelled images.

    An ``.npz`` file holds arrays ``images`` and ``labels``; where ``test_images`` and ``test_labels`` stand beside
    them those are taken. A folder holds one sub-folder of image files per class; where it holds one named ``test``
    that does, that is taken. Labels are names of classes, or their numbers in the order of the model's output.

    Raises:
        DataError: There is none, it cannot be read, or it is of classes or a shape that the model does not know.
    """
    if path.is_dir():
        split = _of_folder(path, deployment)
    elif path.suffix.lower() == ".npz":
        split = _of_npz(path, deployment)
    elif path.exists():
        raise DataError(
            f"{path} is neither a folder of images nor an .npz file", "for a recipe's data there is --recipe"
        )
    else:
        raise DataError(f"there is no data {path}")
    return [Given(split, "test_accuracy" if deployment.quantity("test_accuracy") else "accuracy", False)]


def _of_npz(path: Path, deployment: Deployment) -> Split:
    raw = read_npz(DataConfig(source="npz", path=path))
    samples = raw.test or raw.train
    if len(samples.images) != len(samples.labels):
        raise DataError(f"{path}: there are {len(samples.images)} images, but {len(samples.labels)} labels")
    images = fitted(samples.images, deployment.input, str(path))
    if images.ndim == len(deployment.input.shape):  # a single image
        images = images[np.newaxis]
    return Split(images, _numbers(samples.labels, deployment.class_names, path))


def _of_folder(path: Path, deployment: Deployment) -> Split:
    root = path / "test" if (path / "test").is_dir() and "test" not in deployment.class_names else path
    files = list(_files(root))
    if not files:
        raise DataError(f"{root} holds no images in sub-folders, one for each class")
    labels = _numbers(np.array([name for _, name in files]), deployment.class_names, root)
    check_data_bytes(root, len(files) * math.prod(deployment.input.shape))
    return Split(np.stack([read_image(file, deployment.input) for file, _ in files]), labels)


def _files(root: Path) -> Iterator[tuple[Path, str]]:
    """Image files and the names of the folders that they lie in."""
    for folder in sorted(item for item in root.iterdir() if item.is_dir() and not item.name.startswith(".")):
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() in EXTENSIONS and not file.name.startswith("."):
                yield file, folder.name


def _numbers(labels: np.ndarray, class_names: Sequence[str], path: Path) -> np.ndarray:
    """Class numbers of labels that are names or numbers."""
    by_name = {name: number for number, name in enumerate(class_names)}
    names = [str(label) for label in labels]
    if all(name in by_name for name in names):
        return np.array([by_name[name] for name in names], dtype=np.int64)
    if labels.dtype.kind == "i" and labels.min() >= 0 and labels.max() < len(class_names):
        return labels
    odd = next(name for name in names if name not in by_name)
    raise DataError(f"{path} has a class '{odd}' that the model does not know", f"it knows {_some(class_names)}")


def _is_as_many(deployment: Deployment, key: str, split: Split) -> bool:
    """Whether these may be the images that a score was taken on."""
    stated = deployment.quantity(key)
    return stated is not None and stated.detail.get("samples", len(split)) == len(split)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
