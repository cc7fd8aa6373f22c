"""How well a search foresaw, counted by hand; and that what was foreseen never passes for a result."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from fakes import LATENCY, TARGET, make_recipe, make_record, write_study
from foresight_fakes import design_of, every_kind, foreseen, guided_study, measured, screened, stopped
from hypothesis import given
from hypothesis import strategies as st

from nas.front import pareto_front
from nas.outcome import How, Outcome, Quantity
from nas.proxies import INHERITED_ACCURACY, RUNG_ACCURACY, UNTRAINED, prediction, proxies, result, results, rung_key
from nas.record import TrialRecord
from nas.report.agreement import kendall_tau
from nas.report.calibration import (
    FEWEST,
    WANTED_PAIRS,
    Calibration,
    InheritedRanking,
    calibrations,
    inherited_ranking,
    screening,
    tau_interval,
)
from nas.report.foresight import Foresight, rank_line, search_lines
from nas.report.proxy_words import proxy_words
from nas.scoring import wilson_interval
from nas.study import Study, StudyFolder

OBJECTIVES = make_recipe().parsed_objectives


def study_of(records: list[TrialRecord], **recipe) -> Study:
    return Study(StudyFolder(Path("nowhere")), make_recipe(**recipe), records)


def predicted(number: int, accuracy: float, guess: float, spared: bool = False, **fields) -> TrialRecord:
    """A measured trial of 0.1 ms whose accuracy was foreseen ± 0.03, and whose latency 30 % too low, ± 30 %."""
    return measured(number, accuracy, 0.1, quantities=foreseen(guess, 0.07), spared=spared, **fields)


def ten(inside: int, spared: int = 0) -> list[TrialRecord]:
    """Ten trials of which so many lie in their intervals: the first; the last ``spared`` of all were spared."""
    return [
        predicted(n, 0.8 + n / 100, 0.8 + n / 100 + (0.02 if n < inside else 0.04), n >= 10 - spared) for n in range(10)
    ]


def test_coverage_error_and_order_are_those_counted_by_hand() -> None:
    accuracy, latency = calibrations(ten(7), OBJECTIVES)
    assert accuracy.objective.key == "accuracy"
    assert (len(accuracy.checks), accuracy.inside, accuracy.level) == (10, 7, 0.9)
    assert accuracy.coverage == (0.7, *wilson_interval(7, 10))
    assert accuracy.error == pytest.approx(0.02)
    assert accuracy.tau == pytest.approx(
        kendall_tau([0.8 + n / 100 + (0.02 if n < 7 else 0.04) for n in range(10)], range(10))
    )
    assert latency.objective.key == LATENCY
    assert (latency.inside, latency.error) == (0, pytest.approx(0.3))
    assert latency.tau is None  # all took as long
    assert accuracy.spared.checks == ()


def test_the_spared_are_told_apart() -> None:
    (accuracy, _) = calibrations(ten(7, spared=4), OBJECTIVES)
    assert [check.record.number for check in accuracy.spared.checks] == [6, 7, 8, 9]
    assert accuracy.spared.inside == 1
    assert not accuracy.spared.enough
    assert accuracy.enough is (len(accuracy.checks) >= FEWEST)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 1)), min_size=1, max_size=20))
def test_inside_is_what_lies_between_the_ends(triples: list[tuple[float, float, float]]) -> None:
    records = [predicted(n, value, guess) for n, (guess, _, value) in enumerate(triples)]
    for n, (guess, spread, _) in enumerate(triples):
        own = Quantity("predicted_accuracy", guess, "1", How.PROXY, low=guess - spread, high=guess + spread)
        kept = [q for q in records[n].quantities if q.name != own.name]
        records[n] = dataclasses.replace(records[n], quantities=(*kept, own))
    calibration = calibrations(records, OBJECTIVES)[0]
    assert calibration.inside == sum(
        abs(guess - value) <= spread or guess - spread <= value <= guess + spread for guess, spread, value in triples
    )
    share, low, high = calibration.coverage
    assert 0 <= low <= share <= high <= 1
    assert calibration.error == pytest.approx(float(np.median([abs(guess - value) for guess, _, value in triples])))


def test_only_what_was_both_predicted_and_measured_counts() -> None:
    records = [
        measured(0, 0.9, 0.1),
        stopped(1, 2),
        screened(2),
        make_record(3, outcome=Outcome.FAILED, stages=()),
        predicted(4, 0.9, 0.9),
    ]
    for calibration in calibrations(records, OBJECTIVES):
        assert [check.record.number for check in calibration.checks] == [4]
    assert calibrations(records[:4], OBJECTIVES) == []


def test_a_cost_of_nothing_has_no_relative_error() -> None:
    objective = next(o for o in make_recipe(objectives=["accuracy", "flops"]).parsed_objectives if o.name == "flops")
    record = dataclasses.replace(
        measured(0, 0.9, 0.1),
        quantities=(
            Quantity("flops", 0, "FLOP", How.COUNTED),
            Quantity("predicted_flops", 5.0, "FLOP", How.PROXY, low=0.0, high=9.0),
        ),
    )
    (calibration,) = calibrations([record], [objective])
    assert calibration.error is None
    assert calibration.inside == 1


# --- screening -------------------------------------------------------------------------------------------------------


def spared(number: int, accuracy: float, latency_ms: float, **fields) -> TrialRecord:
    return measured(number, accuracy, latency_ms, spared=True, quantities=foreseen(0.8, 0.1), **fields)


def test_spared_trials_that_reached_the_front_are_named_then_and_now() -> None:
    records = [
        measured(0, 0.9, 0.1),
        spared(1, 0.8, 0.05),  # on the front at its time, beaten by trial 4
        spared(2, 0.85, 0.2),  # never
        spared(3, 0.95, 0.3),  # then and now
        measured(4, 0.9, 0.04),
        dataclasses.replace(stopped(5, 2), spared=True),
        screened(6),
        screened(7, design=design_of(4)),  # of an architecture that is trained: saved no training
    ]
    done = screening(records, OBJECTIVES, ())
    assert done is not None
    assert done.spared == (1, 2, 3, 5)
    assert done.measured == (1, 2, 3)
    assert done.on_front_then == (1, 3)
    assert done.on_front_now == (3,)
    assert (done.screened, done.saved, done.trained) == (2, 1, 6)
    assert done.share_saved == pytest.approx(1 / 7)
    assert done.lost == (1 / 3, *wilson_interval(1, 3))


@pytest.mark.parametrize("seed", range(5))
def test_who_reached_the_front_is_who_the_front_has(seed: int) -> None:
    """Against the front itself, of all trials and of those up to each; with many ties."""
    rng = np.random.default_rng(seed)
    kinds = [spared if n % 2 else measured for n in range(40)]
    records = [
        kind(n, (10 + n + int(rng.integers(1, 40))) / 100, int(rng.integers(1, 9)) / 10) for n, kind in enumerate(kinds)
    ]
    constraints = make_recipe(constraints=["accuracy >= 0.25"]).parsed_constraints
    done = screening(records, OBJECTIVES, constraints)
    assert done is not None

    def front(count: int) -> set[int]:
        return {record.number for record in pareto_front(records[:count], OBJECTIVES, constraints)}

    assert done.on_front_now == tuple(n for n in range(1, 40, 2) if n in front(40))
    assert done.on_front_then == tuple(n for n in range(1, 40, 2) if n in front(n + 1))
    assert done.on_front_then != done.on_front_now


def test_a_spared_trial_that_breaks_a_limit_is_not_on_the_front() -> None:
    constraints = make_recipe(constraints=["accuracy >= 0.99"]).parsed_constraints
    done = screening([measured(0, 0.9, 0.1), spared(1, 0.95, 0.05)], OBJECTIVES, constraints)
    assert done is not None
    assert done.on_front_then == done.on_front_now == ()


def test_architectures_that_are_screened_out_twice_are_one_training_saved() -> None:
    same = [screened(n, design=design_of(9, weight_bits=bits)) for n, bits in enumerate((32, 8))]
    done = screening(same, OBJECTIVES, ())
    assert done is not None
    assert (done.screened, done.saved, done.trained, done.share_saved) == (2, 1, 0, 1.0)
    assert done.lost is None


def test_without_screening_there_is_nothing_to_tell() -> None:
    assert screening([measured(0, 0.9, 0.1), stopped(1, 2)], OBJECTIVES, ()) is None


# --- a supernet's order ----------------------------------------------------------------------------------------------


def inherited(number: int, accuracy: float, guess: float, origin: str = "supernet", **fields) -> TrialRecord:
    proxy = Quantity("inherited_accuracy", guess, "1", How.PROXY)
    return measured(number, accuracy, 0.1, origin=origin, quantities=(proxy,), **fields)


def test_inherited_accuracies_are_paired_with_measured_ones() -> None:
    records = [inherited(n, 0.8 + n / 100, 0.5 + (n if n != 3 else 5.5) / 100) for n in range(8)]
    ranking = inherited_ranking(records)
    assert ranking is not None
    assert ranking.pairs == 8
    assert ranking.tau == pytest.approx(24 / 28)  # trial 3 is put before two that beat it
    assert (ranking.low, ranking.high) == tau_interval(24 / 28, 8)


def test_of_one_architecture_the_first_pair_counts_and_other_origins_none() -> None:
    records = [inherited(n, 0.8 + n / 100, 0.5 + n / 100) for n in range(6)]
    again = inherited(6, 0.5, 0.9, design=design_of(5, weight_bits=8))
    other = inherited(7, 0.5, 0.9, origin="fan")
    unfinished = dataclasses.replace(
        stopped(8, 2, origin="supernet"), quantities=(Quantity("inherited_accuracy", 0.9, "1", How.PROXY),)
    )
    ranking = inherited_ranking([*records, again, other, unfinished])
    assert ranking is not None
    assert (ranking.pairs, ranking.tau) == (6, pytest.approx(1.0))
    assert inherited_ranking([other]) is None
    assert inherited_ranking([unfinished]) == InheritedRanking(0, None)


def test_the_interval_of_tau_covers_as_often_as_it_says() -> None:
    """On normal pairs, for which τ = 2 / π · arcsin ρ, as of the paper."""
    rng = np.random.default_rng(0)
    correlation, pairs, runs = 0.8, 20, 400
    true = 2 / math.pi * math.asin(correlation)
    held = 0
    for _ in range(runs):
        x, noise = rng.normal(size=(2, pairs))
        tau = kendall_tau(x.tolist(), (correlation * x + math.sqrt(1 - correlation**2) * noise).tolist())
        assert tau is not None
        low, high = tau_interval(tau, pairs)
        held += low <= true <= high
    assert 0.92 <= held / runs <= 0.98


@pytest.mark.parametrize("tau", [1.0, -1.0, 0.0])
def test_the_interval_of_tau_holds_it_and_leaves_doubt_about_a_perfect_order(tau: float) -> None:
    low, high = tau_interval(tau, 20)
    assert -1 <= low <= tau <= high <= 1
    assert high - low > 0.01
    wide_low, wide_high = tau_interval(tau, 8)
    assert wide_high - wide_low > high - low
    with pytest.raises(ValueError, match="needs at least 5 pairs, but got 4"):
        tau_interval(tau, 4)


@pytest.mark.parametrize(
    ("ranking", "says"),
    [
        (
            InheritedRanking(24, 0.812, 0.7, 0.9),
            "Kendall's τ of inherited and measured accuracy is 0.81 over 24 networks (95 % interval 0.70 to 0.90)",
        ),
        (
            InheritedRanking(7, 0.812, 0.2, 0.95),
            "Kendall's τ of inherited and measured accuracy is 0.81 over 7 networks (95 % interval 0.20 to 0.95); "
            "at least 20 are wanted",
        ),
        (
            InheritedRanking(1, None),
            "no Kendall's τ of inherited and measured accuracy can be told from 1 network; at least 20 are wanted",
        ),
    ],
)
def test_a_supernets_order_in_words(ranking: InheritedRanking, says: str) -> None:
    assert WANTED_PAIRS == 20
    assert rank_line(ranking) == says


# --- words -----------------------------------------------------------------------------------------------------------


def sentences_of(records: list[TrialRecord]) -> str:
    return " ".join(Foresight.of(study_of(records)).sentences)


@pytest.mark.parametrize(
    ("records", "says"),
    [
        (ten(9), "Validation accuracy: nothing speaks against the 90 % of the intervals."),
        (ten(2), "Validation accuracy: the 90 % intervals were too narrow"),
        (ten(7)[:4], "Validation accuracy: 4 trials with a prediction, too few to tell how good it is (at least 10"),
        ([predicted(n, 0.8, 0.8) for n in range(80)], "Validation accuracy: the 90 % intervals were wider than"),
    ],
)
def test_whether_the_intervals_held_what_they_promised(records: list[TrialRecord], says: str) -> None:
    assert says in sentences_of(records)


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([screened(0)], "1 trial was screened out, which saved 1 of 1 training (100 %). None was spared, so nothing"),
        (
            [measured(0, 0.9, 0.1), screened(1), spared(2, 0.95, 0.2)],
            "1 trial was spared: trial 2 reached the front at the time, trial 2 on it now; too few to tell",
        ),
        (
            [measured(0, 0.9, 0.1), *(spared(n, 0.8, 0.2) for n in range(1, 31))],
            "0 trials were screened out. 30 trials were spared: none reached the front, at the time or by now; "
            "so of those screened out 0 % would be on the front (95 % interval 0 to 11)",
        ),
        (
            [
                *(measured(0, 0.9, 0.1), spared(1, 0.8, 0.2), spared(2, 0.8, 0.2)),
                dataclasses.replace(stopped(3, 2), spared=True),
            ],
            "3 trials were spared and 2 of them measured: none reached",
        ),
        ([dataclasses.replace(stopped(3, 2), spared=True)], "1 trial was spared, of which none was measured yet"),
    ],
)  # fmt: skip
def test_what_screening_did_in_words(records: list[TrialRecord], says: str) -> None:
    assert says in sentences_of(records)


def test_lines_for_the_terminal(tmp_path: Path) -> None:
    lines = search_lines(guided_study(tmp_path))
    assert [line.partition(":")[0] for line in lines] == [
        "Foreseen", "Foreseen", "Screening", "Supernet", "Time", "Training"
    ]  # fmt: skip
    assert "validation accuracy of 46 trials, 90 % intervals held in 4" in lines[0]
    assert search_lines(study_of([])) == []
    assert [line.partition(":")[0] for line in search_lines(study_of([measured(0, 0.9, 0.1)]))] == ["Time", "Training"]


def test_two_targets_are_told_apart() -> None:
    other = "onnxruntime-cpu-2t-b1"
    more = (
        Quantity("latency_ms", 0.2, "ms", How.MEASURED, target=other),
        Quantity("predicted_latency_ms", 0.2, "ms", How.PROXY, target=other, low=0.1, high=0.3),
    )
    record = predicted(0, 0.9, 0.9)
    record = dataclasses.replace(record, quantities=(*record.quantities, *more))
    recipe = {"objectives": ["accuracy", LATENCY, f"latency_ms@{other}"]}
    rows = Foresight.of(study_of([record], **recipe)).rows
    assert [row.what for row in rows] == ["validation accuracy", f"latency on {TARGET}", f"latency on {other}"]


# --- proxies are no results ------------------------------------------------------------------------------------------


def test_a_proxy_of_a_real_name_is_no_result() -> None:
    lie = Quantity("accuracy", 0.99, "1", How.PROXY)
    record = dataclasses.replace(screened(0), quantities=(lie,))
    assert results(record) == ()
    assert proxies(record) == (lie,)
    assert result(record, "accuracy") is None
    estimate = Quantity("predicted_ms", 0.1, "ms", How.ESTIMATED, target=TARGET)
    assert results(dataclasses.replace(record, quantities=(estimate,))) == (estimate,)


def test_what_the_search_names_is_found_and_told() -> None:
    accuracy, latency = OBJECTIVES
    record = predicted(0, 0.9, 0.8)
    for objective in (accuracy, latency):
        assert prediction(record, objective) is not None
    rung = Quantity(RUNG_ACCURACY, 0.8, "1", How.PROXY, target=rung_key(3).partition("@")[2])
    assert proxy_words(rung).title == "accuracy after 3 epochs"
    assert proxy_words(Quantity(INHERITED_ACCURACY, 0.8, "1", How.PROXY)).title == "inherited accuracy"
    untrained = Quantity(f"{UNTRAINED}latency_ms", 0.8, "ms", How.PROXY, target=TARGET)
    assert proxy_words(untrained).facts.startswith("of the untrained network, ONNX Runtime")


@pytest.mark.parametrize(
    ("quantity", "title", "value", "facts"),
    [
        (foreseen(0.9, 0.1)[0], "validation accuracy", "90.00 %",
         "foreseen before its training, 90 % interval 87.00 % to 93.00 %"),
        (foreseen(0.9, 0.1)[1], "latency", "0.100 ms",
         "foreseen before its training, 90 % interval 0.0700 ms to 0.130 ms, ONNX Runtime, CPU, 1 thread, batch 1"),
        (Quantity("predicted_params", 5.0, "1", How.PROXY), "parameters", "5", "foreseen before its training"),
        (Quantity("rung_accuracy", 0.5, "1", How.PROXY, target="epoch-1"), "accuracy after 1 epoch", "50.00 %",
         "of the float network, at a rung"),
        (Quantity("something", 0.5, "1", How.PROXY, target="elsewhere"), "something", "0.500", "proxy, elsewhere"),
    ],
)  # fmt: skip
def test_proxies_in_words(quantity: Quantity, title: str, value: str, facts: str) -> None:
    words = proxy_words(quantity)
    assert (words.title, words.value, words.facts) == (title, value, facts)


def test_all_kinds_of_trials_make_a_study(tmp_path: Path) -> None:
    """The records that other tests look at have every outcome and every origin."""
    records = every_kind()
    assert {record.outcome for record in records} == set(Outcome)
    study = write_study(tmp_path / "all", records, make_recipe(budget={"trials": 60, "epochs": 20}))
    foresight = Foresight.of(study)
    assert bool(foresight)
    assert not Foresight.of(study_of([measured(0, 0.9, 0.1)]))
    assert isinstance(foresight.calibrations[0], Calibration)
