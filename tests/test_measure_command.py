"""``nas measure``: what it does with a study, its front and a file; what it refuses; one run with nothing faked."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_measurer import ORT1, ORT2, OV1, FakeMeasurer, latencies_of, make_dataset, measured_study, model
from fakes import LATENCY, make_recipe, make_record, write_study
from onnx import TensorProto, helper
from onnx_models import make_model, tiny_artifact
from typer.testing import CliRunner, Result

from nas import cli, data, lease
from nas.errors import NasError
from nas.measure import measurer as measurer_module
from nas.measure.clock import Policy
from nas.measure.measurer import Measurer
from nas.measure.remote.agent import Options, Running
from nas.measure.remote.measurer import RemoteMeasurer
from nas.measurements import read_measurements
from nas.outcome import How, Quantity
from nas.store import Store, sha256_bytes
from nas.study import Study, StudyFolder
from nas.target import Target

TOKEN = "a-token-that-is-long-enough"
TRIALS = {0: (0.80, 0.5), 1: (0.85, 0.1), 2: (0.90, 0.2), 3: (0.95, 0.4)}


def run(*words: str) -> Result:
    """The command, whose errors come through as they are raised, at 80 columns."""
    return CliRunner().invoke(cli.app, ["measure", *words], env={"COLUMNS": "80"}, catch_exceptions=True)


def refused(*words: str) -> NasError:
    result = run(*words)
    assert isinstance(result.exception, NasError), result.output
    assert result.exception.exit_code == 2
    return result.exception


class Here:
    """Stands for the measurer that the command makes, on a machine of the test's choice."""

    def __init__(self) -> None:
        self.measurer = FakeMeasurer()
        self.policies: list[Policy] = []

    def __call__(self, policy: Policy) -> FakeMeasurer:
        self.policies.append(policy)
        return self.measurer


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    found = Here()
    monkeypatch.setattr(measurer_module, "Measurer", found)
    monkeypatch.setattr(data, "load", lambda config: make_dataset())
    return found


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return measured_study(tmp_path / "study", TRIALS)


# --- a study ---------------------------------------------------------------------------------------------------------


def test_a_study_is_measured_and_then_its_front_in_turns(study: Study, here: Here) -> None:
    here.measurer = FakeMeasurer("b", {ORT1: 0.5})
    result = run(str(study.folder.path))
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "4 trials on ONNX Runtime, CPU, 1 thread, batch 1; in the median 2.0× faster than before"
    assert lines[1] == "the front is the same: trials 1, 2 and 3"
    assert "In turns on ONNX Runtime, CPU, 1 thread, batch 1" in lines
    assert "machine: CPU b, 4 cores, Linux" in lines
    assert f"environment b-onnxruntime for {ORT1}: onnxruntime 1.0" in lines
    assert lines[-1] == f"next: nas report {study.folder.path}"
    moved = Study.open(study.folder.path)
    assert [record.value(LATENCY) for record in moved.records] == [0.25, 0.05, 0.1, 0.2]
    assert [taken.kind for taken in read_measurements(study.folder.measurements)] == ["all", "front"]
    assert here.measurer.closed


def test_the_front_alone_in_turns(study: Study, here: Here) -> None:
    result = run(str(study.folder.path), "--front")
    assert result.exit_code == 0, result.output
    assert [entry[0] for entry in here.measurer.log] == ["anew", "turns"] * 4
    rows = [line.split()[0] for line in result.output.splitlines() if line.startswith(" ")]
    assert rows == ["1", "2", "3", "0"]


def test_who_left_the_front_by_the_turns_is_told(study: Study, here: Here) -> None:
    here.measurer = FakeMeasurer(noise={1: (9.0,)})
    output = run(str(study.folder.path), "--front").output
    assert "trial 1 is not on the front\nleft the front: trial 1\n" in output
    assert [record.number for record in Study.open(study.folder.path).front] == [2, 3]


def test_ambiguous_members_are_marked(tmp_path: Path, here: Here) -> None:
    study = measured_study(tmp_path / "study", {1: (0.85, 0.1), 2: (0.90, 0.1001)})
    here.measurer = FakeMeasurer(noise=dict.fromkeys((1, 2), (0.99, 1.01)))
    output = run(str(study.folder.path), "--front").output
    assert "≈ intervals overlap: 1 and 2" in output
    assert output.count("≈") == 3


def test_a_further_target_is_added_and_the_front_left_alone(study: Study, here: Here) -> None:
    result = run(str(study.folder.path), "-t", ORT2)
    assert result.exit_code == 0, result.output
    assert {entry[0] for entry in here.measurer.log} == {"measure"}
    assert Study.open(study.folder.path).record(1).value(f"latency_ms@{ORT2}") == 0.1
    assert "In turns" not in result.output


def test_who_joined_and_who_left_is_told(study: Study, here: Here) -> None:
    class Other(FakeMeasurer):
        def latency(self, content: bytes, target: Target) -> tuple[int, float]:
            number, ms = super().latency(content, target)
            return number, {0: 0.01, 1: 0.6}.get(number, ms)

    here.measurer = Other("b")
    output = run(str(study.folder.path)).output
    assert "joined the front: trial 0" in output
    assert "left the front: trial 1" in output


def test_a_study_of_two_machines_is_mended(study: Study, here: Here) -> None:
    content = model(9, 0.05)
    study.store.put("artifact-00009", content, {})
    record = make_record(9, 0.7, artifact_sha256=sha256_bytes(content))
    latency = tuple(latencies_of(content, FakeMeasurer("other"), study.recipe))
    kept = tuple(quantity for quantity in record.quantities if quantity.name != "latency_ms")
    write_study(study.folder.path, [replace(record, quantities=(*kept, *latency))])
    result = run(str(study.folder.path))
    assert result.exit_code == 0, result.output
    assert "the front: trials 1, 2, 3 and 9" in result.output


def test_seconds_are_those_of_each_model(study: Study, here: Here) -> None:
    run(str(study.folder.path), "--seconds", "5")
    assert here.policies == [replace(Policy(), minimum_ms=5000, maximum_ms=5000)]


def test_ctrl_c_leaves_the_study_and_says_how_to_go_on(study: Study, here: Here) -> None:
    here.measurer.interrupt_at = 2
    result = run(str(study.folder.path), "--target", ORT2)
    assert result.exit_code == 130
    assert "Stopped. The study is as it was; the same command goes on from there:" in result.output
    assert Study.open(study.folder.path).as_told == study.as_told
    here.measurer.interrupt_at = None
    here.measurer.log.clear()
    assert run(str(study.folder.path), "--target", ORT2).exit_code == 0
    assert [entry[1] for entry in here.measurer.log] == [2, 3]


def test_a_front_measured_elsewhere_is_refused(study: Study, here: Here) -> None:
    here.measurer = FakeMeasurer("b")
    error = refused(str(study.folder.path), "--front")
    assert "was measured in another environment (a-onnxruntime) than this (b-onnxruntime" in error.message
    assert error.hint == f"measure all of it here: nas measure {study.folder.path}"


def test_a_study_at_work_is_refused(study: Study, here: Here) -> None:
    with study.folder.claim():
        assert "another search is at work" in refused(str(study.folder.path)).message
    assert here.measurer.log == []


def test_what_cannot_be_measured_here_is_refused(study: Study, here: Here) -> None:
    here.measurer = FakeMeasurer(absent=[OV1])
    error = refused(str(study.folder.path), "--target", OV1)
    assert (error.message, error.hint) == ("OpenVINO is not installed", "pip install 'nas-front[openvino]'")


def test_a_front_that_has_no_latency(tmp_path: Path, here: Here) -> None:
    study = measured_study(tmp_path / "study", TRIALS, recipe=make_recipe(objectives=["accuracy", "macs"]))
    assert "no member of the front could be timed" in run(str(study.folder.path), "--front").output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input-shape", "8x8x1"], "--input-shape is for a file"),
        (["--front", "--target", ORT1], "--front times each member where it is served"),
        (["--target", "onnxruntime"], r"target 'onnxruntime' is not of the form"),
        (["--target", "onyxruntime-cpu-1t-b1"], "did you mean 'onnxruntime'"),
    ],
)
def test_what_does_not_go_together_is_refused(study: Study, here: Here, words: list[str], message: str) -> None:
    assert message in str(refused(str(study.folder.path), *words))
    assert here.measurer.log == []


def test_no_study_is_made_where_there_is_none(tmp_path: Path, here: Here) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        assert "there is no study in" in refused(str(tmp_path / name)).message
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert not any((tmp_path / "empty").iterdir())


# --- a file ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def startup(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(path: Path, target: Target, *others: Any) -> tuple[Quantity, Quantity]:
        load = Quantity("load_ms", 5.25, "ms", How.MEASURED, target.name)
        return load, Quantity("peak_memory_bytes", 45_100_000, "bytes", How.MEASURED, target.name)

    monkeypatch.setattr(Measurer, "startup", lambda self, *arguments: measured(*arguments))


class OfFiles(FakeMeasurer):
    """Takes a quarter of a millisecond for any file."""

    def latency(self, content: bytes, target: Target) -> tuple[int, float]:
        return 0, 0.25 * self.factors.get(target.name, 1.0)


def test_a_file_on_several_targets(tmp_path: Path, here: Here, startup: None) -> None:
    here.measurer = OfFiles(factors={OV1: 0.5}, detail={"overhead_bound": True, "overhead_ms": 0.1})
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_artifact())
    result = run(str(path), "-t", ORT1, "-t", OV1, "-t", ORT1)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == f"{path}: inputs of 4×4×1 (uint8)"
    rows = {line.split()[0]: line for line in lines[2:4]}
    assert list(rows) == [ORT1, OV1]
    for word in ("0.125°", "0.138", "2.0 %", "5.25 ms", "45.1 MB"):
        assert word in rows[OV1]
    assert any(line.startswith("° overhead-bound, within 3 times of a call that computes nothing") for line in lines)
    assert f"environment a-openvino for {OV1}: openvino 1.0" in lines
    assert all(len(line) <= 80 for line in lines[1:])


def test_a_deployments_folder_is_its_model(tmp_path: Path, here: Here, startup: None) -> None:
    here.measurer = OfFiles()
    (tmp_path / "model.onnx").write_bytes(tiny_artifact())
    assert run(str(tmp_path)).output.startswith(f"{tmp_path / 'model.onnx'}: inputs of 4×4×1 (uint8)")
    assert here.measurer.log == [("measure", 0, ORT1)]


def test_a_machine_without_a_lease_is_told(
    tmp_path: Path, here: Here, startup: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.measurer = OfFiles()
    monkeypatch.setattr(lease, "available", lambda: "there is no lease on this machine")
    (tmp_path / "model.onnx").write_bytes(tiny_artifact())
    output = run(str(tmp_path / "model.onnx")).output
    assert "may disturb what is measured: there is no lease on this machine" in output


def test_free_sizes_are_told_by_an_option(tmp_path: Path, here: Here, startup: None) -> None:
    here.measurer = OfFiles()
    node = helper.make_node("Identity", ["images"], ["probabilities"])
    path = tmp_path / "free.onnx"
    path.write_bytes(make_model([node], {}, ["N", "H", "W", 3], TensorProto.FLOAT))
    assert "--input-shape 224x224x3" in refused(str(path)).hint
    for text in ("10x12x3", "10×12×3"):
        assert run(str(path), "--input-shape", text).output.startswith(f"{path}: inputs of 10×12×3 (float32)")


@pytest.mark.parametrize("text", ["", "10", "0x1x3", "axb", "10x12x3x", "-1x2"])
def test_sizes_that_are_none_are_refused(tmp_path: Path, here: Here, text: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_artifact())
    assert "--input-shape" in refused(str(path), "--input-shape", text).message
    assert here.measurer.log == []


def test_a_file_has_no_front(tmp_path: Path, here: Here) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_artifact())
    assert "--front is for a study" in refused(str(path), "--front").message


def test_a_file_that_is_not_there(tmp_path: Path, here: Here) -> None:
    assert "there is no model file" in refused(str(tmp_path / "gone.onnx")).message


def test_one_target_that_is_missing_is_told_before_another_is_measured(
    tmp_path: Path, here: Here, startup: None
) -> None:
    here.measurer = OfFiles(absent=[OV1])
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_artifact())
    assert "OpenVINO is not installed" in refused(str(path), "-t", ORT1, "-t", OV1).message
    assert here.measurer.log == []


# --- nothing faked ---------------------------------------------------------------------------------------------------


def linear(width: int) -> bytes:
    """8×8×1 uint8 images to ten probabilities, by way of so many hidden values."""
    first, second = np.full((64, width), 0.01, np.float32), np.full((width, 10), 0.01, np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("Gemm", ["flat", "first"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "second"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    return make_model(nodes, {"first": first, "second": second}, ["batch", 8, 8, 1], TensorProto.UINT8)


def test_a_real_study_from_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = Policy(warmup_ms=1, minimum_samples=20, minimum_ms=1, maximum_ms=50)
    monkeypatch.setattr(measurer_module, "Measurer", lambda policy: Measurer(short))
    path = tmp_path / "study"
    store = Store(path / "cache", 10**9)
    records = []
    for number, (accuracy, width) in enumerate([(0.9, 8), (0.95, 4096)]):
        entry = store.put(f"artifact-{number:05d}", linear(width), {})
        record = make_record(number, accuracy, 1.0 + number, artifact_sha256=entry.sha256)
        moved = (replace(q, environment_id="elsewhere") if q.key == LATENCY else q for q in record.quantities)
        records.append(replace(record, quantities=tuple(moved)))
    write_study(path, records)
    result = run(str(path))
    assert result.exit_code == 0, f"{result.output} {result.exception}"
    study = Study.open(path)
    small, large = (record.quantity(LATENCY) for record in study.records)
    assert small is not None
    assert large is not None
    assert small.environment_id == large.environment_id != "elsewhere"
    assert 0 < small.value < large.value
    assert small.detail["in_turns"] is True
    assert small.detail["overhead_ms"] > 0
    assert json.loads((StudyFolder(path).measurements / "0002.json").read_text())["kind"] == "front"


# --- a device --------------------------------------------------------------------------------------------------------


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """An agent that answers on this machine, and its token in the environment."""
    monkeypatch.setenv("NAS_LEASE_FOLDER", str(tmp_path / "lease"))
    monkeypatch.setenv("NAS_TOKEN", TOKEN)
    (tmp_path / "received").mkdir()
    agent = Running(Options(port=0, token=TOKEN), tmp_path / "received")
    thread = threading.Thread(target=agent.run)
    thread.start()
    yield agent
    agent.stop()
    thread.join()


@pytest.mark.parametrize("form", ["{url}", f"{ORT1}@{{url}}"])
def test_a_file_is_measured_on_a_device(tmp_path: Path, device: Running, startup: None, form: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_artifact())
    url = device.address.url
    result = run(str(path), "--target", form.format(url=url), "--seconds", "0.05")
    assert result.exit_code == 0, f"{result.output} {result.exception}"
    lines = result.output.splitlines()
    assert lines[0] == f"{path}: inputs of 4×4×1 (uint8)"
    assert any(line.split()[:1] == [ORT1] for line in lines)
    assert any(line.startswith(f"device: {url}, which calls itself ") for line in lines)
    assert any(line.startswith("environment ") and f"for {ORT1}: onnxruntime" in line for line in lines)
    assert device.jobs.done >= 2


def test_the_front_of_a_study_is_timed_on_a_device(tmp_path: Path, device: Running) -> None:
    folder = tmp_path / "study"
    entry = Store(folder / "cache", 10**9).put("artifact-00001", linear(8), {})
    record = make_record(1, 0.9, 1.0, artifact_sha256=entry.sha256)
    moved = (replace(q, environment_id="elsewhere") if q.key == LATENCY else q for q in record.quantities)
    write_study(folder, [replace(record, quantities=tuple(moved))])
    result = run(str(folder), "--target", device.address.url, "--seconds", "0.05")
    assert result.exit_code == 0, f"{result.output} {result.exception}"
    latency = Study.open(folder).records[0].quantity(LATENCY)
    assert latency is not None
    assert latency.environment_id != "elsewhere"
    assert latency.detail["in_turns"] is True
    taken = read_measurements(StudyFolder(folder).measurements)
    assert {found.environment["device"] for found in taken} == {device.address.url}


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (None, "wants its token, but none is given"),
        (TOKEN[::-1], "does not accept the token"),
        ("short", "at least 16"),
    ],
)
def test_a_token_that_is_missing_or_wrong(
    tmp_path: Path, device: Running, monkeypatch: pytest.MonkeyPatch, token: str | None, message: str
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_artifact())
    monkeypatch.delenv("NAS_TOKEN") if token is None else monkeypatch.setenv("NAS_TOKEN", token)
    assert message in refused(str(path), "-t", device.address.url).message
    file = tmp_path / "token"
    file.write_text(TOKEN)
    assert (
        "onnxruntime alone"
        in refused(str(path), "-t", f"{OV1}@{device.address.url}", "--token-file", str(file)).message
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing is named to be measured"),
        (["--serve", "model.onnx"], "--serve measures what others send"),
        (["--serve", "-t", ORT1], "--serve measures what others send"),
        (["--serve", "--token-file", "/gone"], "the token file /gone cannot be read"),
        (["--serve", "--host", "256.0.0.1"], "the agent cannot listen on 256.0.0.1"),
        (["model.onnx", "-t", "http://a", "-t", "http://b"], "one command measures on one device"),
        (["model.onnx", "-t", "http://user:word@a"], "no user or password"),
    ],
)
def test_what_makes_no_sense_with_a_device(words: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAS_TOKEN", raising=False)
    assert message in refused(*words).message


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_agent_serves_until_it_is_told_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: signal.Signals
) -> None:
    monkeypatch.delenv("NAS_TOKEN", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "-c", "import nas.cli; nas.cli.main()", "measure", "--serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        words = line.replace(";", "").split()
        url, token = words[words.index("at") + 1], words[-1]
        with RemoteMeasurer(url, token) as measurer:
            assert measurer.environment(Target.parse(ORT1))
        process.send_signal(ending)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "stopped; requests answered: 1\n", "")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("nas-agent-")] == []
