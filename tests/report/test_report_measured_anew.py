"""What measuring again says of a study: how much changed, who joined or left the front, the front in turns."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_measurer import ORT1, OV1, PLACE, FakeMeasurer, make_dataset, measured_study
from fakes import make_recipe
from rich.console import Console

from nas.remeasure import measure_all, time_front
from nas.report.measured_anew import changes_of_front, summary_of, tables_in_turns
from nas.study import Study
from nas.target import Target

TRIALS = {0: (0.80, 0.5), 1: (0.85, 0.1), 2: (0.90, 0.2), 3: (0.95, 0.4)}
SCORED = "(the next 'nas search' scores what is new on the test data)"
WHERE = "on ONNX Runtime, CPU, 1 thread, batch 1"


def summary(folder: Path, measurer: FakeMeasurer, *targets: str) -> list[str]:
    study = measured_study(folder / "study", TRIALS)
    found = measure_all(study, [Target.parse(name) for name in targets], measurer, make_dataset())
    return summary_of(study.as_told, found)


class Uneven(FakeMeasurer):
    """Twice as fast for all but trial 3, which is slower."""

    def latency(self, content: bytes, target: Target) -> tuple[int, float]:
        number, ms = super().latency(content, target)
        return number, ms * (1.25 if number == 3 else 0.5)


@pytest.mark.parametrize(
    ("measurer", "words"),
    [
        (FakeMeasurer(), f"4 trials {WHERE}; in the median as fast as before"),
        (FakeMeasurer("b", {ORT1: 0.5}), f"4 trials {WHERE}; in the median 2.0× faster than before"),
        (Uneven("b"), f"4 trials {WHERE}; in the median 2.0× faster than before (0.80 to 2.0 times as fast)"),
        (
            FakeMeasurer("b", {ORT1: 2.0}, detail={"unstable": True}),
            f"4 trials {WHERE}; in the median 2.0× slower than before; unstable: 0, 1, 2 and 3",
        ),
    ],
)
def test_how_the_latencies_changed(tmp_path: Path, measurer: FakeMeasurer, words: str) -> None:
    assert summary(tmp_path, measurer) == [words]


def test_on_a_new_target_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    assert summary(tmp_path, FakeMeasurer(), OV1) == ["4 trials on OpenVINO, CPU, 1 thread, batch 1"]


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ([1, 2], [2, 1], ["the front is the same: trials 1 and 2"]),
        (
            [1],
            [1, 4, 3],
            ["joined the front: trials 3 and 4 (the next 'nas search' scores what is new on the test data)"],
        ),
        ([1, 2], [1], ["left the front: trial 2"]),
        (
            [1, 2],
            [1, 3],
            [
                f"joined the front: trial 3 {SCORED}",
                "left the front: trial 2",
            ],
        ),
        (None, [5, 1], ["the front: trials 1 and 5"]),
        (None, [], ["the front is empty"]),
        ([], [], ["the front is empty, as before"]),
        ([1], None, ["there is no front yet: what the recipe compares was measured in different environments"]),
    ],
)
def test_who_joined_the_front_and_who_left_it(
    before: list[int] | None, after: list[int] | None, lines: list[str]
) -> None:
    assert changes_of_front(before, after) == lines


def test_what_is_scored_at_once_is_not_promised_for_later() -> None:
    assert changes_of_front([1], [1, 4], scored=True) == ["joined the front: trial 4"]


def shown(study: Study, measurer: FakeMeasurer) -> str:
    found = time_front(study, measurer, make_dataset().validation.images)
    assert found is not None
    study = Study.open(study.folder.path)
    console = Console(width=80, highlight=False, markup=False, color_system=None)
    with console.capture() as capture:
        for item in tables_in_turns(study, found):
            console.print(item)
    return capture.get()


def test_the_front_in_turns_the_fastest_first(tmp_path: Path) -> None:
    text = shown(measured_study(tmp_path / "study", TRIALS), FakeMeasurer())
    assert text.startswith(f"\nIn turns {WHERE}\n")
    rows = [line.split()[0] for line in text.splitlines()[3:7]]
    assert rows == ["1", "2", "3", "0"]
    assert text.endswith("trial 0 is the baseline, beside the front\n")


def test_whoever_the_turns_left_beside_the_front_is_named(tmp_path: Path) -> None:
    text = shown(measured_study(tmp_path / "study", TRIALS), FakeMeasurer(noise={1: (9.0,), 2: (9.0,)}))
    assert text.splitlines()[-2:] == [
        "trial 0 is the baseline, beside the front",
        "trials 1 and 2 are not on the front",
    ]


def test_a_table_for_each_place_and_target_of_the_recipe(tmp_path: Path) -> None:
    recipe = make_recipe(
        objectives=["accuracy", f"latency_ms@{PLACE}"], constraints=[f"latency_ms@{ORT1} <= 1"], targets=[ORT1, OV1]
    )
    measurer = FakeMeasurer(factors={OV1: 0.5})
    text = shown(measured_study(tmp_path / "study", TRIALS, measurer, recipe), measurer)
    assert [line for line in text.splitlines() if line.startswith("In turns")] == [
        "In turns on the fastest target, CPU, batch 1",
        f"In turns {WHERE}",
    ]
