"""Models that are no trial of the study, to be seen beside its front: such as the one that a person uses today."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.outcome import Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOUR = "#8a2be2"  # which no precision has


@dataclass(frozen=True)
class NamedPoint:
    """A model beside the study's trials.

    Args:
        name: What it is called in the picture.
        cost: Of the quantity that runs to the right, measured on the study's machine.
        quality: Of the quantity that runs up; None where it is not known: the cost is then a line across the picture.
    """

    name: str
    cost: Quantity
    quality: Quantity | None = None

    @property
    def label(self) -> str:
        """The name as matplotlib takes it: nothing in it is a formula, and it has one line."""
        name = "".join(letter if letter.isprintable() else "?" for letter in self.name)
        return name.replace("$", r"\$")


def placed(others: Sequence[NamedPoint]) -> list[tuple[NamedPoint, float, float]]:
    """Those that have a place in the picture, with their cost and quality."""
    return [(point, point.cost.value, point.quality.value) for point in others if point.quality is not None]


def draw_others(axes: Axes, others: Sequence[NamedPoint]) -> None:
    """Draws each as a cross; one of unknown quality as a line at its cost, with its name.

    Args:
        axes: Where; scales and ranges are set already.
        others: The models.
    """
    for _, cost, quality in placed(others):
        axes.plot([cost], [quality], color=COLOUR, linestyle="", marker="X", markersize=10, mec="white", zorder=5)
    for point in others:
        if point.quality is None:
            axes.axvline(point.cost.value, color=COLOUR, linewidth=1, linestyle=(0, (1, 2)), zorder=1.5)
            style: dict[str, Any] = {"rotation": 90, "ha": "right", "va": "top", "fontsize": 7.5, "color": COLOUR}
            axes.text(point.cost.value, 0.98, f"{point.label} ", transform=axes.get_xaxis_transform(), **style)


def entries_of(others: Sequence[NamedPoint]) -> list[Any]:
    """What the legend says of them: nothing where no cross is drawn."""
    from matplotlib.lines import Line2D

    look: dict[str, Any] = {"marker": "X", "markersize": 8, "markeredgewidth": 0, "linestyle": "", "color": COLOUR}
    return [Line2D([], [], label="not of this study", **look)] if placed(others) else []
