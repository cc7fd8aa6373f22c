"""A folder of images, one sub-folder per class.

path/cat/1.png                  a test and a validation set are split off
path/train/cat/1.png            … or both or one of them stand beside it: 'test' (where there is only a
path/test/cat/2.png             'val', that is the test set) and 'val' (also 'valid', 'validation')
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from nas.artifact import InputSpec, Resize
from nas.data.images import EXTENSIONS, read_header, read_image
from nas.data.source import RawData, Samples, required_path, source
from nas.errors import DataError
from nas.recipe_sections import DataConfig
from nas.safety.arrays import check_data_bytes

VALIDATION_FOLDERS = ("val", "valid", "validation")

Labelled = list[tuple[Path, str]]  # image file and name of its class


@source("folder")
def read_folder(config: DataConfig) -> RawData:
    """Reads every image below the folder; hidden files and files that are no images by name are passed over.

    All images are grey if every file is, else RGB.

    Raises:
        DataError: No class folders, a class without images, a file that cannot be read, or images of different sizes
            where the recipe does not say to resize.
    """
    root = required_path(config, "folder")
    parts = {part: _labelled(folder, required=part == "train") for part, folder in _parts(root).items()}
    input = _input_of([path for files in parts.values() for path, _ in files], config)
    samples = {part: _read(files, input) for part, files in parts.items()}
    return RawData(samples["train"], samples.get("validation"), samples.get("test"), input.resize)


def _parts(root: Path) -> dict[str, Path]:
    """The folders that hold class folders, by the part of the data set that they are."""
    folders = {folder.name: folder for folder in _visible_folders(root)}
    if "train" not in folders or len(folders) < 2 or not folders.keys() <= {"train", "test", *VALIDATION_FOLDERS}:
        return {"train": root}
    validation = [name for name in VALIDATION_FOLDERS if name in folders]
    if len(validation) > 1:
        raise DataError(f"{root} must hold one validation set, but holds {' and '.join(validation)}")
    if not _visible_folders(folders["train"]):
        raise DataError(
            f"{folders['train']} must hold one sub-folder per class, but holds none",
            "sort the images of each set into class folders",
        )
    parts = {"train": folders["train"]}
    if "test" not in folders:
        return parts | {"test": folders[validation[0]]}
    if validation:
        parts["validation"] = folders[validation[0]]
    return parts | {"test": folders["test"]}


def _labelled(folder: Path, required: bool) -> Labelled:
    """Every image with its class's name, in sorted order; ``required`` refuses classes without images."""
    classes = _visible_folders(folder)
    if not classes:
        raise DataError(f"{folder} must hold one sub-folder per class, but holds none")
    found: Labelled = []
    for class_folder in classes:
        if nested := _visible_folders(class_folder):
            raise DataError(
                f"{class_folder} must hold the images of one class, but holds the folder '{nested[0].name}'",
                "point 'path' at the folder of the class folders, or at one that holds 'train' and 'test' alone",
            )
        images = [path for path in _visible(class_folder) if path.suffix.lower() in EXTENSIONS]
        if required and not images:
            raise DataError(
                f"the class folder {class_folder} holds no images ({', '.join(sorted(EXTENSIONS))})",
                "add some, or remove the folder",
            )
        found += [(path, class_folder.name) for path in images]
    return found


def _input_of(files: list[Path], config: DataConfig) -> InputSpec:
    """What the images have in common: channels, and the size unless they are resized."""
    headers = [read_header(path) for path in files]
    channels = 1 if all(header.grey for header in headers) else 3
    resize = Resize(*config.resize) if config.resize else None
    height, width = config.resize or (headers[0].height, headers[0].width)
    if resize is None:
        for path, header in zip(files, headers, strict=True):
            if (header.height, header.width) != (height, width):
                raise DataError(
                    f"images must have one size (height × width), but {files[0]} is {height}×{width} "
                    f"and {path} is {header.height}×{header.width}",
                    f"add 'resize: [{height}, {width}]' (height, width) under 'data' in the recipe",
                )
    shape = (height, width, channels) if config.layout == "NHWC" else (channels, height, width)
    return InputSpec("uint8", shape, config.layout, resize)


def _read(files: Labelled, input: InputSpec) -> Samples:
    check_data_bytes(f"the images below {files[0][0].parent.parent}", len(files) * math.prod(input.shape))
    images = np.empty((len(files), *input.shape), dtype=np.uint8)
    for index, (path, _) in enumerate(files):
        images[index] = read_image(path, input)
    return Samples(images, np.array([name for _, name in files], dtype=np.str_))


def _visible(folder: Path) -> list[Path]:
    """What lies in a folder, by name; hidden entries left out."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error


def _visible_folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]
