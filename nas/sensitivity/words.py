"""How a loss reads in a table and a picture: points with a sign that a person expects, and how bad it is."""

from __future__ import annotations

from nas.sensitivity.result import Effect, Sensitivity
from nas.wording import plural

# A loss of so many points or less is …; what is above the last is severe.
HARMLESS, MODERATE, LARGE = 0.5, 2.0, 10.0
NOTHING = "–"


def points(lost: float | None) -> str:
    """A loss in points: ``0.35``, ``12.4``, ``−0.10`` where accuracy rose, ``–`` where there is none to state."""
    if lost is None:
        return NOTHING
    value = 100 * lost
    text = f"{abs(value):.2f}" if abs(value) < 9.995 else f"{abs(value):.1f}"
    return f"−{text}" if value < 0 and float(text) else text


def is_noise(effect: Effect) -> bool:
    """Whether a loss is within two standard errors of none."""
    return effect.lost is not None and effect.error is not None and abs(effect.lost) <= 2 * effect.error


def subtitle(sensitivity: Sensitivity) -> str:
    """What was analysed and how precisely, on one line."""
    error = 100 * sensitivity.largest_error
    return (
        f"float file {100 * sensitivity.accuracy:.2f} % on {plural(sensitivity.images, 'image')}; "
        f"standard error of a loss up to {error:.2f} points"
    )


def refusals(sensitivity: Sensitivity) -> list[str]:
    """Why settings could not be carried out, each reason once with its stages and settings."""
    where: dict[str, list[str]] = {}
    for stage in sensitivity.stages:
        for effect in stage.effects:
            if effect.refused:
                where.setdefault(effect.reason, []).append(f"{stage.name} {effect.setting.label}")
    return [f"{', '.join(places)}: {reason}" for reason, places in where.items()]
