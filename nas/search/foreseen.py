"""What a record tells of a trial's objectives before its end (see ``nas.proxies``)."""

from __future__ import annotations

from collections.abc import Iterable

from nas.objectives import Objective
from nas.outcome import Quantity
from nas.proxies import UNTRAINED, prediction, rung_key
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.target import Place


def known_cost(record: TrialRecord, objective: Objective, recipe: Recipe) -> float | None:
    """What is known of a cost before a training: measured or counted, or of the untrained network.

    At a place the fastest of its targets counts, as it will when the trial is served.
    """
    keys = [objective.key, f"{UNTRAINED}{objective.key}"]
    for key in keys:
        if (value := _value(record.quantity(key))) is not None:
            return value
    place = Place.parse(objective.target) if objective.target else None
    if place is not None:
        there = (record.quantity(f"{UNTRAINED}{objective.name}@{name}") for name in recipe.targets_at(place))
        if values := [quantity.value for quantity in there if quantity is not None]:
            return min(values)
    return None


def expected_cost(record: TrialRecord, objective: Objective, recipe: Recipe) -> float | None:
    """What is known of a cost before a training, else what the surrogate said of it."""
    known = known_cost(record, objective, recipe)
    return _value(prediction(record, objective)) if known is None else known


def at_rung(records: Iterable[TrialRecord], epochs: int, recipe: Recipe) -> dict[int, tuple[float, ...]]:
    """Where trials stood at a rung: by number the recipe's objectives, for those of which all are known.

    A quality (accuracy) is that of the float network at the rung, a cost what was known before the training.
    """
    found, objectives, key = {}, recipe.parsed_objectives, rung_key(epochs)
    for record in records:
        accuracy = _value(record.quantity(key))
        if accuracy is None:  # it did not come so far; there is always a quality among the objectives
            continue
        values = [
            accuracy if objective.maximise else expected_cost(record, objective, recipe) for objective in objectives
        ]
        known = tuple(value for value in values if value is not None)
        if len(known) == len(values):
            found[record.number] = known
    return found


def _value(quantity: Quantity | None) -> float | None:
    return None if quantity is None else quantity.value
