"""The points of a picture: colour for precision, shape for the kind of convolution, the front's outlined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.record import TrialRecord
from nas.report.categories import convolution, precision

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT, GRID, LIMIT, ACCENT = "#1f2933", "#6b7785", "#e6e9ed", "#b4443c", "#0f766e"

# Every kind has the same look in every picture; those that are not listed take what is left, in order.
COLOURS = {
    "float32": "#c47f17",
    "fp16": "#7c4a1e",
    "fp16 weights": "#b39b80",
    "int8": ACCENT,
    "int8 weights": "#5b5fc7",
    "int4 weights": "#a23b72",
    "W4A8": "#1786c9",
    "codebook": "#5f9a12",
    "mixed bits": "#4a5560",
}
MORE_COLOURS = ("#c65bcf", "#22a3b8")
MARKERS = {"standard": "s", "separable": "D", "mixed": "o"}
MORE_MARKERS = ("^", "v", "P", "X", "p")
BELOW = 7  # matplotlib's caret that points down from the edge
CROWD = 150  # points that are many are drawn fainter

Mapped = Callable[[np.ndarray], np.ndarray]


def draw_points(
    axes: Axes,
    shown: Sequence[TrialRecord],
    barred: Sequence[TrialRecord],
    front: Sequence[TrialRecord],
    keys: tuple[str, str],
    mapped: Mapped | None,
    third: str = "",
) -> list[Any]:
    """Draws every measured trial; points below the range stand as carets at its lower edge.

    Args:
        axes: Where; scales and ranges are set already.
        shown: Trials that meet the constraints.
        barred: Trials that do not: crosses.
        front: Those of ``shown`` that are on the front: large and outlined.
        keys: The quantities to the right and upward.
        mapped: Colours for values of the quantity ``third``; None to colour by precision.
        third: Key of that quantity.

    Returns:
        The legend's entries.
    """
    colours = styles([precision(r.design) for r in shown], COLOURS, MORE_COLOURS)
    markers = styles([convolution(r.design) for r in shown], MARKERS, MORE_MARKERS)
    members = {record.number for record in front}
    groups: dict[tuple[str, str, bool], list[TrialRecord]] = {}
    for record in shown:
        look = (precision(record.design), convolution(record.design), record.number in members)
        groups.setdefault(look, []).append(record)
    faint = 0.55 if len(shown) < CROWD else 0.3
    for (bits, kind, member), group in groups.items():
        colour = mapped(np.array([r.value(third) for r in group])) if mapped else colours[bits]
        if member:
            style = {"s": 46, "edgecolors": INK, "linewidths": 0.9, "zorder": 4}
        else:
            style = {"s": 22, "edgecolors": "none", "alpha": faint, "zorder": 2}
        _scatter(axes, group, keys, colour, markers[kind], style)
    crosses = {"s": 20, "linewidths": 0.8, "alpha": 0.6 if len(barred) < CROWD else 0.3, "zorder": 1.8}
    _scatter(axes, barred, keys, LIMIT, "x", crosses)
    return _entries({} if mapped else colours, markers, bool(barred))


def draw_baseline(axes: Axes, baseline: TrialRecord, keys: tuple[str, str]) -> Any:
    """Draws the baseline as a star over its point.

    Args:
        axes: Where; scales and ranges are set already.
        baseline: The trial.
        keys: The quantities to the right and upward.

    Returns:
        The legend's entry.
    """
    from matplotlib.lines import Line2D

    look: dict[str, Any] = {"marker": "*", "markeredgecolor": "white", "color": INK, "linestyle": ""}
    axes.plot(*([baseline.value(key)] for key in keys), markersize=15, markeredgewidth=1.0, zorder=5, **look)
    return Line2D([], [], markersize=9, markeredgewidth=0, label="baseline", **look)


def _scatter(
    axes: Axes, records: Sequence[TrialRecord], keys: tuple[str, str], colour: Any, marker: str, style: Any
) -> None:
    """One group of like points, split into those in range and those below it."""
    if not records:
        return
    floor, _ = axes.get_ylim()
    x, y = (np.array([record.value(key) for record in records]) for key in keys)
    inside = y >= floor
    looks: list[tuple[np.ndarray, np.ndarray, Any]] = [(inside, y, marker), (~inside, np.full_like(y, floor), BELOW)]
    for part, up, shape in looks:
        if not part.any():
            continue
        chosen = colour[part] if isinstance(colour, np.ndarray) else colour
        filled = shape not in ("x", BELOW)
        options = {k: v for k, v in style.items() if k != "edgecolors" or filled}
        axes.scatter(x[part], up[part], color=chosen, marker=shape, clip_on=shape is not BELOW, **options)


def styles(names: Sequence[str], fixed: dict[str, str], more: Sequence[str]) -> dict[str, str]:
    """A style for each name that occurs: the fixed ones first, then the others by name."""
    others = sorted(set(names) - fixed.keys())
    return {name: style for name, style in fixed.items() if name in names} | {
        name: more[index % len(more)] for index, name in enumerate(others)
    }


def _entries(colours: dict[str, str], markers: dict[str, str], crosses: bool) -> list[Any]:
    """Legend entries for what differs: colours, shapes, crosses."""
    from matplotlib.lines import Line2D

    dot: dict[str, Any] = {"linestyle": "", "markersize": 5.5, "markeredgewidth": 0}
    entries = []
    if len(colours) > 1:
        entries += [Line2D([], [], marker="o", color=colour, label=name, **dot) for name, colour in colours.items()]
    if len(markers) > 1:
        for name, marker in markers.items():
            label = f"{name} convolutions" if name in MARKERS else name
            entries.append(Line2D([], [], marker=marker, color=FAINT, label=label, **dot))
    if crosses:
        cross: dict[str, Any] = {"linestyle": "", "markersize": 5}
        entries.append(Line2D([], [], marker="x", color=LIMIT, label="breaks a constraint", **cross))
    return entries
