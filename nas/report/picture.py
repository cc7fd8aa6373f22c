"""The front as a picture, fit for a README: ``pareto.png``. What is drawn, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.front import hypervolume, knee, non_dominated
from nas.gains import baseline_of
from nas.measurements import ambiguous_with, in_turns
from nas.objectives import Objective
from nas.outcome import Quantity
from nas.record import TrialRecord
from nas.report.canvas import (
    BOTTOM,
    LEFT,
    TOP,
    canvas,
    draw_labels,
    draw_legend,
    pixels_of_a_point,
    write_heading,
    write_instead,
)
from nas.report.categories import short_name
from nas.report.labels import along
from nas.report.latency_table import AMBIGUOUS
from nas.report.named_points import NamedPoint, draw_others, entries_of, placed
from nas.report.scales import colour_scale, set_cost_scale, set_quality_scale
from nas.report.scatter import ACCENT, FAINT, GRID, INK, LIMIT, draw_baseline, draw_points
from nas.study import Study
from nas.wording import constraint_words, plain_name, plural, target_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAR_WIDTH = 0.016  # of a colour scale beside the picture


@dataclass(frozen=True)
class View:
    """What the picture shows of a study.

    Args:
        study: The study.
        quality: What runs up.
        cost: What runs to the right.
        third: What colours the points where there are more than two objectives.
        shown: Measured trials that meet the constraints.
        barred: Measured trials that do not.
        baseline: The study's baseline, one of those; None where it has none.
        others: Models beside the study's trials.
    """

    study: Study
    quality: Objective
    cost: Objective
    third: Objective | None
    shown: list[TrialRecord]
    barred: list[TrialRecord]
    baseline: TrialRecord | None
    others: tuple[NamedPoint, ...] = ()

    @classmethod
    def of(cls, study: Study, others: Sequence[NamedPoint] = ()) -> View:
        objectives = study.recipe.parsed_objectives
        quality = next(o for o in objectives if o.maximise)
        cost = next(o for o in objectives if not o.maximise)
        third = next((o for o in objectives if o not in (quality, cost)), None)
        constraints = study.recipe.parsed_constraints
        shown = [record for record in study.measured if record.feasible(constraints)]
        barred = [record for record in study.measured if not record.feasible(constraints)]
        return cls(study, quality, cost, third, shown, barred, baseline_of(study), tuple(others))

    @property
    def named(self) -> list[TrialRecord]:
        """What has to be in the picture whatever its range: the front, and the baseline wherever that lies."""
        aside = [self.baseline] if self.baseline is not None and self.baseline not in self.study.front else []
        return [*self.study.front, *aside]

    def at(self, records: Sequence[TrialRecord]) -> np.ndarray:
        """N×2 values of cost and quality."""
        return np.array([(r.value(self.cost.key), r.value(self.quality.key)) for r in records]).reshape(-1, 2)

    def quantities(self, record: TrialRecord) -> tuple[Quantity, Quantity]:
        """Cost and quality of a measured trial."""
        cost, quality = record.quantity(self.cost.key), record.quantity(self.quality.key)
        if cost is None or quality is None:
            raise KeyError(f"trial {record.number} lacks an objective of its study")
        return cost, quality


def draw_front(study: Study, path: Path, others: Sequence[NamedPoint] = ()) -> None:
    """Draws quality against cost: every measured trial, the front as a step line, constraints as dashed lines.

    The baseline is a star, on the front or not; models beside the study's trials are named crosses.

    With more than two objectives the first quality is drawn against the first cost, coloured by the next objective;
    the line then joins those members of the front that no other dominates in these two. Costs, and distances of
    qualities from 1, get a logarithmic axis where they span much. Labels name as many members of the front as fit.

    Args:
        study: What to draw.
        path: Where to write; the suffix says the format (``.png``, ``.svg``, ``.pdf``).
        others: Models to place beside the trials, measured on the same machine.

    Raises:
        StudyError: The file cannot be written.
    """
    with canvas(path, f"Front of {study.name}") as (figure, axes):
        view = View.of(study, others)
        _titles(figure, view)
        if study.measured:
            _draw(figure, axes, view)
        else:
            write_instead(axes, "No trial was measured yet." if study.records else "This study has no trials yet.")


def _titles(figure: Figure, view: View) -> None:
    study, recipe = view.study, view.study.recipe
    heading = f"{study.name}: {plain_name(view.quality.key)} against {plain_name(view.cost.key)}"
    parts = [f"{len(study.front)} of {plural(len(study.records), 'trial')} on the front"]
    others = [plain_name(o.key) for o in recipe.parsed_objectives if o not in (view.quality, view.cost)]
    if others:
        parts[0] += f", for {' and '.join(others)} too"
    if study.reference is not None:
        volume = hypervolume(study.records, study.reference, recipe.parsed_objectives, recipe.parsed_constraints)
        parts.append(f"hypervolume {volume:.3f}")
    if view.cost.target and not others:  # else there is no room, and the axis names it too
        parts.append(target_words(view.cost.target))
    write_heading(figure, heading, parts)


def _draw(figure: Figure, axes: Axes, view: View) -> None:
    points = view.at([*view.shown, *view.barred])
    focus = view.at(view.named) if view.study.front else points
    limits = {c.quantity.key: c.limit for c in view.study.recipe.parsed_constraints}
    beside = [point.cost.value for point in view.others]
    set_cost_scale(axes, view.cost, [*points[:, 0], *beside, *(v for k, v in limits.items() if k == view.cost.key)])
    qualities = [quality for _, _, quality in placed(view.others)]
    floor = set_quality_scale(axes, view.quality, points[:, 1], np.append(focus[:, 1], qualities))
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(color=FAINT, labelcolor=INK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    _limits(figure, axes, view)
    mapped = None
    if view.third is not None and view.shown:
        axes.set_position((LEFT, BOTTOM, 0.79, TOP - BOTTOM))
        bar = figure.add_axes((LEFT + 0.81, BOTTOM, BAR_WIDTH, TOP - BOTTOM))
        values = [record.value(view.third.key) for record in view.shown]
        mapped = colour_scale(figure, bar, view.third, values)
    keys = (view.cost.key, view.quality.key)
    third = view.third.key if view.third else ""
    entries = draw_points(axes, view.shown, view.barred, view.study.front, keys, mapped, third)
    if view.baseline is not None:
        entries.append(draw_baseline(axes, view.baseline, keys))
    entries += entries_of(view.others)
    corners = _front_line(axes, view)
    _error_bars(axes, view)
    draw_others(axes, view.others)
    notes = []
    if above := _above_the_line(view):
        notes.append(f"▴ {plural(above, 'trial')} above the line as timed alone; the front was timed in turns")
    if below := int((points[:, 1] < floor).sum()):
        notes.append(f"▾ {plural(below, 'trial')} below")
    if notes:
        _note(axes, "\n".join(notes))
    _legend(axes, view, entries, corners)
    _label_members(axes, view, corners)


def _above_the_line(view: View) -> int:
    """How many trials seem better than the front: timed alone, perhaps in a faster spell than the front later on."""
    if view.third is not None or not any(in_turns(view.quantities(record)[0]) for record in view.study.front):
        return 0
    members, shown = view.at(view.study.front), view.at(view.shown)
    beaten = (members[:, None, 0] <= shown[:, 0]) & (members[:, None, 1] >= shown[:, 1])
    return int((~beaten.any(axis=0)).sum())


def _note(axes: Axes, text: str) -> None:
    where: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(text, (1, 0), (-6, 6), ha="right", fontsize=7.5, color=FAINT, **where)


def _limits(figure: Figure, axes: Axes, view: View) -> None:
    """Constraints on the two drawn quantities as dashed lines; others in words below the picture."""
    line: dict[str, Any] = {"color": LIMIT, "linewidth": 1, "linestyle": (0, (5, 4)), "zorder": 1.5}
    text: dict[str, Any] = {"fontsize": 7.5, "color": LIMIT}
    elsewhere = []
    for constraint in view.study.recipe.parsed_constraints:
        key, limit, words = constraint.quantity.key, constraint.limit, constraint_words(constraint)
        if key == view.cost.key:
            axes.axvline(limit, **line)
            transform = axes.get_xaxis_transform()
            axes.text(limit, 0.02, f"{words} ", rotation=90, ha="right", va="bottom", transform=transform, **text)
        elif key == view.quality.key:
            axes.axhline(limit, **line)
            axes.text(0.005, limit, words, ha="left", va="bottom", transform=axes.get_yaxis_transform(), **text)
        else:
            elsewhere.append(words)
    if elsewhere:
        figure.text(LEFT, 0.012, f"also required: {'; '.join(elsewhere)}", **text)


def _front_line(axes: Axes, view: View) -> np.ndarray:
    """The front as a step line, and the region behind it tinted; returns the line's corners, N×2."""
    if not view.study.front:
        return np.empty((0, 2))
    members = view.at(view.study.front)
    members = members[non_dominated(members, (False, True))]
    members = members[np.argsort(members[:, 0])]
    (_, right), (bottom, _) = axes.get_xlim(), axes.get_ylim()
    x = np.append(np.repeat(members[:, 0], 2), right)
    y = np.concatenate([[bottom], np.repeat(members[:, 1], 2)])
    axes.plot(x, y, color=INK, linewidth=1.3, zorder=3, solid_joinstyle="miter")
    axes.fill_between(x, y, bottom, color=ACCENT, alpha=0.045, zorder=0.5, linewidth=0)
    return np.column_stack([x, y])


def _error_bars(axes: Axes, view: View) -> None:
    """The 95 % intervals of the front's members, and of models beside them, as thin bars."""
    drawn = [view.quantities(record) for record in view.study.front]
    drawn += [(point.cost, point.quality) for point in view.others if point.quality is not None]
    for x, y in drawn:
        style: dict[str, Any] = {"fmt": "none", "ecolor": INK, "elinewidth": 0.7, "alpha": 0.28, "zorder": 2.8}
        axes.errorbar(x.value, y.value, yerr=_arms(y), xerr=_arms(x), **style)


def _arms(quantity: Quantity) -> np.ndarray | None:
    """The lengths of an error bar's two arms, 2×1; None where the quantity has no interval."""
    if quantity.low is None or quantity.high is None:
        return None
    return np.maximum([[quantity.value - quantity.low], [quantity.high - quantity.value]], 0.0)


def _legend(axes: Axes, view: View, entries: list[Any], corners: np.ndarray) -> None:
    """The legend, where it hides none of the points, of the front's line and of the words: the first such place."""
    from matplotlib.lines import Line2D

    if view.study.front:
        member: dict[str, Any] = {"marker": "o", "markersize": 6, "markeredgecolor": INK, "markerfacecolor": "white"}
        overlap = f" ({AMBIGUOUS} overlap)" if any(_is_ambiguous(view, record) for record in view.named) else ""
        line = Line2D([], [], color=INK, linewidth=1.3, label=f"front, with 95 % intervals{overlap}", **member)
        entries = [line, *entries]
    draw_legend(axes, entries, _drawn(axes, view, corners))


def _label_members(axes: Axes, view: View, corners: np.ndarray) -> None:
    """Names as many members of the front as find room: the knee, the ends, then those far from others.

    The baseline is named before any of them. A member that cannot be told apart from another has a ≈ after its name.
    """
    order = _by_importance(view, axes.transData.transform(view.at(view.study.front)))
    if view.baseline is not None:
        order = [view.baseline, *(record for record in order if record is not view.baseline)]
    names = [
        f"{short_name(r, view.shown)}{' (baseline)' if r is view.baseline else ''}"
        f"{f' {AMBIGUOUS}' if _is_ambiguous(view, r) else ''}"
        for r in order
    ]
    names = [*(point.label for point, _, _ in placed(view.others)), *names]
    places = [*((cost, quality) for _, cost, quality in placed(view.others)), *view.at(order)]
    draw_labels(axes, names, np.array(places).reshape(-1, 2), _drawn(axes, view, corners))


def _is_ambiguous(view: View, record: TrialRecord) -> bool:
    """Whether the interval of a member's cost overlaps with another member's, as they were timed in turns."""
    numbers = {member.number for member in view.named}
    return not numbers.isdisjoint(ambiguous_with(view.quantities(record)[0]))


def _drawn(axes: Axes, view: View, corners: np.ndarray) -> np.ndarray:
    """N×2 pixels that nothing may cover: measured trials, and points along the front's line. Error bars may be."""
    to_pixels = axes.transData.transform
    beside = np.array([(cost, quality) for _, cost, quality in placed(view.others)]).reshape(-1, 2)
    points = to_pixels(np.concatenate([view.at([*view.shown, *view.barred]), beside]))
    return np.concatenate([points, along(to_pixels(corners), 3 * pixels_of_a_point(axes))])


def _by_importance(view: View, pixels: np.ndarray) -> list[TrialRecord]:
    """The front's members: the knee, the ends, then always the one that is farthest from those already named."""
    front = view.study.front
    if not front:
        return []
    best = knee(front, view.study.recipe.parsed_objectives)
    order = list(dict.fromkeys([front.index(best), 0, len(front) - 1]))
    while len(order) < len(front):
        distance = np.min([np.linalg.norm(pixels - pixels[index], axis=1) for index in order], axis=0)
        distance[order] = -1
        order.append(int(distance.argmax()))
    return [front[index] for index in order]
