"""The empty picture for a paper: vector or raster, at a given width, readable at that width without scaling.

Colours are those of Okabe and Ito, which people with any common colour blindness tell apart; a shape goes with each, so
that a print in grey says the same. Fonts are embedded: whole letters in a PDF file (TrueType), outlines in an SVG file.
There is no heading: a paper has captions.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import StudyError, unknown_name
from nas.report.canvas import FURTHER_FONTS
from nas.report.files import write_output
from nas.report.scatter import GRID, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_INCHES = 3.4  # a column of a paper of two
WIDE_INCHES = 5.0  # from here on letters are as large as a page's
LEAST_INCHES, MOST_INCHES = 2.5, 20.0
SMALL, LARGE = 7.0, 9.0  # points: of letters in a narrow picture, in a wide one
DPI = 300
SUFFIXES = (".png", ".svg", ".pdf")
FAINTER = 0.87  # the letters of legends and notes, against the others

# M. Okabe and K. Ito, "Color Universal Design", 2008; the yellow, which is weak on white, comes last.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000", "#f0e442")
SHAPES = ("o", "s", "^", "D", "v", "P", "p", "h")
LIMIT = "#d55e00"


@contextmanager
def paper(path: Path, title: str, words: str, width: float, height: float) -> Iterator[Figure]:
    """An empty figure whose parts make room for each other; at the end of the block it is written.

    Args:
        path: Where to write; the suffix says the format (``.png``, ``.svg``, ``.pdf``).
        title: What the file says of itself.
        words: A caption, which goes into the file's metadata.
        width: Of the picture, in inches.
        height: Likewise.

    Raises:
        StudyError: The file cannot be written, or the suffix or width is none that can be drawn.
    """
    check_picture(path, width)
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_style(width)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
        figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        buffer = io.BytesIO()
        kind = path.suffix.removeprefix(".")
        figure.savefig(buffer, format=kind, metadata=_metadata(kind, title, words))
    write_output(path, buffer.getvalue())


def check_picture(path: Path, width: float = COLUMN_INCHES) -> None:
    """Makes sure that a picture can be drawn there.

    Raises:
        StudyError: It cannot: the message says why.
    """
    if path.suffix not in SUFFIXES:
        valid = [suffix.removeprefix(".") for suffix in SUFFIXES]
        raise StudyError(
            f"the picture {path} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}",
            unknown_name("format", path.suffix.removeprefix("."), valid) if path.suffix else f"such as {path}.pdf",
        )
    if not LEAST_INCHES <= width <= MOST_INCHES:
        raise StudyError(
            f"a picture must be {LEAST_INCHES:g} to {MOST_INCHES:g} inches wide, but got {width:g}",
            f"a column of a paper has about {COLUMN_INCHES:g}, a page 7",
        )
    if path.is_dir():
        raise StudyError(f"{path} is a folder, not a picture", f"such as {path / f'front{path.suffix}'}")


def letters(width: float) -> float:
    """The size of letters in a picture of that width in inches, in points."""
    return SMALL if width < WIDE_INCHES else LARGE


def tidy(axes: Axes) -> None:
    """A grid behind the data, and no frame where there is no axis."""
    axes.grid(color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend_above(figure: Figure, entries: Sequence[Any], columns: int) -> None:
    """The legend above everything, where it hides nothing, in so many columns as fit, but at most these."""
    if not entries:
        return
    size = FAINTER * letters(figure.get_figwidth())
    look: dict[str, Any] = {"handletextpad": 0.4, "handlelength": 1.6, "columnspacing": 1.0, "labelspacing": 0.3}
    look |= {"loc": "outside upper left", "frameon": False, "fontsize": size, "borderaxespad": 0.2}
    canvas: Any = figure.canvas  # the Agg canvas, which has a renderer
    for count in range(columns, 0, -1):
        legend = figure.legend(handles=list(entries), ncols=count, **look)
        if count == 1 or legend.get_window_extent(canvas.get_renderer()).width <= figure.bbox.width:
            return
        legend.remove()


def legend_inches(entries: int, columns: int, width: float) -> float:
    """The height that a legend of so many entries takes, in inches."""
    return -(-entries // columns) * letters(width) * FAINTER * 1.45 / 72 + 0.06


def _style(width: float) -> dict[Any, Any]:
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    size = letters(width)
    return {
        "font.family": ["DejaVu Sans", *(font for font in FURTHER_FONTS if font in installed)],
        "font.size": size,
        "axes.labelsize": size,
        "axes.titlesize": size,
        "xtick.labelsize": FAINTER * size,
        "ytick.labelsize": FAINTER * size,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "text.parse_math": False,  # names are no formulae
        "pdf.fonttype": 42,  # whole TrueType letters, which publishers ask for, and no Type 3
        "svg.fonttype": "path",
        "svg.hashsalt": "nas",
    }


def _metadata(kind: str, title: str, words: str) -> dict[str, Any]:
    """What the file says of itself; without the time, so that the same study gives the same file."""
    if kind == "pdf":
        return {"Title": title, "Subject": words, "CreationDate": None}
    return {"Title": title, "Description": words, **({"Date": None} if kind == "svg" else {})}
