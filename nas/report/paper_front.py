"""The front as a picture for a paper: ``pareto.svg`` and ``pareto.pdf``, as wide as a column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.front import hypervolume, non_dominated
from nas.objectives import Objective
from nas.outcome import Outcome, Quantity
from nas.proxies import UNTRAINED, prediction
from nas.record import TrialRecord
from nas.report.categories import precision
from nas.report.paper import (
    COLOURS,
    COLUMN_INCHES,
    FAINTER,
    LIMIT,
    SHAPES,
    legend_above,
    legend_inches,
    letters,
    paper,
    tidy,
)
from nas.report.picture import View
from nas.report.scales import set_cost_scale, set_quality_scale
from nas.report.scatter import FAINT, INK
from nas.study import Study
from nas.wording import listing, plain_name, plural, target_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAPER_SUFFIXES = (".svg", ".pdf")
# Every precision has the same colour and shape in every picture; those that are not listed take what is left.
PRECISIONS = ("int8", "float32", "W4A8", "codebook", "int8 weights", "int4 weights", "fp16")
# Trials that were given up before they were measured: drawn open, where they were foreseen.
GIVEN_UP = {Outcome.SCREENED: ("o", "screened (foreseen)"), Outcome.STOPPED: ("v", "stopped (foreseen)")}
COLUMNS, ASPECT = 3, 0.68
CROWD = 150  # points that are many are drawn fainter


def write_paper_pictures(study: Study) -> list[Path]:
    """Writes ``pareto.svg`` and ``pareto.pdf`` beside ``pareto.png``, and returns where they lie.

    Raises:
        StudyError: The folder cannot be written.
    """
    paths = [study.folder.picture.with_suffix(suffix) for suffix in PAPER_SUFFIXES]
    for path in paths:
        draw_paper_front(study, path)
    return paths


def draw_paper_front(study: Study, path: Path, width: float = COLUMN_INCHES) -> None:
    """Draws quality against cost so that it can be read at the width of a column.

    The front is a step line through large outlined points, with 95 % intervals on both axes. Behind it stand all other
    measured trials, small; crosses are those that break a constraint. Open grey symbols are trials that were screened
    out or stopped early, where they were foreseen: nothing of them was measured. A star is the baseline. Colour and
    shape say the precision. With more than two objectives the first quality is drawn against the first cost.

    Args:
        study: What to draw.
        path: Where to write; the suffix says the format (``.svg``, ``.pdf``, ``.png``).
        width: Of the picture, in inches.

    Raises:
        StudyError: The file cannot be written, or cannot be of that kind or width.
    """
    view = View.of(study)
    looks = _looks(view.shown)
    entries = _entries(view, looks)
    height = width * ASPECT + legend_inches(len(entries), COLUMNS, width)
    with paper(path, f"Front of {study.name}", caption(study), width, height) as figure:
        axes = figure.add_subplot()
        if not study.measured:
            axes.set_axis_off()
            axes.text(0.5, 0.5, "No trial was measured yet.", ha="center", va="center", transform=axes.transAxes)
            return
        _draw(axes, view, looks, width)
        legend_above(figure, entries, COLUMNS)


def caption(study: Study) -> str:
    """What the picture shows, in words to put below it."""
    view, recipe = View.of(study), study.recipe
    where = f" ({target_words(view.cost.target)})" if view.cost.target else ""
    what = f"{capital(plain_name(view.quality.key))} against {plain_name(view.cost.key)}{where}"
    parts = [f"{what} of {plural(len(study.measured), 'measured trial')} of {study.name}"]
    others = [plain_name(o.key) for o in recipe.parsed_objectives if o not in (view.quality, view.cost)]
    besides = f", which is a front for {listing(others)} too" if others else ""
    if study.reference is not None and study.front:
        volume = hypervolume(study.records, study.reference, recipe.parsed_objectives, recipe.parsed_constraints)
        members = plural(len(study.front), "trial")
        parts.append(f"line and outlined: the front of {members}{besides}, with 95 % intervals")
        parts.append(f"hypervolume {volume:.3f}")
    if view.barred:
        parts.append(f"crosses: {plural(len(view.barred), 'trial')} that break a constraint")
    foreseen = {outcome: len(_foreseen(view, outcome)) for outcome in GIVEN_UP}
    if any(foreseen.values()):
        words = {Outcome.SCREENED: "screened out", Outcome.STOPPED: "stopped early"}
        counts = [f"{count:,} {words[outcome]}" for outcome, count in foreseen.items() if count]
        parts.append(f"open: {' and '.join(counts)}, where they were foreseen and not measured")
    placeless = [r for r in study.records if r.outcome not in (Outcome.MEASURED, Outcome.DUPLICATE)]
    left = len(placeless) - sum(foreseen.values())
    if left:
        parts.append(f"not shown: {plural(left, 'trial')} of which nothing is known (infeasible or failed)")
    return "; ".join(parts) + "."


def _draw(axes: Axes, view: View, looks: dict[str, tuple[str, str]], width: float) -> None:
    points = view.at([*view.shown, *view.barred])
    focus = view.at(view.named) if view.study.front else points
    limits = {c.quantity.key: c.limit for c in view.study.recipe.parsed_constraints}
    set_cost_scale(axes, view.cost, [*points[:, 0], *(v for k, v in limits.items() if k == view.cost.key)])
    floor = set_quality_scale(axes, view.quality, points[:, 1], focus[:, 1])
    axes.set_xlabel(short_title(view.cost), labelpad=2)
    axes.set_ylabel(short_title(view.quality), labelpad=2)
    tidy(axes)
    if view.cost.key in limits:
        axes.axvline(limits[view.cost.key], color=LIMIT, linewidth=0.7, linestyle=(0, (5, 3)), zorder=1.5)
    if view.quality.key in limits:
        axes.axhline(limits[view.quality.key], color=LIMIT, linewidth=0.7, linestyle=(0, (5, 3)), zorder=1.5)
    large = (letters(width) / 7) ** 2  # areas of points grow with the letters
    _draw_points(axes, view, looks, large)
    draw_steps(axes, view.at(view.study.front), INK, 0.9 * large**0.5)
    draw_intervals(axes, [view.quantities(record) for record in view.study.front], INK)
    below = int((points[:, 1] < floor).sum())
    if below:
        size = FAINTER * letters(width)
        axes.annotate(
            f"▾ {plural(below, 'trial')} below", (0.99, 0.015), xycoords="axes fraction", ha="right", fontsize=size
        )


def _draw_points(axes: Axes, view: View, looks: dict[str, tuple[str, str]], large: float) -> None:
    """Every trial that has a place: foreseen, breaking a constraint, meeting all, on the front; and the baseline."""
    crowded = len(view.shown) >= CROWD
    members = {record.number for record in view.study.front}
    for outcome, (shape, _) in GIVEN_UP.items():
        open_look: dict[str, Any] = {"facecolors": "none", "edgecolors": FAINT, "linewidths": 0.4, "zorder": 1.2}
        places = _foreseen(view, outcome)
        axes.scatter(places[:, 0], places[:, 1], s=5 * large, marker=shape, alpha=0.35 if crowded else 0.7, **open_look)
    crosses: dict[str, Any] = {"marker": "x", "color": LIMIT, "linewidths": 0.6, "zorder": 1.8}
    barred = view.at(view.barred)
    axes.scatter(barred[:, 0], barred[:, 1], s=8 * large, alpha=0.5 if crowded else 0.8, **crosses)
    for name, (colour, shape) in looks.items():
        group = [record for record in view.shown if precision(record.design) == name]
        small = view.at([record for record in group if record.number not in members])
        look: dict[str, Any] = {"color": colour, "marker": shape}
        faint = 0.35 if crowded else 0.6
        axes.scatter(small[:, 0], small[:, 1], s=6 * large, linewidths=0, alpha=faint, zorder=2, **look)
        big = view.at([record for record in group if record.number in members])
        axes.scatter(big[:, 0], big[:, 1], s=17 * large, edgecolors=INK, linewidths=0.6, zorder=4, **look)
    if view.baseline is not None:
        star = view.at([view.baseline])
        white: dict[str, Any] = {"color": INK, "marker": "*", "edgecolors": "white", "linewidths": 0.6, "zorder": 5}
        axes.scatter(star[:, 0], star[:, 1], s=60 * large, **white)


def draw_steps(axes: Axes, members: np.ndarray, colour: str, linewidth: float, style: Any = "-") -> None:
    """The front's members as a step line to the right and upward; none for an empty front.

    Args:
        axes: Where; the ranges are set already.
        members: N×2 values of cost and quality; of those that others dominate in these two nothing is drawn.
        colour: Of the line.
        linewidth: In points.
        style: As matplotlib takes it.
    """
    if not len(members):
        return
    kept = members[non_dominated(members, (False, True))]
    kept = kept[np.argsort(kept[:, 0])]
    right, bottom = axes.get_xlim()[1], axes.get_ylim()[0]
    x, y = np.append(np.repeat(kept[:, 0], 2), right), np.concatenate([[bottom], np.repeat(kept[:, 1], 2)])
    axes.plot(x, y, color=colour, linewidth=linewidth, linestyle=style, solid_joinstyle="miter", zorder=3)


def draw_intervals(axes: Axes, places: Sequence[tuple[Quantity, Quantity]], colour: str) -> None:
    """The 95 % intervals of costs and qualities as thin bars with short ends."""
    for cost, quality in places:
        look: dict[str, Any] = {"fmt": "none", "ecolor": colour, "elinewidth": 0.5, "capsize": 1.1, "capthick": 0.5}
        axes.errorbar(cost.value, quality.value, yerr=_arms(quality), xerr=_arms(cost), alpha=0.7, zorder=2.8, **look)


def _arms(quantity: Quantity) -> np.ndarray | None:
    """The lengths of an error bar's two arms, 2×1; None where the quantity has no interval."""
    if quantity.low is None or quantity.high is None:
        return None
    return np.maximum([[quantity.value - quantity.low], [quantity.high - quantity.value]], 0.0)


def short_title(objective: Objective) -> str:
    """An axis in few words: ``latency (ms)``, ``validation accuracy (%)``."""
    title = objective.kind.title.partition(" (bytes")[0]
    return f"{title} (%)" if objective.maximise else title


def capital(text: str) -> str:
    """A text with a capital first letter."""
    return text[:1].upper() + text[1:]


def _foreseen(view: View, outcome: Outcome) -> np.ndarray:
    """N×2 places where trials that ended so were foreseen, as far as both numbers were."""
    trials = [record for record in view.study.records if record.outcome is outcome]
    places = [(_known(record, view.cost), _known(record, view.quality)) for record in trials]
    return np.array([place for place in places if None not in place], dtype=float).reshape(-1, 2)


def _known(record: TrialRecord, objective: Objective) -> float | None:
    """What was known of an objective before the end: counted, of the untrained network, or foretold."""
    for quantity in (record.quantity(objective.key), record.quantity(f"{UNTRAINED}{objective.key}")):
        if quantity is not None:
            return quantity.value
    foretold = prediction(record, objective)
    return None if foretold is None else foretold.value


def _looks(shown: Sequence[TrialRecord]) -> dict[str, tuple[str, str]]:
    """Colour and shape of each precision that occurs."""
    found = {precision(record.design) for record in shown}
    order = [*PRECISIONS, *sorted(found - set(PRECISIONS))]
    return {
        name: (COLOURS[index % len(COLOURS)], SHAPES[index % len(SHAPES)])
        for index, name in enumerate(order)
        if name in found
    }


def _entries(view: View, looks: dict[str, tuple[str, str]]) -> list[Any]:
    """The legend's entries, of what is there alone."""
    from matplotlib.lines import Line2D

    def symbol(shape: str, label: str, **look: Any) -> Line2D:
        return Line2D([], [], marker=shape, linestyle="", label=label, **{"markersize": 3.5, **look})

    entries = []
    if view.study.front:
        outlined: dict[str, Any] = {"markeredgecolor": INK, "markeredgewidth": 0.6, "markerfacecolor": "white"}
        line = {"color": INK, "linewidth": 0.9, "marker": "o", "markersize": 3.5, **outlined}
        entries.append(Line2D([], [], label="front, 95 % intervals", **line))
    entries += [symbol(shape, name, color=colour, markeredgewidth=0) for name, (colour, shape) in looks.items()]
    if view.baseline is not None:
        entries.append(symbol("*", "baseline", color=INK, markersize=6, markeredgewidth=0))
    if view.barred:
        entries.append(symbol("x", "breaks a constraint", color=LIMIT, markeredgewidth=0.7))
    for outcome, (shape, label) in GIVEN_UP.items():
        if len(_foreseen(view, outcome)):
            hollow = {"markerfacecolor": "none", "markeredgecolor": FAINT, "markeredgewidth": 0.5}
            entries.append(symbol(shape, label, **hollow))
    return entries
