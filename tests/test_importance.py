"""How much each choice decides: equal to Optuna's evaluator, right where the truth is known, modest where it is not."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from fakes import LATENCY, make_recipe, make_record

from nas import divergence, importance
from nas.design import Design, Value
from nas.importance import FEWEST_TRIALS, ImportanceReport, best_share, importance_report, importances
from nas.outcome import Outcome
from nas.space import load_space
from nas.study import Study, StudyFolder

Measure = Callable[[Design, random.Random], tuple[float, float]]


def make_study(trials: int, measure: Measure, seed: int = 0, **recipe: Any) -> Study:
    """Random designs of a small space; ``measure`` says how accurate and how fast each is."""
    rng, space = random.Random(seed), load_space("convnet-small")
    designs = [space.sample(rng) for _ in range(trials)]
    records = [make_record(n, *measure(design, rng), design=design) for n, design in enumerate(designs)]
    return Study(StudyFolder(Path("nowhere")), make_recipe(space="convnet-small", **recipe), records)


def number(value: Value) -> float:
    assert isinstance(value, int | float)
    return float(value)


def by_stem_and_second_stage(design: Design, rng: random.Random) -> tuple[float, float]:
    """Latency hangs on the stem's width alone, accuracy on what pools in the second stage."""
    pooled = design.architecture.get("stage2.pooling") == "max"
    return 0.7 + 0.1 * pooled + rng.gauss(0, 0.01), 0.01 * number(design.architecture["stem.width"])


def by_nothing(design: Design, rng: random.Random) -> tuple[float, float]:
    return rng.uniform(0.5, 0.9), rng.uniform(0.1, 1.0)


def test_what_decides_is_found() -> None:
    found = importances(make_study(300, by_stem_and_second_stage))
    assert list(found) == ["accuracy", LATENCY]
    first, second, *_ = found[LATENCY].items()
    assert first[0] == "stem.width"
    assert first[1] > 5 * second[1]
    assert next(iter(found["accuracy"])) == "stage2.pooling"


def test_shares_sum_to_one_and_stand_in_order() -> None:
    for shares in importances(make_study(80, by_stem_and_second_stage)).values():
        assert sum(shares.values()) == pytest.approx(1)
        assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_a_part_that_is_there_counts_for_the_choice_that_it_hangs_on() -> None:
    """Two stages are slower than one, whatever is in the second: no choice inside it gets the credit."""

    def slower(design: Design, rng: random.Random) -> tuple[float, float]:
        return 0.8, number(design.architecture["stages"]) * rng.uniform(0.9, 1.1)

    report = importance_report(make_study(400, slower)).objectives[1]
    first, second, *_ = report.choices
    assert first.choice == "stages"
    assert first.share > 3 * second.share
    assert not any(choice.clear for choice in report.choices if choice.choice.startswith("stage2."))


@pytest.mark.parametrize("trials", [15, 60, 400])
def test_the_closed_form_is_what_optunas_evaluator_gives(trials: int) -> None:
    study = make_study(trials, by_stem_and_second_stage)
    table = importance._Table.of(study.measured)
    found = importances(study)
    for objective in study.recipe.parsed_objectives:
        losses = importance._losses(study.measured, objective)
        once = np.ones((1, trials))
        best = divergence.best_of(losses, once, best_share(trials))
        own = divergence.divergences(table.onehots, once, best)[0]
        for name, share in zip(table.names, own / own.sum(), strict=True):
            assert share == pytest.approx(found[objective.key][name], abs=1e-9)


def test_of_a_sample_that_holds_a_trial_twice_it_is_there_twice() -> None:
    losses = np.array([3.0, 1.0, 2.0, 4.0])
    weights = np.array([[1.0, 2.0, 0.0, 1.0]])
    np.testing.assert_array_equal(divergence.best_of(losses, weights, 0.5), [[0, 2, 0, 0]])
    np.testing.assert_array_equal(divergence.best_of(losses, weights, 0.75), [[1, 2, 0, 0]])


def test_ties_are_among_the_best_together() -> None:
    np.testing.assert_array_equal(divergence.best_of(np.array([1.0, 1, 1, 2]), np.ones((1, 4)), 0.25), [[1, 1, 1, 0]])


def test_noise_seldom_stands_out() -> None:
    """Of 12 objectives that nothing decides one in 20 has a choice that stands out by chance."""
    clear = 0
    for seed in range(6):
        report = importance_report(make_study(60, by_nothing, seed))
        clear += sum(any(choice.clear for choice in one.choices) for one in report.objectives)
    assert clear <= 3


def test_intervals_hold_the_share_and_shrink_with_trials() -> None:
    widths = []
    for trials in (120, 1500):
        one = importance_report(make_study(trials, by_stem_and_second_stage)).objectives[1]
        assert all(0 <= choice.low <= choice.share <= choice.high <= 1 for choice in one.choices)
        widths.append(one.choices[0].high - one.choices[0].low)
    assert widths[1] < widths[0]


def test_the_same_study_gives_the_same_numbers() -> None:
    study = make_study(50, by_stem_and_second_stage)
    assert importance_report(study) == importance_report(study)


def test_more_is_better_for_accuracy_and_less_for_latency() -> None:
    """The best by accuracy are at the other end than the best by latency."""

    def monotone(design: Design, rng: random.Random) -> tuple[float, float]:
        width = number(design.architecture["stem.width"])
        return 0.5 + 0.01 * width, 0.01 * width

    study = make_study(200, monotone)
    accuracy, latency = (importance._losses(study.measured, one) for one in study.recipe.parsed_objectives)
    assert np.corrcoef(accuracy, latency)[0, 1] < -0.99


@pytest.mark.parametrize(("trials", "share"), [(15, 0.5), (20, 0.5), (40, 0.25), (100, 0.1), (2000, 0.1)])
def test_enough_trials_count_as_the_best(trials: int, share: float) -> None:
    assert best_share(trials) == share


def test_the_summary_says_what_counts() -> None:
    report = importance_report(make_study(300, by_stem_and_second_stage))
    latency = report.objectives[1].summary
    assert latency.startswith("latency, ONNX Runtime, CPU, 1 thread, batch 1: to be among the best 10 % of 300 trials")
    assert "what counts most is stem width" in latency
    assert report.why_not == ""


def test_the_summary_says_that_nothing_stands_out() -> None:
    report = importance_report(make_study(100, by_nothing, seed=1))
    assert any("no choice stands out from chance" in one.summary for one in report.objectives)


@pytest.mark.parametrize(
    ("trials", "words"), [(0, "0 trials were measured"), (1, "1 trial was measured"), (14, "14 trials were measured")]
)
def test_too_few_trials_are_told(trials: int, words: str) -> None:
    study = make_study(trials, by_stem_and_second_stage)
    assert importances(study) == {}
    report = importance_report(study)
    assert report.why_not == f"What each choice decides needs at least {FEWEST_TRIALS} measured trials; {words}."


def test_trials_that_were_not_measured_do_not_count() -> None:
    study = make_study(14, by_stem_and_second_stage)
    study.records.append(make_record(14, outcome=Outcome.FAILED))
    assert importances(study) == {}


def test_one_design_alone_cannot_be_compared() -> None:
    design = load_space("convnet-small").sample(random.Random(0))
    records = [make_record(n, 0.9, 0.1 + n, design=design) for n in range(20)]
    study = Study(StudyFolder(Path("nowhere")), make_recipe(), records)
    assert importance_report(study) == ImportanceReport(
        (), "All measured trials are of one design, so no choice can be compared."
    )


def test_an_objective_that_never_differs_has_no_importances() -> None:
    study = make_study(30, lambda design, rng: (0.9, rng.uniform(0.1, 1)))
    report = importance_report(study)
    assert report.objectives[0].choices == ()
    assert "nothing to compare" in report.objectives[0].summary
    assert importances(study)["accuracy"] == {}
    assert len(report.objectives[1].choices) > 5


def test_three_objectives_have_one_each() -> None:
    study = make_study(30, by_stem_and_second_stage, objectives=["accuracy", LATENCY, "size_bytes"])
    assert list(importances(study)) == ["accuracy", LATENCY, "size_bytes"]


def test_optuna_says_nothing_and_is_as_talkative_as_before(capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    importances(make_study(20, by_stem_and_second_stage))
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


def test_the_report_is_json() -> None:
    report = importance_report(make_study(40, by_stem_and_second_stage))
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert [one["key"] for one in data["objectives"]] == ["accuracy", LATENCY]
    first = data["objectives"][1]["choices"][0]
    assert first["choice"] == "stem.width"
    assert set(first) == {"choice", "share", "low", "high", "chance", "values", "trials", "label", "clear"}
