"""What a choice buys, by pairs of trials that differ in it alone."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import LATENCY, TARGET, make_recipe, make_record
from hypothesis import given, settings
from hypothesis import strategies as st
from neighbours import neighbours

from nas.design import Design, Value
from nas.outcome import How, Outcome, Quantity
from nas.record import TrialRecord
from nas.report.effect import Effect, mean_interval, value_words, with_sign
from nas.report.matched_pairs import MOST_COMPARISONS, Comparison, MatchedPairs, matched_pairs
from nas.report.pairing import Coded
from nas.space import load_space, parse_space
from nas.study import Study, StudyFolder


def record(
    number: int,
    architecture: Mapping[str, Value],
    latency_ms: float = 0.1,
    accuracy: float = 0.9,
    compression: Mapping[str, Value] | None = None,
    **fields: Any,
) -> TrialRecord:
    design = Design("convnet", architecture, compression or {})
    return make_record(number, accuracy, latency_ms, design=design, **fields)


def study_of(records: Sequence[TrialRecord], **recipe: Any) -> Study:
    return Study(StudyFolder(Path("nowhere")), make_recipe(**recipe), list(records))


def compared(records: Sequence[TrialRecord], **recipe: Any) -> MatchedPairs:
    return matched_pairs(study_of(records, **recipe))


def one(found: MatchedPairs, choice: str) -> Comparison:
    (comparison,) = [comparison for comparison in found.comparisons if comparison.choice == choice]
    return comparison


def kinds(width: int, ratio: float, number: int, loss: float = 0.0) -> list[TrialRecord]:
    """A standard and a separable network of a width, the latter faster by a ratio."""
    return [
        record(number, {"conv": "standard", "width": width}, 0.1, 0.9),
        record(number + 1, {"conv": "separable", "width": width}, 0.1 * ratio, 0.9 - loss),
    ]


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_the_effect_is_the_geometric_mean_of_ratios_and_the_mean_difference_of_accuracy() -> None:
    trials = [*kinds(8, 0.5, 0, 0.01), *kinds(16, 0.8, 2, 0.03), *kinds(32, 0.6, 4, 0.02)]
    found = one(compared(trials), "conv")
    assert (found.value, found.other) == ("separable", "standard")
    assert (found.pairs, found.settings) == (3, 3)
    latency, accuracy, size = found.effects
    assert latency.value == pytest.approx((0.5 * 0.8 * 0.6) ** (1 / 3))
    assert accuracy.value == pytest.approx(-0.02)
    assert [effect.key for effect in found.effects] == [LATENCY, "accuracy", "size_bytes"]
    assert size.value == pytest.approx(1, abs=1e-3)
    assert latency.low is not None
    assert latency.high is not None
    assert 0.5 <= latency.low < latency.value < latency.high <= 0.8


def test_the_words_are_those_of_one_line() -> None:
    trials = [*kinds(8, 0.5, 0, 0.005), *kinds(16, 0.8, 2, 0.007), *kinds(32, 0.6, 4, 0.006)]
    assert one(compared(trials), "conv").words == (
        "conv, separable for standard: −38 % time (−50 to −20), −0.6 points, 0.0 % size, 3 pairs"
    )


def test_what_costs_more_is_what_is_replaced_whichever_trial_came_first() -> None:
    trials = [*kinds(8, 0.5, 0), *reversed(kinds(16, 0.5, 2))]
    found = one(compared(trials), "conv")
    assert (found.value, found.other, found.pairs) == ("separable", "standard", 2)
    slow_first = one(compared([record(n, {"a": n}, 0.1 * (n + 1)) for n in range(2)]), "a")
    assert (slow_first.value, slow_first.other, slow_first.example) == (0, 1, (0, 1))


def test_of_compression_what_leaves_it_out_is_replaced_even_where_it_is_faster() -> None:
    trials = [
        record(0, {"a": 1}, 0.1, compression={"weight_bits": 32}),
        record(1, {"a": 1}, 0.2, compression={"weight_bits": 8}),
    ]
    found = one(compared(trials), "weight_bits")
    assert (found.value, found.other, found.example) == (8, 32, (1, 0))
    assert found.words == "weight bits, 8 for 32: +100 % time, 0.0 points, 0.0 % size, 1 pair"


def test_one_pair_has_no_interval() -> None:
    latency = one(compared(kinds(8, 0.5, 0)), "conv").effects[0]
    assert (latency.low, latency.high, latency.clear) == (None, None, False)


def test_what_saves_most_comes_first_and_what_has_no_interval_last() -> None:
    trials = [record(10 * a + b, {"a": a, "b": b, "c": "x"}, 0.1 * 0.5**a * 0.9**b) for a in range(3) for b in range(3)]
    trials.append(record(99, {"a": 0, "b": 0, "c": "y"}, 0.0001))
    found = compared(trials).comparisons
    first = [comparison.effects[0] for comparison in found]
    sure = [effect.value for effect in first if effect.low is not None]
    assert sure == sorted(sure)
    assert [effect.low is None for effect in first] == [*[False] * len(sure), True]
    assert found[-1].choice == "c"


def test_the_size_is_told_once_where_it_is_an_objective() -> None:
    found = one(compared(kinds(8, 0.5, 0), objectives=["accuracy", LATENCY, "size_bytes"]), "conv")
    assert [effect.key for effect in found.effects] == [LATENCY, "accuracy", "size_bytes"]


def test_latencies_on_two_targets_are_told_apart() -> None:
    other = "onnxruntime-cpu-2t-b1"
    trials = [
        record(n, {"a": n}, 0.1 + n, quantities=(Quantity("latency_ms", 0.2 + n, "ms", How.MEASURED, target=other),))
        for n in range(2)
    ]
    found = one(compared(trials, objectives=["accuracy", LATENCY, f"latency_ms@{other}"]), "a")
    assert [effect.title for effect in found.effects] == ["time on 1t-b1", "points", "time on 2t-b1", "size"]


def test_a_quantity_that_some_trials_lack_is_compared_where_it_is() -> None:
    trials = [*kinds(8, 0.5, 0), *kinds(16, 0.5, 2)]
    without = tuple(q for q in trials[0].quantities if q.name != "size_bytes")
    found = one(compared([TrialRecord(**{**vars(trials[0]), "quantities": without}), *trials[1:]]), "conv")
    size = found.effect("size_bytes")
    assert size is not None
    assert size.value == pytest.approx(40_003 / 40_002)
    assert found.effect("params") is None


# --- which pairs there are -------------------------------------------------------------------------------------------


def test_a_trial_that_differs_in_two_choices_is_in_no_pair() -> None:
    found = compared([record(0, {"a": 0, "b": 0}), record(1, {"a": 1, "b": 1})])
    assert (found.comparisons, found.pairs, found.unmatched) == ((), 0, ("a", "b"))
    assert found.summary == "No pair of 2 measured trials differs in one choice alone. Never alone: a, b."


def test_what_hangs_on_the_choice_may_differ() -> None:
    trials = [
        record(0, {"stages": 1}, 0.1),
        record(1, {"stages": 2, "stage2.width": 8}, 0.2),
        record(2, {"stages": 2, "stage2.width": 16}, 0.4),
    ]
    found = compared(trials)
    stages = one(found, "stages")
    assert (stages.pairs, stages.settings, stages.dependents) == (2, 1, ("stage2.width",))
    assert stages.effects[0].value == pytest.approx(1 / math.sqrt(2 * 4))
    assert stages.effects[0].low is None  # two pairs, but of one setting
    assert one(found, "stage2.width").dependents == ()


def test_trials_that_were_not_measured_are_in_no_pair() -> None:
    failed = record(1, {"a": 1}, outcome=Outcome.FAILED)
    assert compared([record(0, {"a": 0}), failed]).summary == "1 measured trial: nothing to compare."


def test_one_design_twice_is_no_pair() -> None:
    found = compared([record(0, {"a": 0}), record(1, {"a": 0})])
    assert (found.pairs, found.unmatched) == (0, ())


def test_the_same_choice_of_several_stages_is_also_told_together() -> None:
    base = {"stage1.conv": "standard", "stage2.conv": "standard"}
    trials = [record(0, base, 0.1)]
    trials += [record(n, base | {f"stage{n}.conv": "separable"}, 0.05) for n in (1, 2)]
    found = compared(trials)
    pooled = one(found, "stage.conv")
    assert (pooled.pooled, pooled.pairs, pooled.settings) == (True, 2, 2)
    assert pooled.words.startswith("conv of one stage, separable for standard: −50 % time, ")
    assert one(found, "stage1.conv").words.startswith("stage1 conv, separable for standard: ")


def test_of_one_stage_alone_nothing_is_told_twice() -> None:
    trials = [record(n, {"stage1.conv": kind}, 0.1 + n) for n, kind in enumerate(("standard", "separable"))]
    assert [comparison.choice for comparison in compared(trials).comparisons] == ["stage1.conv"]


def test_a_choice_of_many_values_leaves_comparisons_out_and_says_so() -> None:
    found = compared([record(n, {"a": n}, 0.1 + n) for n in range(8)])
    assert len(found.comparisons) == MOST_COMPARISONS
    assert found.left_out == 28 - MOST_COMPARISONS
    assert found.summary.endswith("8 comparisons with fewer pairs are left out.")


def test_nothing_at_all() -> None:
    found = compared([])
    assert (found.comparisons, found.trials, found.pairs) == ((), 0, 0)
    assert found.summary == "0 measured trials: nothing to compare."


SPACE = parse_space(
    "small",
    {
        "family": "convnet",
        "architecture": {
            "a": [1, 2],
            "b": {"values": ["x", "y"], "when": {"a": [2]}},
            "c": [1, 2, 3],
            "d": {"values": [1, 2], "when": {"b": ["y"], "c": [1, 3]}},
        },
        "compression": {"weight_bits": [32, 8], "activation_bits": {"values": [32, 8], "when": {"weight_bits": [8]}}},
    },
    Path(),
)
DESIGNS = list(SPACE.designs())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(DESIGNS), min_size=2, max_size=25, unique_by=lambda design: design.digest))
def test_pairs_are_what_trying_every_two_by_hand_finds(designs: list[Design]) -> None:
    records = [make_record(n, design=design) for n, design in enumerate(designs)]
    coded = Coded.of(records)
    pairs = coded.pairs()
    found = {(int(i), int(j), coded.names[c]) for i, j, c in zip(pairs.first, pairs.second, pairs.choice, strict=True)}
    expected = set()
    for i, one_design in enumerate(designs):
        for j in range(i + 1, len(designs)):
            rows = [{**d.architecture, **d.compression} for d in (one_design, designs[j])]
            differ = [name for name in rows[0].keys() & rows[1].keys() if rows[0][name] != rows[1][name]]
            if len(differ) == 1:
                expected.add((i, j, differ[0]))
                # What only one has hangs on that choice: giving the other the same value would make them alike.
                lone = rows[0].keys() ^ rows[1].keys()
                assert all(hangs_on(name, differ[0]) for name in lone)
    assert found == expected


def hangs_on(name: str, choice: str) -> bool:
    parents = SPACE.by_name[name].when
    return choice in parents or any(hangs_on(parent, choice) for parent in parents)


def test_a_known_truth_is_found_among_random_neighbours() -> None:
    """Separable convolutions take 0.6 of the time and lose half a point, whatever else; measured with noise."""
    rng, space = random.Random(0), load_space("convnet-small")
    designs = neighbours(space, 300, rng)
    records = []
    for number, design in enumerate(designs):
        separable = design.architecture["stage1.conv"] == "separable"
        width = design.architecture["stem.width"]
        assert isinstance(width, int)
        latency = 0.01 * width * (0.6 if separable else 1) * rng.lognormvariate(0, 0.05)
        records.append(make_record(number, 0.9 - 0.005 * separable + rng.gauss(0, 0.002), latency, design=design))
    found = one(compared(records), "stage1.conv")
    latency_effect, accuracy_effect = found.effects[:2]
    assert (found.value, found.other) == ("separable", "standard")
    assert found.pairs >= 10
    assert latency_effect.low is not None
    assert latency_effect.high is not None
    assert latency_effect.low < 0.6 < latency_effect.high
    assert latency_effect.clear
    assert latency_effect.high - latency_effect.low < 0.1
    assert accuracy_effect.value == pytest.approx(-0.005, abs=0.002)


# --- intervals and words ---------------------------------------------------------------------------------------------


def test_intervals_hold_the_mean_about_as_often_as_they_say() -> None:
    """Of 400 samples of eight settings about 95 % of the intervals hold the truth; without the widening 89 % would."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        ends = mean_interval(rng.normal(size=8), np.arange(8), rng)
        assert ends is not None
        held += ends[0] <= 0 <= ends[1]
    assert 370 <= held <= 396


def test_pairs_of_one_setting_are_no_independent_evidence() -> None:
    """Three settings, each ten times: as wide as three pairs."""
    rng = np.random.default_rng(0)
    numbers = np.array([-1.0, 0.0, 1.0])
    once = mean_interval(numbers, np.arange(3), rng)
    often = mean_interval(np.repeat(numbers, 10), np.repeat(np.arange(3), 10), rng)
    assert once == often == (-1, 1)


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_settings_have_no_interval(count: int) -> None:
    assert mean_interval(np.zeros(count), np.arange(count), np.random.default_rng(0)) is None


def test_an_effect_turned_round_twice_is_the_same() -> None:
    effect = Effect("latency_ms", "time", True, False, 0.5, 0.25, 0.8)
    assert effect.turned() == Effect("latency_ms", "time", True, False, 2.0, 1.25, 4.0)
    assert effect.turned().turned() == effect
    assert Effect("accuracy", "points", False, True, 0.5).turned().value == -0.5


def test_an_effect_is_clear_where_its_interval_leaves_out_no_change() -> None:
    assert Effect("latency_ms", "time", True, False, 0.9, 0.8, 0.95).clear
    assert not Effect("latency_ms", "time", True, False, 0.9, 0.8, 1.05).clear
    assert not Effect("accuracy", "points", False, True, 0.01, -0.01, 0.03).clear


@pytest.mark.parametrize(
    ("number", "text"),
    [(-38.4, "−38"), (0.61, "+0.6"), (-0.04, "0.0"), (0, "0.0"), (9.96, "+10"), (9.94, "+9.9"), (250, "+250")],
)
def test_changes_carry_a_sign_and_no_more_digits_than_pairs_bear(number: float, text: str) -> None:
    assert with_sign(number) == text


@pytest.mark.parametrize(
    ("choice", "value", "text"),
    [("pruning_ratio", 0.5, "50 %"), ("distillation", True, "yes"), ("distillation", False, "no"), ("width", 8, "8")],
)
def test_values_are_told_as_a_person_reads_them(choice: str, value: Value, text: str) -> None:
    assert value_words(choice, value) == text


def test_the_comparisons_are_json() -> None:
    trials = [*kinds(8, 0.5, 0), *kinds(16, 0.6, 2), *kinds(32, 0.7, 4)]
    data = json.loads(json.dumps(compared(trials).to_json(), allow_nan=False))
    assert data["trials"] == 6
    conv = next(row for row in data["comparisons"] if row["choice"] == "conv")
    assert conv["effects"][0]["key"] == f"latency_ms@{TARGET}"
    assert conv["words"] == one(compared(trials), "conv").words
