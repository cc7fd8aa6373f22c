from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_files import random_images, write_class_folders, write_image

from nas.artifact import Resize
from nas.data import Split, load, read_image
from nas.errors import DataError
from nas.recipe_sections import DataConfig


def config(path: Path, **fields: object) -> DataConfig:
    return DataConfig.model_validate({"source": "folder", "path": path} | fields)


def sorted_images(split: Split) -> np.ndarray:
    """A split's images in an order of their own, to compare sets of images."""
    flat = split.images.reshape(len(split), -1)
    return flat[np.lexsort(flat.T)]


def test_classes_are_the_sorted_folder_names(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"dog": 5, "ant": 10, "Cat": 5})
    dataset = load(config(tmp_path))
    assert dataset.class_names == ("Cat", "ant", "dog")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (12, 4, 4)
    assert np.bincount(dataset.train.labels).tolist() == [3, 6, 3]
    assert dataset.input.dtype == "uint8"
    assert dataset.input.resize is None


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("resize", [None, (6, 3)])
@pytest.mark.parametrize("size", [(4, 5), (4, 5, 3)])
def test_prediction_sees_pixel_for_pixel_what_training_saw(
    tmp_path: Path, layout: str, resize: tuple[int, int] | None, size: tuple[int, ...]
) -> None:
    write_class_folders(tmp_path, {"a": 4, "b": 4}, size)
    dataset = load(config(tmp_path, layout=layout, resize=resize))
    for label, name in enumerate(dataset.class_names):
        seen = {
            image.tobytes()
            for split in (dataset.train, dataset.validation, dataset.test)
            for image in split.images[split.labels == label]
        }
        assert seen == {read_image(path, dataset.input).tobytes() for path in (tmp_path / name).iterdir()}
    height, width = resize or (4, 5)
    assert dataset.input.channels_first == (len(size) * 2 - 3, height, width)
    assert dataset.input.resize == (Resize(6, 3, "bilinear") if resize else None)


def test_images_of_different_sizes_are_brought_to_one(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"a": 4}, (4, 5))
    write_class_folders(tmp_path, {"b": 4}, (9, 9))
    assert load(config(tmp_path, resize=(7, 6))).input.shape == (7, 6, 1)


def test_images_of_different_sizes_are_refused_with_the_remedy(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"a": 4, "b": 4}, (4, 5))
    write_image(tmp_path / "b" / "odd.png", random_images(1, 6, 7)[0])
    message = r"a/000\.png is 4×5 and .*b/odd\.png is 6×7 \(add 'resize: \[4, 5\]' \(height, width\) under 'data'"
    with pytest.raises(DataError, match=message):
        load(config(tmp_path))


def test_one_colour_image_makes_the_data_set_rgb(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"a": 4, "b": 4})
    assert load(config(tmp_path)).input.shape == (4, 5, 1)
    write_image(tmp_path / "b" / "colour.png", random_images(1, 4, 5, 3)[0])
    assert load(config(tmp_path)).input.shape == (4, 5, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_all_forms_of_grey_are_grey(tmp_path: Path, mode: str) -> None:
    write_class_folders(tmp_path, {"a": 4, "b": 4})
    write_image(tmp_path / "b" / "other.png", random_images(1, 4, 5)[0], mode)
    assert load(config(tmp_path)).input.shape == (4, 5, 1)


def test_hidden_files_and_files_that_are_no_images_are_passed_over(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"a": 4, "b": 4})
    before = load(config(tmp_path)).digest
    (tmp_path / "a" / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "README.md").write_text("no image")
    (tmp_path / ".cache").mkdir()
    assert load(config(tmp_path)).digest == before


@pytest.mark.parametrize("held_out", ["test", "val", "valid", "validation"])
def test_a_held_out_folder_beside_train_is_the_test_set(tmp_path: Path, held_out: str) -> None:
    write_class_folders(tmp_path / "train", {"a": 10, "b": 10})
    write_class_folders(tmp_path / held_out, {"b": 3})
    dataset = load(config(tmp_path))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (16, 4, 3)
    assert dataset.test.labels.tolist() == [1, 1, 1]
    assert dataset.test.images[1, ..., 0].tolist() == random_images(3, 4, 5)[1].tolist()


def test_train_validation_and_test_folders_are_used_as_they_are(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "train", {"a": 5, "b": 5})
    write_class_folders(tmp_path / "val", {"a": 2, "b": 3})
    write_class_folders(tmp_path / "test", {"a": 1, "b": 1})
    dataset = load(config(tmp_path))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (10, 5, 2)
    limited = load(config(tmp_path, validation_limit=3))
    assert (len(limited.train), len(limited.validation), len(limited.test)) == (10, 3, 2)


def test_a_class_of_the_test_folder_that_train_does_not_know(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "train", {"a": 5, "b": 5})
    write_class_folders(tmp_path / "test", {"a": 1, "c": 1})
    with pytest.raises(DataError, match=r"test holds classes that train does not know: 'c'"):
        load(config(tmp_path))


def test_train_beside_a_folder_of_another_name_is_a_class(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"train": 5, "plane": 5, "test": 5})
    assert load(config(tmp_path)).class_names == ("plane", "test", "train")


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"a": 4, "b": 4})
    (tmp_path / "b" / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"b/broken\.jpg cannot be read as an image \(remove it, or save it"):
        load(config(tmp_path))


def test_a_folder_without_sub_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must hold one sub-folder per class, but holds none"):
        load(config(tmp_path))


def test_a_class_folder_without_images(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"a": 4, "b": 4})
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match=r"the class folder .*c holds no images \(\.bmp, .*\(add some, or remove"):
        load(config(tmp_path))


def test_folders_inside_class_folders(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "photos" / "train", {"a": 4, "b": 4})
    write_class_folders(tmp_path, {"x": 4})
    with pytest.raises(DataError, match=r"photos must hold the images of one class, but holds the folder 'train'"):
        load(config(tmp_path))


def test_train_and_test_without_class_folders(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"train": 4, "test": 4})
    with pytest.raises(DataError, match=r"train must hold one sub-folder per class, but holds none \(sort the images"):
        load(config(tmp_path))


def test_two_validation_sets(tmp_path: Path) -> None:
    for part in ("train", "val", "validation"):
        write_class_folders(tmp_path / part, {"a": 4, "b": 4})
    with pytest.raises(DataError, match=r"must hold one validation set, but holds val and validation"):
        load(config(tmp_path))


def test_one_class_only(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"a": 4})
    with pytest.raises(DataError, match=r"there must be two classes or more, but every label is 'a'"):
        load(config(tmp_path))
