"""Dominance against its definition, the hypervolume against closed forms and another implementation, the knee."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from fakes import LATENCY, make_design, make_record
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from nas.front import (
    Reference,
    added_volume,
    hypervolume,
    hypervolume_history,
    knee,
    most_telling_first,
    non_dominated,
    pareto_front,
    reference_from,
)
from nas.objectives import Constraint, Objective
from nas.outcome import How, Outcome, Quantity

TWO = (Objective("accuracy"), Objective.parse(LATENCY))
THREE = (*TWO, Objective("params"))


def by_definition(points: np.ndarray, maximise: tuple[bool, ...]) -> list[bool]:
    """Which points are not dominated, word for word from the definition."""
    signed = [[v if up else -v for v, up in zip(row, maximise, strict=True)] for row in points.tolist()]

    def dominates(a: list[float], b: list[float]) -> bool:
        pairs = list(zip(a, b, strict=True))
        return all(x >= y for x, y in pairs) and any(x > y for x, y in pairs)

    return [not any(dominates(other, row) for other in signed) for row in signed]


@pytest.mark.parametrize("maximise", list(itertools.product([True, False], repeat=2)))
def test_every_set_of_up_to_four_points_on_a_grid(maximise: tuple[bool, ...]) -> None:
    grid = list(itertools.product([0.0, 1.0, 2.0], repeat=2))
    for size in range(1, 5):
        for chosen in itertools.combinations_with_replacement(grid, size):
            points = np.array(chosen)
            assert non_dominated(points, maximise).tolist() == by_definition(points, maximise), points


@given(st.data())
def test_dominance_in_one_to_four_dimensions(data: st.DataObject) -> None:
    shape = (data.draw(st.integers(0, 12)), data.draw(st.integers(1, 4)))
    points = data.draw(npst.arrays(float, shape, elements=st.sampled_from([0.0, 0.1, 0.5, 1.0, 1e6])))
    maximise = data.draw(st.tuples(*[st.booleans()] * shape[1]))
    assert non_dominated(points, maximise).tolist() == by_definition(points, maximise)


def test_equal_points_are_all_kept() -> None:
    assert non_dominated(np.array([[1.0, 1.0]] * 3), (True, False)).tolist() == [True] * 3


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((3, 3)), "points must be N×2"),
        (np.zeros(2), "points must be N×2"),
        (np.array([[0, np.nan]]), "finite"),
    ],
)
def test_malformed_points_are_refused(points: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        non_dominated(points, (True, False))


def test_front_leaves_out_the_dominated_the_infeasible_and_duplicates_and_runs_from_the_cheapest() -> None:
    duplicate = dataclasses.replace(make_record(5, 0.99, 0.01), outcome=Outcome.DUPLICATE, duplicate_of=1)
    records = [
        make_record(0, 0.95, 0.3),
        make_record(1, 0.90, 0.1),
        make_record(2, 0.89, 0.2),  # dominated by 1
        make_record(3, 0.97, 0.9),  # breaks the constraint
        make_record(4, outcome=Outcome.FAILED),
        duplicate,
        make_record(6, 0.90, 0.1),  # equal to 1
    ]
    front = pareto_front(records, TWO, (Constraint.parse(f"{LATENCY} <= 0.5"),))
    assert [record.number for record in front] == [1, 6, 0]


def test_front_of_nothing_is_empty() -> None:
    assert pareto_front([make_record(0, outcome=Outcome.FAILED)], TWO, ()) == []


def with_classes(number: int, accuracy: float, latency_ms: float, classes: int):
    manifest = {"class_names": [str(i) for i in range(classes)]} if classes else {}
    return make_record(number, accuracy, latency_ms, manifest=manifest)


@pytest.mark.parametrize(("classes", "guessing"), [(10, 0.1), (2, 0.5), (0, 0.0), (1, 0.0)])
def test_reference_is_ten_times_the_first_measured_cost_and_the_accuracy_of_guessing(
    classes: int, guessing: float
) -> None:
    records = [with_classes(7, 0.9, 9.0, 3), with_classes(2, 0.8, 0.2, classes), make_record(0, outcome=Outcome.FAILED)]
    reference = reference_from(records, TWO)
    assert reference == Reference(("accuracy", LATENCY), (guessing, pytest.approx(2.0)))


def test_no_reference_without_a_measured_trial() -> None:
    assert reference_from([make_record(0, outcome=Outcome.INFEASIBLE)], TWO) is None


def test_reference_of_a_cost_of_zero_is_ten_units() -> None:
    record = make_record(0, quantities=(Quantity("load_ms", 0.0, "ms", How.MEASURED, target="onnxruntime-cpu-1t-b1"),))
    reference = reference_from([record], (Objective("accuracy"), Objective.parse("load_ms@onnxruntime-cpu-1t-b1")))
    assert reference is not None
    assert reference.values == (0.0, 10.0)


REFERENCE = Reference(("accuracy", LATENCY), (0.1, 1.0))


@pytest.mark.parametrize(
    ("accuracy", "latency_ms", "expected"),
    [
        (1.0, 0.001, 1.0),  # the ideal
        (1.0, 1e-9, 1.0),  # beyond it, clipped
        (1.0, 0.0, 1.0),
        (0.55, 0.1, 0.5 / 3),  # half of the way to 1, one decade of three
        (0.1, 0.001, 0.0),  # no better than guessing
        (0.05, 0.001, 0.0),
        (1.0, 1.0, 0.0),  # no better than the reference
        (1.0, 5.0, 0.0),
    ],
)
def test_hypervolume_of_one_trial(accuracy: float, latency_ms: float, expected: float) -> None:
    assert hypervolume([make_record(0, accuracy, latency_ms)], REFERENCE, TWO) == pytest.approx(expected)


def test_hypervolume_counts_feasible_measured_trials_alone() -> None:
    records = [make_record(0, 0.55, 0.1), make_record(1, 1.0, 0.5), make_record(2, outcome=Outcome.FAILED)]
    limit = (Constraint.parse(f"{LATENCY} <= 0.2"),)
    assert hypervolume(records, REFERENCE, TWO, limit) == pytest.approx(0.5 / 3)
    assert hypervolume(records[2:], REFERENCE, TWO) == 0.0


def test_hypervolume_refuses_a_reference_of_other_objectives() -> None:
    with pytest.raises(ValueError, match="the reference is of accuracy"):
        hypervolume([make_record(0)], REFERENCE, THREE)


def test_hypervolume_of_three_objectives_agrees_with_counting_cells() -> None:
    """On a grid whose corners the points are, the volume is the share of cells below some point."""
    steps = 6
    corners = np.random.default_rng(3).integers(0, steps + 1, (9, 3)) / steps
    reference = Reference(("accuracy", LATENCY, "params"), (0.0, 1.0, 1e6))
    records = []
    for number, (a, b, c) in enumerate(corners):
        record = make_record(number, float(a), 10 ** (-3 * b))
        others = tuple(q for q in record.quantities if q.name != "params")
        params = Quantity("params", 1e6 * 10 ** (-3 * c), "1", How.COUNTED)
        records.append(dataclasses.replace(record, quantities=(*others, params)))
    cells = itertools.product((np.arange(steps) + 0.5) / steps, repeat=3)
    covered = sum(bool((corners >= np.array(cell)).all(axis=1).any()) for cell in cells)
    assert hypervolume(records, reference, THREE) == pytest.approx(covered / steps**3)


def test_history_ends_at_the_hypervolume_and_never_falls() -> None:
    rng = np.random.default_rng(0)
    records = [make_record(n, rng.uniform(0.2, 1), 10 ** rng.uniform(-3, 0)) for n in range(40)]
    records[5] = make_record(5, outcome=Outcome.FAILED)
    history = hypervolume_history(list(reversed(records)), REFERENCE, TWO)
    assert [number for number, _ in history] == list(range(40))
    for number, volume in history:
        assert volume == pytest.approx(hypervolume(records[: number + 1], REFERENCE, TWO))


def test_knee_is_the_member_farthest_from_the_line_between_the_ends() -> None:
    # On a logarithmic latency axis: (0, 0), (1/3, 0.5), (2/3, 0.9), (1, 1); distances to the line 1/6 and 0.233 / √2.
    members = [(0, 0.80, 0.01), (1, 0.90, 0.1), (2, 0.98, 1.0), (3, 1.0, 10.0)]
    front = [make_record(*member) for member in members]
    assert knee(front, TWO).number == 2


def test_knee_does_not_depend_on_order_or_units() -> None:
    front = [make_record(0, 0.80, 10.0), make_record(1, 0.98, 20.0), make_record(2, 1.0, 1000.0)]
    scaled = [make_record(r.number, r.value("accuracy"), r.value(LATENCY) * 1e-3) for r in reversed(front)]
    assert knee(front, TWO).number == knee(scaled, TWO).number == 1


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([(4, 0.9, 0.1)], 4),
        ([(4, 0.9, 0.1), (2, 0.95, 0.2)], 2),  # of two the more accurate
        ([(0, 0.80, 0.1), (1, 0.81, 0.9), (2, 1.0, 1.0)], 2),  # bends inwards: the most accurate end
        ([(3, 0.9, 0.1), (1, 0.9, 0.1)], 1),  # equals: the lower number
    ],
)
def test_knee_of_fronts_without_one(members: list[tuple[int, float, float]], expected: int) -> None:
    assert knee([make_record(*member) for member in members], TWO).number == expected


def test_an_empty_front_has_no_knee() -> None:
    with pytest.raises(ValueError, match="no knee"):
        knee([], TWO)


@given(st.lists(st.tuples(st.floats(0.2, 0.99), st.floats(1e-3, 0.9)), min_size=1, max_size=8))
def test_hypervolume_agrees_with_a_sum_of_rectangles(values: list[tuple[float, float]]) -> None:
    records = [make_record(n, a, t, design=make_design()) for n, (a, t) in enumerate(values)]
    axes = sorted((((a - 0.1) / 0.9, -math.log10(t) / 3) for a, t in values), reverse=True)
    volume, best = 0.0, 0.0
    for x, y in axes:  # from the most accurate down: each adds the strip above what was reached
        volume += x * max(0.0, y - best)
        best = max(best, y)
    assert hypervolume(records, REFERENCE, TWO) == pytest.approx(volume)


def volume_of(points: np.ndarray) -> float:
    """The dominated share of the unit box by inclusion and exclusion, an independent way to have it."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for some in itertools.combinations(points, size):
            total += (-1) ** (size + 1) * float(np.min(some, axis=0).prod())
    return total


@given(npst.arrays(float, npst.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6), elements=st.floats(0, 1)))
def test_each_of_the_most_telling_adds_at_least_what_any_later_one_would(axes: np.ndarray) -> None:
    order = most_telling_first(axes)
    assert sorted(order) == list(range(len(axes)))
    for count in range(len(order)):
        with_next = volume_of(axes[order[: count + 1]])
        assert all(with_next >= volume_of(axes[[*order[:count], later]]) - 1e-9 for later in order[count:])


@given(npst.arrays(float, npst.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6), elements=st.floats(0, 1)))
def test_what_a_point_adds_is_what_the_hypervolume_grows_by(axes: np.ndarray) -> None:
    front, points = np.array_split(axes, 2)
    grown = [volume_of(np.vstack([front, point])) - volume_of(front) for point in points]
    assert added_volume(front, points) == pytest.approx(grown, abs=1e-9)
    assert added_volume(front, front).tolist() == [0.0] * len(front)
    assert added_volume(np.empty((0, axes.shape[1])), points) == pytest.approx(points.prod(axis=1))


def test_of_none_no_order_and_of_equals_the_earlier_first() -> None:
    assert most_telling_first(np.zeros((0, 2))) == []
    assert most_telling_first(np.array([[0.5, 0.5], [0.5, 0.5], [0.9, 0.9]])) == [2, 0, 1]
