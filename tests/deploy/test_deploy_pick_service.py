"""Choosing by what a service promises: the 95th percentile, frames per second; and deployments held to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fakes import LATENCY, TARGET, make_recipe, make_record, write_study

from nas.deploy import Limits, choose, words
from nas.deploy.choose import broken_limits
from nas.deploy.service import FPS, P95, ServiceFigure
from nas.errors import NasError, NothingFeasibleError, StudyError
from nas.objectives import Constraint
from nas.outcome import How, Quantity
from nas.record import TrialRecord
from nas.study import Study

BATCHED = "onnxruntime-cpu-2t-b8"


def with_latency(record: TrialRecord, **changes: object) -> TrialRecord:
    """A record whose latency on the usual target has another detail or value."""
    return replace(
        record,
        quantities=tuple(
            replace(q, **changes) if q.key == LATENCY else q  # type: ignore[arg-type]
            for q in record.quantities
        ),
    )


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Trial 1 is faster than trial 2 in the median, but has the longer tail."""
    records = [make_record(0, 0.90, 0.010), make_record(1, 0.95, 0.020), make_record(2, 0.97, 0.040)]
    records[1] = with_latency(records[1], detail={"p95": 0.060})
    return write_study(tmp_path / "study", records)


@pytest.mark.parametrize(
    ("limits", "number"),
    [
        (Limits(max_p95_ms=0.05), 2),
        (Limits(max_p95_ms=0.043), 0),
        (Limits(max_p95_ms=0.5), 2),
        (Limits(min_fps=30_000), 1),
        (Limits(min_fps=50_000), 1),
        (Limits(min_fps=50_001), 0),
        (Limits(min_accuracy=0.94), 1),
        (Limits(min_accuracy=0.94, max_p95_ms=0.05), 2),
    ],
)
def test_limits_of_a_service(study: Study, limits: Limits, number: int) -> None:
    choice = choose(study, limits)
    assert choice.record.number == number
    assert choice.rule == ("fastest" if limits.min_accuracy else "most accurate")


def test_frames_per_second_count_the_batch(tmp_path: Path) -> None:
    def on_batches(ms: float) -> Quantity:
        return Quantity("latency_ms", ms, "ms", How.MEASURED, target=BATCHED, detail={"p95": 2 * ms})

    records = [
        make_record(0, 0.90, 0.01, quantities=(on_batches(8.0),)),
        make_record(1, 0.95, 0.02, quantities=(on_batches(16.0),)),
    ]
    study = write_study(tmp_path / "study", records, make_recipe(targets=[BATCHED]))
    assert choose(study, Limits(min_fps=500, target=BATCHED)).record.number == 1
    assert choose(study, Limits(min_fps=501, target=BATCHED)).record.number == 0
    assert choose(study, Limits(max_p95_ms=16, target=BATCHED)).record.number == 0
    with pytest.raises(
        NothingFeasibleError, match=r"throughput at least 2,000 fps: the fastest, trial 0, has 1,000 fps"
    ):
        choose(study, Limits(min_fps=2000, target=BATCHED))


def test_nobody_is_fast_enough(study: Study) -> None:
    with pytest.raises(NothingFeasibleError) as caught:
        choose(study, Limits(max_p95_ms=0.002, min_accuracy=0.96))
    assert caught.value.message == (
        "no trial has validation accuracy at least 96 % and 95th percentile of latency at most 0.002 ms: the fastest "
        "in 95 % of calls that is accurate enough, trial 2, has 0.0440 ms, 0.042 ms too much"
    )


def test_a_percentile_that_is_not_known_is_said_so(study: Study, tmp_path: Path) -> None:
    records = [with_latency(record, detail={}) if record.number == 2 else record for record in study.records]
    older = write_study(tmp_path / "older", records)
    with pytest.raises(
        StudyError, match=r"the 95th percentile of its latency on '.*' is not known of trial 2"
    ) as caught:
        choose(older, Limits(max_p95_ms=1))
    assert caught.value.hint == f"'nas measure STUDY --target {TARGET}' measures it again, and keeps it"
    assert choose(older, Limits(min_fps=1)).record.number == 2


def test_a_target_without_latencies_is_told_how_to_get_them(study: Study) -> None:
    with pytest.raises(NasError, match="unknown target 'onnxruntime-cpu-2t-b1'") as caught:
        choose(study, Limits(max_p95_ms=2, target="onnxruntime-cpu-2t-b1"))
    assert caught.value.hint.startswith(f"nas measure {study.folder.path} --target onnxruntime-cpu-2t-b1")


@pytest.mark.parametrize("limits", [Limits(max_p95_ms=1), Limits(min_fps=1)])
def test_a_service_limit_needs_a_latency(tmp_path: Path, limits: Limits) -> None:
    study = write_study(tmp_path / "s", [make_record(0)], make_recipe(objectives=["accuracy", "flops"]))
    with pytest.raises(NasError, match="a latency limit needs a latency objective"):
        choose(study, limits)


def test_limits_as_a_deployment_keeps_them() -> None:
    assert Limits(max_p95_ms=2.0, min_fps=500, target=TARGET).to_json() == {
        "max_p95_ms": 2.0, "min_fps": 500, "target": TARGET,
    }  # fmt: skip
    for name in ("max_p95_ms", "min_fps"):
        with pytest.raises(NasError, match=f"{name} must be greater than 0, but got 0"):
            Limits(**{name: 0})


def test_a_deployments_own_numbers_are_held_to_it(study: Study) -> None:
    choice = choose(study, Limits(max_p95_ms=0.05, min_fps=20_000))
    assert broken_limits(study, choice, choice.record) == []
    slow = with_latency(choice.record, value=0.1, low=0.1, high=0.1, detail={"p95": 0.2})
    assert broken_limits(study, choice, slow) == [
        "95th percentile of latency 0.200 ms, 0.15 ms too much",
        "throughput 10,000 fps, 10,000 fps short",
    ]


def test_figures_of_a_service_in_words() -> None:
    p95, fps = ServiceFigure(P95, TARGET), ServiceFigure(FPS, TARGET)
    assert words.limit(Constraint(fps, False, 12_345.5)) == "throughput at least 12,345.5 fps"
    assert words.limit(Constraint(p95, True, 2)) == "95th percentile of latency at most 2 ms"
    assert words.value_and_miss(Constraint(fps, False, 500), 499.6) == "499.6 fps, 0.4 fps short"
    assert words.change(FPS, 100, 150) == "+50.0 %"
    assert words.superlative(p95) == "fastest in 95 % of calls"
    assert p95.kind.unit == "ms"
    assert fps.maximise
    assert not p95.maximise
