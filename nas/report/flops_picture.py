"""FLOPs against latency as a picture, ``flops.png``: how far from the clock an order by FLOPs is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.objectives import Objective
from nas.record import TrialRecord
from nas.report.agreement import FLOPS, signed
from nas.report.canvas import (
    BOTTOM,
    RIGHT,
    TOP,
    canvas,
    draw_labels,
    draw_legend,
    pixels_of_a_point,
    write_heading,
    write_instead,
)
from nas.report.disagreement import Ranking, rankings
from nas.report.labels import along
from nas.report.scales import set_cost_scale
from nas.report.scatter import FAINT, GRID, INK, LIMIT, draw_points
from nas.study import Study
from nas.wording import percent, plural, target_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE_LEFT = 0.105  # latencies have long numbers
PROPORTIONAL_STEPS = 200  # corners of the line of proportional latency, which is curved where one axis is linear


def draw_flops(study: Study, path: Path) -> None:
    """Draws latency against FLOPs, for the first target: every design, the front's outlined, the worst disagreements.

    A thin line joins two designs of which the one with fewer FLOPs is slower; it runs down to the right. The dashed
    line is where designs would lie if all did as many FLOPs per second as the median one. Axes are logarithmic where
    the values span much.

    Args:
        study: What to draw.
        path: Where to write; the suffix says the format (``.png``, ``.svg``, ``.pdf``).

    Raises:
        StudyError: The file cannot be written.
    """
    ranking = next(iter(rankings(study)), None)
    with canvas(path, f"FLOPs against latency of {study.name}") as (figure, axes):
        axes.set_position((WIDE_LEFT, BOTTOM, RIGHT - WIDE_LEFT, TOP - BOTTOM))
        write_heading(figure, f"{study.name}: FLOPs against latency", _parts(ranking), WIDE_LEFT)
        if ranking is not None and ranking.points:
            _draw(axes, study, ranking)
        else:
            write_instead(axes, ranking.why_not if ranking is not None else "This study measures no latency.")


def _parts(ranking: Ranking | None) -> list[str]:
    """What is to know beforehand: τ, pairs in the wrong order, the target; or why there is no τ."""
    if ranking is None or not ranking.points:
        return []
    if ranking.tau is None:
        return [ranking.why_not]
    parts = [f"Kendall's τ {signed(ranking.tau)} over {plural(len(ranking.points), 'design')}"]
    if ranking.pairs:
        parts.append(f"{percent(ranking.wrong / ranking.pairs, 0)} % of pairs in the wrong order")
    return [*parts, target_words(ranking.target)]


def _draw(axes: Axes, study: Study, ranking: Ranking) -> None:
    records = [point.record for point in ranking.points]
    flops, latencies = [point.flops for point in ranking.points], [point.latency.value for point in ranking.points]
    set_cost_scale(axes, Objective(FLOPS), flops)
    set_cost_scale(axes, Objective("latency_ms", ranking.target), latencies, up=True)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(color=FAINT, labelcolor=INK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    constraints = study.recipe.parsed_constraints
    shown = [record for record in records if record.feasible(constraints)]
    barred = [record for record in records if not record.feasible(constraints)]
    keys = (FLOPS, ranking.key)
    entries = draw_points(axes, shown, barred, study.front, keys, None)
    _intervals(axes, ranking)
    lines = [*_proportional(axes, flops, latencies), *_disagreements(axes, ranking)]
    member: dict[str, Any] = {"marker": "o", "markersize": 6, "markeredgecolor": INK, "markerfacecolor": "white"}
    front = _entry("on the front", linestyle="", **member) if set(_numbers(shown)) & set(_numbers(study.front)) else []
    unit = pixels_of_a_point(axes)
    points = axes.transData.transform(np.column_stack([flops, latencies]))
    joined = [along(axes.transData.transform(np.array(line.get_xydata())), 3 * unit) for line in axes.lines]
    drawn = np.concatenate([points, *joined])
    draw_legend(axes, [*front, *lines, *entries], drawn)
    _label_disagreements(axes, ranking, drawn, points)


def _intervals(axes: Axes, ranking: Ranking) -> None:
    """The 95 % intervals of the latencies as thin bars."""
    low, high = np.array([point.interval for point in ranking.points]).T
    axes.vlines([point.flops for point in ranking.points], low, high, color=INK, linewidth=0.7, alpha=0.28, zorder=1.6)


def _proportional(axes: Axes, flops: Sequence[float], latencies: Sequence[float]) -> list[Any]:
    """The line of the median FLOPs per second; returns the legend's entry."""
    rate = float(np.median(np.array(flops) / np.array(latencies)))
    x = np.geomspace(min(flops), max(flops), PROPORTIONAL_STEPS)
    bottom, top = axes.get_ylim()
    inside = (x / rate >= bottom) & (x / rate <= top)
    if not inside.any():
        return []
    look: dict[str, Any] = {"color": FAINT, "linewidth": 1, "linestyle": (0, (5, 4))}
    axes.plot(x[inside], x[inside] / rate, zorder=1.5, **look)
    return _entry("equal FLOPs per second", **look)


def _disagreements(axes: Axes, ranking: Ranking) -> list[Any]:
    """Lines between the designs of the worst disagreements; returns the legend's entry."""
    look: dict[str, Any] = {"color": LIMIT, "linewidth": 1.1, "alpha": 0.75}
    for pair in ranking.worst:
        ends = (pair.fewer, pair.more)
        axes.plot([end.flops for end in ends], [end.latency.value for end in ends], zorder=2.6, **look)
    return _entry("fewer FLOPs, yet slower (the worst)", **look) if ranking.worst else []


def _entry(label: str, **look: Any) -> list[Any]:
    from matplotlib.lines import Line2D

    return [Line2D([], [], label=label, **look)]


def _numbers(records: Sequence[TrialRecord]) -> list[int]:
    return [record.number for record in records]


def _label_disagreements(axes: Axes, ranking: Ranking, drawn: np.ndarray, points: np.ndarray) -> None:
    """Names the designs of the worst disagreements, the worst first, as far as there is room."""
    ends = {point.number: point for pair in ranking.worst for point in (pair.fewer, pair.more)}
    names = [f"trial {number}" for number in ends]  # colour and shape say what it is
    places = np.array([(point.flops, point.latency.value) for point in ends.values()]).reshape(-1, 2)
    draw_labels(axes, names, places, drawn, points)
