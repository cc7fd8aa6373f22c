"""A sensitivity as a picture: a heat map of the points lost, stages from top to bottom as data flows through them."""

from __future__ import annotations

import io
import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.describe import describe
from nas.report.canvas import DPI, FURTHER_FONTS
from nas.report.files import write_output
from nas.report.scatter import ACCENT, FAINT, GRID, INK, LIMIT
from nas.sensitivity.result import Effect, Sensitivity, Setting
from nas.sensitivity.words import NOTHING, is_noise, points, subtitle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches, from the edges of the picture to the rows and columns.
WIDTH = 8.4
TOP, BOTTOM, RIGHT = 1.5, 0.62, 0.25
NAMES_WIDTHS = (0.95, 2.4)  # of the stages' names: at least, at most
CHARACTER_WIDTH = 0.078
SHARES_WIDTH, GAP = 1.25, 0.22
ROW, DENSE_ROW, MANY_ROWS = 0.4, 0.25, 16
NOTE_CHARACTERS = 118

# Colours from no loss to the largest, on a logarithmic scale: at SCALE_POINTS and beyond the last.
COLOURS = ("#eef3f2", "#f8e7d3", "#eab27c", LIMIT, "#5f1a16")
SCALE_POINTS = 50.0
DARK = 0.62  # from here on the scale is too dark for dark figures
PARAMETERS = "#a9b4c0"
NOTE = (
    "Points of validation accuracy lost where that stage alone is compressed and nothing is fine-tuned afterwards. "
    f"Faint: within two standard errors of none. {NOTHING}: nothing to do there (classes and shared channels stay)."
)


def draw_sensitivity(sensitivity: Sensitivity, path: Path) -> None:
    """Draws a row for each stage: its shares of MACs and parameters, and the points lost at each setting.

    Args:
        sensitivity: What to draw.
        path: Where to write; the suffix says the format (``.png``, ``.svg``, ``.pdf``).

    Raises:
        StudyError: The file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    style: dict[Any, Any] = {
        "font.family": ["DejaVu Sans", *(font for font in FURTHER_FONTS if font in installed)],
        "font.size": 9,
        "text.color": INK,
        "svg.hashsalt": "nas",
        "text.parse_math": False,  # names of stages and studies are no formulae
    }
    rows = len(sensitivity.stages)
    height = TOP + rows * (ROW if rows <= MANY_ROWS else DENSE_ROW) + BOTTOM
    with rc_context(style):
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        _titles(figure, sensitivity, height)
        _draw(figure, sensitivity, height)
        buffer = io.BytesIO()
        kind = path.suffix.removeprefix(".") or "png"
        figure.savefig(buffer, format=kind, metadata={"Title": f"Sensitivity of trial {sensitivity.trial}"})
    write_output(path, buffer.getvalue())


def shade(lost: float) -> float:
    """Where a loss (a share; below zero as zero) stands on the scale of colours, 0 to 1: logarithmic in points."""
    return min(1.0, math.log1p(max(0.0, 100 * lost)) / math.log1p(SCALE_POINTS))


def _titles(figure: Figure, sensitivity: Sensitivity, height: float) -> None:
    left = RIGHT / WIDTH
    heading = f"{sensitivity.study}: sensitivity of trial {sensitivity.trial}, stage by stage"
    figure.text(left, 1 - 0.34 / height, heading, fontsize=13, weight="bold")
    words = textwrap.shorten(describe(sensitivity.design), NOTE_CHARACTERS, placeholder=" …")
    figure.text(left, 1 - 0.59 / height, words, fontsize=9, color=FAINT)
    figure.text(left, 1 - 0.8 / height, subtitle(sensitivity), fontsize=9, color=FAINT)
    note = "\n".join(textwrap.wrap(NOTE, NOTE_CHARACTERS))
    figure.text(left, 0.1 / height, note, fontsize=7.5, color=FAINT, va="bottom", linespacing=1.35)


def _draw(figure: Figure, sensitivity: Sensitivity, height: float) -> None:
    """The three panels, whose rows are the stages: shares, pruning, bits."""
    longest = max(len(stage.name) for stage in sensitivity.stages)
    names = min(max(NAMES_WIDTHS[0], CHARACTER_WIDTH * longest + 2 * RIGHT), NAMES_WIDTHS[1])
    groups = [[s for s in sensitivity.settings if s.prunes is prunes] for prunes in (True, False)]
    groups = [group for group in groups if group]
    columns = sum(map(len, groups))
    room = WIDTH - names - SHARES_WIDTH - RIGHT - len(groups) * GAP

    def panel(left: float, width: float) -> Axes:
        axes = figure.add_axes((left / WIDTH, BOTTOM / height, width / WIDTH, (height - TOP - BOTTOM) / height))
        axes.set_ylim(len(sensitivity.stages) - 0.5, -0.5)
        axes.set_yticks([])
        axes.set_xticks([])
        axes.spines[:].set_visible(False)
        return axes

    _shares(panel(names, SHARES_WIDTH), sensitivity)
    left = names + SHARES_WIDTH
    for group in groups:
        left += GAP
        width = room * len(group) / columns
        _cells(panel(left, width), sensitivity, group)
        left += width


def _shares(axes: Axes, sensitivity: Sensitivity) -> None:
    """The stages' names, and bars of their shares of multiply-adds and of parameters; the longest fills the panel."""
    dense = len(sensitivity.stages) > MANY_ROWS
    kinds = ((sensitivity.macs, ACCENT, "macs"), (sensitivity.params, PARAMETERS, "params"))
    longest = max(getattr(stage, name) / whole for stage in sensitivity.stages for whole, _, name in kinds)
    axes.set_xlim(0, longest or 1.0)
    for row, stage in enumerate(sensitivity.stages):
        axes.axhline(row + 0.5, color=GRID, linewidth=0.6)
        beside: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
        axes.annotate(_cut(stage.name), (0, row), (-7, 0), ha="right", fontsize=7.5 if dense else 9, **beside)
        for offset, (whole, colour, name) in zip((-0.17, 0.17), kinds, strict=True):
            share = getattr(stage, name) / whole
            axes.barh(row + offset, share, 0.28, color=colour, linewidth=0)
            inside = share > 0.7 * axes.get_xlim()[1]
            ink = FAINT if not inside else "white" if colour == ACCENT else INK
            look: dict[str, Any] = {"ha": "right" if inside else "left", "color": ink, "fontsize": 5 if dense else 6.5}
            axes.annotate(f"{100 * share:.0f} %", (share, row + offset), (-2 if inside else 2, -0.3), **look, **beside)
    above: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom"}
    axes.annotate("share of MACs", (0, 1), (0, 18), fontsize=8, color=ACCENT, **above)
    axes.annotate("and of parameters", (0, 1), (0, 5), fontsize=8, color=FAINT, **above)


def _cut(name: str) -> str:
    """A stage's name as long as there is room for, its end kept."""
    most = int((NAMES_WIDTHS[1] - 2 * RIGHT) / CHARACTER_WIDTH)
    return name if len(name) <= most else f"…{name[1 - most :]}"


def _cells(axes: Axes, sensitivity: Sensitivity, settings: list[Setting]) -> None:
    """One group of settings: a coloured cell for each stage and setting with the points lost in it."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    colours = LinearSegmentedColormap.from_list("losses", COLOURS)
    axes.set_xlim(-0.5, len(settings) - 0.5)
    above: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "bottom"}
    title = "channels pruned" if settings[0].prunes else "bits of weights/activations"
    axes.annotate(title, (0.5, 1), (0, 19), xycoords="axes fraction", fontsize=8.5, color=FAINT, **above)
    for column, setting in enumerate(settings):
        axes.annotate(setting.label, (column, -0.5), (0, 4), fontsize=9, weight="bold", **above)
        for row, stage in enumerate(sensitivity.stages):
            effect = stage.effect(setting)
            known = effect is not None and effect.lost is not None
            colour = colours(shade(effect.lost)) if known else "white"  # type: ignore[union-attr,arg-type]
            cell = Rectangle((column - 0.48, row - 0.45), 0.96, 0.9, facecolor=colour, edgecolor="none")
            axes.add_patch(cell)
            text, ink = _figure_in(effect)
            axes.text(column, row, text, ha="center", va="center_baseline", fontsize=8.5, color=ink)


def _figure_in(effect: Effect | None) -> tuple[str, str]:
    """The figure in a cell and its colour."""
    if effect is None or effect.lost is None:
        return NOTHING, FAINT
    if shade(effect.lost) >= DARK:
        return points(effect.lost), "white"
    return points(effect.lost), FAINT if is_noise(effect) else INK
