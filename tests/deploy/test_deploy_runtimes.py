"""Deployments that other runtimes than ONNX Runtime serve: what is written, checked, said, and run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deploy_fakes import GREY, Example
from fakes import TARGET, make_recipe
from PIL import Image
from served_fakes import (
    GPU,
    OPENVINO,
    PLACE,
    TORCH,
    VERSIONS,
    Outputs,
    accuracy_at,
    linear_program,
    make_served,
    place_recipe,
)
from test_deploy_readme import script_of

from nas.commands import measure as measure_command
from nas.deploy import Choice, Limits, choose, deploy, load_deployment, predict, verify_deployment, write_deployment
from nas.deploy.running import Runner
from nas.deploy.serving import Serving
from nas.errors import ArtifactError, NasError, NothingFeasibleError, StudyError, UnsupportedError
from nas.measure.measurer import Measurer
from nas.study import Study
from nas.target import TORCH_PROGRAM, Target

FAST = Limits(max_latency_ms=0.5)
FILES = {TARGET: "model.onnx", OPENVINO: "model.onnx", TORCH: "model.pt2"}


@pytest.fixture(params=[TARGET, OPENVINO, TORCH])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def example(server: str, tmp_path: Path) -> Example:
    """A study whose trials a runtime serves at a place."""
    return make_served(tmp_path / "birds", server)


def image(folder: Path) -> Path:
    pixels = np.random.default_rng(4).integers(0, 256, (6, 5), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return folder / "a.png"


# --- what is written and checked -------------------------------------------------------------------------------------


def test_the_file_and_the_runtime_are_those_that_serve_the_place(example: Example, server: str, tmp_path: Path) -> None:
    outputs = Outputs(example)
    choice = choose(example.study, FAST)
    assert choice.served_by == Target.parse(server)
    assert f"({PLACE}, by {server})" in choice.why
    deployed = deploy(example.study, choice, tmp_path / "deploy", example.dataset, outputs)
    deployment = load_deployment(deployed.folder)
    runtime = server.split("-")[0]
    assert deployment.serving == Serving(runtime, VERSIONS[runtime], "cpu", 1, 1, server, None, PLACE)
    names = {path.name for path in deployed.folder.iterdir()}
    assert names == {FILES[server], "deployment.json", "README.md"}
    form = Target.parse(server).form
    assert deployment.model_path.read_bytes() == example.study.artifact(choice.record, form)
    assert deployment.quantity("size_bytes").value == deployment.size_bytes
    assert deployment.quantity(f"latency_ms@{PLACE}").value == 0.01
    assert set(outputs.asked) == ({server} if server != TARGET else set())
    title = Target.parse(server).kind.title
    assert deployed.verified.startswith(f"checked by reading it back with {title}: the SHA-256, the validation acc")
    assert "the test accuracy (" in deployed.verified
    assert "the trial's outputs on 120 images" in deployed.verified


def test_what_is_written_is_read_back_as_it_was(example: Example, tmp_path: Path) -> None:
    folder = write_deployment(example.study, choose(example.study, FAST), tmp_path / "deploy")
    stated = json.loads((folder / "deployment.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(load_deployment(folder).to_json())) == stated


def test_measuring_a_deployment_times_it_as_it_is_served(example: Example, server: str, tmp_path: Path) -> None:
    choice = choose(example.study, FAST)
    folder = deploy(example.study, choice, tmp_path / "deploy", example.dataset, Outputs(example)).folder
    model = measure_command._file(folder)
    assert model == folder / FILES[server]
    assert measure_command._default_target(model, is_deployed=True).name == server
    assert measure_command._default_target(folder / "model.onnx", is_deployed=False).name == TARGET


def test_a_deployment_of_another_form_is_replaced_whole(tmp_path: Path) -> None:
    for server in (TARGET, TORCH, OPENVINO):
        study = make_served(tmp_path / server, server).study
        folder = write_deployment(study, choose(study, FAST), tmp_path / "deploy")
        assert {path.name for path in folder.iterdir()} == {FILES[server], "deployment.json", "README.md"}


def test_a_torch_program_is_labelled_as_the_float_network_that_it_is(tmp_path: Path) -> None:
    study = make_served(tmp_path / "birds", TORCH).study
    folder = write_deployment(study, choose(study, FAST), tmp_path / "deploy")
    data = json.loads((folder / "deployment.json").read_text(encoding="utf-8"))
    assert data["labels"] == {"weight_bits": "unsupported"}
    assert (data["model"]["opset"], data["model"]["exporter"]) == (None, "torch.export")
    assert "- weight bits: unsupported (without effect on this network and target)" in (folder / "README.md").read_text(
        encoding="utf-8"
    )
    assert "torch" in data["versions"]


@pytest.mark.parametrize("wrong", [1, 30])
def test_a_runtime_that_computes_something_else_is_noticed(example: Example, server: str, wrong: int) -> None:
    """It serves the trial, so its accuracy is the trial's, to the sample; ONNX Runtime runs in this process."""
    place = example.study.folder.path.parent / "deploy"
    outputs = Outputs(example, {server: wrong})
    choice = choose(example.study, FAST)
    if server == TARGET:
        deploy(example.study, choice, place, example.dataset, outputs)
        return
    with pytest.raises(ArtifactError, match=r"so nothing was written: .* of 120 samples rightly, but states accuracy"):
        deploy(example.study, choice, place, example.dataset, outputs)
    assert not place.exists()


def test_outputs_of_another_shape_are_noticed(tmp_path: Path) -> None:
    example = make_served(tmp_path / "birds", TORCH)
    outputs = Outputs(example)
    with pytest.raises(ArtifactError, match=r"model\.pt2 gives 120×3 numbers for 120 images, but must 4 for each"):
        deploy(
            example.study,
            choose(example.study, FAST),
            tmp_path / "deploy",
            example.dataset,
            lambda content, target, images: outputs(content, target, images)[:, :3],
        )


def test_a_file_that_is_gone_is_named_by_its_trial(tmp_path: Path) -> None:
    example = make_served(tmp_path / "birds", TORCH)
    choice = choose(example.study, FAST)
    example.study.store.blob_path(choice.record.forms[TORCH_PROGRAM]).unlink()
    with pytest.raises(StudyError, match="the artifact of trial 1 is not in"):
        deploy(example.study, choice, tmp_path / "deploy", example.dataset, Outputs(example))


# --- a target beside those that serve --------------------------------------------------------------------------------


def test_another_target_is_deployed_with_its_own_scores(tmp_path: Path) -> None:
    """ONNX Runtime serves the trials; whoever asks for torch gets its file, its accuracy and its size."""
    example = make_served(tmp_path / "birds", TARGET)
    outputs = Outputs(example, {TORCH: 1})
    choice = choose(example.study, Limits(max_latency_ms=0.5, target=TORCH))
    deployed = deploy(example.study, choice, tmp_path / "deploy", example.dataset, outputs)
    deployment = load_deployment(deployed.folder)
    assert (deployment.serving.target, deployment.serving.place) == (TORCH, None)
    assert deployment.quantity("size_bytes").value == len(example.study.artifact(choice.record, TORCH_PROGRAM))
    recorded = choice.record.value("accuracy")
    assert deployment.quantity("accuracy").value == deployed.verification.accuracy.value != recorded
    assert deployment.quantity("accuracy").value == pytest.approx(recorded, abs=1.5 / 120)
    on_test = example.study.test_scores[choice.record.number]["test_accuracy"].value
    assert deployment.quantity("test_accuracy").value != on_test
    assert {q.key for q in deployment.quantities} == {q.key for q in choice.record.quantities}


def test_what_another_target_gets_too_wrong_is_not_deployed(tmp_path: Path) -> None:
    example = make_served(tmp_path / "birds", TARGET)
    choice = choose(example.study, Limits(max_latency_ms=0.5, target=OPENVINO))
    with pytest.raises(ArtifactError, match=f"{OPENVINO} makes something else of trial 1 than ONNX Runtime: its"):
        deploy(example.study, choice, tmp_path / "deploy", example.dataset, Outputs(example, {OPENVINO: 20}))
    assert not (tmp_path / "deploy").exists()


@pytest.mark.parametrize(
    ("limits", "broken"),
    [({"min_accuracy": None}, "validation accuracy"), ({"max_size_bytes": 800}, "file size 2.00 kB, 1.2 kB too much")],
)
def test_limits_hold_for_the_deployment_and_not_for_the_trial_alone(
    tmp_path: Path, limits: dict[str, Any], broken: str
) -> None:
    programs = {number: bytes([number]) * 2000 for number in (0, 1)}
    example = make_served(tmp_path / "birds", TARGET, programs=programs)
    least = example.study.record(1).value("accuracy")
    asked = Limits(target=TORCH, **{name: value or least for name, value in limits.items()})
    with pytest.raises(ArtifactError, match=f"by torch, CPU, 1 thread, batch 1 trial . does not keep .*: {broken}"):
        deploy(
            example.study,
            choose(example.study, asked),
            tmp_path / "deploy",
            example.dataset,
            Outputs(example, {TORCH: 1}),
        )


def test_where_several_serve_the_accuracy_is_the_deployed_ones(tmp_path: Path) -> None:
    """The record's is the lowest of all that serve, here torch's, which is one sample lower."""
    recipe = make_recipe(objectives=["accuracy", f"latency_ms@{OPENVINO}", f"latency_ms@{TORCH}"])
    example = make_served(tmp_path / "birds", OPENVINO, recipe)
    records = []
    for record in example.study.records:
        accuracy = record.quantity("accuracy")
        own = [accuracy_at(OPENVINO, accuracy.value), accuracy_at(TORCH, accuracy.value - 1 / 120)]
        lower = [replace(q, value=q.value - 1 / 120) if q.key == "accuracy" else q for q in record.quantities]
        records.append(replace(record, quantities=(*lower, *own)))
    study = Study(example.study.folder, recipe, records)
    outputs = Outputs(example, {TORCH: 1})
    for target in (OPENVINO, TORCH):
        choice = choose(study, Limits(max_latency_ms=0.5, target=target))
        deployment = load_deployment(deploy(study, choice, tmp_path / "deploy", example.dataset, outputs).folder)
        assert deployment.serving.target == target
        assert deployment.quantity("accuracy").value == pytest.approx(
            choice.record.quantity(f"accuracy@{target}").value, abs=1e-9
        )
        form = Target.parse(target).form
        assert deployment.quantity("size_bytes").value == len(study.artifact(choice.record, form))


def test_without_its_scores_no_other_runtimes_accuracy_is_stated(tmp_path: Path) -> None:
    study = make_served(tmp_path / "birds", TARGET).study
    folder = write_deployment(study, choose(study, Limits(target=TORCH)), tmp_path / "deploy")
    deployment = load_deployment(folder)
    assert deployment.quantity("accuracy") is None
    assert deployment.test_scores == ()


@pytest.mark.parametrize("name", [PLACE, OPENVINO])
def test_limits_are_at_the_place_or_target_that_is_named(tmp_path: Path, name: str) -> None:
    study = make_served(tmp_path / "birds", TARGET).study  # at the place in half of OpenVINO's time: 0.005 and 0.010
    numbers = {
        limit: choose(study, Limits(max_latency_ms=limit, target=name)).record.number
        for limit in ((0.006, 0.011) if name == PLACE else (0.011, 0.021))
    }
    assert list(numbers.values()) == [0, 1]
    with pytest.raises(NothingFeasibleError, match="the fastest, trial 0, has"):
        choose(study, Limits(max_latency_ms=0.004, target=name))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda-b1", r"unknown target 'cuda-b1'.*a place can be named where the recipe's objectives or constraints do"),
        ("openvino-cpu-9t-b1", f"unknown target 'openvino-cpu-9t-b1'; did you mean '{OPENVINO}'"),
    ],
)
def test_what_was_not_measured_cannot_be_asked_for(tmp_path: Path, name: str, message: str) -> None:
    study = make_served(tmp_path / "birds", TARGET).study
    with pytest.raises(NasError, match=message):
        choose(study, Limits(target=name))


def test_trials_that_a_target_could_not_run_are_no_candidates_there(tmp_path: Path) -> None:
    study = make_served(tmp_path / "birds", TARGET).study
    for left, expected in (((1,), 0), ((0, 1), None)):
        records = [
            replace(r, quantities=tuple(q for q in r.quantities if r.number not in left or q.target != TORCH))
            for r in study.records
        ]
        cut = Study(study.folder, study.recipe, records)
        if expected is None:
            with pytest.raises(
                NothingFeasibleError, match=f"no trial on the front was measured on '{TORCH}'"
            ) as caught:
                choose(cut, Limits(target=TORCH))
            assert caught.value.hint == f"nas measure {study.folder.path} --target {TORCH}"
        else:
            choice: Choice = choose(cut, Limits(min_accuracy=0.01, target=TORCH))
            assert (choice.record.number, choice.runner_up) == (expected, None)


def test_a_target_that_was_measured_later_can_be_asked_for(tmp_path: Path) -> None:
    study = make_served(tmp_path / "birds", TARGET).study
    shorter = place_recipe(targets=[TARGET])
    assert choose(Study(study.folder, shorter, study.records), Limits(target=OPENVINO)).target == OPENVINO


# --- on a GPU, as far as it can be without one -----------------------------------------------------------------------


def make_gpu(folder: Path) -> Example:
    return make_served(
        folder / "birds", GPU, make_recipe(objectives=["accuracy", f"latency_ms@{GPU}"], targets=[TARGET])
    )


def test_a_gpu_has_no_threads_and_may_tell_one_sample_apart(tmp_path: Path) -> None:
    example = make_gpu(tmp_path)
    choice = choose(example.study, FAST)
    deployed = deploy(example.study, choice, tmp_path / "deploy", example.dataset, Outputs(example, {GPU: 1}))
    serving = load_deployment(deployed.folder).serving
    assert serving == Serving("torch", "9.9.0", "cuda", None, 1, GPU, "fp16")
    assert serving.as_target == Target.parse(GPU)
    assert serving.words == "torch, CUDA, batch 1, fp16"
    data = json.loads((deployed.folder / "deployment.json").read_text(encoding="utf-8"))
    assert data["serving"]["threads"] is None
    with pytest.raises(ArtifactError, match="samples rightly, but states accuracy"):
        deploy(example.study, choice, tmp_path / "other", example.dataset, Outputs(example, {GPU: 20}))


def test_the_script_for_a_gpu_is_python_and_names_device_and_precision(tmp_path: Path) -> None:
    study = make_gpu(tmp_path).study
    folder = write_deployment(study, choose(study, FAST), tmp_path / "deploy")
    script = script_of(folder)
    compile(script, "classify.py", "exec")
    assert 'program = move_to_device_pass(program, "cuda")' in script
    assert 'with torch.inference_mode(), torch.autocast("cuda", torch.float16):' in script
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "- Serve it with torch (9.9.0 when measured): CUDA, batch 1, fp16." in text
    assert "What was measured replays a CUDA graph" in text


@pytest.mark.parametrize(
    ("target", "lines"),
    [
        ("onnxruntime-cuda-b1", ['providers=["CUDAExecutionProvider"]']),
        (
            "tensorrt-cuda-b1-fp16",
            ['("TensorrtExecutionProvider", {"trt_fp16_enable": True, "trt_int8_enable": False})'],
        ),
        ("inductor-cpu-1t-b1", ["torch.set_num_threads(1)", "network = torch.compile(network, dynamic=False)"]),
        ("torch-cpu-1t-b1-bf16", ['torch.autocast("cpu", torch.bfloat16)']),
        ("openvino-cpu-2t-b1-bf16", ['"INFERENCE_NUM_THREADS": 2', '"INFERENCE_PRECISION_HINT": "bf16"']),
    ],
)
def test_every_runtime_has_a_script(tmp_path: Path, target: str, lines: list[str]) -> None:
    study = make_served(tmp_path / "birds", TARGET).study
    deployment = load_deployment(write_deployment(study, choose(study, FAST), tmp_path / "deploy"))
    from nas.deploy.snippet import packages, snippet

    served = replace(deployment, serving=Serving.on(Target.parse(target), "1"))
    script = snippet(served)
    compile(script, "classify.py", "exec")
    for line in lines:
        assert line in script
    assert max(map(len, script.splitlines())) <= 100
    assert packages(served).startswith("numpy pillow ")


# --- for real --------------------------------------------------------------------------------------------------------

# Runs the README's script where this package cannot be imported.
WITHOUT_US = """
import sys
sys.modules["nas"] = None
script = sys.argv.pop(1)
exec(compile(open(script, encoding="utf-8").read(), script, "exec"), {"__name__": "__main__"})
"""


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner() as started:
        yield started


@pytest.mark.parametrize("real", [OPENVINO, pytest.param(TORCH, marks=pytest.mark.slow)])
def test_deployed_verified_predicted_and_run_by_its_script(runner: Runner, tmp_path: Path, real: str) -> None:
    pytest.importorskip(real.split("-")[0])
    programs = {number: linear_program(GREY, seed) if real == TORCH else b"none" for number, seed in ((0, 1), (1, 2))}
    example = make_served(tmp_path / "birds", real, programs=programs)
    choice = choose(example.study, FAST)
    folder = deploy(example.study, choice, tmp_path / "deploy", example.dataset, runner).folder
    deployment = load_deployment(folder)
    file = image(tmp_path)
    (prediction,) = predict(deployment, [file], runner)
    pixels = np.asarray(Image.open(file))[None, :, :, None]
    row = Outputs(example)(example.study.artifact(choice.record), Target.parse(TARGET), pixels)[0]
    assert prediction.label == deployment.class_names[row.argmax()]
    assert prediction.probability == pytest.approx(row.max(), rel=1e-4)
    (folder / "classify.py").write_text(script_of(folder), encoding="utf-8")
    command = [sys.executable, "-I", "-X", "utf8", "-c", WITHOUT_US, "classify.py", str(file)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    label, share = done.stdout.strip().rsplit(" ", 1)
    assert (label, float(share)) == (prediction.label, pytest.approx(prediction.probability, rel=1e-5))


def test_predict_starts_a_process_of_its_own_and_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    closed: list[Runner] = []
    close = Runner.close
    monkeypatch.setattr(Runner, "close", lambda self: (closed.append(self), close(self))[1])
    study = make_served(tmp_path / "birds", OPENVINO).study
    deployment = load_deployment(write_deployment(study, choose(study, FAST), tmp_path / "deploy"))
    assert predict(deployment, []) == []
    (prediction,) = predict(deployment, [image(tmp_path)])
    assert 0.25 < prediction.probability < 1
    assert len(closed) == 2


@pytest.mark.parametrize("server", [OPENVINO, TORCH])
def test_a_runtime_that_is_not_here_is_named_with_what_else_runs_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    def missing(*_: object) -> np.ndarray:
        raise UnsupportedError("the runtime is not installed (No module named 'runtime')", "pip install runtime")

    monkeypatch.setattr(Measurer, "outputs", missing)
    example = make_served(tmp_path / "birds", server)
    deployment = load_deployment(write_deployment(example.study, choose(example.study, FAST), tmp_path / "deploy"))
    for attempt in (
        lambda: predict(deployment, [image(tmp_path)]),
        lambda: verify_deployment(deployment.folder, example.dataset.validation),
    ):
        with pytest.raises(UnsupportedError, match="the runtime is not installed") as caught:
            attempt()
        other = "; or do without: the model file is ONNX, which onnxruntime runs too, on any CPU"
        assert caught.value.hint.startswith(f"pip install runtime{other if server == OPENVINO else ''}")
        assert "\n" not in str(caught.value)


def test_verifying_by_itself_starts_nothing_for_onnx_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = make_served(tmp_path / "birds", TARGET)
    folder = write_deployment(example.study, choose(example.study, FAST), tmp_path / "deploy")

    def refuse(self: Runner, *_: object) -> np.ndarray:
        raise AssertionError("ONNX Runtime on the CPU runs in this process")

    monkeypatch.setattr(Runner, "__call__", refuse)
    assert verify_deployment(folder, example.dataset.validation, example.dataset.test, example.study).compared == 120
