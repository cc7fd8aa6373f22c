"""Writers of small data sets in every form that is read, for tests."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from PIL import Image


def random_images(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    """uint8 images of that shape."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def repeated_labels(count: int, classes: int = 3) -> np.ndarray:
    """Labels 0, 1, …, 0, 1, …"""
    return np.arange(count) % classes


def idx_bytes(array: np.ndarray) -> bytes:
    """An array of unsigned bytes in the IDX format."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(path: Path, array: np.ndarray) -> Path:
    """Writes an IDX file, compressed where the name ends in ``.gz``."""
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_idx_folder(
    folder: Path, images: np.ndarray, labels: np.ndarray, part: str = "train", suffix: str = ""
) -> None:
    """Writes images and labels under the names that are published."""
    folder.mkdir(parents=True, exist_ok=True)
    write_idx(folder / f"{part}-images-idx{images.ndim}-ubyte{suffix}", images)
    write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", labels)


def write_image(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    """Writes H×W or H×W×C pixels, converted to a Pillow mode where one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


def write_class_folders(root: Path, classes: dict[str, int], size: tuple[int, ...] = (4, 5)) -> Path:
    """Writes so many random images of each class."""
    for seed, (name, count) in enumerate(classes.items()):
        for index, pixels in enumerate(random_images(count, *size, seed=seed)):
            write_image(root / name / f"{index:03d}.png", pixels)
    return root
