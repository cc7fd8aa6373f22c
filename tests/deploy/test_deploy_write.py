"""Writing: whole or not at all, never over anyone else's files; and what the description holds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deploy_fakes import CLASS_NAMES, ENVIRONMENT, Example, make_example
from fakes import LATENCY, TARGET, make_design, make_recipe

from nas.artifact import open_session, probabilities
from nas.deploy import (
    Choice,
    Limits,
    check_output,
    choose,
    deploy,
    load_deployment,
    place,
    verify_deployment,
    write,
    write_deployment,
)
from nas.describe import describe
from nas.design import Value
from nas.errors import ArtifactError, NasError, StudyError
from nas.outcome import How, Quantity, Realisation
from nas.scoring import score
from nas.store import sha256_bytes
from nas.study import Study
from nas.wording import LABEL_WORDS, choice_words

ALL_FILES = {"model.onnx", "deployment.json", "README.md"}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """A study that the tests below read and do not change."""
    return make_example(tmp_path_factory.mktemp("shared") / "birds", notes=("a note",))


@pytest.fixture(scope="module")
def choice(example: Example) -> Choice:
    return choose(example.study, Limits(max_latency_ms=0.5))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_folder_holds_the_trials_own_artifact(example: Example, choice: Choice, tmp_path: Path) -> None:
    folder = write_deployment(example.study, choice, tmp_path / "a" / "deploy")
    assert set(contents(folder)) == ALL_FILES
    assert (folder / "model.onnx").read_bytes() == example.study.artifact(choice.record)
    assert [path.name for path in folder.parent.iterdir()] == ["deploy"]


def test_the_description_says_all_that_is_known(example: Example, choice: Choice, tmp_path: Path) -> None:
    folder = write_deployment(example.study, choice, tmp_path / "deploy")
    data = json.loads((folder / "deployment.json").read_text(encoding="utf-8"))
    record = choice.record
    model = (folder / "model.onnx").read_bytes()
    assert (data["version"], data["study"], data["trial"]) == (2, "birds", record.number)
    assert data["design"] == record.design.to_json()
    assert data["design_words"] == describe(record.design)
    assert data["model"] == {
        "file": "model.onnx",
        "sha256": sha256_bytes(model),
        "size_bytes": len(model),
        "opset": 17,
        "exporter": "by hand",
    }
    assert data["serving"] == {
        "runtime": "onnxruntime",
        "runtime_version": ENVIRONMENT["onnxruntime"],
        "device": "cpu",
        "threads": 1,
        "batch": 1,
        "target": TARGET,
        "precision": None,
        "place": None,
    }
    assert data["input"] == {
        "name": "images",
        "dtype": "uint8",
        "shape": [6, 5, 1],
        "layout": "NHWC",
        "resize": None,
        "image_mode": "L",
        "batch": "the first dimension, free",
    }
    assert data["output"] == {"name": "probabilities", "class_names": list(CLASS_NAMES)}
    assert data["quantities"] == [quantity.to_json() for quantity in record.quantities]
    assert [item["name"] for item in data["test_scores"]] == ["test_accuracy", "test_balanced_accuracy"]
    assert data["labels"] == {"weight_bits": "realised"}
    assert data["notes"] == ["a note"]
    assert data["baseline"] is None
    assert data["uncompressed"] == {"mac_gain": None, "latency_gain": None}
    assert data["chosen"] == {"rule": "most accurate", "why": choice.why, "limits": {"max_latency_ms": 0.5}}
    assert data["versions"].keys() == {"nas-front", "python", "onnxruntime", "numpy", "pillow"}
    assert data["environment"] == ENVIRONMENT
    assert data["created"].endswith("+00:00")


def test_the_description_is_read_back_as_it_was(example: Example, choice: Choice, tmp_path: Path) -> None:
    folder = write_deployment(example.study, choice, tmp_path / "deploy")
    deployment = load_deployment(folder)
    assert deployment.design == choice.record.design
    assert deployment.quantities == choice.record.quantities
    assert deployment.labels == {"weight_bits": Realisation.REALISED}
    assert deployment.class_names == CLASS_NAMES
    assert deployment.input == example.dataset.input
    assert deployment.quantity(LATENCY) == choice.record.quantity(LATENCY)
    assert json.loads(json.dumps(deployment.to_json())) == json.loads(
        (folder / "deployment.json").read_text(encoding="utf-8")
    )


COMPRESSION: dict[str, Value] = {
    "pruning_ratio": 0.5,
    "stage1.pruning_ratio": 0.25,
    "pruning_criterion": "taylor",
    "pruning_steps": 3,
    "pruning_rounding": 4,
    "sparsity": 0.5,
    "distillation": True,
    "distillation_temperature": 2.0,
    "distillation_weight": 0.9,
    "weight_bits": 4,
    "activation_bits": 8,
    "calibration": "percentile",
    "quantisation_aware": True,
    "stage1.weight_bits": 8,
}
LABELS = {
    "pruning_ratio": Realisation.REALISED,
    "stage1.pruning_ratio": Realisation.UNSUPPORTED,
    "sparsity": Realisation.SIMULATED,
    "weight_bits": Realisation.SIMULATED,
    "activation_bits": Realisation.REALISED,
    "stage1.weight_bits": Realisation.REALISED,
}


@pytest.mark.parametrize(
    "compression",
    [COMPRESSION, {"weight_sharing": "kmeans", "codebook_bits": 3}, {"weight_bits": 16, "activation_bits": 16}],
    ids=["many", "codebook", "fp16"],
)
def test_every_compression_choice_is_deployed_with_its_label_and_its_gains(
    tmp_path: Path, compression: dict[str, Value]
) -> None:
    example = make_example(tmp_path / "study")
    before, after = example.study.records
    gains = (
        Quantity("uncompressed_latency_ms", 0.05, "ms", How.MEASURED, target=TARGET),
        Quantity("uncompressed_macs", 8e5, "MAC", How.COUNTED),
    )
    labels = {name: label for name, label in LABELS.items() if name in compression}
    changed = replace(after, design=make_design(**compression), labels=labels, quantities=(*after.quantities, *gains))
    study = Study(example.study.folder, example.study.recipe, [replace(before, origin="baseline"), changed])
    folder = write_deployment(study, choose(study, Limits(max_latency_ms=0.5)), tmp_path / "deploy")
    deployment = load_deployment(folder)
    assert deployment.design == changed.design
    assert deployment.labels == labels
    assert deployment.baseline is not None
    assert (deployment.baseline.trial, deployment.baseline.speed_up) == (0, 0.5)
    data = json.loads((folder / "deployment.json").read_text(encoding="utf-8"))
    assert data["labels"] == {name: str(label) for name, label in labels.items()}
    assert data["baseline"]["words"].startswith("2.0× slower than the baseline, ")
    assert data["uncompressed"] == {"mac_gain": 4, "latency_gain": 2.5}
    assert data["design_words"] == describe(changed.design)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert f"- Against trial 0: {deployment.baseline.words}\n- Pruning: MACs" in text
    assert "- Pruning: MACs 4.0× fewer, 2.5× faster than uncompressed, which is the float network" in text
    assert "| uncompressed" not in text  # those are another network's
    for name, label in labels.items():
        assert f"- {choice_words(name)}: {LABEL_WORDS[label]}\n" in text
    verification = verify_deployment(folder, example.dataset.validation, example.dataset.test, study)
    assert verification.compared == len(example.dataset.validation)


def test_a_deployment_of_the_first_version_is_read_and_holds(example: Example, choice: Choice, tmp_path: Path) -> None:
    """It knew neither baselines nor other runtimes than ONNX Runtime on the CPU."""
    folder = write_deployment(example.study, choice, tmp_path / "deploy")
    path = folder / "deployment.json"
    data = json.loads(path.read_text(encoding="utf-8")) | {"version": 1}
    del data["baseline"], data["uncompressed"], data["serving"]["precision"], data["serving"]["place"]
    path.write_text(json.dumps(data))
    deployment = load_deployment(folder)
    assert (deployment.baseline, deployment.serving.place, deployment.model_path.name) == (None, None, "model.onnx")
    verification = verify_deployment(folder, example.dataset.validation, example.dataset.test, example.study)
    assert (verification.runtime, verification.compared) == ("ONNX Runtime", 120)


@pytest.mark.parametrize(
    "damaged", [{"trial": 0}, [1], {"trial": "x", "words": "", "speed_up": 1, "accuracy_difference": 0}]
)
def test_a_damaged_baseline_is_refused(example: Example, choice: Choice, tmp_path: Path, damaged: object) -> None:
    folder = write_deployment(example.study, choice, tmp_path / "deploy")
    path = folder / "deployment.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"baseline": damaged}))
    with pytest.raises(ArtifactError, match=r"deployment\.json (lacks|is damaged)"):
        load_deployment(folder)


@pytest.mark.parametrize(
    ("targets", "objectives", "limits", "expected"),
    [
        ((), ["accuracy", "flops"], Limits(), (1, None, None)),
        ((TARGET,), ["accuracy", "flops"], Limits(), (1, 1, TARGET)),
        (("onnxruntime-cpu-2t-b8",), ["accuracy", f"latency_ms@{TARGET}"], Limits(), (1, 1, TARGET)),
    ],
)
def test_it_is_served_as_it_was_measured(
    example: Example, tmp_path: Path, targets: Any, objectives: Any, limits: Limits, expected: tuple[Any, ...]
) -> None:
    study = Study(example.study.folder, make_recipe(targets=targets, objectives=objectives), example.study.records)
    serving = load_deployment(write_deployment(study, choose(study, limits), tmp_path / "deploy")).serving
    assert (serving.threads, serving.batch, serving.target) == expected


class TestReadme:
    @pytest.fixture
    def text(self, example: Example, choice: Choice, tmp_path: Path) -> str:
        return (write_deployment(example.study, choice, tmp_path / "deploy") / "README.md").read_text(encoding="utf-8")

    def test_numbers_and_how_they_were_had(self, text: str, example: Example, choice: Choice) -> None:
        accuracy = choice.record.value("accuracy")
        test = example.study.test_scores[choice.record.number]["test_accuracy"].value
        assert f"| validation accuracy | {100 * accuracy:.2f} % (" in text
        assert f"| test accuracy | {100 * test:.2f} % (" in text
        latency = "| latency (ONNX Runtime, CPU, 1 thread, batch 1) | 0.0200 ms (0.0196 to 0.0204)"
        assert f"{latency} | measured, 95 % of calls within 0.0220 ms, 50000 fps |" in text
        assert "| FLOPs | 400 k | counted |" in text

    def test_design_reason_and_labels(self, text: str, choice: Choice) -> None:
        assert f"- Why this one: {choice.why}" in text
        assert "- weight bits: realised" in text
        assert "- a note" in text

    def test_markup_in_names_is_escaped(self, example: Example, choice: Choice, tmp_path: Path) -> None:
        record = replace(choice.record, notes=("<script>alert(1)</script> [x](y) `z`\nnext",))
        folder = write_deployment(example.study, replace(choice, record=record), tmp_path / "deploy")
        text = (folder / "README.md").read_text(encoding="utf-8")
        assert r"- \<script\>alert(1)\</script\> \[x\](y) \`z\` next" in text

    def test_an_unstable_latency_is_said_to_be(self, example: Example, choice: Choice, tmp_path: Path) -> None:
        quantities = tuple(
            replace(q, detail={**q.detail, "unstable": True}) if q.key == LATENCY else q
            for q in choice.record.quantities
        )
        changed = replace(choice, record=replace(choice.record, quantities=quantities))
        text = (write_deployment(example.study, changed, tmp_path / "deploy") / "README.md").read_text(encoding="utf-8")
        assert "50000 fps, unstable: the machine was disturbed |" in text

    def test_estimates_do_not_stand_beside_what_was_measured(
        self, example: Example, choice: Choice, tmp_path: Path
    ) -> None:
        guess = Quantity("predicted_ms", 0.0123, "ms", How.ESTIMATED, target=TARGET)
        record = replace(choice.record, quantities=(guess, *choice.record.quantities))
        folder = write_deployment(example.study, replace(choice, record=record), tmp_path / "deploy")
        assert "predicted" not in (folder / "README.md").read_text(encoding="utf-8")
        assert '"predicted_ms"' in (folder / "deployment.json").read_text(encoding="utf-8")


class TestPlace:
    def test_a_deployment_is_replaced(self, example: Example, choice: Choice, tmp_path: Path) -> None:
        first = write_deployment(
            example.study, choose(example.study, Limits(max_latency_ms=0.015)), tmp_path / "deploy"
        )
        assert load_deployment(first).trial == 0
        second = write_deployment(example.study, choice, tmp_path / "deploy")
        assert load_deployment(second).trial == 1
        assert [path.name for path in tmp_path.iterdir()] == ["deploy"]

    def test_an_empty_folder_is_filled(self, example: Example, choice: Choice, tmp_path: Path) -> None:
        (tmp_path / "deploy").mkdir()
        assert load_deployment(write_deployment(example.study, choice, tmp_path / "deploy")).trial == 1

    def test_a_link_is_followed_and_kept(self, example: Example, choice: Choice, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        write_deployment(example.study, choice, tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert set(contents(tmp_path / "real")) == ALL_FILES

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (["thesis.txt"], "exists and is no deployment, so it is not replaced"),
            (["model.onnx"], "exists and is no deployment, so it is not replaced"),
            (["deployment.json", "thesis.txt"], r"holds more than a deployment \(thesis.txt\), so it is not replaced"),
        ],
    )
    def test_what_is_not_ours_is_left_alone(
        self, example: Example, choice: Choice, tmp_path: Path, names: list[str], message: str
    ) -> None:
        folder = tmp_path / "deploy"
        folder.mkdir()
        for name in names:
            (folder / name).write_text("precious")
        with pytest.raises(NasError, match=message):
            write_deployment(example.study, choice, folder)
        with pytest.raises(NasError, match=message):
            check_output(folder)
        assert contents(folder) == dict.fromkeys(names, b"precious")
        assert [path.name for path in tmp_path.iterdir()] == ["deploy"]

    @pytest.mark.parametrize("below", ["", "deploy", "a/b"])
    def test_a_file_is_left_alone(self, example: Example, choice: Choice, tmp_path: Path, below: str) -> None:
        file = tmp_path / "file"
        file.write_text("precious")
        with pytest.raises(NasError, match=f"the deployment {file / below} cannot be written: {file} is a file"):
            write_deployment(example.study, choice, file / below)
        with pytest.raises(NasError, match=f"the deployment {file / below} cannot be written: {file} is a file"):
            check_output(file / below)
        assert file.read_text() == "precious"

    def test_places_that_may_be_written_pass_the_check_and_are_left_as_they_are(
        self, example: Example, choice: Choice, tmp_path: Path
    ) -> None:
        (tmp_path / "empty").mkdir()
        before = contents(write_deployment(example.study, choice, tmp_path / "deploy"))
        for name in ("new", "a/b", "empty", "deploy"):
            check_output(tmp_path / name)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["deploy", "empty"]
        assert contents(tmp_path / "deploy") == before

    def test_a_folder_that_cannot_be_read_fails_the_check(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path) -> Iterator[Path]:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "iterdir", refuse)  # the superuser may read anywhere
        with pytest.raises(NasError, match="cannot be written: Permission denied"):
            check_output(tmp_path)

    @pytest.mark.parametrize("below", ["deploy", "a/b"])
    def test_a_parent_that_is_not_writable_fails_the_check(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
    ) -> None:
        asked: list[Path] = []

        def refuse(path: Path, mode: int) -> bool:  # the superuser may write anywhere
            asked.append(path)
            return False

        monkeypatch.setattr("os.access", refuse)
        with pytest.raises(NasError, match=f"{below} cannot be written: Permission denied"):
            check_output(tmp_path / below)
        assert asked == [tmp_path]

    def test_a_place_that_cannot_be_written(
        self, example: Example, choice: Choice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(**_: Any) -> str:
            raise PermissionError(13, "Permission denied", str(tmp_path))

        monkeypatch.setattr(place.tempfile, "mkdtemp", refuse)  # the superuser may write anywhere
        with pytest.raises(NasError, match=r"the deployment .*/deploy cannot be written: Permission denied"):
            write_deployment(example.study, choice, tmp_path / "deploy")

    def test_a_full_disk_leaves_what_was_there(
        self, example: Example, choice: Choice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = write_deployment(example.study, choice, tmp_path / "deploy")
        before = contents(folder)

        def full(path: Path, content: bytes) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(write, "write_atomically", full)
        with pytest.raises(NasError, match="cannot be written: No space left on device"):
            write_deployment(example.study, choice, folder)
        assert contents(folder) == before
        assert [path.name for path in tmp_path.iterdir()] == ["deploy"]

    def test_a_failed_rename_puts_the_old_one_back(
        self, example: Example, choice: Choice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = write_deployment(example.study, choice, tmp_path / "deploy")
        before = contents(folder)
        rename = os.rename
        fails: Iterator[bool] = iter([False, True, False])

        def failing(source: Path, destination: Path) -> None:
            if next(fails):
                raise OSError(5, "Input/output error")
            rename(source, destination)

        monkeypatch.setattr(os, "rename", failing)
        with pytest.raises(NasError, match="cannot be written: Input/output error"):
            write_deployment(example.study, choice, folder)
        assert contents(folder) == before
        assert [path.name for path in tmp_path.iterdir()] == ["deploy"]


class TestChecked:
    def test_a_deployment_that_passes(self, example: Example, choice: Choice, tmp_path: Path) -> None:
        deployed = deploy(example.study, choice, tmp_path / "deploy", example.dataset)
        verification = deployed.verification
        assert deployed.folder == tmp_path / "deploy"
        assert verification.accuracy.value == choice.record.value("accuracy")
        assert verification.compared == len(example.dataset.validation)
        right = round(120 * choice.record.value("accuracy"))
        assert f"the validation accuracy ({right} of 120 right), the test accuracy (" in deployed.verified

    def test_an_unfinished_search_gets_its_test_scores_now(self, tmp_path: Path) -> None:
        example = make_example(tmp_path / "unfinished", test_scores=False)
        choice = choose(example.study, Limits(max_latency_ms=0.5))
        deployed = deploy(example.study, choice, tmp_path / "deploy", example.dataset)
        session = open_session(example.study.artifact(choice.record))
        expected = score(probabilities(session, example.dataset.test.images), example.dataset.test.labels, "test_")
        assert load_deployment(deployed.folder).test_scores == expected
        assert deployed.verification.test_accuracy == expected[0]
        assert not example.study.folder.test_scores.exists()

    @pytest.mark.parametrize("present", [True, False])
    def test_a_deployment_that_fails_is_not_put_in_place(
        self, example: Example, choice: Choice, tmp_path: Path, present: bool
    ) -> None:
        folder = tmp_path / "deploy"
        if present:
            write_deployment(example.study, choose(example.study, Limits(max_latency_ms=0.015)), folder)
        before = contents(folder) if present else {}
        flipped = replace(example.dataset.validation, labels=(example.dataset.validation.labels + 1) % len(CLASS_NAMES))
        other = replace(example.dataset, validation=flipped)
        with pytest.raises(
            ArtifactError, match=r"so nothing was written: .*classifies .* of 120 samples rightly"
        ) as caught:
            deploy(example.study, choice, folder, other)
        assert str(folder) in caught.value.message
        assert ".part" not in caught.value.message
        assert (contents(folder) if folder.exists() else {}) == before
        assert [path.name for path in tmp_path.iterdir()] == (["deploy"] if present else [])

    def test_an_artifact_that_is_gone(self, tmp_path: Path) -> None:
        example = make_example(tmp_path / "study")
        choice = choose(example.study, Limits(max_latency_ms=0.5))
        example.study.store.blob_path(str(choice.record.artifact_sha256)).unlink()
        with pytest.raises(StudyError, match="the artifact of trial 1 is not in"):
            deploy(example.study, choice, tmp_path / "deploy", example.dataset)
        assert not (tmp_path / "deploy").exists()
