"""Where to put labels in a picture so that they cover neither points nor lines nor each other.

Greedy placement over candidate positions around each point (cf. J. Christensen, J. Marks and S. Shieber, "An empirical
study of algorithms for point-feature label placement", ACM Transactions on Graphics 14, 1995): labels are placed in
order of importance, each at the nearest position that is free; one that finds none is left out. All in pixels, y up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Up and to the left of a front that rises to the right nothing can lie, so it is looked at first.
ANGLES = (135, 115, 155, 95, 175, 315, 335, 295, 60, 20, 270, 200)
DISTANCES = (9, 16, 26, 38, 52, 68, 86, 106)
LEADER_DISTANCE = 12  # labels farther away than this are joined to their point by a line
MOST_POINTS = 4000  # along one straight piece, which may lead far out of the picture
CLEARANCE = 5  # kept from every point that has a label


@dataclass(frozen=True)
class Box:
    """A rectangle, from its lower left to its upper right corner."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def inside(self, other: Box) -> bool:
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.bottom <= self.bottom
            and self.top <= other.top
        )

    def grown(self, margin: float) -> Box:
        return Box(self.left - margin, self.bottom - margin, self.right + margin, self.top + margin)

    def distances(self, points: np.ndarray) -> np.ndarray:
        """How far N×2 points lie from the rectangle; 0 inside."""
        x, y = points[:, 0], points[:, 1]
        across = np.maximum(np.maximum(self.left - x, x - self.right), 0)
        up = np.maximum(np.maximum(self.bottom - y, y - self.top), 0)
        distances: np.ndarray = np.hypot(across, up)
        return distances

    def covers(self, points: np.ndarray) -> bool:
        """Whether one of N×2 points lies inside."""
        x, y = points[:, 0], points[:, 1]
        return bool(((x > self.left) & (x < self.right) & (y > self.bottom) & (y < self.top)).any())


@dataclass(frozen=True)
class Placement:
    """Where a label goes: its rectangle, and the point of its edge that is nearest to what it names."""

    box: Box
    anchor: tuple[float, float]


def place(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: np.ndarray,
    frame: Box,
    unit: float = 1.0,
    nameless: np.ndarray | None = None,
) -> list[Placement | None]:
    """Places one label for each point, the first ones first.

    Args:
        points: What the labels name.
        sizes: Width and height of each label.
        obstacles: N×2 points that no label may cover; a line is given as points along it.
        frame: What labels have to stay inside of.
        unit: Pixels of one unit of distance, so that the placement does not depend on the resolution.
        nameless: N×2 points without labels that look like those with; a label is nearest to none of these either,
            unless a line joins it to its own, or the two points are as good as one.

    Returns:
        For each point where its label goes, or None where it finds no room.
    """
    taken: list[Box] = []
    leaders = np.empty((0, 2))
    named = np.array(points, dtype=float).reshape(-1, 2)
    bare = np.empty((0, 2)) if nameless is None else nameless
    placements: list[Placement | None] = []
    for index, (point, size) in enumerate(zip(points, sizes, strict=True)):
        found = None
        others = named[np.linalg.norm(named - named[index], axis=1) > CLEARANCE * unit]
        apart = bare[np.linalg.norm(bare - named[index], axis=1) > CLEARANCE * unit]
        for box, anchor in _candidates(point, size, unit):
            room = box.grown(2 * unit)
            leader = _along(anchor, point, unit)
            if (
                box.inside(frame)
                and not any(room.overlaps(other) for other in taken)
                and not room.covers(obstacles)
                and not room.covers(leaders)
                and not any(other.grown(unit).covers(leader) for other in taken)
                and not _near(leader, others, CLEARANCE * unit)
                and not (box.distances(named) < CLEARANCE * unit).any()
                and (
                    math.dist(anchor, point) > LEADER_DISTANCE * unit
                    or _nearest(box, np.concatenate([named, apart]), index)
                )
            ):
                found = Placement(box, anchor)
                taken.append(box)
                leaders = np.concatenate([leaders, leader])
                break
        placements.append(found)
    return placements


def _near(points: np.ndarray, others: np.ndarray, distance: float) -> bool:
    """Whether one of N×2 points lies nearer than that to one of the others."""
    gaps = np.linalg.norm(points[:, None, :] - others[None, :, :], axis=2)
    return bool((gaps < distance).any())


def _nearest(box: Box, points: np.ndarray, own: int) -> bool:
    """Whether of N×2 points none is nearer to a label than its own."""
    distances = box.distances(points)
    return bool(distances[own] <= distances.min())


def along(corners: np.ndarray, step: float) -> np.ndarray:
    """Points along a line of straight pieces (N×2 corners), no farther than ``step`` from one to the next."""
    pieces = [_along((a[0], a[1]), (b[0], b[1]), step) for a, b in itertools.pairwise(corners)]
    return np.concatenate([corners, *pieces])


def _candidates(
    point: tuple[float, float], size: tuple[float, float], unit: float
) -> list[tuple[Box, tuple[float, float]]]:
    """Rectangles around a point, the nearest first, each with the point of its edge that faces it."""
    width, height = size
    candidates = []
    for distance in DISTANCES:
        for angle in ANGLES:
            dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            x, y = point[0] + dx * distance * unit, point[1] + dy * distance * unit
            left = x - width * (1 - dx) / 2
            bottom = y - height * (1 - dy) / 2
            candidates.append((Box(left, bottom, left + width, bottom + height), (x, y)))
    return candidates


def _along(start: tuple[float, float], end: tuple[float, float], step: float) -> np.ndarray:
    pieces = max(1, math.ceil(math.dist(start, end) / step))
    return np.linspace(start, end, min(pieces, MOST_POINTS) + 1)
