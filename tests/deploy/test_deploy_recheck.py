"""``nas verify``: each promise that can break is seen to, on given data and against the clock; pass or fail."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import yaml
from deploy_fakes import CLASS_NAMES, Example, make_example, make_model
from PIL import Image

from nas import cli
from nas.commands.deployment import verify
from nas.data.dataset import Split
from nas.deploy import Limits, choose, deploy
from nas.deploy.deployment import Deployment, read_description
from nas.deploy.given_data import Given, of_files, of_recipe
from nas.deploy.recheck import Finding, recheck
from nas.deploy.speed import PROCESSES
from nas.errors import DataError, UnsupportedError
from nas.measure.measurer import Measurer
from nas.outcome import Quantity
from nas.store import sha256_bytes

HERE, ELSEWHERE = "of-this-machine", "of-another"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    return make_example(tmp_path_factory.mktemp("shared") / "birds")


@pytest.fixture(scope="module")
def pristine(example: Example, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pristine") / "deploy"
    choice = choose(example.study, Limits(max_latency_ms=0.5))
    forms = ["openvino"]
    return deploy(example.study, choice, place, example.dataset, also=forms).folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "deploy"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "deployment.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data))


def outputs(*_: object) -> np.ndarray:
    raise AssertionError("ONNX Runtime runs in this process")


def findings(folder: Path, given: list[Given], measurer: object = None, forced: bool = False) -> dict[str, Finding]:
    found = recheck(read_description(folder), given, outputs, cast(Measurer, measurer), forced)
    assert found.passed == all(finding.holds is not False for finding in found.findings)
    return {finding.what: finding for finding in found.findings}


def own(split: Split, key: str = "accuracy") -> Given:
    return Given(split, key, is_the_studys=True)


# --- files -----------------------------------------------------------------------------------------------------------


def test_what_was_deployed_passes(folder: Path, example: Example) -> None:
    found = findings(folder, [own(example.dataset.validation), own(example.dataset.test, "test_accuracy")])
    assert {what: finding.verdict for what, finding in found.items()} == {
        "model.onnx": "pass",
        "model.xml, model.bin": "pass",
        "validation accuracy": "pass",
        "test accuracy": "pass",
        "OpenVINO IR's classes": "pass",
    }


def test_a_changed_model_fails_and_is_not_run(folder: Path, example: Example) -> None:
    (folder / "model.onnx").write_bytes(make_model(example.dataset.input, seed=9))
    found = findings(folder, [own(example.dataset.validation)], object())
    assert {what: finding.verdict for what, finding in found.items()} == {
        "model.onnx": "fail",
        "model.xml, model.bin": "pass",
    }
    assert "was changed after it was deployed" in found["model.onnx"].why


@pytest.mark.parametrize("name", ["model.onnx", "model.bin"])
def test_a_file_that_is_gone_fails(folder: Path, name: str) -> None:
    (folder / name).unlink()
    broken = [finding for finding in findings(folder, []).values() if finding.holds is False]
    assert len(broken) == 1
    assert f"{name}" in broken[0].why


# --- accuracy --------------------------------------------------------------------------------------------------------


def wrong_labels(split: Split, count: int) -> Split:
    """With so many labels changed that the model had right."""
    from nas.artifact import open_session, probabilities

    rows = probabilities(open_session(make_model(InputOf(split), seed=2)), split.images)
    right = np.flatnonzero(rows.argmax(1) == split.labels)[:count]
    labels = split.labels.copy()
    labels[right] = (labels[right] + 1) % len(CLASS_NAMES)
    return Split(split.images, labels)


def InputOf(split: Split) -> Any:
    from nas.artifact import InputSpec

    a, b, c = split.images.shape[1:]
    return InputSpec("uint8", (a, b, c))


@pytest.mark.parametrize(("fewer", "verdict"), [(0, "pass"), (1, "pass"), (2, "fail"), (30, "fail")])
def test_on_the_studys_data_the_score_must_come_out_again(
    folder: Path, example: Example, fewer: int, verdict: str
) -> None:
    found = findings(folder, [own(wrong_labels(example.dataset.validation, fewer))])["validation accuracy"]
    assert found.verdict == verdict
    if verdict == "fail":
        assert f"{fewer} of the 120 images fewer are right" in found.why


def test_more_right_than_stated_is_other_data(folder: Path, example: Example) -> None:
    edit(folder, lambda data: next(q for q in data["quantities"] if q["name"] == "accuracy").update(value=0.5))
    found = findings(folder, [own(example.dataset.validation)])["validation accuracy"]
    assert (found.verdict, "these are not the images" in found.why) == ("fail", True)


@pytest.mark.parametrize(("wrong", "verdict"), [(0, "pass"), (4, "pass"), (60, "fail")])
def test_on_other_data_intervals_must_meet(folder: Path, example: Example, wrong: int, verdict: str) -> None:
    given = Given(wrong_labels(example.dataset.test, wrong), "test_accuracy", is_the_studys=False)
    found = findings(folder, [given])["test accuracy, own data"]
    assert found.verdict == verdict
    assert bool(found.why) == (verdict == "fail")


def test_a_further_form_that_does_something_else_fails(
    folder: Path, example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["nas.deploy.recheck"]
    monkeypatch.setattr(module, "run_form", lambda form, folder, images, outputs: [np.zeros((len(images), 4))])
    found = findings(folder, [own(example.dataset.validation)])["OpenVINO IR's classes"]
    assert (found.verdict, "get another class than by the model" in found.why) == ("fail", True)

    def missing(*_: object) -> list[np.ndarray]:
        raise UnsupportedError("OpenVINO is not installed")

    monkeypatch.setattr(module, "run_form", missing)
    found = findings(folder, [own(example.dataset.validation)])["OpenVINO IR's classes"]
    assert (found.verdict, found.why) == ("not judged", "OpenVINO is not installed")


# --- latency ---------------------------------------------------------------------------------------------------------


class Clock:
    """Stands in for the measuring process: latencies in ms, one for each process."""

    def __init__(self, *latencies: float, fingerprint: str = HERE, unstable: str = "") -> None:
        self.latencies = list(latencies)
        self.fingerprint = fingerprint
        self.machine = {"cores": 2, "cpu": "this one"}
        self.anew = 0
        self.detail = {"why_unstable": unstable} if unstable else {}

    def environment_id(self, target: object) -> str:
        return self.fingerprint

    def environment(self, target: object) -> dict[str, str]:
        return {"onnxruntime": "2.0"}

    def start_anew(self, target: object) -> None:
        self.anew += 1

    def measure(self, content: bytes, target: object, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
        from nas.outcome import How

        value = self.latencies.pop(0)
        ends = {"low": 0.99 * value, "high": 1.01 * value}
        return Quantity("latency_ms", value, "ms", How.MEASURED, detail=self.detail, **ends), np.zeros(1)


def promise(folder: Path, fingerprint: str | None = HERE) -> None:
    """0.02 ms (0.0196 to 0.0204) on this machine."""

    def change(data: dict[str, Any]) -> None:
        latency = next(q for q in data["quantities"] if q["name"] == "latency_ms")
        assert latency["value"] == 0.02
        latency.pop("environment_id", None)
        latency.update({"environment_id": fingerprint} if fingerprint else {})

    edit(folder, change)


def timed(folder: Path, clock: Clock, forced: bool = False) -> Finding:
    return next(f for what, f in findings(folder, [], clock, forced).items() if what.startswith("latency"))


@pytest.mark.parametrize(
    ("latencies", "verdict", "processes"),
    [
        ((0.02,), "pass", 1),
        ((0.01,), "pass", 1),
        ((0.0215,), "pass", 1),  # 0.0213 at least, 0.0204 promised at most: within the 5 % that processes differ by
        ((0.03, 0.0205), "pass", 2),
        ((0.03, 0.025, 0.04), "fail", PROCESSES),
    ],
)
def test_latency_against_the_promise(folder: Path, latencies: tuple[float, ...], verdict: str, processes: int) -> None:
    promise(folder)
    clock = Clock(*latencies)
    found = timed(folder, clock)
    assert (found.verdict, clock.anew + 1, clock.latencies) == (verdict, processes, [])
    if verdict == "fail":
        assert found.why == "it takes 1.25 times what was promised, 0.0250 ms at best in 3 processes"


def test_a_disturbed_machine_is_told(folder: Path) -> None:
    promise(folder)
    assert timed(folder, Clock(1, 1, 1, unstable="load")).why.endswith("the machine was disturbed meanwhile (load)")


@pytest.mark.parametrize("fingerprint", [ELSEWHERE, None])
def test_another_machine_is_not_judged_unless_asked_for(folder: Path, fingerprint: str | None) -> None:
    promise(folder, fingerprint)
    found = timed(folder, Clock(9, 9, 9))
    assert found.verdict == "not judged"
    assert found.why.startswith("promised for another machine: ")
    assert "cores 2, there None" in found.why
    assert timed(folder, Clock(9, 9, 9), forced=True).verdict == "fail"
    assert timed(folder, Clock(0.001), forced=True).verdict == "pass"


def test_no_promise_of_latency(folder: Path) -> None:
    edit(folder, lambda data: data.update(quantities=[q for q in data["quantities"] if q["name"] != "latency_ms"]))
    assert (timed(folder, Clock()).verdict, timed(folder, Clock()).why) == ("not judged", "none was promised")


# --- given data ------------------------------------------------------------------------------------------------------


def described(folder: Path) -> Deployment:
    return read_description(folder)


def test_an_npz_file_by_names_and_by_numbers(folder: Path, example: Example, tmp_path: Path) -> None:
    test = example.dataset.test
    for labels in (test.labels, np.array(CLASS_NAMES)[test.labels]):
        np.savez(tmp_path / "a.npz", images=test.images[..., 0], labels=labels)
        (given,) = of_files(tmp_path / "a.npz", described(folder))
        np.testing.assert_array_equal(given.split.labels, test.labels)
        np.testing.assert_array_equal(given.split.images, test.images)
        assert (given.key, given.is_the_studys) == ("test_accuracy", False)


def test_test_arrays_are_preferred(folder: Path, example: Example, tmp_path: Path) -> None:
    train, test = example.dataset.train, example.dataset.test
    arrays = {"images": train.images, "labels": train.labels, "test_images": test.images, "test_labels": test.labels}
    np.savez(tmp_path / "a.npz", **arrays)
    (given,) = of_files(tmp_path / "a.npz", described(folder))
    np.testing.assert_array_equal(given.split.images, test.images)


@pytest.mark.parametrize("nested", [False, True])
def test_a_folder_of_images(folder: Path, example: Example, tmp_path: Path, nested: bool) -> None:
    test, root = example.dataset.test, tmp_path / "photos"
    for index, (image, label) in enumerate(zip(test.images[:9], test.labels[:9], strict=True)):
        place = (root / "test" if nested else root) / CLASS_NAMES[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(place / f"{index}.png")
    (given,) = of_files(root, described(folder))
    assert sorted(given.split.labels) == sorted(test.labels[:9])
    assert findings(folder, [given])["test accuracy, own data"].verdict == "pass"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((2, 9, 9), np.uint8), "labels": [0, 1]}, r"must hold an array 6×5×1 .* but holds 2×9×9"),
        ({"images": np.zeros((2, 6, 5), np.uint8), "labels": [0, 4]}, "has a class '0' that the model does not know"),
        ({"images": np.zeros((2, 6, 5), np.uint8), "labels": ["cat", "dgo"]}, "has a class 'dgo'"),
        ({"images": np.zeros((2, 6, 5), np.uint8), "labels": [0]}, "2 images, but 1 labels"),
        ({"images": np.zeros((2, 6, 5), np.float32), "labels": [0, 1]}, "must hold uint8, but holds float32"),
        ({"images": np.zeros((2, 6, 5), np.uint8)}, "labels"),
    ],
)
def test_data_that_does_not_fit(folder: Path, tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        of_files(tmp_path / "a.npz", described(folder))


def test_no_data(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a")
    (tmp_path / "empty").mkdir()
    for name, message in (("gone", "there is no data"), ("text.txt", "neither a folder"), ("empty", "holds no images")):
        with pytest.raises(DataError, match=message):
            of_files(tmp_path / name, described(folder))


def digits(tmp_path: Path) -> Path:
    recipe = {"data": {"source": "digits"}, "space": "convnet", "budget": {"trials": 1, "epochs": 1}}
    (tmp_path / "digits.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path / "digits.yaml"


def test_a_recipe_of_other_classes(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has other classes than .*: 0, 1, .* instead of cat, dog"):
        of_recipe(digits(tmp_path), described(folder))


def test_a_recipes_data(folder: Path, tmp_path: Path) -> None:
    from nas import data
    from nas.recipe import load_recipe

    dataset = data.load(load_recipe(digits(tmp_path)).data)
    deployment = replace(described(folder), class_names=dataset.class_names, input=dataset.input)
    given = of_recipe(digits(tmp_path), deployment)
    assert [item.key for item in given] == ["accuracy", "test_accuracy"]
    assert [len(item.split) for item in given] == [len(dataset.validation), len(dataset.test)]
    assert not any(item.is_the_studys for item in given)  # stated are 120 and 80 images
    with pytest.raises(DataError, match=r"is 8×8×1 uint8, but .* takes 6×5×1"):
        of_recipe(digits(tmp_path), replace(described(folder), class_names=dataset.class_names))


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("COLUMNS", "80")
    if "verify" not in {str(command.name or command.callback.__name__) for command in cli.app.registered_commands}:
        monkeypatch.setattr(cli.app, "registered_commands", list(cli.app.registered_commands))
        cli.app.command()(verify)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nas", "verify", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


def test_the_command_passes_and_fails(
    run: Callable[..., tuple[int, str, str]], folder: Path, example: Example, tmp_path: Path
) -> None:
    test = example.dataset.test
    np.savez(tmp_path / "a.npz", images=test.images, labels=test.labels)
    code, out, _ = run(folder, "--data", tmp_path / "a.npz", "--no-latency")
    assert (code, out.splitlines()[-1].strip()) == (0, "pass")
    assert all(len(line) <= 80 for line in out.splitlines())
    np.savez(tmp_path / "a.npz", images=test.images, labels=(test.labels + 1) % 4)
    code, out, _ = run(folder, "--data", tmp_path / "a.npz", "--no-latency")
    assert (code, out.splitlines()[-1].strip()) == (1, "fail: test accuracy, own data")
    (folder / "model.onnx").write_bytes(b"another")
    code, out, _ = run(folder)
    assert (code, "fail: model.onnx" in out) == (1, True)


def test_a_real_clock_is_asked(run: Callable[..., tuple[int, str, str]], folder: Path) -> None:
    """A promise that any machine keeps, and one that none does."""

    def slow(data: dict[str, Any]) -> None:
        latency = next(q for q in data["quantities"] if q["name"] == "latency_ms")
        latency.update(value=1000, low=999, high=1001)

    edit(folder, slow)
    code, out, _ = run(folder, "--latency")
    assert (code, "accuracy was not checked" in out) == (0, True)
    assert re.search(r"latency.*pass", out)

    def fast(data: dict[str, Any]) -> None:
        latency = next(q for q in data["quantities"] if q["name"] == "latency_ms")
        latency.update(value=1e-9, low=1e-9, high=1e-9)

    edit(folder, fast)
    code, out, _ = run(folder, "--latency")
    assert (code, "times what was promised" in " ".join(out.split())) == (1, True)


def test_the_schema_is_printed(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run("--schema")
    assert (code, json.loads(out)["title"]) == (0, "deployment.json of nas")


def test_bad_input_is_one_line(run: Callable[..., tuple[int, str, str]], folder: Path, tmp_path: Path) -> None:
    edit(folder, lambda data: data["serving"].pop("threads"))
    for arguments, message in (
        ((), "no deployment was named"),
        ((tmp_path / "gone",), "is no deployment"),
        ((folder,), "serving lacks 'threads'"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert message in err.replace("\n", " ")
        assert len(err.strip().splitlines()) <= 2


def test_a_digest_is_of_the_file(folder: Path) -> None:
    assert sha256_bytes((folder / "model.onnx").read_bytes())[:12] in findings(folder, [])["model.onnx"].promised
