"""What holds for every source: the contract of ``load``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_files import random_images, repeated_labels, write_class_folders, write_idx_folder

from nas.data import Dataset, load, normalisation_of, sources
from nas.data.source import source
from nas.errors import DataError
from nas.recipe_sections import SOURCES, DataConfig


def write_source(name: str, folder: Path) -> DataConfig:
    """A small data set of each kind, and its recipe section."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "digits":
        return DataConfig(source="digits")
    if name == "idx":
        write_idx_folder(folder, random_images(40, 6, 5), repeated_labels(40, 4))
        return DataConfig(source="idx", path=folder)
    if name == "npz":
        np.savez(folder / "data.npz", images=random_images(40, 6, 5, 2) / 3, labels=repeated_labels(40, 4))
        return DataConfig(source="npz", path=folder / "data.npz")
    if name == "python":
        np.savez(folder / "arrays.npz", images=random_images(40, 2, 6, 5), labels=repeated_labels(40, 4))
        (folder / "own.py").write_text(PYTHON)
        return DataConfig(source="python", path=folder / "own.py:load")
    if name == "huggingface":
        datasets = pytest.importorskip("datasets", exc_type=ImportError)
        columns = {"pixels": random_images(40, 6, 5).tolist(), "label": repeated_labels(40, 4).tolist()}
        features = {"pixels": datasets.Array2D((6, 5), "uint8"), "label": datasets.Value("int32")}
        datasets.Dataset.from_dict(columns, features=datasets.Features(features)).save_to_disk(folder / "rows")
        return DataConfig(source="huggingface", path=folder / "rows")
    write_class_folders(folder, {"a": 10, "b": 12, "c": 14}, (6, 5, 3))
    return DataConfig(source="folder", path=folder)


PYTHON = """
from pathlib import Path
import numpy as np

def load():
    arrays = np.load(Path(__file__).parent / "arrays.npz")
    return arrays["images"], arrays["labels"]
"""


@pytest.fixture(params=SOURCES)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> DataConfig:
    return write_source(request.param, tmp_path / "here")


def splits(dataset: Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(split.images, split.labels) for split in (dataset.train, dataset.validation, dataset.test)]


def test_every_source_of_the_recipe_is_registered() -> None:
    assert sources() == tuple(sorted(SOURCES))


def test_types_shapes_and_classes(config: DataConfig) -> None:
    dataset = load(config)
    for images, labels in splits(dataset):
        assert images.dtype == np.dtype(dataset.input.dtype)
        assert images.shape == (len(labels), *dataset.input.shape)
        assert images.flags.c_contiguous
        assert images.flags.writeable
        assert labels.dtype == np.int64
        assert set(labels) == set(range(len(dataset.class_names)))
    assert normalisation_of(dataset.train.images, dataset.input).std[0] > 0


def test_the_same_every_time_and_wherever_the_files_lie(config: DataConfig, tmp_path: Path) -> None:
    first = load(config)
    if config.path is not None:
        shutil.move(tmp_path / "here", tmp_path / "elsewhere")
        config = config.model_copy(update={"path": tmp_path / "elsewhere" / config.path.relative_to(tmp_path / "here")})
    second = load(config)
    assert first.digest == second.digest
    for one, two in zip(splits(first), splits(second), strict=True):
        assert np.array_equal(one[0], two[0])
        assert np.array_equal(one[1], two[1])


@pytest.mark.parametrize(
    "change",
    [{"split_seed": 1}, {"validation": 0.3}, {"test": 0.3}, {"train_limit": 15}, {"validation_limit": 5}],
)
def test_the_digest_tells_splits_apart(tmp_path: Path, change: dict[str, object]) -> None:
    config = write_source("idx", tmp_path)
    assert load(config.model_copy(update=change)).digest != load(config).digest


def test_the_digest_tells_names_layouts_and_content_apart(tmp_path: Path) -> None:
    config = write_source("idx", tmp_path)
    digests = [
        load(config.model_copy(update=change)).digest
        for change in ({}, {"class_names": tuple("abcd")}, {"layout": "NCHW"})
    ]
    write_idx_folder(tmp_path, random_images(40, 6, 5, seed=1), repeated_labels(40, 4))
    digests.append(load(config).digest)
    assert len(set(digests)) == 4


def test_limits_touch_neither_the_test_set_nor_each_other(config: DataConfig) -> None:
    whole = load(config)
    limited = load(config.model_copy(update={"train_limit": 12, "validation_limit": 10 if config.path is None else 4}))
    assert len(limited.train) == 12
    assert len(limited.validation) == (10 if config.path is None else 4)
    assert np.array_equal(limited.test.images, whole.test.images)
    rows = {image.tobytes() for image in whole.train.images}
    assert all(image.tobytes() in rows for image in limited.train.images)


def test_limits_larger_than_the_data_change_nothing(config: DataConfig) -> None:
    assert (
        load(config.model_copy(update={"train_limit": 10**6, "validation_limit": 10**6})).digest == load(config).digest
    )


def test_digits() -> None:
    dataset = load(DataConfig(source="digits"))
    assert dataset.input.shape == (8, 8, 1)
    assert dataset.input.dtype == "uint8"
    assert dataset.class_names == tuple("0123456789")
    assert sum(len(labels) for _, labels in splits(dataset)) == 1797
    assert max(images.max() for images, _ in splits(dataset)) == 16


def test_class_names_of_the_recipe(tmp_path: Path) -> None:
    config = write_source("idx", tmp_path)
    named = load(config.model_copy(update={"class_names": ("T-shirt", "trouser", "bag", "boot")}))
    assert named.class_names == ("T-shirt", "trouser", "bag", "boot")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "b"), r"'class_names' must name 4 classes, but names 2 \(give one name for each class"),
        (("a", "b", "c", "a"), r"'class_names' must differ, but 'a' stands twice"),
    ],
)
def test_class_names_that_do_not_fit(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write_source("idx", tmp_path).model_copy(update={"class_names": names}))


@pytest.mark.parametrize("name", [name for name in SOURCES if name not in ("digits", "python")])
def test_a_path_that_is_missing_or_of_the_other_kind(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"the data path .*nowhere does not exist$"):
        load(DataConfig(source=name, path=tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"the data path nowhere does not exist \(relative paths start at /"):
        load(DataConfig(source=name, path=Path("nowhere")))
    kind, other = ("file", tmp_path) if name == "npz" else ("folder", tmp_path / "file")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=rf"the data path .* is not a {kind}, as data source '{name}' needs"):
        load(DataConfig(source=name, path=other))


def test_a_negative_seed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'split_seed' must be 0 or greater, but got -3"):
        load(write_source("idx", tmp_path).model_copy(update={"split_seed": -3}))


@pytest.mark.parametrize(
    ("name", "message"),
    [("digits", r"the data source 'digits' is registered already"), ("digit", r"unknown data source 'digit'; did you")],
)
def test_a_source_is_registered_once_and_under_a_name_that_recipes_know(name: str, message: str) -> None:
    def reader(config: DataConfig) -> None:
        raise NotImplementedError

    with pytest.raises(ValueError, match=message):
        source(name)(reader)  # type: ignore[arg-type]


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, nas.data; print(sorted({'PIL', 'sklearn', 'torch', 'onnxruntime', 'optuna'} & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert printed.stdout.strip() == "[]"
