"""Data from a Python function of one's own: what it may give, how images lie, and what is refused."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pytest

from nas.data import Dataset, load
from nas.errors import DataError
from nas.own_code import OwnCodeError
from nas.recipe import parse_recipe
from nas.recipe_sections import DataConfig

START = """
import numpy as np
rng = np.random.default_rng(0)
labels = np.arange(40) % 4
images = rng.integers(0, 256, (40, 6, 5), dtype=np.uint8)
"""


def loaded(folder: Path, body: str, start: str = START, **changes: object) -> Dataset:
    (folder / "my_data.py").write_text(start + "def load():\n" + textwrap.indent(textwrap.dedent(body).strip(), "    "))
    return load(DataConfig(source="python", path=folder / "my_data.py:load", **changes))  # type: ignore[arg-type]


def test_images_and_labels(tmp_path: Path) -> None:
    dataset = loaded(tmp_path, "return images, labels")
    assert dataset.input.shape == (6, 5, 1)
    assert dataset.input.dtype == "uint8"
    assert dataset.class_names == ("0", "1", "2", "3")
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) == 40


def test_parts_and_class_names(tmp_path: Path) -> None:
    dataset = loaded(
        tmp_path,
        """
        parts = {"train": (images[:28], labels[:28]), "test": [images[28:], labels[28:]]}
        return parts | {"class_names": ["cat", "dog", "fox", "owl"]}
        """,
    )
    assert len(dataset.test) == 12
    assert dataset.class_names == ("cat", "dog", "fox", "owl")
    assert loaded(tmp_path, "return images, labels, 'a b c d'.split()").class_names == tuple("abcd")
    assert loaded(tmp_path, "return images, labels, 'a b c d'.split()", class_names=tuple("wxyz")).class_names[0] == "w"


def test_tensors_of_torch_and_lists_are_arrays_too(tmp_path: Path) -> None:
    start = START + "import torch\n"
    plain = loaded(tmp_path, "return images, labels")
    tensors = loaded(tmp_path, "return torch.tensor(images), torch.tensor(labels)", start)
    lists = loaded(tmp_path, "return images.tolist(), labels.tolist()")
    assert plain.digest == tensors.digest == lists.digest
    half = loaded(tmp_path, "return torch.ones(40, 6, 5, dtype=torch.bfloat16, requires_grad=True), labels", start)
    assert half.input.dtype == "float32"


SHAPES = [
    ((40, 6, 5), {}, "NHWC", (6, 5, 1)),
    ((40, 6, 5, 3), {}, "NHWC", (6, 5, 3)),
    ((40, 3, 6, 5), {}, "NCHW", (3, 6, 5)),
    ((40, 6, 5, 12), {"layout": "NHWC"}, "NHWC", (6, 5, 12)),
    ((40, 3, 5, 3), {"layout": "NCHW"}, "NCHW", (3, 5, 3)),
    ((40, 3, 6, 5), {"layout": "NHWC"}, "NHWC", (3, 6, 5)),
]


@pytest.mark.parametrize(("shape", "changes", "layout", "expected"), SHAPES)
def test_the_channel_axis_is_the_short_one_or_where_the_recipe_says(
    tmp_path: Path,
    shape: tuple[int, ...],
    changes: dict[str, object],
    layout: str,
    expected: tuple[int, ...],
) -> None:
    dataset = loaded(tmp_path, f"return rng.random({shape}), labels", **changes)
    assert (dataset.input.layout, dataset.input.shape) == (layout, expected)


@pytest.mark.parametrize("shape", [(40, 3, 5, 3), (40, 6, 5, 12)])
def test_a_channel_axis_that_is_not_clear_must_be_said(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(OwnCodeError, match=r"the channel axis is not clear \(my_data\.py, line 6\) \(write 'layout: N"):
        loaded(tmp_path, f"return np.zeros({shape}), labels")


def test_a_recipe_that_was_written_and_read_again_finds_the_layout_anew(tmp_path: Path) -> None:
    data = {"source": "python", "path": "my_data.py:load"}
    recipe = parse_recipe({"data": data, "space": "mlp", "budget": {"trials": 1}}, "a test's recipe")
    again = parse_recipe(recipe.to_json(), "the same")
    assert recipe.data.layout == again.data.layout == "auto"
    assert not recipe.differences(again)


def test_another_function_or_other_data_is_another_digest(tmp_path: Path) -> None:
    first = loaded(tmp_path, "return images, labels")
    assert loaded(tmp_path, "return images, labels  # the same").digest == first.digest
    assert loaded(tmp_path, "return images + 1, labels").digest != first.digest


REFUSED = [
    ("return images", r"my_data\.py:load must give images and labels, but gave a ndarray \(my_data\.py, line 6\)"),
    ("return None", r"must give images and labels, but gave nothing"),
    ("return 1, 2, 3, 4", r"must give images and labels, but gave 4 things"),
    ("return {'trian': (images, labels)}", r"gives the part 'trian'; did you mean 'train'"),
    ("return {'test': (images, labels)}", r"gives no 'train', but test"),
    ("return {'train': images}", r"must give images and labels for 'train', but gave a ndarray"),
    ("return images[0], labels", r"images as N×H×W, N×H×W×C or N×C×H×W, but train has shape \(6, 5\)"),
    ("return images[:39], labels", r"gives 39 images but 40 labels for 'train'"),
    ("return [[1], [1, 2]], labels", r"gives train images that are no array"),
    ("return np.array([None] * 40), labels", r"train images that are no array of numbers or text .*are all images of"),
    ("return np.full((40, 6, 5), np.nan), labels", r"array 'train images' holds 1200 values that are NaN"),
    ("return images, labels / 2", r"array 'train labels' must hold integers or text"),
    ("return images[:0], labels[:0]", r"the set is empty"),
    ("return images, labels * 0", r"there must be two classes or more"),
    ("return images, labels, 'abcd'", r"'class_names' must be a list of texts"),
    ("return images, labels, ['a', 'b']", r"'class_names' must name 4 classes, but names 2"),
    ("x = 1\nreturn images[x:, 'no']", r"my_data\.py:load raised IndexError: .*\(my_data\.py, line 8\)$"),
]


@pytest.mark.parametrize(("body", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_learned_from_is_one_clear_line(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises((DataError, OwnCodeError), match=message) as raised:
        loaded(tmp_path, body)
    assert "\n" not in str(raised.value)


def test_a_missing_file_or_function(tmp_path: Path) -> None:
    with pytest.raises(OwnCodeError, match=r"there is no Python file .*my_data\.py"):
        load(DataConfig(source="python", path=tmp_path / "my_data.py:load"))
    loaded(tmp_path, "return images, labels")
    with pytest.raises(OwnCodeError, match=r"unknown function of .*my_data\.py: 'laod'; did you mean 'load'"):
        load(DataConfig(source="python", path=tmp_path / "my_data.py:laod"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"source": "python"}, "data source 'python' needs a 'path'"),
        ({"source": "python", "path": "my_data.py"}, "needs 'path: FILE.py:FUNCTION', but got 'my_data.py'"),
        ({"source": "npz", "path": "x.npz", "layout": "auto"}, "'layout: auto' is for the data source 'python' only"),
    ],
)
def test_what_a_recipe_must_say(data: dict[str, object], message: str) -> None:
    with pytest.raises(Exception, match=message):
        parse_recipe({"data": data, "space": "mlp", "budget": {"trials": 1}}, "a test's recipe")


def test_what_the_function_keeps_is_not_shared_with_the_data_set(tmp_path: Path) -> None:
    start = START + "kept = images\n"
    first, second = loaded(tmp_path, "return kept, labels", start), loaded(tmp_path, "return kept, labels", start)
    first.train.images[:] = 0
    assert np.any(second.train.images)
