"""The readers of what comes from outside, each as a function of the folder that holds its file under a fixed name.

The tests, the fuzzer of ``atheris_fuzz.py`` and the process of ``safety_worker.py`` run the same ones. None is to raise
anything but a NasError, whatever the files hold.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from nas import data
from nas.artifact import InputSpec
from nas.deploy.deployment import read_description
from nas.deploy.upload import read_upload
from nas.recipe import load_recipe
from nas.recipe_sections import DataConfig
from nas.record import read_records
from nas.safety.onnx_file import check_onnx
from nas.space import load_space
from nas.store import Store

KEY = "ab" * 32
UPLOADS = (InputSpec("uint8", (4, 5, 3)), InputSpec("float32", (2, 3, 1)))

Target = Callable[[Path], object]


def recipe(folder: Path) -> None:
    load_recipe(folder / "recipe.yaml")


def space(folder: Path) -> None:
    read = load_space(str(folder / "space.yaml"))
    read.contains(read.sample(random.Random(0)))
    assert read.digest()


def npz(folder: Path) -> None:
    data.load(DataConfig(source="npz", path=folder / "data.npz"))


def idx(folder: Path) -> None:
    data.load(DataConfig(source="idx", path=folder))


def images(folder: Path) -> None:
    data.load(DataConfig(source="folder", path=folder))


def resized(folder: Path) -> None:
    data.load(DataConfig(source="folder", path=folder, resize=(3, 4)))


def deployment(folder: Path) -> None:
    read_description(folder).read_model()


def records(folder: Path) -> None:
    read_records(folder)


def cache(folder: Path) -> None:
    Store(folder, 10**6).get(KEY)


def upload(folder: Path) -> None:
    content = (folder / "upload").read_bytes()
    for input in UPLOADS:
        for kind in ("", "application/json"):
            read_upload(content, kind, input)


def onnx_bytes(folder: Path) -> None:
    check_onnx((folder / "model.onnx").read_bytes(), "model.onnx")


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (recipe, space, npz, idx, images, resized, deployment, records, cache, upload, onnx_bytes)
}
# What each target's file is called, of those that read a single one.
FILES = {
    "recipe": "recipe.yaml",
    "space": "space.yaml",
    "npz": "data.npz",
    "deployment": "deployment.json",
    "records": "00000.json",
    "cache": f"keys/{KEY}.json",
    "upload": "upload",
    "onnx_bytes": "model.onnx",
}
