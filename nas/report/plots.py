"""Pictures of how a search went and of what its choices decide: ``nas plot --kind history`` and ``importance``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nas.front import Reference, hypervolume_history
from nas.objectives import Objective
from nas.report.paper import COLOURS, FAINTER, WIDE_INCHES, letters, paper, tidy
from nas.report.paper_front import capital
from nas.report.scatter import FAINT, INK
from nas.study import Study
from nas.wording import choice_words, display, listing, plain_name, plural, target_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MINUTE, HOUR = 60.0, 3600.0
PANEL_INCHES = 1.75  # the height of a panel of the history in a narrow picture
MOST_BARS = 12  # choices of each objective; the others are told as a number
BAR_INCHES = 0.155  # the height of a bar with the gap to the next, in a narrow picture


class Decided(Protocol):
    """What a choice decides about one objective; ``nas.importance.ChoiceImportance`` is one."""

    @property
    def choice(self) -> str: ...
    @property
    def share(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def clear(self) -> bool: ...


class DecidedObjective(Protocol):
    """What the choices decide about one objective; ``nas.importance.ObjectiveImportance`` is one."""

    @property
    def key(self) -> str: ...
    @property
    def trials(self) -> int: ...
    @property
    def best_share(self) -> float: ...
    @property
    def choices(self) -> Sequence[Decided]: ...


def draw_history(study: Study, path: Path, width: float) -> str:
    """Draws the hypervolume over trials and over the time of the search; a dot where a trial raised it.

    Args:
        study: What to draw.
        path: Where to write; the suffix says the format (``.png``, ``.svg``, ``.pdf``).
        width: Of the picture, in inches.

    Returns:
        A caption.

    Raises:
        StudyError: The file cannot be written, or cannot be of that kind or width.
    """
    recipe, reference, records = study.recipe, study.reference, study.records
    history = (
        hypervolume_history(records, reference, recipe.parsed_objectives, recipe.parsed_constraints)
        if reference is not None
        else []
    )
    volumes = np.array([volume for _, volume in history])
    words = _history_words(study, reference, volumes)
    beside = width >= WIDE_INCHES
    height = 0.38 * width if beside else 2 * PANEL_INCHES
    with paper(path, f"Hypervolume of {study.name}", words, width, height) as figure:
        if not len(volumes):
            axes = figure.add_subplot()
            axes.set_axis_off()
            axes.text(0.5, 0.5, "No trial was measured yet.", ha="center", va="center", transform=axes.transAxes)
            return words
        seconds = np.array(list(accumulate(record.seconds for record in records)))
        unit, name = _time_unit(float(seconds[-1]))
        over_trials, over_time = figure.subplots(1, 2, sharey=True) if beside else figure.subplots(2, 1, sharey=True)
        _steps(over_trials, np.arange(1, len(volumes) + 1), volumes, "trials")
        _steps(over_time, seconds / unit, volumes, f"time of the search ({name})")
        for axes in (over_trials,) if beside else (over_trials, over_time):
            axes.set_ylabel("hypervolume", labelpad=2)
    return words


def _steps(axes: Axes, x: np.ndarray, volumes: np.ndarray, title: str) -> None:
    """The hypervolume as a step line from 0, with a dot at each rise; the last value is written at its end."""
    tidy(axes)
    rises = np.diff(volumes, prepend=0.0) > 0
    axes.step(np.concatenate([[0.0], x]), np.concatenate([[0.0], volumes]), where="post", color=COLOURS[0], linewidth=1)
    axes.plot(x[rises], volumes[rises], "o", color=COLOURS[0], markersize=2.2, markeredgewidth=0)
    axes.set_xlim(0, x[-1] * 1.02)
    _range(axes, volumes)
    axes.set_xlabel(title, labelpad=2)
    where: dict[str, Any] = {"xytext": (-1, 3), "textcoords": "offset points", "ha": "right", "color": INK}
    axes.annotate(
        f"{volumes[-1]:.3f}",
        (x[-1], volumes[-1]),
        fontsize=FAINTER * letters(axes.figure.bbox.width / axes.figure.dpi),
        **where,
    )


def _range(axes: Axes, volumes: np.ndarray) -> None:
    """From where the first measured trial brought it to a little above its end: from 0 nothing could be seen."""
    first, last = float(volumes[volumes > 0][0]) if (volumes > 0).any() else 0.0, float(volumes[-1])
    span = max(last - first, 0.02)
    axes.set_ylim(max(0.0, first - 0.1 * span), last + 0.15 * span)


def _time_unit(seconds: float) -> tuple[float, str]:
    """In what a time is told: seconds of the unit, and its name."""
    if seconds < 3 * MINUTE:
        return 1.0, "s"
    return (MINUTE, "min") if seconds < 3 * HOUR else (HOUR, "h")


def _history_words(study: Study, reference: Reference | None, volumes: np.ndarray) -> str:
    if reference is None:
        return f"Hypervolume of {study.name}: no trial was measured yet."
    rises = int((np.diff(volumes, prepend=0.0) > 0).sum())
    return (
        f"Hypervolume of {study.name} over {plural(len(volumes), 'trial')} and {duration(study.seconds)}: "
        f"{volumes[-1]:.3f} in the end, raised by {plural(rises, 'trial')} (dots); "
        f"reference {reference_words(reference)}."
    )


def reference_words(reference: Reference) -> str:
    """A reference point: ``validation accuracy 10.00 %, latency 6.8 ms``."""
    pairs = zip(reference.objectives, reference.values, strict=True)
    return ", ".join(f"{plain_name(key)} {display(key.partition('@')[0], value, zeros=False)}" for key, value in pairs)


def duration(seconds: float) -> str:
    """A time in the unit that suits it: ``42 s``, ``12.5 min``, ``3.1 h``."""
    unit, name = _time_unit(seconds)
    return f"{seconds / unit:.3g} {name}"


def draw_importance(study: Study, found: Sequence[DecidedObjective], path: Path, width: float) -> str:
    """Draws for each objective a horizontal bar for each choice, the most important at the top, with 95 % intervals.

    Pale bars are of choices that do not stand out from chance.

    Args:
        study: Whose choices.
        found: Their importance for each objective; at least one.
        path: Where to write; the suffix says the format (``.png``, ``.svg``, ``.pdf``).
        width: Of the picture, in inches.

    Returns:
        A caption.

    Raises:
        StudyError: The file cannot be written, or cannot be of that kind or width.
    """
    shown = [one.choices[:MOST_BARS] for one in found]
    beside = width >= WIDE_INCHES and len(found) == 2
    rows = max(map(len, shown)) if beside else sum(len(one) + 3 for one in shown)
    height = (rows + 4) * BAR_INCHES * letters(width) / letters(0)
    words = _importance_words(study, found)
    with paper(path, f"Importance of the choices of {study.name}", words, width, height) as figure:
        ratios = [max(len(one), 1) + 1 for one in shown]
        grid = figure.subplots(1, 2) if beside else figure.subplots(len(found), 1, height_ratios=ratios, squeeze=False)
        for axes, one, bars in zip(grid.ravel(), found, shown, strict=True):
            _bars(axes, one, bars, max(map(len, shown)) if beside else len(bars))
    return words


def _bars(axes: Axes, one: DecidedObjective, bars: Sequence[Decided], rows: int) -> None:
    """The bars of one objective; ``rows`` have room, so that bars in neighbouring panels are equally thick."""
    tidy(axes)
    axes.grid(visible=False, axis="y")
    more = f" ({len(bars)} of {plural(len(one.choices), 'choice')})" if len(bars) < len(one.choices) else ""
    axes.set_title(f"{capital(plain_name(one.key))}{more}", loc="left", pad=4)
    if not bars:
        axes.set_axis_off()
        axes.text(0, 0.5, "the same in all trials", transform=axes.transAxes, color=FAINT)
        return
    places = np.arange(len(bars))
    shares = np.array([100 * bar.share for bar in bars])
    arms = np.array([[100 * (bar.share - bar.low), 100 * (bar.high - bar.share)] for bar in bars]).T
    colours = [COLOURS[0] if bar.clear else "#b8c4cf" for bar in bars]
    look: dict[str, Any] = {"ecolor": INK, "error_kw": {"elinewidth": 0.6, "capsize": 1.3, "capthick": 0.6}}
    axes.barh(places, shares, height=0.68, color=colours, xerr=np.maximum(arms, 0.0).tolist(), **look)
    axes.set_yticks(places, [choice_words(bar.choice) for bar in bars])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_xlim(0, max(float((shares + arms[1]).max()) * 1.04, 1.0))
    axes.set_xlabel("importance (%)", labelpad=2)


def _importance_words(study: Study, found: Sequence[DecidedObjective]) -> str:
    best = next(iter(found))
    names = listing([_named(Objective.parse(one.key)) for one in found])
    return (
        f"Importance of the choices of {study.name} for {names} (PED-ANOVA of the best "
        f"{100 * best.best_share:.0f} % of {plural(best.trials, 'measured trial')}), with 95 % intervals; "
        "pale: not told apart from chance."
    )


def _named(objective: Objective) -> str:
    return plain_name(objective.key) + (f" ({target_words(objective.target)})" if objective.target else "")
