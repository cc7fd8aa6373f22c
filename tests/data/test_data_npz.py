from __future__ import annotations

import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import random_images, repeated_labels

from nas.data import Dataset, load
from nas.errors import DataError
from nas.recipe_sections import Arrays, DataConfig


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path / "data.npz", **arrays)
    return path / "data.npz"


def load_arrays(folder: Path, config: dict[str, Any] | None = None, **arrays: Any) -> Dataset:
    complete = {"images": random_images(30, 4, 5), "labels": repeated_labels(30)} | arrays
    return load(DataConfig(source="npz", path=saved(folder, **complete), **(config or {})))


def everything(dataset: Dataset) -> np.ndarray:
    """All values of all splits, sorted."""
    return np.sort(np.concatenate([s.images.reshape(-1) for s in (dataset.train, dataset.validation, dataset.test)]))


@pytest.mark.parametrize(
    ("images", "dtype"),
    [
        (random_images(30, 4, 5), "uint8"),
        (random_images(30, 4, 5).astype(np.int64), "uint8"),
        (random_images(30, 4, 5).astype(">u2"), "uint8"),
        (random_images(30, 4, 5) > 100, "uint8"),
        (random_images(30, 4, 5).astype(np.int16) - 1, "float32"),
        (random_images(30, 4, 5).astype(np.uint16) + 1, "float32"),
        (random_images(30, 4, 5).astype(np.float16), "float32"),
        (random_images(30, 4, 5).astype(np.float32) / 7, "float32"),
        (random_images(30, 4, 5).astype(">f4") / 7, "float32"),
        (random_images(30, 4, 5) * 0.5, "float32"),
    ],
)
def test_types_and_untouched_values(tmp_path: Path, images: np.ndarray, dtype: str) -> None:
    dataset = load_arrays(tmp_path, images=images)
    assert dataset.input.dtype == dtype
    assert all(s.images.dtype == np.dtype(dtype) for s in (dataset.train, dataset.validation, dataset.test))
    assert np.array_equal(everything(dataset), np.sort(images.reshape(-1)))


def test_integers_of_train_and_test_get_one_type_that_fits_both(tmp_path: Path) -> None:
    test = {"test_images": random_images(6, 4, 5).astype(np.int16) - 300, "test_labels": repeated_labels(6)}
    dataset = load_arrays(tmp_path, **test)
    assert dataset.input.dtype == "float32"
    assert np.array_equal(dataset.test.images[..., 0], test["test_images"])


@pytest.mark.parametrize(
    ("layout", "shape", "expected"),
    [
        ("NHWC", (30, 4, 5), (4, 5, 1)),
        ("NCHW", (30, 4, 5), (1, 4, 5)),
        ("NHWC", (30, 4, 5, 2), (4, 5, 2)),
        ("NCHW", (30, 2, 4, 5), (2, 4, 5)),
    ],
)
def test_layouts(tmp_path: Path, layout: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    dataset = load_arrays(tmp_path, {"layout": layout}, images=random_images(*shape))
    assert dataset.input.shape == expected
    assert dataset.input.layout == layout
    assert dataset.train.images.shape == (18, *expected)


def test_an_array_in_fortran_order_is_laid_out_as_all_others(tmp_path: Path) -> None:
    images = random_images(30, 4, 5, 2)
    usual = load_arrays(tmp_path, images=images)
    fortran = load_arrays(tmp_path, images=np.asfortranarray(images))
    assert fortran.train.images.flags.c_contiguous
    assert fortran.digest == usual.digest


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([30, -5, 7], ("-5", "7", "30")),
        (["dog", "ant", "cat"], ("ant", "cat", "dog")),
        ([b"dog", "caf\u00e9".encode(), b"ant"], ("ant", "caf\u00e9", "dog")),
        ([False, True], ("0", "1")),
        (np.array([3, 1], dtype=np.uint64), ("1", "3")),
    ],
)
def test_labels_of_any_values_become_class_numbers_in_sorted_order(
    tmp_path: Path, values: Any, names: tuple[str, ...]
) -> None:
    values = np.array(values)
    labels = values[repeated_labels(30, len(values))]
    # Each image carries its label's place among the sorted labels, to follow it through the split.
    images = np.broadcast_to(
        np.argsort(np.argsort(values))[repeated_labels(30, len(values))][:, None, None], (30, 2, 2)
    )
    dataset = load_arrays(tmp_path, images=images.astype(np.uint8), labels=labels)
    assert dataset.class_names == names
    for split in (dataset.train, dataset.validation, dataset.test):
        assert split.labels.dtype == np.int64
        assert np.array_equal(split.images[:, 0, 0, 0], split.labels)


def test_labels_as_a_column(tmp_path: Path) -> None:
    assert load_arrays(tmp_path, labels=repeated_labels(30)[:, None]).digest == load_arrays(tmp_path).digest


def test_arrays_of_other_names_and_a_test_set(tmp_path: Path) -> None:
    test_images = random_images(6, 4, 5, seed=1)
    path = saved(
        tmp_path, x=random_images(30, 4, 5), y=repeated_labels(30), x_test=test_images, y_test=repeated_labels(6)
    )
    names = Arrays(images="x", labels="y", test_images="x_test", test_labels="y_test")
    dataset = load(DataConfig(source="npz", path=path, arrays=names))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (24, 6, 6)
    assert np.array_equal(dataset.test.images[..., 0], test_images)


def test_other_arrays_in_the_file_are_not_loaded(tmp_path: Path) -> None:
    assert load_arrays(tmp_path, notes=np.array([{"python": "object"}])).digest == load_arrays(tmp_path).digest


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"images": np.full((30, 2, 2), np.nan)},
            r"array 'images' holds 120 values that are NaN, infinite or too large",
        ),
        ({"images": np.full((30, 2, 2), 1e39)}, r"holds 120 values that are NaN, infinite or too large for float32"),
        ({"images": np.full((30, 2, 2), -np.inf, np.float16)}, r"holds 120 values that are NaN, infinite"),
        (
            {"images": np.full((30, 2, 2), 2**24 + 1)},
            r"integers too large for float32 to keep \(16777217 to 16777217\)",
        ),
        ({"images": np.full((30, 2, 2), "a")}, r"array 'images' must hold numbers, but is of type <U1"),
        ({"images": np.full((30, 2, 2), 1j)}, r"array 'images' must hold numbers, but is of type complex128"),
        ({"images": np.full((30, 2, 2), None)}, r"holds Python objects, which are not loaded"),
        ({"images": np.zeros((30, 4), np.uint8)}, r"train: images must be an array N×H×W or N×H×W×C, but the shape is"),
        ({"images": np.zeros((30, 0, 4), np.uint8)}, r"train: images must have pixels, but the shape is \(30, 0, 4\)"),
        ({"images": np.zeros((0, 4, 4)), "labels": np.zeros(0, int)}, r"train: the set is empty"),
        ({"labels": repeated_labels(29)}, r"one label for each image, but 30 images have 29 labels"),
        ({"labels": np.eye(3)[repeated_labels(30)].astype(int)}, r"one label for each image, .* \(30, 3\) .*argmax"),
        (
            {"labels": repeated_labels(30).astype(float)},
            r"array 'labels' must hold integers or text, but is of type float64 \(they .* save labels\.astype\(int\)\)",
        ),
        ({"labels": np.full(30, 0.5)}, r"array 'labels' must hold integers or text, but is of type float64$"),
        ({"labels": np.full(30, np.nan)}, r"array 'labels' must hold integers or text, but is of type float64$"),
        (
            {"labels": np.array([b"\xff", b"a"])[repeated_labels(30, 2)]},
            r"array 'labels' holds bytes that are no UTF-8",
        ),
        (
            {"labels": np.array([2**63, 1], np.uint64)[repeated_labels(30, 2)]},
            r"the label 9223372036854775808, which is",
        ),
        ({"labels": np.zeros(30, int)}, r"there must be two classes or more, but every label is '0'"),
        ({"labels": np.arange(30)}, r"class '0' has too few samples to split: 1, .*30 of 30 classes"),
    ],
)
def test_arrays_that_cannot_be_learned_from(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "data.npz")) + ".*" + message):
        load_arrays(tmp_path, **arrays)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ({"test_images": random_images(6, 4, 5)}, r"unknown array 'test_labels'; .*valid: images, labels, test_images"),
        ({"test_labels": repeated_labels(6)}, r"unknown array 'test_images'"),
        (
            {"test_images": random_images(6, 4, 6), "test_labels": repeated_labels(6)},
            r"images must be of one size and type, but those of train are 4×5×1 uint8 and those of test 4×6×1 uint8",
        ),
        (
            {"test_images": random_images(6, 4, 5) / 2, "test_labels": repeated_labels(6)},
            r"must be of one type, but 'images' is uint8 and 'test_images' is float64 \(convert",
        ),
        (
            {"test_images": random_images(6, 4, 5), "test_labels": np.array([0, 1, 2, 3, 9, 9])},
            r"test holds classes that train does not know: '3', '9' \(add samples",
        ),
        (
            {"test_images": random_images(6, 4, 5), "test_labels": np.array(list("abcabc"))},
            r"labels must be all text or all integers, but those of train are int64 and those of test <U1",
        ),
        (
            {"test_images": random_images(0, 4, 5), "test_labels": np.zeros(0, int)},
            r"test: the set is empty",
        ),
        (
            {"test_images": random_images(6, 4, 5), "test_labels": repeated_labels(5)},
            r"test: there must be one label for each image, but 6 images have 5 labels",
        ),
    ],
)
def test_test_sets_that_do_not_fit(tmp_path: Path, test: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_arrays(tmp_path, **test)


def test_a_missing_array_lists_those_present_and_suggests(tmp_path: Path) -> None:
    path = saved(tmp_path, image=random_images(30, 4, 5), target=repeated_labels(30))
    message = r"data\.npz: unknown array 'images'; did you mean 'image'\?.* valid: image, target"
    with pytest.raises(DataError, match=message) as caught:
        load(DataConfig(source="npz", path=path))
    assert "'arrays'" in caught.value.hint


def test_test_arrays_that_the_recipe_names_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown array 'x_test'"):
        load_arrays(tmp_path, {"arrays": Arrays(test_images="x_test", test_labels="y_test")})


def npy_bytes() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def npz_bytes() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, images=random_images(30, 8, 8), labels=repeated_labels(30))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is no \.npz file \(write it with numpy\.savez\)"),
        (b"hello", r"is no \.npz file \(write it with numpy\.savez\)"),
        (pickle.dumps([1, 2]), r"is no \.npz file"),
        (b"PK, but no archive", r"is no \.npz file"),
        (npy_bytes(), r"holds a single array \(\.npy\) \(save images and labels with numpy\.savez\)"),
        (npz_bytes()[:-30], r"cannot be read as \.npz"),
        (npz_bytes()[:300] + b"\xff" * 200 + npz_bytes()[500:], r"cannot be read as \.npz"),
    ],
)
def test_files_that_are_no_npz(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(path)) + " " + message):
        load(DataConfig(source="npz", path=path))
