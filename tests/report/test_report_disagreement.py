"""FLOPs beside the clock: Kendall's τ against its definition, the worst pairs against all pairs, all of it in words."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from fakes import LATENCY, TARGET, make_design, make_recipe, make_record, write_study
from hypothesis import given
from hypothesis import strategies as st

from nas.design import Design
from nas.outcome import How, Outcome, Quantity
from nas.record import TrialRecord
from nas.report.agreement import kendall_tau, signed, within
from nas.report.differences import MOST_PARTS, difference_words, differences
from nas.report.disagreement import MOST_APPEARANCES, WORST, Ranking, rankings
from nas.study import Study, StudyFolder

OTHER = "onnxruntime-cpu-2t-b8"


def make_trial(
    number: int,
    flops: float | None,
    latency_ms: float | None,
    spread: float = 0.01,
    design: Design | None = None,
    more: tuple[Quantity, ...] = (),
) -> TrialRecord:
    """A measured trial with these FLOPs and this latency, its interval being ± ``spread`` of it."""
    design = design or make_design(pruning_ratio=number / 1000)
    record = make_record(number, 0.9, 1.0, design=design, quantities=more)
    kept = [q for q in record.quantities if q.key not in ("flops", LATENCY)]
    if flops is not None:
        kept.append(Quantity("flops", flops, "FLOP", How.COUNTED))
    if latency_ms is not None:
        low, high = latency_ms * (1 - spread), latency_ms * (1 + spread)
        kept.append(Quantity("latency_ms", latency_ms, "ms", How.MEASURED, target=TARGET, low=low, high=high))
    return dataclasses.replace(record, quantities=tuple(kept))


def study_of(*records: TrialRecord, **recipe) -> Study:
    return Study(StudyFolder(Path("nowhere")), make_recipe(**recipe), list(records))


def ranking_of(*values: tuple[float | None, float | None], spread: float = 0.01) -> Ranking:
    """The ranking of a study of such FLOPs and latencies."""
    (ranking,) = rankings(study_of(*(make_trial(n, *pair, spread) for n, pair in enumerate(values))))
    return ranking


def tau_b(first: list[float], second: list[float]) -> float:
    """Kendall's τ-b by its definition: over all pairs, one by one."""
    pairs = list(itertools.combinations(range(len(first)), 2))
    signs = [(np.sign(first[a] - first[b]), np.sign(second[a] - second[b])) for a, b in pairs]
    untied = [sum(abs(pair[side]) for pair in signs) for side in (0, 1)]
    return float(sum(x * y for x, y in signs) / np.sqrt(untied[0] * untied[1]))


some = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), min_size=5, max_size=12)


@given(some)
def test_tau_is_what_its_definition_says(pairs: list[tuple[int, int]]) -> None:
    first, second = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    tau = kendall_tau(first, second)
    if len(set(first)) > 1 and len(set(second)) > 1:
        assert tau == pytest.approx(tau_b(first, second), abs=1e-12)
    else:
        assert tau is None


@pytest.mark.parametrize(
    ("latencies", "tau", "summary"),
    [
        ([1, 2, 3, 4, 5], 1, "is 1.00 over 5 designs: FLOPs put none of 10 pairs in the wrong order."),
        ([5, 4, 3, 2, 1], -1, "is −1.00 over 5 designs: FLOPs put 10 of 10 pairs in the wrong order (100 %)."),
        ([1, 2, 3, 5, 4], 0.8, "is 0.80 over 5 designs: FLOPs put 1 of 10 pairs in the wrong order (10 %)."),
    ],
)
def test_known_orders(latencies: list[float], tau: float, summary: str) -> None:
    ranking = ranking_of(*enumerate(latencies, start=10))
    assert ranking.tau == pytest.approx(tau)
    assert ranking.summary == f"Kendall's τ of FLOPs and latency {summary}"
    assert ranking.left_out_words == ""


@given(some, st.sampled_from([0.0, 0.1, 0.4]))
def test_pairs_are_those_that_the_intervals_tell_apart(pairs: list[tuple[int, int]], spread: float) -> None:
    ranking = ranking_of(*((float(a), float(b)) for a, b in pairs), spread=spread)
    told, wrong = set(), {}
    for one, other in itertools.permutations(ranking.points, 2):
        if one.flops < other.flops:
            if one.interval[0] > other.interval[1]:
                badness = np.log(other.flops / one.flops) * np.log(one.latency.value / other.latency.value)
                wrong[one.number, other.number] = badness
            if one.interval[0] > other.interval[1] or one.interval[1] < other.interval[0]:
                told.add((one.number, other.number))
    if ranking.tau is None:
        assert (ranking.pairs, ranking.wrong, ranking.worst) == (0, 0, ())
        return
    assert (ranking.pairs, ranking.wrong) == (len(told), len(wrong))
    worst = [(pair.fewer.number, pair.more.number) for pair in ranking.worst]
    assert len(set(worst)) == len(worst) == min(WORST, len(wrong))
    assert set(worst) <= wrong.keys()
    if worst:
        assert wrong[worst[0]] == pytest.approx(max(wrong.values()))


def test_one_odd_trial_does_not_fill_the_list() -> None:
    """Trial 0 is wrong against all others by far; the others among each other only a little."""
    values = [(10, 100), (1000, 1.0), (1100, 0.9), (1200, 0.8), (1300, 0.7), (1400, 0.6), (1500, 0.5)]
    ranking = ranking_of(*values)
    numbers = [number for pair in ranking.worst for number in (pair.fewer.number, pair.more.number)]
    assert len(ranking.worst) == WORST
    assert max(numbers.count(number) for number in numbers) <= MOST_APPEARANCES
    assert (ranking.worst[0].fewer.number, ranking.worst[0].more.number) == (0, 6)


def test_where_there_is_only_one_odd_trial_it_does() -> None:
    ranking = ranking_of((10, 100), *((1000 + n, 1.0 + n) for n in range(7)))
    assert [pair.fewer.number for pair in ranking.worst] == [0] * WORST
    assert len({pair.more.number for pair in ranking.worst}) == WORST


def test_overlapping_intervals_are_no_disagreement() -> None:
    values = [(100 - n, 1.0 + 0.01 * n) for n in range(6)]
    assert ranking_of(*values, spread=0.2).wrong == 0
    assert "no two designs of different FLOPs differ in latency" in ranking_of(*values, spread=0.2).summary
    assert ranking_of(*values, spread=0.001).wrong == 15


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([], "Too few designs to compare FLOPs with latency: 0 with both, at least 5 are needed."),
        (
            [(1e6, 1.0), (2e6, 0.5)],
            "Too few designs to compare FLOPs with latency: 2 with both, at least 5 are needed.",
        ),
        ([(2e6, 0.1 * n) for n in range(1, 7)], "All 6 designs have the same FLOPs (2.00 M), which therefore cannot"),
        ([(2e6 + n, 0.5) for n in range(6)], "All 6 designs have the same latency: there is no order"),
    ],
)
def test_why_there_is_no_tau(values: list[tuple[float, float]], why: str) -> None:
    ranking = ranking_of(*values)
    assert ranking.tau is None
    assert ranking.summary.startswith(why)
    assert ranking.short == [ranking.summary]
    assert ranking.worst == ()


def test_a_study_without_latency_has_no_ranking() -> None:
    study = study_of(*(make_trial(n, 1e6, None) for n in range(6)), objectives=["accuracy", "flops"], targets=[])
    assert rankings(study) == []


def test_only_measured_designs_count_and_each_once() -> None:
    measured = [make_trial(n, 1e6 + n, 1.0 + n) for n in range(6)]
    again = make_trial(6, 9e6, 0.1, design=measured[0].design)
    copy = dataclasses.replace(measured[1], number=7, outcome=Outcome.DUPLICATE, duplicate_of=1)
    without = [make_trial(8, None, 1.0), make_trial(9, 1e6, None), make_trial(10, 0, 1.0)]
    guess = Quantity("latency_ms", 0.1, "ms", How.PROXY, target=TARGET)
    untrained = make_trial(11, 1e6, None, more=(guess,))
    failed = make_record(12, outcome=Outcome.FAILED)
    (ranking,) = rankings(study_of(*measured, again, copy, *without, untrained, failed))
    assert [point.number for point in ranking.points] == [0, 1, 2, 3, 4, 5]
    assert ranking.left_out_words == "Without FLOPs or latency here: 4 measured trials."
    assert ranking.tau == pytest.approx(1)


def test_every_target_that_was_measured_is_ranked_the_objectives_first() -> None:
    def elsewhere(number: int) -> tuple[Quantity, ...]:
        return (Quantity("latency_ms", 9.0 - number, "ms", How.MEASURED, target=OTHER),)

    study = study_of(*(make_trial(n, 1e6 + n, 1.0 + n, more=elsewhere(n)) for n in range(6)))
    assert [(r.target, r.tau) for r in rankings(study)] == [(TARGET, pytest.approx(1)), (OTHER, pytest.approx(-1))]
    study = study_of(*study.records, objectives=["accuracy", f"latency_ms@{OTHER}"], targets=[TARGET])
    assert [(r.target, r.key) for r in rankings(study)] == [(OTHER, f"latency_ms@{OTHER}"), (TARGET, LATENCY)]


def test_a_latency_without_interval_stands_for_itself() -> None:
    quantity = Quantity("latency_ms", 2.0, "ms", How.MEASURED, target=OTHER)
    point = rankings(study_of(make_trial(0, 1e6, None, more=(quantity,))))[0].points[0]
    assert point.interval == (2.0, 2.0)


def test_the_worst_in_words() -> None:
    """Fewer FLOPs and slower; ratios under 1.1 in per cent."""
    wide = Design("convnet", {**make_design().architecture, "stage1.conv": "standard", "stage1.width": 64}, {})
    trials = [make_trial(n, 1e7 + n, 9.0 + n) for n in range(2, 6)]
    trials += [make_trial(0, 1.2e6, 0.7, design=make_design(weight_bits=8)), make_trial(1, 3.72e6, 0.5, design=wide)]
    (ranking,) = rankings(study_of(*trials))
    (worst,) = ranking.worst
    told = "sep 3×3 → 32, max pool · int8 weights instead of conv 3×3 → 64, max pool · float32"
    assert worst.words == f"trial 0 does 3.1× fewer FLOPs than trial 1, but is 1.4× slower: {told}"
    assert worst.numbers == "1.20 M and 3.72 M FLOPs, 0.700 and 0.500 ms"
    assert ranking.short[1] == f"For example, {worst.words}."


@pytest.mark.parametrize(
    ("more_flops", "less_ms", "fewer", "slower"),
    [(1.04e6, 0.96, "3.8 % fewer FLOPs", "4.2 % slower"), (2.5e6, 0.5, "2.5× fewer FLOPs", "2.0× slower")],
)
def test_ratios_in_words(more_flops: float, less_ms: float, fewer: str, slower: str) -> None:
    others = [(1e7 + n, 9.0 + n) for n in range(4)]
    (worst,) = ranking_of((1e6, 1.0), (more_flops, less_ms), *others).worst
    assert (worst.fewer_words, worst.slower_words) == (fewer, slower)


def test_tau_within_a_precision_is_told_where_there_are_several() -> None:
    """Ordered within each precision; int8 is faster throughout."""
    float32 = [make_trial(n, 1e6 + n, 10.0 + n) for n in range(6)]
    int8 = [
        make_trial(6 + n, 1e6 + n, 5.0 + n, design=make_design(pruning_ratio=n / 9, weight_bits=8, activation_bits=8))
        for n in range(5)
    ]
    (ranking,) = rankings(study_of(*float32, *int8))
    assert ranking.precision_words.endswith("float32 1.00 (6 designs) and int8 1.00 (5 designs).")
    assert ranking.tau is not None
    assert ranking.tau < 1
    (alone,) = rankings(study_of(*float32))
    assert alone.precision_words == ""
    (few,) = rankings(study_of(*float32, *int8[:4]))
    assert few.precision_words.endswith("float32 1.00 (6 designs).")


def test_estimates_are_held_against_the_clock() -> None:
    """One within 10 % of all, one that is twice the latency, one in the reverse order, and one that is no estimate."""

    def guesses(number: int) -> tuple[Quantity, ...]:
        latency = 1.0 + number
        values = {"predicted_ms": latency * 1.09, "roofline_ms": latency * 2, "textbook_ms": 20.0 - latency}
        made = [Quantity(name, value, "ms", How.ESTIMATED, target=TARGET) for name, value in values.items()]
        return (*made, Quantity("predicted_ms", 1.0, "ms", How.ESTIMATED, target=OTHER))

    trials = [make_trial(n, 1e6, 1.0 + n, more=guesses(n) if n < 6 else ()) for n in range(7)]
    (ranking,) = rankings(study_of(*trials))
    found = {one.name: (one.designs, one.tau, one.within) for one in ranking.agreements}
    assert found == {
        "flops": (7, None, None),
        "textbook_ms": (6, pytest.approx(-1), 0.0),
        "roofline_ms": (6, pytest.approx(1), 0.0),
        "predicted_ms": (6, pytest.approx(1), 1.0),
    }
    assert [one.title for one in ranking.agreements][::3] == ["FLOPs", "learned predictor"]
    measured = [Quantity("predicted_ms", 1.0, "ms", How.MEASURED, target=TARGET)]
    assert rankings(study_of(*(make_trial(n, 1e6, 1.0, more=tuple(measured)) for n in range(6))))[0].estimates == ()


@pytest.mark.parametrize(
    ("estimated", "share"), [([1.09, 2.0], 1.0), ([1.11, 2.0], 0.5), ([0.91, 1.79], 0.5), ([9.0, 9.0], 0.0)]
)
def test_within_a_tenth(estimated: list[float], share: float) -> None:
    assert within(estimated, [1.0, 2.0]) == share


@pytest.mark.parametrize(("value", "text"), [(0.714, "0.71"), (-0.2, "−0.20"), (-0.001, "0.00"), (1.0, "1.00")])
def test_coefficients_are_signed(value: float, text: str) -> None:
    assert signed(value) == text


def test_what_sets_designs_apart() -> None:
    plain, int8 = make_design(), make_design(weight_bits=8, activation_bits=8)
    assert differences(plain, int8) == ("float32", "int8")
    pruned = make_design(pruning_ratio=0.5)
    assert differences(pruned, int8) == ("pruned 50 % · float32", "int8")
    headed = Design("convnet", {**plain.architecture, "head.hidden": 64}, {})
    assert difference_words(headed, plain) == "with head 64"
    assert difference_words(plain, headed) == "without head 64"
    assert difference_words(plain, make_design(distillation=True, distillation_temperature=2.0)) == ""


def test_designs_that_read_alike_are_told_apart_by_a_choice() -> None:
    odd = Design("convnet", {**make_design().architecture, "stage1.odd": 3}, {})
    assert difference_words(odd, make_design()) == "with stage1.odd 3"


def test_a_long_difference_is_cut() -> None:
    first, second = (Design("some.Module", {f"choice{n}": n + more for n in range(20)}, {}) for more in (0, 1))
    own, others = differences(first, second)
    assert own.split(" · ")[-1].endswith(" more")
    assert len(own.split(" · ")) == len(others.split(" · ")) == MOST_PARTS


def test_a_large_study_is_ranked_in_a_moment() -> None:
    """Every pair of 1,500 designs is looked at: the counts are those of the τ without ties."""
    generator = np.random.default_rng(0)
    flops, latencies = generator.permutation(1500) + 1000.0, generator.permutation(1500) + 1000.0
    ranking = ranking_of(*zip(flops.tolist(), latencies.tolist(), strict=True), spread=0.0)
    assert ranking.pairs == 1500 * 1499 // 2
    assert ranking.tau == pytest.approx(1 - 2 * ranking.wrong / ranking.pairs)


def test_records_alone_are_enough(tmp_path: Path) -> None:
    written = write_study(tmp_path / "study", [make_trial(n, 1e6 - n, 1.0 + n) for n in range(6)])
    assert rankings(Study.open(written.folder.path))[0].tau == pytest.approx(-1)
