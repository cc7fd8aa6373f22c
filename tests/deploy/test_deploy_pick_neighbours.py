"""What stands beside a choice: the next on either side with its price, and what cannot be told apart from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import LATENCY, TARGET, make_recipe, make_record, write_study
from rich.console import Console

from nas.deploy import Choice, Limits, choose, render_choice
from nas.outcome import Outcome
from nas.record import TrialRecord
from nas.study import Study

TRIALS = ((0, 0.90, 0.010, 30_000), (1, 0.95, 0.020, 50_000), (2, 0.97, 0.040, 40_000), (3, 0.98, 0.100, 90_000))


def record_of(number: int, accuracy: float, latency_ms: float, size: int, **fields: Any) -> TrialRecord:
    """Accuracy ± 1 point, latency ± 2 %."""
    record = make_record(number, accuracy, latency_ms, **fields)
    sized = tuple(replace(q, value=size) if q.name == "size_bytes" else q for q in record.quantities)
    return replace(record, quantities=sized)


def study_of(folder: Path, *trials: tuple[int, float, float, int], **recipe: Any) -> Study:
    return write_study(folder / "study", [record_of(*trial) for trial in trials], make_recipe(**recipe))


def rows(choice: Choice, study: Study, name: str) -> str:
    console = Console(width=400, color_system=None)
    with console.capture() as capture:
        console.print(render_choice(choice, study))
    lines = [" ".join(line.split()) for line in capture.get().splitlines()]
    return next((line for line in lines if line.startswith(name)), "")


def test_both_sides_have_their_price(tmp_path: Path) -> None:
    study = study_of(tmp_path, *TRIALS)
    choice = choose(study, Limits(max_latency_ms=0.05))
    assert [(side.direction, side.record.number) for side in choice.sides] == [("faster", 1), ("more accurate", 3)]
    assert [side.words for side in choice.sides] == [
        "trial 1: 0.0200 ms (−50.0 %) costs 2 points (validation accuracy 95.00 %); file 10 kB larger",
        "trial 3: 1 point more (validation accuracy 98.00 %) costs 0.06 ms (0.100 ms, 2.5 times as much); "
        "file 50 kB larger; by validation accuracy the two cannot be told apart; "
        "breaks your limit: latency at most 0.05 ms",
    ]
    assert rows(choice, study, "next faster") == f"next faster {choice.sides[0].words}"
    assert rows(choice, study, "next more accurate") == f"next more accurate {choice.sides[1].words}"


@pytest.mark.parametrize(
    ("limits", "direction"),
    [(Limits(min_accuracy=0.85), "more accurate"), (Limits(min_accuracy=0.975), "faster")],
)
def test_an_end_of_the_front_has_one_side(tmp_path: Path, limits: Limits, direction: str) -> None:
    assert [side.direction for side in choose(study_of(tmp_path, *TRIALS), limits).sides] == [direction]


def test_one_trial_alone_has_none(tmp_path: Path) -> None:
    study = study_of(tmp_path, TRIALS[0])
    choice = choose(study, Limits())
    assert (choice.sides, choice.tied, choice.runner_up) == ((), (), None)
    assert choice.why.startswith("Trial 0 is the only one on the front: ")
    assert "no other trial that meets the limits" in rows(choice, study, "tied with")


def test_what_is_on_the_front_for_its_size_alone_is_no_step(tmp_path: Path) -> None:
    """Trial 2 is more accurate than trial 0, but trial 1 is more accurate yet and faster: nobody should move to 2."""
    trials = ((0, 0.50, 0.010, 1_000), (1, 0.95, 0.020, 90_000), (2, 0.70, 0.030, 2_000))
    study = study_of(tmp_path, *trials, objectives=["accuracy", LATENCY, "size_bytes"])
    assert len(study.front) == 3
    assert [side.record.number for side in choose(study, Limits(max_size_bytes=1500)).sides] == [1]
    both_better = choose(study, Limits(max_size_bytes=2500)).sides
    assert [(side.direction, side.record.number) for side in both_better] == [("faster", 1)]
    assert "trial 1: 0.0200 ms (−33.3 %) and gains 25 points (validation accuracy 95.00 %)" in both_better[0].words


def test_without_latency_it_is_the_first_cost(tmp_path: Path) -> None:
    study = study_of(tmp_path, *TRIALS, objectives=["accuracy", "flops"])
    assert [side.direction for side in choose(study, Limits(max_size_bytes=45_000)).sides] == [
        "lower in FLOPs",
        "more accurate",
    ]


def test_of_what_cannot_be_told_apart_the_smaller_file(tmp_path: Path) -> None:
    """Trial 1 leads by 0.5 points, within ± 1; trial 2 is 1 % faster, within ± 2 %."""
    study = study_of(tmp_path, (0, 0.80, 0.01, 5_000), (1, 0.955, 0.0202, 50_000), (2, 0.950, 0.0200, 30_000))
    choice = choose(study, Limits(max_latency_ms=1))
    assert choice.record.number == 2
    assert [record.number for record in choice.tied] == [1]
    assert choice.why.startswith(
        "Trial 1 is the most accurate of the 3 on the front with latency at most 1 ms, but trial 2 cannot be told "
        "apart from it and is the smaller file (30.0 kB, not 50.0 kB), so trial 2 is taken: validation accuracy "
        f"95.00 % at 0.0200 ms ({TARGET}). The runner-up, trial 1, has"
    )
    said = rows(choice, study, "tied with")
    assert said.startswith(
        "tied with trial 1, which accuracy and cost cannot tell apart from it (at 95 %; what training"
    )


def test_the_smaller_one_must_keep_the_limits(tmp_path: Path) -> None:
    study = study_of(tmp_path, (1, 0.955, 0.0202, 50_000), (2, 0.950, 0.0200, 30_000))
    choice = choose(study, Limits(min_accuracy=0.951))
    assert (choice.record.number, choice.tied) == (1, ())


def test_far_trials_are_chosen_as_they_stand_though_their_files_are_larger(tmp_path: Path) -> None:
    study = study_of(tmp_path, (1, 0.97, 0.03, 50_000), (2, 0.95, 0.02, 30_000))
    assert choose(study, Limits(max_latency_ms=1)).record.number == 1


def test_what_lies_behind_the_front_by_chance_is_named_but_not_taken(tmp_path: Path) -> None:
    study = study_of(tmp_path, (0, 0.955, 0.0200, 50_000), (1, 0.954, 0.0201, 10_000), (2, 0.955, 0.0300, 10_000))
    choice = choose(study, Limits())
    assert choice.record.number == 0
    assert [record.number for record in choice.tied] == [1]
    assert rows(choice, study, "tied with").endswith("of a smaller file, but not on the front or not near enough: 1")


def test_trials_that_break_the_studys_constraints_or_failed_are_no_ties(tmp_path: Path) -> None:
    records = [record_of(0, 0.955, 0.02, 50_000), record_of(1, 0.955, 0.0201, 900_000)]
    records.append(make_record(2, outcome=Outcome.FAILED))
    study = write_study(tmp_path / "s", records, make_recipe(constraints=["size_bytes <= 100000"]))
    assert choose(study, Limits()).tied == ()


def test_a_known_spread_of_seeds_makes_more_ties(tmp_path: Path) -> None:
    study = study_of(tmp_path, (1, 0.98, 0.0202, 50_000), (2, 0.95, 0.0200, 30_000))
    assert choose(study, Limits(max_latency_ms=1)).record.number == 1
    choice = choose(study, Limits(max_latency_ms=1), spread=0.02)
    assert (choice.record.number, choice.spread) == (2, 0.02)
    assert "training seeds included" in rows(choice, study, "tied with")


def test_what_a_service_gets_is_shown(tmp_path: Path) -> None:
    study = study_of(tmp_path, *TRIALS)
    assert rows(choose(study, Limits(min_fps=20_000)), study, "service") == (
        "service 95 % of calls within 0.0440 ms, 25,000 fps"
    )
