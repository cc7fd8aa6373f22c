"""A person's present model: found, scored where the data fits its input, and held beside the pick in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deploy_fakes import CLASS_NAMES, GREY, make_model, make_split
from fakes import TARGET, make_record, write_study

from nas.artifact import InputSpec, open_session, probabilities
from nas.data.dataset import Dataset
from nas.data.normalise import Normalisation
from nas.deploy import Limits, choose
from nas.deploy.beside import sentences
from nas.deploy.present import Present, PresentModel, Scored, find_present, score_present
from nas.errors import ArtifactError
from nas.outcome import How, Quantity
from nas.scoring import score
from nas.target import Target

HERE = Target.parse(TARGET)
FLOAT = InputSpec("float32", (1, 6, 5), "NCHW")
COLOUR = InputSpec("uint8", (6, 5, 3))


def dataset_of(input: InputSpec) -> Dataset:
    splits = [make_split(input, count, seed) for seed, count in enumerate((8, 50, 30))]
    return Dataset(splits[0], splits[1], splits[2], CLASS_NAMES, input, "digest")


def run(content: bytes, target: Target, images: np.ndarray) -> np.ndarray:
    return probabilities(open_session(content), images, target.batch)


def file_of(folder: Path, content: bytes) -> PresentModel:
    (folder / "present.onnx").write_bytes(content)
    return PresentModel(folder / "present.onnx")


def batch(input: InputSpec, size: int = 1) -> np.ndarray:
    return np.zeros((size, *input.shape), input.dtype)


# --- finding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.onnx", "there is no model file"),
        ("folder", r"is a folder without deployment\.json"),
        ("notes.txt", r"must be a \.onnx file or a \.pt2 file or a deployment's folder"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(ArtifactError, match=message) as caught:
        find_present(tmp_path / name)
    assert caught.value.hint


def test_a_file_is_called_by_its_name(tmp_path: Path) -> None:
    model = file_of(tmp_path, b"")
    assert find_present(model.path) == model
    assert model.name == "present.onnx"


# --- scoring ---------------------------------------------------------------------------------------------------------


def test_a_model_that_takes_the_data_as_it_is(tmp_path: Path) -> None:
    dataset, content = dataset_of(GREY), make_model(GREY)
    found = score_present(file_of(tmp_path, content), HERE, batch(GREY), dataset, None, run)
    expected = {}
    for prefix, split in (("", dataset.validation), ("test_", dataset.test)):
        outputs = probabilities(open_session(content), split.images)
        expected |= {q.name: q for q in score(outputs, split.labels, prefix)}
    assert found == Scored(expected)
    assert set(found.scores) == {"accuracy", "balanced_accuracy", "test_accuracy", "test_balanced_accuracy"}


def test_a_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    dataset = dataset_of(GREY)
    model, free = file_of(tmp_path, make_model(GREY, batch=8)), make_model(GREY)
    eight = Target.parse("onnxruntime-cpu-1t-b8")
    found = score_present(model, eight, batch(GREY, 8), dataset, None, run)
    accuracy, _ = score(probabilities(open_session(free), dataset.test.images), dataset.test.labels, "test_")
    assert found.scores["test_accuracy"] == accuracy


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_a_network_is_given_normalised_images_in_its_own_layout(tmp_path: Path, layout: str) -> None:
    dataset = dataset_of(COLOUR)
    shape = (6, 5, 3) if layout == "NHWC" else (3, 6, 5)
    seen: list[np.ndarray] = []

    def outputs(content: bytes, target: Target, images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return np.eye(4, dtype=np.float32)[np.zeros(len(images), int)]

    normalisation = Normalisation((10.0, 20.0, 30.0), (2.0, 4.0, 5.0))
    taken = np.zeros((1, *shape), np.float32)
    found = score_present(file_of(tmp_path, b"x"), HERE, taken, dataset, normalisation, outputs)
    assert not found.why_not
    wanted = (dataset.validation.images.astype(np.float32) - [10, 20, 30]) / np.array([2, 4, 5])
    wanted = wanted if layout == "NHWC" else np.moveaxis(wanted, 3, 1)
    np.testing.assert_allclose(seen[0], wanted, rtol=1e-6)
    assert (seen[0].dtype, seen[0].flags.c_contiguous) == (np.float32, True)


def test_arrays_with_the_channels_elsewhere_are_turned(tmp_path: Path) -> None:
    """The data is N×C×H×W; what takes N×H×W×C gets it so."""
    dataset = dataset_of(FLOAT)
    shapes: list[tuple[int, ...]] = []

    def outputs(content: bytes, target: Target, images: np.ndarray) -> np.ndarray:
        shapes.append(images.shape[1:])
        return np.zeros((len(images), 4), np.float32)

    score_present(file_of(tmp_path, b"x"), HERE, np.zeros((1, 6, 5, 1), np.float32), dataset, None, outputs)
    assert shapes == [(6, 5, 1), (6, 5, 1)]


NORMALISED = Normalisation((0.0,), (1.0,))


@pytest.mark.parametrize(
    ("taken", "normalisation", "why"),
    [
        (np.zeros((1, 9, 9, 1), np.uint8), None, "it takes uint8 of 9×9×1, but the data is uint8 of 6×5×1"),
        (np.zeros((1, 1, 6, 5), np.float32), None, "say by --baseline-mean and --baseline-std"),
        (np.zeros((1, 6, 5, 1), np.uint8), NORMALISED, "leave --baseline-mean and --baseline-std out"),
        (np.zeros((1, 30), np.float32), None, "it takes float32 of 30, but the data is"),
    ],
)
def test_data_that_does_not_fit(
    tmp_path: Path, taken: np.ndarray, normalisation: Normalisation | None, why: str
) -> None:
    found = score_present(file_of(tmp_path, b"x"), HERE, taken, dataset_of(GREY), normalisation, run)
    assert why in found.why_not
    assert not found.scores


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (np.zeros((50, 3)), "it gives 50×3 numbers for 50 images of 4 classes"),
        (np.zeros((50, 4, 1)), "it gives 50×4×1 numbers"),
        (np.full((50, 4), np.nan), "not finite"),
    ],
)
def test_outputs_that_are_no_answers(tmp_path: Path, given: np.ndarray, why: str) -> None:
    found = score_present(file_of(tmp_path, b"x"), HERE, batch(GREY), dataset_of(GREY), None, lambda *_: given)
    assert why in found.why_not


def test_a_model_that_does_not_run_on_the_data_is_said_so(tmp_path: Path) -> None:
    def broken(content: bytes, target: Target, images: np.ndarray) -> np.ndarray:
        raise ArtifactError("the model cannot be run: no")

    found = score_present(file_of(tmp_path, b"x"), HERE, batch(GREY), dataset_of(GREY), None, broken)
    assert found.why_not == "it cannot be run on the data: the model cannot be run: no"


# --- in words --------------------------------------------------------------------------------------------------------


def latency(ms: float) -> Quantity:
    return Quantity("latency_ms", ms, "ms", How.MEASURED, target=TARGET, low=0.99 * ms, high=1.01 * ms)


def accuracy(name: str, value: float) -> Quantity:
    return Quantity(name, value, "1", How.MEASURED, low=value - 0.01, high=value + 0.01)


def present(**changes: object) -> Present:
    scored = Scored({q.name: q for q in (accuracy("accuracy", 0.91), accuracy("test_accuracy", 0.90))})
    usual = Present("old", HERE, latency(0.2), 80_000, scored, ("CPU a", "aa"), ("CPU a", "aa"), latency(0.1))
    return replace(usual, **changes)  # type: ignore[arg-type]


TESTED = {"test_accuracy": accuracy("test_accuracy", 0.94)}


def said(tmp_path: Path, found: Present, tested: dict[str, Quantity] | None = None) -> list[str]:
    study = write_study(tmp_path / "study", [make_record(0, 0.95, 0.1)])
    return sentences(choose(study, Limits()), found, TESTED if tested is None else tested)


def test_both_are_compared(tmp_path: Path) -> None:
    assert said(tmp_path, present()) == [
        "Against old the pick is 2.0× faster (0.100 ms against 0.200 ms); 4 points more accurate on test data; "
        "2.0× smaller as a file.",
        "Timed on ONNX Runtime, CPU, 1 thread, batch 1, one after the other, by what serves the pick.",
    ]


def test_what_chance_may_explain_is_said(tmp_path: Path) -> None:
    scored = Scored({"test_accuracy": accuracy("test_accuracy", 0.945)})
    line = said(tmp_path, present(latency=latency(0.1002), scored=scored, size_bytes=40_000))[0]
    assert line == (
        "Against old the pick is not told apart in latency (0.100 ms against 0.100 ms); 0.5 points less accurate on "
        "test data, which is within chance; of the same file size."
    )


def test_validation_data_is_named_where_there_are_no_test_scores(tmp_path: Path) -> None:
    assert "4 points more accurate on validation data" in said(tmp_path, present(), {})[0]


def test_another_machine_is_said_first_and_the_study_is_not_compared(tmp_path: Path) -> None:
    lines = said(tmp_path, present(there=("CPU b", "bb"), pick_latency=None, why_not_timed="its file is gone"))
    assert lines[0].startswith("The study was measured elsewhere or with other versions (CPU b, environment bb) than")
    assert "faster" not in lines[1]
    assert "slower" not in lines[1]
    assert "The pick could not be timed here (its file is gone), so the latencies are not compared." in lines


def test_on_another_machine_both_timed_here_are_compared(tmp_path: Path) -> None:
    lines = said(tmp_path, present(there=("CPU b", None)))
    assert "environment unknown" in lines[0]
    assert "2.0× faster (0.100 ms against 0.200 ms)" in lines[1]


def test_on_the_same_machine_the_studys_latency_stands_in_and_it_is_said(tmp_path: Path) -> None:
    lines = said(tmp_path, present(pick_latency=None, why_not_timed="its file is gone"))
    assert "2.0× faster" in lines[0]
    assert "The pick could not be timed here (its file is gone), so its latency in the study is compared." in lines


def test_normalisation_outside_the_file_is_said(tmp_path: Path) -> None:
    assert any("normalised before" in line for line in said(tmp_path, present(normalised_outside=True)))


def test_why_there_is_no_accuracy(tmp_path: Path) -> None:
    lines = said(tmp_path, present(scored=Scored(why_not="it takes texts")))
    assert "The accuracy of old is not known: it takes texts." in lines
    assert "accurate" not in lines[0]
