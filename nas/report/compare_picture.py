"""The fronts of several studies in one picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.front import values_of
from nas.report.compare import Comparison, Contender
from nas.report.compare_table import letter
from nas.report.paper import COLOURS, SHAPES, legend_above, legend_inches, letters, paper, tidy
from nas.report.paper_front import draw_intervals, draw_steps, short_title
from nas.report.plots import reference_words
from nas.report.scales import set_cost_scale, set_quality_scale
from nas.report.scatter import INK
from nas.wording import listing, plain_name, plural, target_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE_INCHES = 7.0
STYLES: tuple[Any, ...] = ("-", (0, (4, 1.2)), (0, (1, 1)), (0, (5, 1, 1, 1)))  # lines, told apart in grey too
LONGEST_LABEL = 44
ASPECT, COLUMNS = 0.62, 2
CROWD = 300


def draw_comparison(comparison: Comparison, path: Path, width: float = PAGE_INCHES) -> str:
    """Draws the first shared quality against the first shared cost: fronts as step lines, other trials small.

    Colour, shape and kind of line say the study. Bars are 95 % intervals of the fronts' members.

    Args:
        comparison: What to draw.
        path: Where to write; the suffix says the format (``.png``, ``.svg``, ``.pdf``).
        width: Of the picture, in inches.

    Returns:
        A caption.

    Raises:
        StudyError: The file cannot be written, or cannot be of that kind or width.
    """
    words = caption(comparison)
    rows = len(comparison.contenders)
    height = width * ASPECT + legend_inches(rows, COLUMNS, width)
    names = " and ".join(contender.label for contender in comparison.contenders)
    with paper(path, f"Fronts of {names}", words, width, height) as figure:
        axes = figure.add_subplot()
        _scales(axes, comparison)
        scale = letters(width) / letters(0)
        for index, contender in enumerate(comparison.contenders):
            _contender(axes, comparison, index, contender, scale)
        legend_above(figure, _entries(comparison, scale), COLUMNS)
    return words


def caption(comparison: Comparison) -> str:
    """What the picture shows, in words to put below it."""
    quality, cost = comparison.quality, comparison.cost
    where = f" ({target_words(cost.target)})" if cost.target else ""
    names = listing([f"{contender.label} (hypervolume {contender.volume:.3f})" for contender in comparison.contenders])
    others = [plain_name(o.key) for o in comparison.objectives if o not in (quality, cost)]
    too = f", fronts for {listing(others)} too" if others else ""
    warned = f" Not comparable without care: {'; '.join(comparison.warnings)}." if comparison.warnings else ""
    return (
        f"Fronts of {names}: {plain_name(quality.key)} against {plain_name(cost.key)}{where}{too}, with 95 % intervals;"
        f" hypervolumes against {reference_words(comparison.reference)}.{warned}"
    )


def _at(comparison: Comparison, records: Any) -> np.ndarray:
    return values_of(records, (comparison.cost, comparison.quality))


def _feasible(contender: Contender) -> list[Any]:
    return [r for r in contender.study.measured if r.feasible(contender.study.recipe.parsed_constraints)]


def _scales(axes: Axes, comparison: Comparison) -> None:
    points = np.concatenate([_at(comparison, _feasible(contender)) for contender in comparison.contenders])
    members = np.concatenate([_at(comparison, contender.front) for contender in comparison.contenders])
    set_cost_scale(axes, comparison.cost, list(points[:, 0]))
    set_quality_scale(axes, comparison.quality, points[:, 1], members[:, 1])
    axes.set_xlabel(short_title(comparison.cost), labelpad=2)
    axes.set_ylabel(short_title(comparison.quality), labelpad=2)
    tidy(axes)


def _contender(axes: Axes, comparison: Comparison, index: int, contender: Contender, scale: float) -> None:
    colour, shape = COLOURS[index], SHAPES[index]
    places = _at(comparison, _feasible(contender))
    alpha = 0.35 if len(places) < CROWD else 0.15
    small: dict[str, Any] = {"color": colour, "marker": shape, "linewidths": 0}
    axes.scatter(places[:, 0], places[:, 1], s=6 * scale**2, alpha=alpha, zorder=2, **small)
    members = _at(comparison, contender.front)
    draw_steps(axes, members, colour, 1.1 * scale, STYLES[index % len(STYLES)])
    pairs = [(r.quantity(comparison.cost.key), r.quantity(comparison.quality.key)) for r in contender.front]
    draw_intervals(axes, [(cost, quality) for cost, quality in pairs if cost and quality], colour)
    axes.scatter(
        members[:, 0],
        members[:, 1],
        s=15 * scale**2,
        color=colour,
        marker=shape,
        edgecolors=INK,
        linewidths=0.5,
        zorder=4,
    )


def _entries(comparison: Comparison, scale: float) -> list[Any]:
    from matplotlib.lines import Line2D

    found = []
    for index, contender in enumerate(comparison.contenders):
        label = contender.label if len(contender.label) <= LONGEST_LABEL else f"…{contender.label[-LONGEST_LABEL:]}"
        words = f"{letter(index)} {label}: {plural(len(contender.front), 'trial')}, hypervolume {contender.volume:.3f}"
        look: dict[str, Any] = {"color": COLOURS[index], "marker": SHAPES[index], "markersize": 3.6 * scale}
        look |= {"linestyle": STYLES[index % len(STYLES)], "linewidth": 1.1 * scale, "markeredgecolor": INK}
        found.append(Line2D([], [], label=words, markeredgewidth=0.5, **look))
    return found
