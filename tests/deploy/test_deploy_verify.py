"""Verifying: every promise that a deployment can break is noticed, and reading back damaged ones ends in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deploy_fakes import CLASS_NAMES, Example, make_example, make_model

from nas.artifact import InputSpec, open_session
from nas.data.dataset import Split
from nas.deploy import Limits, choose, deploy, load_deployment, verify_deployment
from nas.errors import ArtifactError, StudyError
from nas.store import sha256_bytes
from nas.study import Study

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    return make_example(tmp_path_factory.mktemp("shared") / "birds")


@pytest.fixture(scope="module")
def pristine(example: Example, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pristine") / "deploy"
    return deploy(example.study, choose(example.study, Limits(max_latency_ms=0.5)), place, example.dataset).folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A deployment to damage."""
    return Path(shutil.copytree(pristine, tmp_path / "deploy"))


def edit(folder: Path, change: Change) -> None:
    path = folder / "deployment.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data))


def replace_model(folder: Path, model: bytes) -> None:
    """Another model, with a description that knows of it."""
    (folder / "model.onnx").write_bytes(model)
    edit(folder, lambda data: data["model"].update(sha256=sha256_bytes(model), size_bytes=len(model)))


def stated(data: dict[str, Any], section: str, name: str) -> dict[str, Any]:
    return next(item for item in data[section] if item["name"] == name)


def verify(folder: Path, example: Example, study: Study | None = None) -> None:
    verify_deployment(folder, example.dataset.validation, example.dataset.test, study)


def test_what_was_deployed_holds(folder: Path, example: Example) -> None:
    verification = verify_deployment(folder, example.dataset.validation, example.dataset.test, example.study)
    model = (folder / "model.onnx").read_bytes()
    assert verification.sha256 == sha256_bytes(model)
    outputs = open_session(model).run(None, {"images": example.dataset.test.images})[0]
    assert verification.test_accuracy is not None
    assert verification.test_accuracy.value == (outputs.argmax(1) == example.dataset.test.labels).mean()


def test_without_study_and_test_data_what_can_be_is_checked(folder: Path, example: Example) -> None:
    verification = verify_deployment(folder, example.dataset.validation)
    assert (verification.compared, verification.test_accuracy) == (0, None)
    assert "outputs" not in verification.words


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy"])
@pytest.mark.parametrize(("section", "prefix"), [("quantities", ""), ("test_scores", "test_")])
@pytest.mark.parametrize("samples", [1, -1])
def test_an_accuracy_that_is_wrong_by_one_sample_is_noticed(
    folder: Path, example: Example, section: str, prefix: str, name: str, samples: int
) -> None:
    count = {"": 120, "test_": 80}[prefix]

    def change(data: dict[str, Any]) -> None:
        stated(data, section, prefix + name)["value"] += samples / count

    edit(folder, change)
    said = f"states {prefix}accuracy" if name == "accuracy" else f"has {prefix}balanced_accuracy .*, but states"
    with pytest.raises(ArtifactError, match=said):
        verify(folder, example)


def test_other_data_than_it_was_scored_on(folder: Path, example: Example) -> None:
    half = Split(example.dataset.validation.images[:60], example.dataset.validation.labels[:60])
    with pytest.raises(ArtifactError, match="states its accuracy on 120 samples, but these are 60"):
        verify_deployment(folder, half)


def test_data_that_the_model_does_not_take(folder: Path, example: Example) -> None:
    wrong = Split(example.dataset.validation.images.astype(np.float32), example.dataset.validation.labels)
    with pytest.raises(ArtifactError, match=r"cannot be run on the data: .*give the data that the study was made with"):
        verify_deployment(folder, wrong)


def test_a_changed_model_is_noticed(folder: Path, example: Example) -> None:
    model = bytearray((folder / "model.onnx").read_bytes())
    model[len(model) // 2] ^= 1
    (folder / "model.onnx").write_bytes(model)
    with pytest.raises(ArtifactError, match=r"model\.onnx was changed after it was deployed"):
        verify(folder, example)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            make_model(InputSpec("float32", (6, 5, 1))),
            r"takes and gives .*tensor\(float\).* but must .*tensor\(uint8\)",
        ),
        (make_model(InputSpec("uint8", (5, 6, 1))), r"takes and gives .*\[5, 6, 1\].* but must .*\[6, 5, 1\]"),
        (make_model(InputSpec("uint8", (6, 5, 1)), classes=7), r"takes and gives .*\[7\].* but must .*\[4\]"),
        (make_model(InputSpec("uint8", (6, 5, 1)), batch=1), "takes batches of 1 only, not of any size"),
        (b"no model", "model.onnx is no ONNX file, or is damaged"),
        (make_model(InputSpec("uint8", (6, 5, 1)), seed=9), "samples rightly, but states accuracy"),
    ],
)
def test_another_model_is_noticed(folder: Path, example: Example, model: bytes, message: str) -> None:
    replace_model(folder, model)
    with pytest.raises(ArtifactError, match=message):
        verify(folder, example)


def renamed(model: bytes) -> bytes:
    """The same function in other bytes."""
    import onnx

    proto = onnx.load_from_string(model)
    proto.producer_name = "another exporter"
    return proto.SerializeToString()


def test_the_same_function_in_other_bytes_is_noticed_by_the_record(folder: Path, example: Example) -> None:
    replace_model(folder, renamed((folder / "model.onnx").read_bytes()))
    verify(folder, example)  # keeps all that it promises …
    with pytest.raises(ArtifactError, match="states another SHA-256 than trial 1 has"):  # … but is not the trial's
        verify(folder, example, example.study)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda data: data["design"]["architecture"].update({"stem.width": 8}), "design"),
        (lambda data: stated(data, "quantities", "latency_ms").update(value=0.001), "list of quantities"),
        (lambda data: data.update(labels={}), "list of labels"),
    ],
)
def test_a_description_that_is_not_the_trials_is_noticed(
    folder: Path, example: Example, change: Change, what: str
) -> None:
    edit(folder, change)
    with pytest.raises(ArtifactError, match=f"states another {what} than trial 1 has"):
        verify(folder, example, example.study)


def test_a_size_that_the_file_does_not_have_is_noticed(folder: Path, example: Example) -> None:
    record = example.study.record(1)
    wrong = tuple(replace(q, value=q.value + 1) if q.name == "size_bytes" else q for q in record.quantities)
    study = Study(example.study.folder, example.study.recipe, [replace(record, quantities=wrong)])
    edit(folder, lambda data: data.update(quantities=[q.to_json() for q in wrong]))
    with pytest.raises(ArtifactError, match=r"model\.onnx has .* bytes, but its trial states"):
        verify(folder, example, study)


def test_outputs_that_differ_from_the_studys_artifact_are_noticed(
    folder: Path, example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_model(example.dataset.input, seed=3)
    monkeypatch.setattr(Study, "artifact", lambda study, record, form: other)
    with pytest.raises(ArtifactError, match=r"gives other probabilities than its trial's artifact, by up to 0\.\d+"):
        verify(folder, example, example.study)


def test_a_trial_that_the_study_does_not_have(folder: Path, example: Example) -> None:
    edit(folder, lambda data: data.update(trial=99))
    with pytest.raises(StudyError, match="there is no trial 99"):
        verify(folder, example, example.study)


class TestLoad:
    @pytest.mark.parametrize("path", ["nowhere", "deploy/model.onnx", "."])
    def test_what_is_no_deployment(self, folder: Path, path: str) -> None:
        with pytest.raises(ArtifactError, match=r"is no deployment: it holds no deployment\.json"):
            load_deployment(folder.parent / path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is no JSON"),
            (b'{"version": 1', "is no JSON"),
            (b"[]", "is damaged"),
            (b"null", "is damaged"),
            (b"{}", "lacks 'version'"),
            (b'{"version": 7}', "a deployment's version must be 1 or 2, but got 7"),
            (b'{"version": 1}', "lacks '"),
            (b'{"version": 2}', "lacks '"),
            (b"\xff\xfe", "cannot be read"),
        ],
    )
    def test_a_description_that_is_none(self, folder: Path, content: bytes, message: str) -> None:
        (folder / "deployment.json").write_bytes(content)
        with pytest.raises(ArtifactError, match=message) as caught:
            load_deployment(folder)
        assert "\n" not in str(caught.value)
        assert caught.value.message.startswith(str(folder / "deployment.json"))

    @pytest.mark.parametrize(
        "section", ["design", "model", "serving", "input", "output", "quantities", "labels", "chosen", "environment"]
    )
    @pytest.mark.parametrize("value", [None, 3, "text", [3]])
    def test_a_part_of_another_kind(self, folder: Path, section: str, value: Any) -> None:
        edit(folder, lambda data: data.update({section: value}))
        with pytest.raises(ArtifactError, match=r"deployment\.json") as caught:
            load_deployment(folder)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("section", ["design", "model", "serving", "input", "output", "chosen"])
    @pytest.mark.parametrize("value", [{}, {"odd": 1}])
    def test_a_part_that_lacks_something(self, folder: Path, section: str, value: Any) -> None:
        edit(folder, lambda data: data.update({section: value}))
        with pytest.raises(ArtifactError, match=r"deployment\.json"):
            load_deployment(folder)

    @pytest.mark.parametrize(
        ("section", "changes", "message"),
        [
            ("serving", {"threads": "4"}, "serving.threads must be a whole number from 1 to 1024, but got '4'"),
            ("serving", {"threads": 0}, "serving.threads must be .*, but got 0"),
            ("serving", {"threads": True}, "serving.threads must be .*, but got True"),
            ("serving", {"threads": 1.0}, "serving.threads must be .*, but got 1.0"),
            ("serving", {"threads": 100_000}, "serving.threads must be .*, but got 100000"),
            ("serving", {"batch": "1"}, "serving.batch must be a whole number at least 1, but got '1'"),
            ("serving", {"runtime": None}, "serving.runtime must be a text, but is None"),
            ("serving", {"target": 3}, "serving.target must be a text, but is 3"),
            ("serving", {"threads": None}, "serving.threads must be .*, but got None"),
            ("serving", {"precision": 16}, "serving.precision must be a text, but is 16"),
            ("serving", {"precision": "fp16"}, "ONNX Runtime on cpu has no precision 'fp16'"),
            ("serving", {"place": "cpu"}, "serving.place must be of the form cpu-b1, but is 'cpu'"),
            ("serving", {"runtime": "onnxruntine", "target": None}, "unknown runtime 'onnxruntine'; did you mean"),
            ("serving", {"threads": 2}, "serving.target is 'onnxruntime-cpu-1t-b1', but the rest .* '.*-cpu-2t-b1'"),
            ("serving", {"runtime": "torch", "target": None}, "model.file is 'model.onnx', but torch runs model.pt2"),
            ("model", {"file": "../model.onnx"}, "model.file is '../model.onnx', but onnxruntime runs model.onnx"),
            ("input", {"layout": "foo"}, "unknown input.layout 'foo'.*valid: NCHW, NHWC"),
            ("input", {"layout": ["NHWC"]}, "unknown input.layout"),
            ("input", {"dtype": "int8"}, "unknown input.dtype 'int8'; did you mean 'uint8'"),
            ("input", {"shape": [6, 0, 1]}, r"input.shape\[1\] must be a whole number at least 1, but got 0"),
            ("input", {"shape": [6, -5, 1]}, r"input.shape\[1\] must be .*, but got -5"),
            ("input", {"shape": [6, "5", 1]}, r"input.shape\[1\] must be .*, but got '5'"),
            ("input", {"shape": [6, 5]}, r"input.shape must be a list of 3 items, but is \[6, 5\]"),
            ("input", {"shape": "651"}, "input.shape must be a list of 3 items, but is '651'"),
            ("input", {"resize": {"height": "6", "width": 5}}, "resize.height must be a whole number at least 1"),
            ("input", {"resize": {"height": 6, "width": 5, "filter": 3}}, "resize.filter must be a text, but is 3"),
            ("input", {"resize": {"height": 7, "width": 5}}, "input.resize is 7×5, but the input is 6×5"),
            ("input", {"resize": []}, "is damaged"),
            ("output", {"class_names": "cats"}, "output.class_names must be a list of texts, but is 'cats'"),
            ("output", {"class_names": ["a", 2, "c", "d"]}, r"output.class_names\[1\] must be a text, but is 2"),
        ],
    )
    def test_a_value_of_another_kind_or_out_of_range(
        self, folder: Path, section: str, changes: dict[str, Any], message: str
    ) -> None:
        edit(folder, lambda data: data[section].update(changes))
        with pytest.raises(ArtifactError, match=message) as caught:
            load_deployment(folder)
        assert caught.value.message.startswith(str(folder / "deployment.json"))
        assert "\n" not in str(caught.value)

    def test_a_model_that_is_gone(self, folder: Path) -> None:
        (folder / "model.onnx").unlink()
        with pytest.raises(ArtifactError, match=r"model\.onnx cannot be read: No such file or directory"):
            load_deployment(folder)

    def test_class_names_of_any_script(self, folder: Path) -> None:
        assert load_deployment(folder).class_names == CLASS_NAMES
