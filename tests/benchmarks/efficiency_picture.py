"""The picture of a comparison of searches: hypervolume over wall time, as scored and as trained again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.efficiency_analysis import Curve, band, spread_labels
from benchmarks.efficiency_report import Result, by_variant
from matplotlib.axes import Axes as Panel
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nas.report.scatter import ACCENT, FAINT, GRID, INK, LIMIT

SIZE_INCHES, DPI = (11.5, 5.4), 160
MOMENTS = 400
LEFT = 0.055
COLOURS = {"ours": ACCENT, "plain": LIMIT, "plain-fast": "#c98a1b"}
FURTHER = ("#3b5bb5", "#7b4fa3", "#5b7a2a", "#8a5a44")
NAMES = {"ours": "nas search", "plain": "plain loop,\nfloat32", "plain-fast": "plain loop,\nour training"}
LABEL_WIDTH = 0.1  # of a tick's label, as a share of the axis
TICKS = (5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
LABEL_GAP = 0.085  # of a panel's height


def draw(
    path: Path,
    found: Sequence[Result],
    best: float,
    share: float,
    heading: str,
    axes_words: str,
) -> None:
    """Draws two panels on one scale: what searches said of themselves, and what their fronts are worth trained again.

    Args:
        path: The PNG file.
        found: What came of each run.
        best: The best front's hypervolume.
        share: The share that counts as there.
        heading: What was searched.
        axes_words: What the hypervolume is of.
    """
    groups = by_variant(found)
    scored = {variant: [result.scored for result in results] for variant, results in groups.items()}
    trained = {variant: [result.trained for result in results] for variant, results in groups.items()}
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(LEFT, 0.945, f"Hypervolume over wall time: {heading}", fontsize=13, weight="bold", color=INK)
    figure.text(LEFT, 0.9, f"{axes_words}  ·  line: median of the seeds, band: all of them", fontsize=9, color=FAINT)
    begins, ends, top = _extent([scored, trained], best)
    for place, (curves, title) in enumerate(
        [(scored, "As scored in the search"), (trained, "Trained again from another seed, that time included")]
    ):
        panel = figure.add_axes((LEFT + 0.49 * place, 0.11, 0.35, 0.71))
        _prepare(panel, title, begins, ends, top)
        if place == 0:
            panel.set_ylabel("hypervolume", fontsize=9, color=INK)
        _draw_curves(panel, curves, np.geomspace(begins, ends, MOMENTS), top)
    panel.axhline(share * best, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    panel.text(
        begins * 1.05, share * best + 0.008 * top, f"{share:.0%} of the best front of all runs", fontsize=8, color=INK
    )
    for variant, results in groups.items():
        seconds = [result.reached.seconds for result in results if not result.reached.censored]
        panel.plot(
            seconds, [share * best] * len(seconds), "o", markersize=5, color=_colour(variant, list(groups)),
            markeredgecolor="white", markeredgewidth=0.8, clip_on=False, zorder=5,
        )  # fmt: skip
    figure.savefig(path, metadata={"Title": f"Hypervolume over wall time: {heading}"})


def _extent(groups: Sequence[Mapping[str, Sequence[Curve]]], best: float) -> tuple[float, float, float]:
    """First and last moment of any curve, and the top of the scale."""
    curves = [curve for group in groups for some in group.values() for curve in some if len(curve.seconds)]
    seconds = np.concatenate([curve.seconds for curve in curves]) if curves else np.array([1.0, 10.0])
    volumes = [best, *(float(curve.volumes.max()) for curve in curves)]
    return float(max(1.0, seconds.min() * 0.9)), float(seconds.max() * 1.15), 1.08 * max(volumes)


def _prepare(panel: Panel, title: str, begins: float, ends: float, top: float) -> None:
    panel.set_title(title, fontsize=10, loc="left", color=INK)
    panel.set_xscale("log")
    panel.set_xlim(begins, ends)
    panel.set_ylim(0, top)
    panel.xaxis.set_major_locator(FixedLocator(_ticks(begins, ends)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(_duration))
    panel.set_xlabel("wall time on one core", fontsize=9, color=INK)
    panel.grid(color=GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=8.5, color=FAINT, labelcolor=INK, length=3)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        panel.spines[side].set_color(FAINT)


def _ticks(begins: float, ends: float) -> list[float]:
    """Round times, none so near the one before that their labels would touch."""
    chosen: list[float] = []
    for tick in (tick for tick in TICKS if begins <= tick <= ends):
        if not chosen or np.log(tick / chosen[-1]) >= LABEL_WIDTH * np.log(ends / begins):
            chosen.append(tick)
    return chosen


def _draw_curves(panel: Panel, curves: Mapping[str, Sequence[Curve]], moments: np.ndarray, top: float) -> None:
    variants = list(curves)
    heights = []
    for variant in variants:
        colour = _colour(variant, variants)
        own = band(curves[variant], moments)
        panel.fill_between(own.seconds, own.low, own.high, step="post", color=colour, alpha=0.16, linewidth=0)
        found = np.where(own.median > 0, own.median, np.nan)  # nothing is drawn before there is something
        panel.step(own.seconds, found, where="post", color=colour, linewidth=2)
        heights.append(float(own.median[-1]) / top)
    for variant, height in zip(variants, spread_labels(heights, LABEL_GAP), strict=True):
        place: dict[str, Any] = {"transform": panel.transAxes, "fontsize": 8.5, "va": "center", "linespacing": 1.05}
        panel.text(1.015, height, NAMES.get(variant, variant), color=_colour(variant, variants), **place)


def _colour(variant: str, variants: Sequence[str]) -> str:
    others = [name for name in variants if name not in COLOURS]
    return COLOURS[variant] if variant in COLOURS else FURTHER[others.index(variant) % len(FURTHER)]


def _duration(seconds: float, _: object) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 3600 else f"{seconds / 3600:g} h"
