"""What a record tells of a trial's objectives before its end (see ``nas.proxies``)."""

from __future__ import annotations

from nas.objectives import Objective
from nas.outcome import Quantity
from nas.proxies import UNTRAINED, prediction
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


def _value(quantity: Quantity | None) -> float | None:
    return None if quantity is None else quantity.value
