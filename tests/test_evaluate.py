"""One design evaluated: complete numbers, all read off the stored file, and a reason where there are none."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import foreign_networks
import numpy as np
import onnxruntime
import pytest
import torch
from small_networks import ONE_THREAD, digits, make_design, make_recipe

from nas.artifact import Manifest
from nas.design import Design
from nas.errors import (
    ArtifactError,
    DivergedError,
    InfeasibleDesignError,
    MeasureError,
    NasError,
    SpaceError,
    UnsupportedError,
)
from nas.evaluate import EvalRequest, EvalResult, Evaluator
from nas.families import load_own
from nas.measure.complexity import count
from nas.measure.startup import measure_startup
from nas.outcome import How, Outcome, Quantity, Realisation, Reason
from nas.own_module import INCLUDED, OwnModule
from nas.pipeline import Pipeline, Teacher
from nas.record import TrialRecord
from nas.scoring import score, wilson_interval
from nas.serving import server_of
from nas.stages import Trace
from nas.store import Store, sha256_bytes
from nas.target import Target

TARGET, SECOND = "onnxruntime-cpu-1t-b1", "onnxruntime-cpu-1t-b8"
INT8 = {"weight_bits": 8, "activation_bits": 8}
COUNTED = {"macs", "flops", "params", "peak_activation_bytes"}
WITHOUT_TARGET = {"accuracy", "balanced_accuracy", "size_bytes", "compressed_size_bytes"} | COUNTED
UNCOMPRESSED = {"uncompressed_macs", f"uncompressed_latency_ms@{TARGET}", f"uncompressed_latency_ms@{SECOND}"}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class FakeMeasure:
    """Stands in for the clock: a latency from the file's size, and a note of what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, tuple[int, ...]]] = []

    def __call__(self, content: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
        self.asked.append((sha256_bytes(content), target.name, images.shape))
        samples = np.full(5, len(content) / 1e6 * target.batch, np.float32)
        return Quantity("latency_ms", float(samples[0]), "ms", How.MEASURED, target=target.name), samples


def make_evaluator(folder: Path, measure: Any = None, outputs: Any = None, **changes: Any) -> Evaluator:
    recipe, dataset, store = make_recipe(**changes), digits(), Store(folder, 10**9)
    pipeline = Pipeline(recipe, dataset, store, ONE_THREAD, reduce_range=False)
    return Evaluator(
        recipe,
        dataset,
        pipeline,
        store,
        measure or FakeMeasure(),
        outputs=outputs,
        startup=lambda path, target, images: measure_startup(path, target, images, "this-machine"),
    )


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    """An evaluator whose cache fills up from test to test."""
    return make_evaluator(tmp_path_factory.mktemp("cache"), targets=[SECOND])


def values(result: EvalResult) -> dict[str, float]:
    return {quantity.key: quantity.value for quantity in result.quantities}


def stored(evaluator: Evaluator, result: EvalResult) -> bytes:
    assert result.artifact_sha256 is not None
    return evaluator.store.blob_path(result.artifact_sha256).read_bytes()


DESIGNS = [{}, INT8, {"weight_bits": 8}, {"pruning_ratio": 0.5}, {"distillation": True, **INT8}]


@pytest.mark.parametrize("compression", DESIGNS, ids=lambda c: "-".join(c) or "plain")
def test_a_measured_trial_has_every_number_and_each_is_the_files(
    compression: dict[str, Any], evaluator: Evaluator
) -> None:
    measure = FakeMeasure()
    evaluator.measure = measure
    design = make_design(**compression)
    result = evaluator.evaluate(EvalRequest(7, design, 0, Teacher(2, make_design("mlp"))))
    assert (result.outcome, result.reason, result.traceback) == (Outcome.MEASURED, None, "")
    pruned = "pruning_ratio" in compression
    wanted = WITHOUT_TARGET | {f"latency_ms@{TARGET}", f"latency_ms@{SECOND}"}
    assert values(result).keys() == wanted | (UNCOMPRESSED if pruned else set())
    content = stored(evaluator, result)
    assert sha256_bytes(content) == result.artifact_sha256
    assert values(result)["size_bytes"] == len(content)
    # Latency: of this very file, on validation images, on each target, samples kept.
    assert measure.asked[:2] == [
        (result.artifact_sha256, name, digits().validation.images.shape) for name in (SECOND, TARGET)
    ]
    assert len(measure.asked) == (4 if pruned else 2)
    assert list(result.samples) == [SECOND, TARGET]
    assert values(result)[f"latency_ms@{SECOND}"] == pytest.approx(8 * values(result)[f"latency_ms@{TARGET}"])
    # Accuracy: scored again by stock ONNX Runtime, one image at a time.
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    images, labels = digits().validation.images, digits().validation.labels
    single = np.concatenate([session.run(None, {"images": images[i : i + 1]})[0] for i in range(len(images))])
    assert values(result)["accuracy"] == float((single.argmax(1) == labels).mean())
    assert list(score(single, labels)) == [q for q in result.quantities if "accuracy" in q.name]
    # Counted on the float network, after pruning.
    counted = evaluator.pipeline.run(design, 0, Teacher(2, make_design("mlp")), Trace()).network
    complexity = count(counted, (1, 8, 8))
    assert values(result)["macs"] == complexity.macs
    assert values(result)["flops"] == 2 * complexity.macs
    assert values(result)["params"] == complexity.params
    how = {quantity.name: quantity.how for quantity in result.quantities}
    counted_names = {name for name, way in how.items() if way is How.COUNTED}
    assert counted_names == COUNTED | ({"uncompressed_macs"} if pruned else set())
    assert set(how.values()) == {How.COUNTED, How.MEASURED}


def test_stages_labels_and_manifest_come_along_and_can_be_stored(evaluator: Evaluator) -> None:
    design = make_design(pruning_ratio=0.5, **INT8)
    seen: list[str] = []
    result = evaluator.evaluate(EvalRequest(1, design, 0), lambda stage, share: seen.append(stage))
    names = [stage.stage for stage in result.stages]
    assert names == ["train", "prune", "finetune", "export", "quantise", "measure", "score", "count", "compare"]
    assert list(dict.fromkeys(seen)) == names
    assert all(bool(stage.key) is (stage.stage in names[:5]) for stage in result.stages)
    assert all(stage.seconds >= 0 for stage in result.stages)
    assert result.labels == dict.fromkeys(("pruning_ratio", "weight_bits", "activation_bits"), Realisation.REALISED)
    assert Manifest.from_json(result.manifest).class_names == digits().class_names
    assert len(result.notes) >= 2
    record = TrialRecord(
        1, "asked", design, result.outcome, 0,
        quantities=result.quantities, labels=result.labels, stages=result.stages, notes=result.notes,
        artifact_sha256=result.artifact_sha256, manifest=dict(result.manifest),
    )  # fmt: skip
    written = json.loads(json.dumps(record.to_json()))
    assert TrialRecord.from_json(written).to_json() == written


def test_a_design_evaluated_again_gives_the_same_file_and_numbers(evaluator: Evaluator) -> None:
    first, second = (evaluator.evaluate(EvalRequest(number, make_design(**INT8), 0)) for number in (10, 11))
    assert first.artifact_sha256 == second.artifact_sha256
    assert values(first) == values(second)
    assert all(stage.cached for stage in second.stages if stage.key)
    other_seed = evaluator.evaluate(EvalRequest(12, make_design(**INT8), 1))
    assert other_seed.artifact_sha256 != first.artifact_sha256


def test_a_pruned_design_is_held_against_the_network_that_it_was_made_from(tmp_path: Path) -> None:
    measure = FakeMeasure()
    evaluator = make_evaluator(tmp_path, measure)
    plain = evaluator.evaluate(EvalRequest(0, make_design(), 0))
    pruned = evaluator.evaluate(EvalRequest(1, make_design(pruning_ratio=0.5), 0))
    assert values(pruned)["uncompressed_macs"] == values(plain)["macs"] > 2 * values(pruned)["macs"]
    assert values(pruned)[f"uncompressed_latency_ms@{TARGET}"] == values(plain)[f"latency_ms@{TARGET}"]
    assert measure.asked[-1][0] == plain.artifact_sha256
    asked = len(measure.asked)
    again = evaluator.evaluate(EvalRequest(2, make_design(pruning_ratio=0.5, **INT8), 0))
    assert values(again)["uncompressed_macs"] == values(plain)["macs"]
    assert len(measure.asked) == asked + 1, "the yardstick is measured once"


def test_the_compressed_size_is_that_of_the_deflated_file(evaluator: Evaluator) -> None:
    result = evaluator.evaluate(EvalRequest(30, make_design(), 0))
    deflated = zlib.compress(stored(evaluator, result), 9)
    assert zlib.decompress(deflated) == stored(evaluator, result)
    assert values(result)["compressed_size_bytes"] == len(deflated)


def test_pruning_lowers_what_is_counted_and_int8_only_the_size(evaluator: Evaluator) -> None:
    plain, pruned, quantised = (
        values(evaluator.evaluate(EvalRequest(20 + number, make_design(**compression), 0)))
        for number, compression in enumerate(({}, {"pruning_ratio": 0.5}, INT8))
    )
    for name in ("macs", "params", "size_bytes"):
        assert pruned[name] < 0.7 * plain[name]
    assert (quantised["macs"], quantised["params"]) == (plain["macs"], plain["params"])
    assert quantised["size_bytes"] < plain["size_bytes"]


# --- several targets

ORT, OPENVINO, TORCH = "onnxruntime-cpu-1t-b1", "openvino-cpu-2t-b1", "torch-cpu-1t-b1"


class ByRuntime:
    """Stands in for clock and runtimes: a latency for each target, and whether a runtime computes what it should."""

    def __init__(self, latencies: dict[str, float], wrong: tuple[str, ...] = (), refuses: tuple[str, ...] = ()) -> None:
        self.latencies = latencies
        self.wrong = wrong
        self.refuses = refuses
        self.files: dict[str, bytes] = {}

    def measure(self, content: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
        if target.name in self.refuses:
            raise ArtifactError("no such operator")
        self.files[target.name] = content
        value = self.latencies[target.name]
        return Quantity("latency_ms", value, "ms", How.MEASURED, target=target.name), np.full(5, value, np.float32)

    def outputs(self, content: bytes, target: Target, images: np.ndarray) -> np.ndarray:
        if target.name in self.wrong:
            return np.eye(10, dtype=np.float32)[np.zeros(len(images), int)]
        if content.startswith(b"PK"):  # a torch program is a zip file
            program = torch.export.load(io.BytesIO(content)).module()
            return np.asarray(program(torch.from_numpy(images)).detach())
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {"images": images})[0])

    def evaluator(self, folder: Path, **changes: Any) -> Evaluator:
        return make_evaluator(folder, self.measure, self.outputs, **changes)


AT_A_PLACE = {"targets": [ORT, OPENVINO], "objectives": ["accuracy", "latency_ms@cpu-b1"]}


@pytest.mark.parametrize(("openvino_ms", "serves"), [(0.5, OPENVINO), (2.0, ORT)])
def test_the_fastest_target_at_a_place_serves_and_the_others_stay_in_the_record(
    openvino_ms: float, serves: str, tmp_path: Path
) -> None:
    fake = ByRuntime({ORT: 1.0, OPENVINO: openvino_ms})
    result = fake.evaluator(tmp_path, **AT_A_PLACE).evaluate(EvalRequest(0, make_design(), 0))
    found = {quantity.key: quantity for quantity in result.quantities}
    assert found["latency_ms@cpu-b1"].value == min(1.0, openvino_ms)
    assert found["latency_ms@cpu-b1"].detail["served_by"] == serves
    assert server_of(found["latency_ms@cpu-b1"]) == Target.parse(serves)
    assert (found[f"latency_ms@{ORT}"].value, found[f"latency_ms@{OPENVINO}"].value) == (1.0, openvino_ms)
    assert list(result.samples) == [ORT, OPENVINO]


def test_a_faster_runtime_that_computes_something_else_does_not_serve(tmp_path: Path) -> None:
    fake = ByRuntime({ORT: 1.0, OPENVINO: 0.5}, wrong=(OPENVINO,))
    result = fake.evaluator(tmp_path, **AT_A_PLACE).evaluate(EvalRequest(0, make_design(), 0))
    assert result.outcome is Outcome.MEASURED
    assert values(result)["latency_ms@cpu-b1"] == 1.0
    assert values(result)["accuracy"] > 0.5
    assert any(note.startswith(f"{OPENVINO} is faster, but its outputs differ") for note in result.notes)


def test_accuracy_is_scored_by_the_runtime_that_the_recipe_names_whatever_it_computes(tmp_path: Path) -> None:
    fake = ByRuntime({OPENVINO: 0.5}, wrong=(OPENVINO,))
    evaluator = fake.evaluator(tmp_path, objectives=["accuracy", f"latency_ms@{OPENVINO}"])
    result = evaluator.evaluate(EvalRequest(0, make_design(), 0))
    assert values(result)["accuracy"] < 0.2


def test_a_target_that_refuses_an_artifact_fails_the_trial_only_where_it_is_needed(tmp_path: Path) -> None:
    fake = ByRuntime({ORT: 1.0}, refuses=(OPENVINO,))
    at_place = fake.evaluator(tmp_path, **AT_A_PLACE).evaluate(EvalRequest(0, make_design(), 0))
    assert values(at_place)["latency_ms@cpu-b1"] == 1.0
    assert f"{OPENVINO}: no such operator" in at_place.notes
    named = fake.evaluator(tmp_path, objectives=["accuracy", f"latency_ms@{OPENVINO}"])
    result = named.evaluate(EvalRequest(0, make_design(), 0))
    assert (result.outcome, result.reason and result.reason.kind) == (Outcome.FAILED, "refused")


def test_a_runtime_gets_the_model_in_its_own_form_and_all_is_read_off_that_file(tmp_path: Path) -> None:
    fake = ByRuntime({TORCH: 1.0})
    evaluator = fake.evaluator(tmp_path, objectives=["accuracy", f"latency_ms@{TORCH}"])
    result = evaluator.evaluate(EvalRequest(0, make_design(**INT8), 0))
    assert result.outcome is Outcome.MEASURED, result.reason
    program = evaluator.store.blob_path(result.forms["torch"]).read_bytes()
    assert fake.files[TORCH] == program
    assert values(result)["size_bytes"] == len(program)
    assert result.labels == dict.fromkeys(("weight_bits", "activation_bits"), Realisation.UNSUPPORTED)
    assert any("without effect: activation_bits, weight_bits" in note for note in result.notes)
    labels = digits().validation.labels
    scored = fake.outputs(program, Target.parse(TORCH), digits().validation.images)
    assert values(result)["accuracy"] == float((scored.argmax(1) == labels).mean())


def test_with_two_devices_accuracy_is_the_lower_and_each_is_kept(tmp_path: Path) -> None:
    fake = ByRuntime({ORT: 1.0, TORCH: 2.0}, wrong=(TORCH,))
    objectives = ["accuracy", f"latency_ms@{ORT}", f"latency_ms@{TORCH}"]
    result = fake.evaluator(tmp_path, objectives=objectives).evaluate(EvalRequest(0, make_design(), 0))
    assert values(result)["accuracy"] == values(result)[f"accuracy@{TORCH}"] < 0.2
    assert values(result)[f"accuracy@{ORT}"] > 0.5


def test_a_measuring_process_that_dies_is_worth_another_attempt(tmp_path: Path) -> None:
    evaluator = make_evaluator(tmp_path, fails_with(MeasureError("the measuring process died (SIGSEGV)")))
    result = evaluator.evaluate(EvalRequest(0, make_design(), 0))
    assert result.reason == Reason("measuring", "the measuring process died (SIGSEGV)", transient=True)


# --- before the end

PROXIES = {"proxy_size_bytes", "proxy_compressed_size_bytes"}


@pytest.mark.parametrize("compression", DESIGNS, ids=lambda c: "-".join(c) or "plain")
def test_before_any_training_counts_are_known_and_the_rest_is_a_proxy(
    compression: dict[str, Any], evaluator: Evaluator, tmp_path: Path
) -> None:
    design = make_design(**compression)
    fresh = make_evaluator(tmp_path, measure := FakeMeasure(), targets=[SECOND])
    result = fresh.evaluate(EvalRequest(7, design, 0, until=0))  # nobody teaches yet
    assert (result.outcome, result.reason, result.traceback) == (Outcome.STOPPED, None, "")
    assert list(tmp_path.iterdir()) == [], "nothing is trained or kept"
    latencies = {f"proxy_latency_ms@{TARGET}", f"proxy_latency_ms@{SECOND}"}
    assert values(result).keys() == COUNTED | PROXIES | latencies
    how = {quantity.key: quantity.how for quantity in result.quantities}
    assert {key for key, way in how.items() if way is How.COUNTED} == COUNTED
    assert {key for key, way in how.items() if way is How.PROXY} == PROXIES | latencies
    evaluator.measure = FakeMeasure()
    end = evaluator.evaluate(EvalRequest(7, design, 0, Teacher(2, make_design("mlp"))))
    assert {name: values(result)[name] for name in COUNTED} == {name: values(end)[name] for name in COUNTED}
    assert values(result)["proxy_size_bytes"] == pytest.approx(values(end)["size_bytes"], rel=0.01)
    assert values(result)[f"proxy_latency_ms@{TARGET}"] == pytest.approx(values(result)["proxy_size_bytes"] / 1e6)
    assert not set(how) & {quantity.key for quantity in end.quantities if quantity.how is not How.COUNTED}
    asked = len(measure.asked)
    unclocked = fresh.evaluate(EvalRequest(7, design, 0, until=0, clock=False))
    assert (len(measure.asked), values(unclocked).keys()) == (asked, COUNTED | PROXIES)
    assert [stage.stage for stage in unclocked.stages] == ["sketch", "count"]


def test_a_rung_is_scored_on_some_images_of_each_class_in_whatever_order_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.evaluate.RUNG_IMAGES", 50)
    evaluator = make_evaluator(tmp_path)
    validation = evaluator.dataset.validation
    order = np.argsort(validation.labels, kind="stable")  # as a folder of folders is read
    in_order = replace(validation, images=validation.images[order], labels=validation.labels[order])
    evaluator.dataset = replace(evaluator.dataset, validation=in_order)
    (accuracy,) = evaluator.evaluate(EvalRequest(0, make_design(), 0, until=1)).quantities
    assert (accuracy.low, accuracy.high) == wilson_interval(round(accuracy.value * 50), 50)
    some = evaluator._rung_images.labels
    share = np.bincount(validation.labels, minlength=10) / len(validation) * 50
    assert np.abs(np.bincount(some, minlength=10) - share).max() < 1
    assert evaluator.evaluate(EvalRequest(1, make_design(), 0, until=1)).quantities == (accuracy,)


def test_a_runtimes_own_form_is_measured_before_any_training(tmp_path: Path) -> None:
    fake = ByRuntime({TORCH: 1.0})
    evaluator = fake.evaluator(tmp_path, objectives=["accuracy", f"latency_ms@{TORCH}"])
    result = evaluator.evaluate(EvalRequest(0, make_design(**INT8), 0, until=0))
    assert values(result)[f"proxy_latency_ms@{TORCH}"] == 1.0
    assert values(result)["proxy_size_bytes"] == len(fake.files[TORCH])
    assert fake.files[TORCH].startswith(b"PK")


def test_a_rung_tells_the_float_networks_accuracy_as_a_proxy_and_the_end_goes_on_from_it(tmp_path: Path) -> None:
    evaluator = make_evaluator(tmp_path, epochs=4)
    design = make_design(pruning_ratio=0.5, **INT8)
    seen: list[str] = []
    result = evaluator.evaluate(EvalRequest(0, design, 0, until=2), lambda stage, share: seen.append(stage))
    assert (result.outcome, result.reason, result.traceback) == (Outcome.STOPPED, None, "")
    (accuracy,) = result.quantities
    assert (accuracy.key, accuracy.how, accuracy.unit) == ("rung_accuracy@epoch-2", How.PROXY, "1")
    network = evaluator.pipeline.rung(design, 0, 2, Trace())
    validation = digits().validation
    normalised = evaluator.pipeline.normalisation
    pixels = (torch.from_numpy(validation.images).permute(0, 3, 1, 2).float() - normalised.mean[0]) / normalised.std[0]
    with torch.no_grad():
        right = (network(pixels).argmax(1).numpy() == validation.labels).mean()
    assert accuracy.value == pytest.approx(right, abs=0.006)  # an image on the edge
    assert (accuracy.low, accuracy.high) == wilson_interval(round(accuracy.value * 200), 200)
    assert [stage.stage for stage in result.stages] == ["trunk", "train", "score"]
    assert set(seen) == {"trunk", "train", "score"}
    end = evaluator.evaluate(EvalRequest(0, design, 0))
    assert [(stage.stage, stage.cached) for stage in end.stages[:2]] == [("trunk", True), ("train", False)]
    at_once = make_evaluator(tmp_path / "other", epochs=4).evaluate(EvalRequest(0, design, 0))
    assert end.artifact_sha256 == at_once.artifact_sha256


def test_what_a_design_inherits_counts_at_the_end_and_for_its_yardstick(tmp_path: Path) -> None:
    evaluator = make_evaluator(tmp_path)
    heir = EvalRequest(0, make_design(architecture={"stage1.width": 48}, pruning_ratio=0.5), 0, inherits=make_design())
    first, alone = evaluator.evaluate(heir), evaluator.evaluate(replace(heir, inherits=None))
    assert first.outcome is Outcome.MEASURED, first.traceback
    assert first.artifact_sha256 != alone.artifact_sha256
    trained = [stage for stage in first.stages if stage.stage == "train"]
    assert 0 < trained[0].detail["inherited"] < 1
    assert make_evaluator(tmp_path / "other").evaluate(heir).artifact_sha256 == first.artifact_sha256


@pytest.mark.parametrize("until", [-1, 3])
def test_a_rung_that_the_budget_does_not_have_is_refused(until: int, evaluator: Evaluator) -> None:
    result = evaluator.evaluate(EvalRequest(0, make_design(), 0, until=until))
    assert result.reason == Reason(
        "refused", f"a rung must have more than 0 and up to 2 epochs, the whole budget, but got {until}"
    )


def test_a_network_with_its_own_weights_is_known_before_but_has_no_rungs(tmp_path: Path) -> None:
    recipe, dataset, store = make_recipe(), digits(), Store(tmp_path, 10**9)
    own = load_own(OwnModule(foreign_networks.__file__, "tiny_resnet", {}, INCLUDED), (1, 8, 8), 10)
    pipeline = Pipeline(recipe, dataset, store, ONE_THREAD, reduce_range=False, own=own)
    evaluator = Evaluator(recipe, dataset, pipeline, store, FakeMeasure())
    assert not evaluator.trains_from_scratch
    request = EvalRequest(0, Design("module", {"module": "tiny_resnet"}, {}), 0, until=1)
    refused = evaluator.evaluate(request)
    assert (refused.outcome, refused.reason and refused.reason.kind) == (Outcome.FAILED, "unsupported")
    assert refused.reason is not None
    assert "nothing to train in rungs" in refused.reason.message
    known, end = (evaluator.evaluate(replace(request, until=until)) for until in (0, None))
    assert known.outcome is Outcome.STOPPED
    assert values(known)["proxy_size_bytes"] == values(end)["size_bytes"]


@pytest.mark.parametrize("until", [0, 1])
def test_what_goes_wrong_before_the_end_is_told_as_at_the_end(until: int, tmp_path: Path) -> None:
    shrinks = EvalRequest(0, make_design("resnet", RESNET_THAT_SHRINKS), 0, until=until)
    result = make_evaluator(tmp_path).evaluate(shrinks)
    assert (result.outcome, result.reason and result.reason.kind) == (Outcome.INFEASIBLE, "shape")
    unknown = make_evaluator(tmp_path).evaluate(EvalRequest(0, make_design(prunning_ratio=0.5), 0, until=until))
    assert (unknown.outcome, unknown.reason and unknown.reason.kind) == (Outcome.FAILED, "unsupported")
    if until:
        wild = make_evaluator(tmp_path, training={"learning_rate": 1e20})
        assert wild.evaluate(EvalRequest(0, make_design(), 0, until=1)).reason == Reason(
            "diverged", "training diverged in epoch 1: the loss is nan (lower training.learning_rate)"
        )
    else:
        dead = make_evaluator(tmp_path, fails_with(MeasureError("the measuring process died")))
        dies = dead.evaluate(EvalRequest(0, make_design(), 0, until=0))
        assert dies.reason == Reason("measuring", "the measuring process died", transient=True)


# --- what goes wrong

RESNET_THAT_SHRINKS = {"stem.stride": 2, "stages": 3} | {
    f"stage{number}.{choice}": value
    for number in (1, 2, 3)
    for choice, value in (("width", 8), ("depth", 1), ("stride", 2))
}


def test_an_infeasible_design_says_so_and_has_no_numbers(evaluator: Evaluator) -> None:
    result = evaluator.evaluate(EvalRequest(30, make_design("resnet", RESNET_THAT_SHRINKS), 0))
    assert result.outcome is Outcome.INFEASIBLE
    assert result.reason is not None
    assert (result.reason.kind, result.reason.transient) == ("shape", False)
    assert "stage3" in result.reason.message
    assert "use fewer stages" in result.reason.message
    assert (result.quantities, result.stages, result.artifact_sha256, result.traceback) == ((), (), None, "")


def fails_with(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "outcome", "kind", "message", "transient", "traced"),
    [
        (InfeasibleDesignError("too deep", "cut it"), Outcome.INFEASIBLE, "shape", "too deep (cut it)", False, False),
        (DivergedError("the loss is nan"), Outcome.FAILED, "diverged", "the loss is nan", False, False),
        (UnsupportedError("no such kernel"), Outcome.FAILED, "unsupported", "no such kernel", False, False),
        (NasError("a file differs"), Outcome.FAILED, "refused", "a file differs", False, False),
        (SpaceError("no choice"), Outcome.FAILED, "refused", "no choice", False, False),
        (
            OSError(28, "No space left on device", "cache/blobs/x"),
            Outcome.FAILED,
            "disk full",
            "the disk is full at cache/blobs/x",
            True,
            True,
        ),
        (OSError(5, "Input/output error"), Outcome.FAILED, "disk", "[Errno 5] Input/output error", True, True),
        (MemoryError(), Outcome.FAILED, "memory", "MemoryError", True, True),
        (
            RuntimeError("CUDA out of memory. Tried to allocate\nmuch"),
            Outcome.FAILED,
            "memory",
            "CUDA out of memory. Tried to allocate",
            True,
            True,
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            Outcome.FAILED,
            "memory",
            "DefaultCPUAllocator: can't allocate memory: you tried",
            True,
            True,
        ),
        (ValueError("over\n  two lines"), Outcome.FAILED, "error", "ValueError: over two lines", False, True),
        (KeyError("name"), Outcome.FAILED, "error", "KeyError: 'name'", False, True),
        (ZeroDivisionError(), Outcome.FAILED, "error", "ZeroDivisionError: ZeroDivisionError", False, True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
@pytest.mark.parametrize("where", ["pipeline", "measure"])
def test_an_error_in_any_stage_becomes_a_reason(
    error: Exception,
    outcome: Outcome,
    kind: str,
    message: str,
    transient: bool,
    traced: bool,
    where: str,
    evaluator: Evaluator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if where == "pipeline":
        monkeypatch.setattr(evaluator.pipeline, "run", fails_with(error))
    else:
        monkeypatch.setattr(evaluator, "measure", fails_with(error))
    result = evaluator.evaluate(EvalRequest(40, make_design(), 0))
    assert result.outcome is outcome
    assert result.reason is not None
    assert (result.reason.kind, result.reason.message, result.reason.transient) == (kind, message, transient)
    assert (result.quantities, result.artifact_sha256) == ((), None)
    done = [stage.stage for stage in result.stages]
    assert done == ([] if where == "pipeline" else ["train", "export"])
    if traced:
        assert result.traceback.startswith("Traceback")
        assert "fails_with" in result.traceback or "in fail" in result.traceback
    else:
        assert result.traceback == ""


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interruption_passes_through(
    error: BaseException, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "measure", fails_with(error))
    with pytest.raises(type(error)):
        evaluator.evaluate(EvalRequest(50, make_design(), 0))


def test_divergence_is_the_designs_own_fault(tmp_path: Path) -> None:
    evaluator = make_evaluator(tmp_path, training={"learning_rate": 1e20})
    result = evaluator.evaluate(EvalRequest(0, make_design(), 0))
    assert result.outcome is Outcome.FAILED
    assert result.reason is not None
    assert (result.reason.kind, result.reason.transient) == ("diverged", False)
    assert "lower training.learning_rate" in result.reason.message


def test_a_full_disk_is_worth_another_attempt_which_takes_up_the_finished_stages(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = EvalRequest(60, make_design(architecture={"stage1.kernel": 5}), 0)
    with monkeypatch.context() as patch:
        patch.setattr(evaluator.pipeline, "_exported", fails_with(OSError(28, "No space left on device")))
        failed = evaluator.evaluate(request)
    assert failed.reason is not None
    assert failed.reason.transient
    assert [stage.stage for stage in failed.stages] == ["train"]
    again = evaluator.evaluate(request)
    assert again.outcome is Outcome.MEASURED
    assert [stage.cached for stage in again.stages[:2]] == [True, False]


def test_a_network_that_the_two_counters_disagree_about_is_noted(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(model: torch.nn.Module, shape: tuple[int, int, int]) -> Any:
        return replace(count(model, shape), notes=("the counters disagree",))

    monkeypatch.setattr("nas.evaluate.count", counted)
    result = evaluator.evaluate(EvalRequest(70, make_design(), 0))
    assert "the counters disagree" in result.notes


def test_load_time_and_memory_are_measured_where_they_are_asked_for(tmp_path: Path) -> None:
    """In real processes, on the stored file."""
    evaluator = make_evaluator(
        tmp_path,
        objectives=["accuracy", f"load_ms@{TARGET}"],
        constraints=[f"peak_memory_bytes@{TARGET} <= 10000000000"],
    )
    result = evaluator.evaluate(EvalRequest(0, make_design("mlp"), 0))
    assert result.outcome is Outcome.MEASURED, result.reason
    assert result.stages[-1].stage == "startup"
    found = {quantity.key: quantity for quantity in result.quantities}
    assert found.keys() == WITHOUT_TARGET | {f"{n}@{TARGET}" for n in ("latency_ms", "load_ms", "peak_memory_bytes")}
    assert 0 < found[f"load_ms@{TARGET}"].value < 60_000
    assert found[f"peak_memory_bytes@{TARGET}"].value > 10**7
    assert found[f"load_ms@{TARGET}"].environment_id == "this-machine"
