"""Hugging Face data sets from a directory: columns found or named, splits by name, class names kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import random_images, repeated_labels
from PIL import Image

from nas.data import Dataset, load
from nas.errors import DataError, UnsupportedError
from nas.recipe_sections import Columns, DataConfig

datasets = pytest.importorskip("datasets", exc_type=ImportError)

NAMES = ["owl", "cat", "dog"]  # not in the order of the alphabet


def rows(count: int = 30, size: tuple[int, ...] = (6, 5), seed: int = 0, **columns: list[Any]) -> Any:
    images = [Image.fromarray(pixels) for pixels in random_images(count, *size, seed=seed)]
    table = {"image": images, "label": repeated_labels(count).tolist()} | columns
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    for name in columns:
        features.setdefault(name, datasets.Value("string"))
    return datasets.Dataset.from_dict(table, features=datasets.Features(features))


def saved(folder: Path, found: Any, **changes: Any) -> Dataset:
    found.save_to_disk(str(folder))
    return load(DataConfig(source="huggingface", path=folder, **changes))


def test_one_data_set_is_split_and_keeps_its_class_names(tmp_path: Path) -> None:
    dataset = saved(tmp_path / "d", rows())
    assert dataset.input.shape == (6, 5, 1)
    assert dataset.class_names == tuple(NAMES)
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) == 30
    first = random_images(30, 6, 5)[0]
    parts = (dataset.train, dataset.validation, dataset.test)
    found = [part.labels[n] for part in parts for n in range(len(part)) if (part.images[n, ..., 0] == first).all()]
    assert found == [0]


def test_parts_by_name_and_colour(tmp_path: Path) -> None:
    parts = datasets.DatasetDict(
        {"train": rows(30, (6, 5, 3)), "valid": rows(9, (6, 5, 3), 1), "test": rows(12, (6, 5, 3), 2)}
    )
    dataset = saved(tmp_path / "d", parts, layout="NCHW")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [30, 9, 12]
    assert dataset.input.shape == (3, 6, 5)
    assert np.array_equal(dataset.test.images[0].transpose(1, 2, 0), random_images(12, 6, 5, 3, seed=2)[0])


def test_columns_are_named_where_their_names_are_not_clear(tmp_path: Path) -> None:
    found = rows().rename_columns({"image": "left", "label": "kind"})
    other = rows(seed=1).rename_columns({"image": "right", "label": "colour"})
    both = datasets.concatenate_datasets([found, other], axis=1)
    message = (
        r"which column holds the images is not clear; there are: left, kind, right, colour \(write 'columns: \{image"
    )
    with pytest.raises(DataError, match=message):
        saved(tmp_path / "d", both)
    dataset = saved(tmp_path / "e", both, columns=Columns(image="right", label="kind"))
    assert len(dataset.class_names) == 3
    with pytest.raises(DataError, match=r"unknown column 'rihgt'; did you mean 'right'"):
        saved(tmp_path / "f", both, columns=Columns(image="rihgt", label="kind"))


def test_numbers_and_texts_serve_as_well(tmp_path: Path) -> None:
    table = {"pixels": random_images(30, 4, 4).tolist(), "label": [NAMES[n] for n in repeated_labels(30)]}
    features = datasets.Features({"pixels": datasets.Array2D((4, 4), "uint8"), "label": datasets.Value("string")})
    dataset = saved(tmp_path / "d", datasets.Dataset.from_dict(table, features=features))
    assert dataset.input.shape == (4, 4, 1)
    assert dataset.input.dtype == "uint8"
    assert dataset.class_names == ("cat", "dog", "owl")


def test_images_of_different_sizes_are_resized_where_the_recipe_says(tmp_path: Path) -> None:
    both = datasets.concatenate_datasets([rows(15), rows(15, (7, 8))])
    message = r"images must have one size \(height × width\), but are 6×5, 7×8 \(add 'resize: \[6, 5\]'"
    with pytest.raises(DataError, match=message):
        saved(tmp_path / "d", both)
    assert saved(tmp_path / "e", both, resize=(4, 4)).input.shape == (4, 4, 1)


def test_what_is_no_such_directory(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"cannot be read as a data set of 'datasets': .*\(write it with save_to_disk\)"
    ):
        load(DataConfig(source="huggingface", path=tmp_path))
    with pytest.raises(DataError, match=r"must hold a set 'train', but holds test"):
        saved(tmp_path / "d", datasets.DatasetDict({"test": rows()}))
    with pytest.raises(DataError, match=r"must hold one validation set, but holds several: train, val, valid"):
        saved(tmp_path / "e", datasets.DatasetDict({"train": rows(), "val": rows(), "valid": rows()}))


def test_without_the_package_the_line_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = r"needs the package 'datasets', which is not installed \(pip install 'nas-front\[huggingface\]'\)"
    with pytest.raises(UnsupportedError, match=message):
        load(DataConfig(source="huggingface", path=tmp_path))
