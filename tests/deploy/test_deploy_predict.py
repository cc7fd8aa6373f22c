"""Predicting: the deployment's own answers for image files and arrays, and what is said of files that do not fit."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deploy_fakes import CLASS_NAMES, GREY, make_example
from PIL import Image

from nas.artifact import InputSpec, Resize, open_session, probabilities
from nas.data.images import read_image
from nas.deploy import Deployment, Limits, choose, deploy, load_deployment, predict
from nas.deploy import predict as predict_function
from nas.errors import ArtifactError, DataError

predict_module = sys.modules["nas.deploy.predict"]  # the package's own name for it is the function
FLOAT = InputSpec("float32", (6, 5, 2))


def deployment_of(folder: Path, input: InputSpec) -> Deployment:
    example = make_example(folder / "study", input)
    deployed = deploy(
        example.study, choose(example.study, Limits(max_latency_ms=1)), folder / "deploy", example.dataset
    )
    return load_deployment(deployed.folder)


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deployment_of(tmp_path_factory.mktemp("grey"), GREY)


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deployment_of(tmp_path_factory.mktemp("floats"), FLOAT)


def write_image(path: Path, seed: int, size: tuple[int, int] = (5, 6)) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_array(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def answers(deployment: Deployment, arrays: np.ndarray) -> np.ndarray:
    """What the model file gives, by ONNX Runtime alone."""
    return open_session((deployment.folder / "model.onnx").read_bytes()).run(None, {"images": arrays})[0]


def test_images_are_classified_in_order(grey: Deployment, tmp_path: Path) -> None:
    paths = [write_image(tmp_path / f"{seed}.png", seed) for seed in range(130)]  # more than are read at once
    predictions = predict_function(grey, paths)
    rows = answers(grey, np.stack([read_image(path, GREY) for path in paths]))
    assert [p.path for p in predictions] == paths
    assert [p.label for p in predictions] == [CLASS_NAMES[i] for i in rows.argmax(1)]
    np.testing.assert_allclose([p.probability for p in predictions], rows.max(1), rtol=1e-6)
    assert len({p.label for p in predictions}) > 1


def test_the_most_probable_classes_fall(grey: Deployment, tmp_path: Path) -> None:
    (prediction,) = predict(grey, [write_image(tmp_path / "a.png", 1)])
    assert [name for name, _ in prediction.top] != list(CLASS_NAMES)
    assert sorted(prediction.top, key=lambda item: -item[1]) == list(prediction.top)
    assert sum(p for _, p in prediction.top) == pytest.approx(1)
    assert (prediction.label, prediction.probability) == prediction.top[0]
    assert prediction.index is None


def test_images_of_other_sizes_are_resized_as_in_training(tmp_path: Path) -> None:
    input = InputSpec("uint8", (6, 5, 3), resize=Resize(6, 5))
    deployment = deployment_of(tmp_path, input)
    path = write_image(tmp_path / "large.png", 3, size=(40, 31))
    (prediction,) = predict(deployment, [path])
    row = answers(deployment, read_image(path, input)[None])[0]
    assert prediction.label == CLASS_NAMES[row.argmax()]
    assert prediction.probability == pytest.approx(row.max(), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_single_and_in_a_batch(floats: Deployment, tmp_path: Path, dtype: type) -> None:
    batch = np.random.default_rng(0).normal(0, 20, (3, *FLOAT.shape)).astype(dtype)
    one, three = write_array(tmp_path / "one.npy", batch[1]), write_array(tmp_path / "three.npy", batch)
    predictions = predict(floats, [one, three])
    rows = answers(floats, batch.astype(np.float32))
    assert [(p.path, p.index) for p in predictions] == [(one, None), (three, 0), (three, 1), (three, 2)]
    assert [p.label for p in predictions] == [CLASS_NAMES[i] for i in rows[[1, 0, 1, 2]].argmax(1)]


def test_uint8_arrays_where_the_model_takes_images(grey: Deployment, tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.png", 5)
    array = write_array(tmp_path / "a.npy", read_image(image, GREY))
    from_image, from_array = predict(grey, [image, array])
    assert from_image.top == from_array.top


@pytest.mark.parametrize("input", [GREY, InputSpec("uint8", (1, 6, 5), "NCHW")])
def test_arrays_without_the_axis_of_a_single_channel(tmp_path: Path, input: InputSpec) -> None:
    deployment = deployment_of(tmp_path, input)
    batch = np.random.default_rng(0).integers(0, 256, (3, 6, 5), dtype=np.uint8)
    arrays = {"one": batch[1], "three": batch, "first": batch[:1]}
    predictions = predict(deployment, [write_array(tmp_path / f"{name}.npy", a) for name, a in arrays.items()])
    rows = answers(deployment, batch.reshape(3, *input.shape))[[1, 0, 1, 2, 0]]
    # 1×6×5 is a batch of one, but where channels come first it is just what the model takes.
    last = 0 if input.layout == "NHWC" else None
    assert [(p.path.stem, p.index) for p in predictions] == [
        ("one", None),
        ("three", 0),
        ("three", 1),
        ("three", 2),
        ("first", last),
    ]
    assert [p.label for p in predictions] == [CLASS_NAMES[i] for i in rows.argmax(1)]
    np.testing.assert_allclose([p.probability for p in predictions], rows.max(1), rtol=1e-6)


def test_no_more_threads_than_cores(grey: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def record(content: bytes, threads: int) -> object:
        opened.append(threads)
        return open_session(content, 1)

    monkeypatch.setattr(predict_module, "open_session", record)
    monkeypatch.setattr(predict_module, "usable_cores", lambda: 3)
    for threads in (2, 200):
        predict(replace(grey, serving=replace(grey.serving, threads=threads)), [])
    assert opened == [2, 3]


def test_no_files_give_no_predictions(grey: Deployment) -> None:
    assert predict(grey, []) == []


class TestRefused:
    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros((2, 6, 5), np.float32), r"must hold an array 6×5×2 or a batch N×6×5×2 \(NHWC\), but holds 2×6×5"),
            (np.zeros((1, 1, 6, 5, 2), np.float32), "but holds 1×1×6×5×2"),
            (np.zeros((6, 5), np.float32), "but holds 6×5"),
            (np.zeros((0, 6, 5, 2), np.float32), "but holds 0×6×5×2"),
            (np.float32(3), "but holds a single number"),
            (np.zeros((6, 5, 2), np.uint8), r"must hold float32, but holds uint8 \(convert it: array.astype"),
            (np.zeros((6, 5, 2), complex), "must hold float32, but holds complex128"),
            (np.full((6, 5, 2), np.nan), "holds values that are NaN, infinite or too large for float32"),
            (np.full((6, 5, 2), 1e300), "holds values that are NaN, infinite or too large for float32"),
        ],
    )
    def test_arrays_that_do_not_fit(self, floats: Deployment, tmp_path: Path, array: np.ndarray, message: str) -> None:
        path = write_array(tmp_path / "a.npy", array)
        with pytest.raises(DataError, match=message) as caught:
            predict(floats, [path])
        assert caught.value.message.startswith(str(path))

    @pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
    def test_arrays_of_another_type_than_the_image(self, grey: Deployment, tmp_path: Path, dtype: type) -> None:
        with pytest.raises(DataError, match=f"must hold uint8, but holds {np.dtype(dtype)}"):
            predict(grey, [write_array(tmp_path / "a.npy", np.zeros(GREY.shape, dtype))])

    @pytest.mark.parametrize("shape", [(5, 6), (3, 5, 6), (6, 5, 3), (6, 5, 2), (0, 6, 5), (6,)])
    def test_arrays_without_channels_of_another_size(
        self, grey: Deployment, tmp_path: Path, shape: tuple[int, ...]
    ) -> None:
        with pytest.raises(DataError, match=r"must hold an array 6×5×1 or a batch N×6×5×1 \(NHWC\), but holds"):
            predict(grey, [write_array(tmp_path / "a.npy", np.zeros(shape, np.uint8))])

    def test_a_description_of_another_model(self, grey: Deployment, tmp_path: Path) -> None:
        taller = replace(GREY, shape=(8, 9, 1))
        array = write_array(tmp_path / "a.npy", np.zeros((8, 9, 1), np.uint8))
        with pytest.raises(ArtifactError, match=r"takes and gives .*\[6, 5, 1\].* but must .*\[8, 9, 1\]"):
            predict(replace(grey, input=taller), [array])
        with pytest.raises(ArtifactError, match=r"takes and gives .*\[4\].* but must .*\[1\]") as caught:
            predict(replace(grey, class_names=("cat",)), [write_image(tmp_path / "a.png", 0)])
        assert "\n" not in str(caught.value)

    def test_a_run_that_fails_is_one_line(self, grey: Deployment) -> None:
        session = open_session(grey.read_model())
        with pytest.raises(ArtifactError, match=r"^ONNX Runtime cannot run the model: .*[Ii]nvalid") as caught:
            probabilities(session, np.zeros((2, 8, 9, 1), np.uint8))
        assert "\n" not in caught.value.message

    def test_pickles_are_not_run(self, floats: Deployment, tmp_path: Path) -> None:
        path = tmp_path / "a.npy"
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(DataError, match=r"cannot be read as \.npy: .*allow_pickle=False"):
            predict(floats, [path])

    def test_files_that_are_no_array(self, floats: Deployment, tmp_path: Path) -> None:
        (tmp_path / "text.npy").write_text("1 2 3")
        with pytest.raises(DataError, match=r"text\.npy cannot be read as \.npy"):
            predict(floats, [tmp_path / "text.npy"])
        with pytest.raises(DataError, match=r"there is no file .*gone\.npy"):
            predict(floats, [tmp_path / "gone.npy"])
        with open(tmp_path / "several.npy", "wb") as file:
            np.savez(file, a=np.zeros(3))
        with pytest.raises(DataError, match=r"several\.npy is no \.npy file: it holds several arrays"):
            predict(floats, [tmp_path / "several.npy"])

    def test_images_that_do_not_fit(self, grey: Deployment, floats: Deployment, tmp_path: Path) -> None:
        image = write_image(tmp_path / "large.png", 0, size=(8, 8))
        with pytest.raises(DataError, match=r"large\.png is 8×8"):
            predict(grey, [image])
        with pytest.raises(DataError, match=r"large\.png cannot be used: the input is float32 with 2 channels"):
            predict(floats, [image])
        with pytest.raises(DataError, match="there is no image"):
            predict(grey, [tmp_path / "gone.png"])

    def test_a_model_that_was_changed_since_it_was_loaded(self, tmp_path: Path) -> None:
        deployment = deployment_of(tmp_path, GREY)
        (deployment.folder / "model.onnx").write_bytes(b"another")
        with pytest.raises(ArtifactError, match="was changed after it was deployed"):
            predict(deployment, [write_image(tmp_path / "a.png", 0)])
