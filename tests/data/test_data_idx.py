from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from data_files import idx_bytes, random_images, repeated_labels, write_idx, write_idx_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from nas.data import load, normalisation_of
from nas.data.idx import read_idx
from nas.errors import DataError
from nas.recipe_sections import DataConfig

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(
    arrays(np.uint8, array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6)), st.sampled_from(["file", "file.gz"])
)
def test_round_trip(tmp_path: Path, array: np.ndarray, name: str) -> None:
    found = read_idx(write_idx(tmp_path / name, array), (1, 2, 3, 4))
    assert found.dtype == np.uint8
    assert found.flags.writeable
    assert np.array_equal(found, array)
    assert found.shape == array.shape


def test_compression_is_told_by_content_since_browsers_unpack_and_keep_the_name(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(idx_bytes(np.arange(4)))
    assert read_idx(path, (1,)).tolist() == [0, 1, 2, 3]


IMAGES = idx_bytes(random_images(3, 4, 5))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is no IDX file: it must begin with two zero bytes, but begins with \(nothing\)"),
        (b"\x89PNG....", r"is no IDX file: .* begins with 89 50 4e 47"),
        (b"\0\0\x0d" + IMAGES[3:], r"must hold unsigned bytes \(type 0x08\), but its header says type 0x0d"),
        (idx_bytes(np.arange(3)), r"must have 3 or 4 dimensions, but its header says 1"),
        (IMAGES[:10], r"ends inside its header, after 10 bytes \(download it again\)"),
        (IMAGES[:-1], r"must hold 60 values, as its header says \(3×4×5\), but holds 59 \(download"),
        (IMAGES + b"\0", r"must hold 60 values, as its header says \(3×4×5\), but holds 61"),
        (b"\0\0\x08\x03" + b"\xff" * 12, r"must hold 79228162458924105385300197375 values"),
        (gzip.compress(IMAGES, mtime=0)[:-9], r"is a damaged gzip file: .*\(download it again\)"),
        (gzip.compress(IMAGES, mtime=0)[:-8] + bytes(8), r"is a damaged gzip file: CRC check failed"),
        (gzip.compress(IMAGES, mtime=0)[:12] + b"\xff" * 40, r"is a damaged gzip file"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(path)) + " " + message):
        read_idx(path, (3, 4))


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
def test_a_test_set_is_used_whole_in_its_order(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    test_images, test_labels = random_images(7, *shape, seed=1), repeated_labels(7)
    write_idx_folder(tmp_path, random_images(30, *shape), repeated_labels(30), suffix=suffix)
    write_idx_folder(tmp_path, test_images, test_labels, "t10k", suffix)
    dataset = load(DataConfig(source="idx", path=tmp_path))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (24, 6, 7)
    assert dataset.input.shape == (*shape, 1)[:3]
    assert np.array_equal(dataset.test.images, test_images.reshape(7, 6, 5, -1))
    assert np.array_equal(dataset.test.labels, test_labels)
    assert dataset.test.images.flags.writeable
    assert dataset.class_names == ("0", "1", "2")


def test_without_a_test_set_one_is_split_off(tmp_path: Path) -> None:
    write_idx_folder(tmp_path, random_images(30, 4, 4), repeated_labels(30))
    dataset = load(DataConfig(source="idx", path=tmp_path))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (18, 6, 6)


def test_a_plain_file_is_preferred_to_a_compressed_one(tmp_path: Path) -> None:
    write_idx_folder(tmp_path, random_images(30, 4, 4), repeated_labels(30), suffix=".gz")
    write_idx_folder(tmp_path, random_images(60, 4, 4), repeated_labels(60))
    dataset = load(DataConfig(source="idx", path=tmp_path))
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) == 60


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("train-images-idx3-ubyte", r"train-labels-idx1-ubyte is there, but .*train-images-idx3-ubyte \(or \.gz\)"),
        ("t10k-labels-idx1-ubyte", r"t10k-images-idx3-ubyte is there, but .*t10k-labels-idx1-ubyte \(or \.gz\)"),
    ],
)
def test_half_a_pair_of_files(tmp_path: Path, missing: str, message: str) -> None:
    for part in ("train", "t10k"):
        write_idx_folder(tmp_path, random_images(30, 4, 4), repeated_labels(30), part)
    (tmp_path / missing).unlink()
    with pytest.raises(DataError, match=message):
        load(DataConfig(source="idx", path=tmp_path))


def test_a_folder_without_idx_files_is_listed(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"file{number}").touch()
    with pytest.raises(DataError, match=r"holds no IDX files .* but: file0, .*file7 and 2 more \(keep the names"):
        load(DataConfig(source="idx", path=tmp_path))


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="Fashion-MNIST is not installed")
def test_fashion_mnist() -> None:
    dataset = load(DataConfig(source="idx", path=FASHION_MNIST))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (48_000, 12_000, 10_000)
    assert dataset.input.shape == (28, 28, 1)
    assert np.bincount(dataset.train.labels).tolist() == [4_800] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1_000] * 10
    # Published for the 60,000 training images: mean 0.2860, standard deviation 0.3530 of full scale.
    normalisation = normalisation_of(dataset.train.images, dataset.input)
    assert normalisation.mean == (73.0,)
    assert normalisation.std[0] / 255 == pytest.approx(0.3530, abs=0.001)
