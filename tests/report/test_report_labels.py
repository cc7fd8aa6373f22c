"""Labels cover neither each other nor anything else, and name what they name unmistakably."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nas.report.labels import CLEARANCE, LEADER_DISTANCE, Box, along, place

FRAME = Box(0, 0, 800, 500)
coordinates = st.tuples(st.floats(20, 780), st.floats(20, 480))


@given(st.lists(coordinates, min_size=1, max_size=15), st.lists(coordinates, max_size=60))
def test_placements_are_free(points: list[tuple[float, float]], others: list[tuple[float, float]]) -> None:
    obstacles = np.array(others).reshape(-1, 2)
    placements = place(points, [(90, 12)] * len(points), obstacles, FRAME)
    boxes = [placement.box for placement in placements if placement is not None]
    assert len(placements) == len(points)
    for a, b in itertools.combinations(boxes, 2):
        assert not a.overlaps(b)
    named = np.array(points)
    for index, placement in enumerate(placements):
        if placement is None:
            continue
        assert placement.box.inside(FRAME)
        assert not placement.box.covers(obstacles)
        distances = placement.box.distances(named)
        assert distances.min() >= CLEARANCE
        has_leader = np.hypot(*(np.array(placement.anchor) - points[index])) > LEADER_DISTANCE
        assert has_leader or distances[index] == distances.min()


def test_a_lone_point_is_labelled_above_and_to_its_left() -> None:
    (placement,) = place([(400, 250)], [(90, 12)], np.empty((0, 2)), FRAME)
    assert placement is not None
    assert placement.box.bottom > 250
    assert placement.box.left < 400


@given(st.lists(coordinates, min_size=1, max_size=8), st.lists(coordinates, min_size=1, max_size=30))
def test_no_label_seems_to_name_a_point_without_one(
    points: list[tuple[float, float]], nameless: list[tuple[float, float]]
) -> None:
    placements = place(points, [(90, 12)] * len(points), np.array(nameless), FRAME, 1.0, np.array(nameless))
    for point, placement in zip(points, placements, strict=True):
        if placement is not None and np.hypot(*(np.array(placement.anchor) - point)) <= LEADER_DISTANCE:
            apart = np.array([other for other in nameless if np.hypot(*np.subtract(other, point)) > CLEARANCE])
            own = placement.box.distances(np.array([point]))
            assert (placement.box.distances(apart.reshape(-1, 2)) >= own).all()


def test_where_there_is_no_room_there_is_no_label() -> None:
    everywhere = np.stack(np.meshgrid(np.arange(0, 800, 5), np.arange(0, 500, 5)), -1).reshape(-1, 2)
    assert place([(400, 250)], [(90, 12)], everywhere, FRAME) == [None]


def test_the_first_points_come_first() -> None:
    placements = place([(400, 250)] * 60, [(300, 40)] * 60, np.empty((0, 2)), FRAME)
    assert placements[0] is not None
    assert placements[-1] is None


def test_points_along_a_line_are_dense() -> None:
    points = along(np.array([[0.0, 0.0], [30.0, 0.0], [30.0, 40.0]]), 3.0)
    for wanted in (*((x, 0.0) for x in range(31)), *((30.0, y) for y in range(41))):
        assert np.linalg.norm(points - np.array(wanted), axis=1).min() <= 1.5  # half a step from the next
    assert {tuple(p) for p in ((0.0, 0.0), (30.0, 0.0), (30.0, 40.0))} <= {tuple(p) for p in points.tolist()}


def test_distance_to_a_box() -> None:
    box = Box(10, 10, 20, 20)
    np.testing.assert_allclose(box.distances(np.array([[15, 15], [10, 25], [23, 24], [0, 15]])), [0, 5, 5, 10])
