"""Further forms: made of the very network, held to its outputs, refused where they would be another."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deploy_fakes import GREY, Example, make_example
from fakes import make_design
from served_fakes import TORCH, linear_program, make_served

from nas.data.dataset import Split
from nas.deploy import Choice, Limits, choose, deploy, load_deployment, verify_deployment
from nas.deploy.also import compared
from nas.deploy.further import Further, FurtherFile, parse_forms
from nas.errors import ArtifactError, NasError, UnsupportedError

openvino = pytest.importorskip("openvino")

ANY = Limits(max_latency_ms=1)
FAST = Limits(max_latency_ms=0.015)  # the trial without fewer bits, of seed 1


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    return make_example(tmp_path_factory.mktemp("also") / "birds")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def written(example: Example, folder: Path, forms: list[str], limits: Limits = FAST, seed: int = 1) -> Path:
    choice = choose(example.study, limits)
    program = lambda: linear_program(GREY, seed)  # noqa: E731
    return deploy(example.study, choice, folder, example.dataset, also=forms, program=program).folder


def test_both_forms_give_what_the_model_gives(example: Example, tmp_path: Path) -> None:
    import torch

    folder = written(example, tmp_path / "deploy", ["openvino,program"])
    assert names(folder) == {
        "model.onnx", "model.xml", "model.bin", "model.pt2", "deployment.json", "README.md"
    }  # fmt: skip
    ir, program = load_deployment(folder).further
    assert (ir.form, program.form) == ("openvino", "program")
    assert (ir.images, ir.same_class, program.same_class) == (120, 1.0, 1.0)
    images = example.dataset.validation.images
    expected = np.concatenate([expected_row(folder, image) for image in images])
    given = openvino.compile_model(str(folder / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images)[0]
    np.testing.assert_allclose(given, expected, atol=1e-4)
    module = torch.export.load(str(folder / "model.pt2")).module()
    np.testing.assert_allclose(module(torch.from_numpy(images)).numpy(), expected, atol=1e-4)
    assert ir.accuracy == program.accuracy == (expected.argmax(1) == example.dataset.validation.labels).mean()
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "OpenVINO IR (model.xml, model.bin): the same class on 120 of 120 images" in readme
    assert "torch.export.load" in readme


def expected_row(folder: Path, image: np.ndarray) -> np.ndarray:
    from nas.artifact import open_session

    row: np.ndarray = open_session((folder / "model.onnx").read_bytes()).run(None, {"images": image[None]})[0]
    return row


def test_a_deployment_with_further_forms_is_replaced_whole(example: Example, tmp_path: Path) -> None:
    written(example, tmp_path / "deploy", ["openvino"])
    folder = written(example, tmp_path / "deploy", [])
    assert names(folder) == {"model.onnx", "deployment.json", "README.md"}
    assert load_deployment(folder).further == ()


def test_a_program_that_is_another_network_is_refused(example: Example, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"as torch program the network gives something else .* of 120 images"):
        written(example, tmp_path / "deploy", ["program"], seed=9)
    assert list(tmp_path.iterdir()) == []


def test_a_quantised_design_has_no_float_program(example: Example, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"unsupported for this trial: .*float network, without weight bits"):
        written(example, tmp_path / "deploy", ["program"], Limits(min_accuracy=0.8), seed=2)
    assert list(tmp_path.iterdir()) == []


def test_a_quantised_design_has_an_ir(example: Example, tmp_path: Path) -> None:
    (ir,) = load_deployment(written(example, tmp_path / "deploy", ["openvino"], Limits(min_accuracy=0.8))).further
    assert ir.same_class >= 0.98


def test_a_trial_that_torch_serves_is_a_program_already(tmp_path: Path) -> None:
    example = make_served(tmp_path / "birds", TORCH)
    choice: Choice = choose(example.study, ANY)
    for form in ("openvino", "program"):
        with pytest.raises(UnsupportedError, match=r"its model is a torch program already \(choose another --target"):
            deploy(example.study, choice, tmp_path / "deploy", example.dataset, lambda *_: np.zeros(0), also=[form])


def test_without_openvino_nothing_is_written(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.measure.runtimes.base import Missing
    from nas.measure.runtimes.open_vino import OpenVino

    monkeypatch.setattr(OpenVino, "missing", lambda *_: Missing("OpenVINO is not installed", "pip install it"))
    with pytest.raises(UnsupportedError, match=r"OpenVINO is not installed.*pip install it"):
        written(example, tmp_path / "deploy", ["openvino"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.bin", "model.xml"])
def test_a_further_file_that_was_changed_is_noticed(example: Example, tmp_path: Path, name: str) -> None:
    folder = written(example, tmp_path / "deploy", ["openvino"])
    (folder / name).write_bytes(b"another")
    with pytest.raises(ArtifactError, match=rf"{name} \(OpenVINO IR\) was changed after it was deployed"):
        verify_deployment(folder, example.dataset.validation)
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=rf"{name} \(OpenVINO IR\) cannot be read"):
        verify_deployment(folder, example.dataset.validation)


def test_a_file_name_from_a_description_leads_nowhere_else(example: Example, tmp_path: Path) -> None:
    folder = written(example, tmp_path / "deploy", ["openvino"])
    data = json.loads((folder / "deployment.json").read_text(encoding="utf-8"))
    data["further"][0]["files"][0]["file"] = "../model.xml"
    (folder / "deployment.json").write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match=r"further\.files must be \('model\.xml', 'model\.bin'\)"):
        load_deployment(folder)


def test_forms_are_listed_in_any_way() -> None:
    assert parse_forms(["openvino, program", "OpenVINO"]) == ("openvino", "program")
    assert parse_forms([]) == ()
    with pytest.raises(NasError, match="unknown form for --also 'openvno'; did you mean 'openvino'"):
        parse_forms(["openvno"])


# --- what counts as the same -----------------------------------------------------------------------------------------

FILES = (FurtherFile("model.pt2", "0" * 64, 1),)
ROWS = np.eye(4, dtype=np.float32)[np.arange(100) % 4]
SOME = Split(np.zeros((100, 1)), np.arange(100) % 4)


def judged(given: list[np.ndarray], **bits: int) -> Further:
    return compared("program", FILES, "torch 2", make_design(**bits), SOME, ROWS, given)


def off(rows: int, by: int = 1) -> np.ndarray:
    changed = ROWS.copy()
    changed[:rows] = np.roll(changed[:rows], by, axis=1)
    return changed


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: judged([ROWS + 0.002]),
        lambda: judged([ROWS, off(1)]),
        lambda: judged([np.full_like(ROWS, np.nan)]),
        lambda: judged([off(3)], weight_bits=8),
        lambda: judged([np.full_like(ROWS, np.nan)], weight_bits=8),
    ],
)
def test_what_is_too_far_off_is_refused(wrong: Callable[[], Further]) -> None:
    with pytest.raises(UnsupportedError, match="gives something else than its ONNX file"):
        wrong()


def test_the_worst_way_of_running_it_is_told() -> None:
    found = judged([ROWS, off(2)], weight_bits=8)
    assert (found.same_class, found.accuracy, found.largest_difference, found.images) == (0.98, 0.98, 1.0, 100)
    assert judged([ROWS + np.float32(5e-4)]).same_class == 1.0
    assert Further.from_json(json.loads(json.dumps(replace(found).to_json()))) == found
