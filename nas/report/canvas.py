"""The empty picture that pictures of a study are drawn on: its size and style, heading, legend and labels."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.report.files import write_output
from nas.report.labels import LEADER_DISTANCE, Box, place
from nas.report.scatter import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

SIZE_INCHES, DPI = (8.4, 5.25), 200
LEFT, BOTTOM, RIGHT, TOP = 0.085, 0.12, 0.975, 0.85
MARKER_RADIUS = 5  # points, rounded up
LEGEND_PLACES: list[Any] = [  # the first that hides least
    *("lower right", "upper left", "lower left", "upper right"),
    *("center right", "center left", "lower center", "upper center", "center"),
]
# Fonts with the characters that DejaVu Sans lacks, such as Chinese and Japanese ones; those installed are used.
FURTHER_FONTS = [
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Source Han Sans SC", "Source Han Sans"),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "IPAGothic", "Arial Unicode MS"),
    *("PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
]


@contextmanager
def canvas(path: Path, title: str) -> Iterator[tuple[Figure, Axes]]:
    """An empty figure and its axes to draw on; at the end of the block it is written.

    Args:
        path: Where to write; the suffix says the format (``.png``, ``.svg``, ``.pdf``).
        title: What the file says of itself.

    Raises:
        StudyError: The file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_style()), warnings.catch_warnings():
        # A character that no installed font has is drawn as a placeholder; that needs no warning on each search.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
        figure = Figure(figsize=SIZE_INCHES, dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        yield figure, figure.add_axes((LEFT, BOTTOM, RIGHT - LEFT, TOP - BOTTOM))
        buffer = io.BytesIO()
        figure.savefig(buffer, format=path.suffix.removeprefix(".") or "png", metadata={"Title": title})
    write_output(path, buffer.getvalue())


def _style() -> dict[Any, Any]:
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return {
        "font.family": ["DejaVu Sans", *(font for font in FURTHER_FONTS if font in installed)],
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": FAINT,
        "axes.linewidth": 0.8,
        "svg.hashsalt": "nas",
    }


def write_heading(figure: Figure, heading: str, parts: Sequence[str], left: float = LEFT) -> None:
    """Writes what the picture is of, and below it what is to know beforehand."""
    figure.text(left, 0.945, heading, fontsize=13, weight="bold", parse_math=False)
    figure.text(left, 0.895, "  ·  ".join(parts), fontsize=9, color=FAINT)


def write_instead(axes: Axes, text: str) -> None:
    """Writes why there is nothing to draw."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=12, color=FAINT, transform=axes.transAxes)


def pixels_of_a_point(axes: Axes) -> float:
    """How many pixels a typographic point is: 1/72 inch."""
    return axes.figure.dpi / 72


def draw_legend(axes: Axes, entries: Sequence[Any], drawn: np.ndarray) -> None:
    """Draws the legend where it hides least of what is drawn and written: the first such place.

    Args:
        axes: Where.
        entries: Its entries; without any there is no legend.
        drawn: N×2 pixels.
    """
    if not entries:
        return
    above_note = (0, 0.045, 1, 0.955)  # left, bottom, width and height, of the axes
    legend = axes.legend(handles=list(entries), fontsize=8, handletextpad=0.5, bbox_to_anchor=above_note)
    legend.get_frame().set(edgecolor="none", facecolor="white", alpha=0.85)
    legend.set_zorder(3.8)
    renderer, unit = _renderer(axes), pixels_of_a_point(axes)
    words = [_filled(text.get_window_extent(renderer), unit) for text in axes.texts]
    taken = np.concatenate([drawn, *words])

    def hidden(loc: Any) -> int:
        legend.set_loc(loc)
        box = legend.get_window_extent(renderer).padded(MARKER_RADIUS * unit)
        return int(((taken > box.min) & (taken < box.max)).all(axis=1).sum())

    legend.set_loc(min(LEGEND_PLACES, key=hidden))


def draw_labels(
    axes: Axes, names: Sequence[str], points: np.ndarray, drawn: np.ndarray, nameless: np.ndarray | None = None
) -> None:
    """Names as many points as find room, the first ones first; a label farther away is joined to its point by a line.

    Args:
        axes: Where; the legend is there already.
        names: What to write.
        points: N×2 values, of what is named.
        drawn: N×2 pixels that no label may cover, beside the legend.
        nameless: N×2 pixels of points that a label must not seem to name.
    """
    if not names:
        return
    from matplotlib.patheffects import withStroke

    figure, renderer, unit = axes.figure, _renderer(axes), pixels_of_a_point(axes)
    style: dict[str, Any] = {"fontsize": 7.5, "ha": "left", "va": "bottom", "zorder": 6, "xycoords": "figure fraction"}
    halo = [withStroke(linewidth=2, foreground="white", alpha=0.8)]
    texts = [axes.annotate(name, (0, 0), path_effects=halo, **style) for name in names]
    extents = [text.get_window_extent(renderer) for text in texts]
    pixels = [(float(x), float(y)) for x, y in axes.transData.transform(points)]
    window = axes.get_window_extent(renderer)
    frame = Box(window.x0, window.y0, window.x1, window.y1).grown(-2 * unit)
    legend = axes.get_legend()
    boxes = [] if legend is None else [_filled(legend.get_window_extent(renderer), unit)]
    sizes = [(extent.width, extent.height) for extent in extents]
    placements = place(pixels, sizes, np.concatenate([drawn, *boxes]), frame, unit, nameless)
    share = np.array([1 / figure.bbox.width, 1 / figure.bbox.height])  # the same in every file format
    for text, point, placement in zip(texts, pixels, placements, strict=True):
        if placement is None:
            text.remove()
            continue
        text.xy = (placement.box.left * share[0], placement.box.bottom * share[1])
        text.set_position(text.xy)
        if math.dist(placement.anchor, point) > LEADER_DISTANCE * unit:
            leader = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.5, "shrinkA": 1.5, "shrinkB": 4}
            ends: dict[str, Any] = {
                "xycoords": style["xycoords"],
                "textcoords": style["xycoords"],
                "arrowprops": leader,
            }
            axes.annotate("", np.array(point) * share, np.array(placement.anchor) * share, **ends)


def _renderer(axes: Axes) -> Any:
    canvas: Any = axes.figure.canvas  # the Agg canvas, which has one
    return canvas.get_renderer()


def _filled(box: Bbox, unit: float) -> np.ndarray:
    """N×2 pixels that fill a box so densely that nothing which covers a part of it misses all."""
    grid = np.meshgrid(np.arange(box.x0, box.x1, 4 * unit), np.arange(box.y0, box.y1, 4 * unit))
    return np.stack(grid, -1).reshape(-1, 2)
