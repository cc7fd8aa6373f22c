"""Where a trial is served: what may serve, who does, and what its accuracy is then."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from fakes import make_recipe

from nas.errors import NasError
from nas.outcome import How, Quantity
from nas.serving import DEFAULT, Scores, Service, at_place, choose, server_of, services
from nas.target import Target

ORT1, ORT2, OV1, GPU = "onnxruntime-cpu-1t-b1", "onnxruntime-cpu-2t-b1", "openvino-cpu-1t-b1", "torch-cuda-b1-fp16"
PLACE = "cpu-b1"


def target(name: str) -> Target:
    return Target.parse(name)


def service(*names: str, name: str = PLACE) -> Service:
    return Service(name, tuple(target(text) for text in names))


def latency(name: str, value: float, **detail: str) -> Quantity:
    return Quantity("latency_ms", value, "ms", How.MEASURED, name, detail=detail)


# --- what a recipe asks for ------------------------------------------------------------------------------------------


def test_a_target_serves_itself() -> None:
    recipe = make_recipe(objectives=["accuracy", f"latency_ms@{ORT2}"], targets=[ORT1])
    assert services(recipe) == (service(ORT2, name=ORT2),)
    assert not services(recipe)[0].is_place


def test_at_a_place_all_the_recipes_targets_there_may_serve() -> None:
    recipe = make_recipe(
        objectives=["accuracy", f"latency_ms@{PLACE}"], targets=[OV1, ORT1, "onnxruntime-cpu-1t-b8", GPU]
    )
    assert services(recipe) == (service(OV1, ORT1),)
    assert services(recipe)[0].is_place


def test_objectives_come_before_constraints_and_none_twice() -> None:
    recipe = make_recipe(
        objectives=["accuracy", f"latency_ms@{PLACE}", "latency_ms@cuda-b1"],
        constraints=[f"latency_ms@{ORT1} <= 1", f"load_ms@{PLACE} <= 100"],
        targets=[ORT1, OV1, GPU],
    )
    assert [item.name for item in services(recipe)] == [PLACE, "cuda-b1", ORT1]


@pytest.mark.parametrize(("targets", "first"), [([], DEFAULT.name), ([OV1, ORT1], OV1)])
def test_where_no_latency_is_asked_for_something_serves_all_the_same(targets: list[str], first: str) -> None:
    recipe = make_recipe(objectives=["accuracy", "macs"], targets=targets)
    assert services(recipe) == (service(first, name=first),)


# --- who serves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latencies", "wrong", "chosen", "passed_over"),
    [
        ({ORT1: 2.0, OV1: 1.0}, (), OV1, []),
        ({ORT1: 1.0, OV1: 1.0}, (), ORT1, []),  # of equals the first
        ({ORT1: 2.0, OV1: 1.0}, (OV1,), ORT1, [OV1]),
        ({ORT1: 1.0, OV1: 2.0}, (OV1,), ORT1, []),  # which was never asked
        ({OV1: 1.0}, (OV1,), None, [OV1]),
        ({}, (), None, []),
        ({ORT2: 1.0}, (), None, []),  # which is no candidate
    ],
)
def test_the_fastest_that_is_right_serves(
    latencies: Mapping[str, float], wrong: tuple[str, ...], chosen: str | None, passed_over: list[str]
) -> None:
    found, others = choose(
        service(ORT1, OV1), {name: latency(name, ms) for name, ms in latencies.items()}, lambda t: t.name not in wrong
    )
    assert (found.name if found else None) == chosen
    assert [item.name for item in others] == passed_over


def test_at_a_place_the_servers_quantities_say_who_serves() -> None:
    quantities = [
        latency(ORT1, 2.0),
        latency(OV1, 1.0),
        Quantity("load_ms", 30.0, "ms", How.MEASURED, OV1),
        Quantity("accuracy", 0.9, "1", How.MEASURED, OV1),
        Quantity("macs", 10, "MAC", How.COUNTED),
    ]
    found = at_place(quantities, service(ORT1, OV1), target(OV1))
    assert [(q.key, q.value, q.detail["served_by"]) for q in found] == [
        (f"latency_ms@{PLACE}", 1.0, OV1),
        (f"load_ms@{PLACE}", 30.0, OV1),
    ]
    assert [server_of(q) for q in found] == [target(OV1)] * 2


def test_of_a_target_there_is_nothing_to_add() -> None:
    assert at_place([latency(ORT1, 1.0)], service(ORT1, name=ORT1), target(ORT1)) == []


def test_who_served_is_read_off_the_quantity() -> None:
    assert server_of(latency(ORT1, 1.0)) == target(ORT1)
    assert server_of(latency(PLACE, 1.0, served_by=OV1)) == target(OV1)
    assert server_of(Quantity("macs", 1, "MAC", How.COUNTED)) is None
    assert server_of(None) is None


# --- accuracy by runtime ---------------------------------------------------------------------------------------------

LABELS = np.array([0, 1] * 50)


class Runtimes:
    """Outputs of which a decided number is wrong, by target; counts how often each was asked."""

    def __init__(self, wrong: Mapping[str, int]) -> None:
        self.wrong = wrong
        self.asked: list[str] = []

    def __call__(self, file: bytes, where: Target, images: np.ndarray) -> np.ndarray:
        self.asked.append(f"{where.name} {file.decode()}")
        guessed = LABELS.copy()
        guessed[: self.wrong[where.name]] = 1 - guessed[: self.wrong[where.name]]
        return np.eye(2, dtype=np.float32)[guessed]


@pytest.fixture
def runtimes(monkeypatch: pytest.MonkeyPatch) -> Runtimes:
    found = Runtimes({ORT1: 10, OV1: 11, GPU: 13, DEFAULT.name: 10})
    monkeypatch.setattr("nas.serving.open_session", lambda content, threads: content)
    monkeypatch.setattr("nas.serving.probabilities", lambda content, images: found(content, DEFAULT, images))
    return found


def make_scores(outputs: Runtimes | None, prefix: str = "") -> Scores:
    files = {"onnx": b"onnx", "torch": b"torch"}
    return Scores(files, np.zeros((100, 1, 1, 1), np.uint8), LABELS, outputs, 1, prefix)


def test_each_runtime_is_scored_once_on_the_form_that_it_takes(runtimes: Runtimes) -> None:
    scores = make_scores(runtimes)
    assert scores.of(target(ORT1))[0].value == 0.9
    assert scores.of(target(ORT2))[0].value == 0.9  # threads change nothing
    assert scores.of(target(OV1))[0].value == 0.89
    assert scores.of(target(GPU))[0].value == 0.87
    assert scores.of(target(GPU))[1].name == "balanced_accuracy"
    assert runtimes.asked == [f"{DEFAULT.name} onnx", f"{OV1} onnx", f"{GPU} torch"]


@pytest.mark.parametrize(("wrong", "right"), [(5, True), (12, True), (13, False), (100, False)])
def test_a_runtime_is_right_within_two_points_of_onnx_runtime(runtimes: Runtimes, wrong: int, right: bool) -> None:
    runtimes.wrong = {**runtimes.wrong, OV1: wrong}
    assert make_scores(runtimes).is_right(target(OV1)) is right


def test_accuracy_by_target_where_several_runtimes_serve(runtimes: Runtimes) -> None:
    scores = make_scores(runtimes)
    assert scores.of_others([target(ORT1), target(ORT2)]) == []
    assert [(q.key, q.value) for q in scores.of_others([target(ORT1), target(GPU)])] == [
        (f"accuracy@{ORT1}", 0.9),
        (f"accuracy@{GPU}", 0.87),
    ]


def test_a_prefix_names_other_data(runtimes: Runtimes) -> None:
    assert [q.name for q in make_scores(runtimes, "test_").of(target(ORT1))] == [
        "test_accuracy",
        "test_balanced_accuracy",
    ]


def test_another_runtime_needs_something_that_runs_it() -> None:
    with pytest.raises(NasError, match="nothing was given to run OpenVINO with"):
        make_scores(None).of(target(OV1))
