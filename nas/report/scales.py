"""Axes and colour scales of a picture: linear or logarithmic, their range, their ticks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.objectives import Objective
from nas.wording import human

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOG_RATIO = 3.0  # costs that span more than this are drawn on a logarithmic axis
ERROR_RATIO = 8.0  # and qualities whose distances from 1 do, on one of that distance
TICKS_BELOW_RATIO = ((8.0, (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)), (1000.0, (1.0, 2.0, 5.0)))  # of a logarithmic axis
LEAST_SPAN, SPAN_OF_ONE = 0.01, 0.1  # of a quality's axis, for a front of several values or of one
LEAST_ERROR = 5e-4  # the distance from 1 that a perfect quality is drawn at
QUALITY_TICKS = tuple(
    np.array([0, 30, 50, 60, 70, 80, 85, 90, 92, 94, 95, 96, 97, 98, 98.5, 99, 99.5, 99.8, 99.9]) / 100
)


def set_cost_scale(axes: Axes, cost: Objective, values: Sequence[float], up: bool = False) -> None:
    """Scale, range, ticks and title of the axis to the right, or upward: logarithmic where the values span much."""
    low, high = min(values), max(values)
    axis = axes.yaxis if up else axes.xaxis
    set_limits = axes.set_ylim if up else axes.set_xlim
    if _logarithmic(cost, low, high):
        (axes.set_yscale if up else axes.set_xscale)("log")
        margin = (high / low) ** 0.06
        set_limits(low / margin, high * margin)
        _logarithmic_ticks(axis, low, high)
    else:
        margin = max((high - low) * 0.06, high * 0.15 if high < 1.2 * low else 0.0, 1e-9)
        set_limits(max(0.0, low - margin), high + margin)
    axis.set_major_formatter(_formatter(cost))
    title = cost.kind.title.partition(" (bytes")[0]
    axis.set_label_text(f"{title}{f' on {cost.target}' if cost.target else ''}: less is better")
    axis.labelpad = 7


def set_quality_scale(axes: Axes, quality: Objective, values: np.ndarray, front: np.ndarray) -> float:
    """Scale, range, ticks and title of the upward axis, chosen so that the front is told apart.

    Where the front reaches from poor to nearly perfect, the axis is logarithmic in the distance from 1: from 90 to
    99 % is as far as from 0 to 90. The range holds the whole front, and below it nine in ten of the points, but
    never so many that the front has less than about half of the height.

    Args:
        axes: Whose upward axis it is.
        quality: What runs up.
        values: Of all points; those far below the front may fall out of the range.
        front: Of the front's members, all of which are shown.

    Returns:
        The lowest value shown.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    def forward(quality: Any) -> Any:
        return -np.log10(np.maximum(1 - np.asarray(quality), LEAST_ERROR))

    def backward(position: Any) -> Any:
        return 1 - 10.0 ** -np.asarray(position)

    logarithmic = forward(front.max()) - forward(front.min()) > np.log10(ERROR_RATIO)
    if logarithmic:
        axes.set_yscale("function", functions=(forward, backward))
        axes.yaxis.set_major_locator(FixedLocator(QUALITY_TICKS))
        axes.yaxis.set_minor_locator(NullLocator())
        floor, top = backward(_range(forward(values), forward(front)))
    else:
        floor, top = _range(values, front)
        floor, top = max(floor, 0.0), min(top, 1 + 0.03 * (top - floor))
    axes.set_ylim(float(floor), float(top))
    axes.set_ylabel(f"{quality.kind.title} (%{', logarithmic towards 100' if logarithmic else ''})", labelpad=7)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))
    return float(floor)


def _range(positions: np.ndarray, front: np.ndarray) -> tuple[float, float]:
    """The range of an axis that shows the whole front and what lies not too far below it."""
    low, high = float(front.min()), float(front.max())
    span = max(high - low, LEAST_SPAN) if high > low else SPAN_OF_ONE
    below = min(max(low - float(np.quantile(positions, 0.1)), 0.0), span)
    return low - below - 0.15 * span, high + 0.14 * span


def colour_scale(
    figure: Figure, beside: Axes, objective: Objective, values: Sequence[float]
) -> Callable[[np.ndarray], np.ndarray]:
    """A colour for each value of an objective, the better the brighter, with its scale drawn into ``beside``.

    Returns:
        A function from N values to N×4 colours.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize

    low, high = min(values), max(values)
    logarithmic = _logarithmic(objective, low, high)
    norm = LogNorm(low, high) if logarithmic else Normalize(low, high if high > low else low + 1)
    mappable = ScalarMappable(norm, colormaps["viridis" if objective.maximise else "viridis_r"])
    scale = figure.colorbar(mappable, cax=beside)
    if logarithmic:
        _logarithmic_ticks(scale.ax.yaxis, low, high)
    scale.ax.yaxis.set_major_formatter(_formatter(objective))
    scale.ax.tick_params(length=0, labelsize=8)
    scale.outline.set_visible(False)
    target = f" on {objective.target}" if objective.target else ""
    scale.set_label(objective.kind.title.partition(" (bytes")[0] + target, fontsize=8)
    return lambda wanted: np.asarray(mappable.to_rgba(wanted))


def _logarithmic(objective: Objective, low: float, high: float) -> bool:
    return objective.kind.log_axis and low > 0 and high / low > LOG_RATIO


def _logarithmic_ticks(axis: Any, low: float, high: float) -> None:
    """1, 2, 5 of each decade; powers of ten alone where there are many decades, and more where there is hardly one."""
    from matplotlib.ticker import LogLocator, NullLocator

    subs = next((subs for ratio, subs in TICKS_BELOW_RATIO if high / low < ratio), (1.0,))
    axis.set_major_locator(LogLocator(base=10, subs=subs))
    axis.set_minor_locator(NullLocator())


def _formatter(objective: Objective) -> Any:
    """Ticks as a person writes them: ``0.05``, ``20 k``, ``1.5 MB``, ``97.5``."""
    from matplotlib.ticker import FuncFormatter

    def text(value: float, _: int | None = None) -> str:
        if objective.maximise:
            return f"{100 * value:.4g}"
        if objective.kind.unit == "ms":
            return f"{value:.6g}"
        number, _blank, unit = human(value, "bytes" if objective.kind.unit == "bytes" else "").partition(" ")
        return f"{float(number):g} {unit}".rstrip()

    return FuncFormatter(text)
