"""What a record tells of a trial's objectives before its end (see ``nas.proxies``)."""

from __future__ import annotations

import math

from nas.objectives import Objective
from nas.outcome import Quantity
from nas.proxies import UNTRAINED, prediction
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.target import Place

# How far off a time may be that something disturbed to the end, relatively, as long as a study does not tell: a
# neighbour on the same core makes a call up to 1.75 times as long, or comes when half of them are over.
DISTURBED = 0.3


def known_cost(record: TrialRecord, objective: Objective, recipe: Recipe) -> float | None:
    """What is known of a cost before a training: measured or counted, or of the untrained network.

    At a place the fastest of its targets counts, as it will when the trial is served.
    """
    return _value(_cost(record, objective, recipe))


def cost_and_spread(
    record: TrialRecord, objective: Objective, recipe: Recipe, disturbed: float = DISTURBED
) -> tuple[float, float]:
    """What is known of a cost before a training, and its standard deviation where that was disturbed; else 0, as for
    surrogates, which find out what all of it scatters by. Both in the cost's unit; NaN where nothing is known.

    Args:
        record: The trial.
        objective: The cost.
        recipe: Names a place's targets.
        disturbed: How far off a disturbed time is, as a share of it.
    """
    cost = _cost(record, objective, recipe)
    if cost is None:
        return float("nan"), float("nan")
    return cost.value, disturbed * cost.value if cost.detail.get("unstable") else 0.0


def disagreement(record: TrialRecord, objective: Objective, recipe: Recipe) -> float | None:
    """The logarithm of the ratio of two times of one network, as trained and before, of which one was disturbed at
    least; None where there are no such."""
    trained, untrained = record.quantity(objective.key), _untrained(record, objective, recipe)
    if trained is None or untrained is None or not (trained.detail.get("unstable") or untrained.detail.get("unstable")):
        return None
    return math.log(trained.value / untrained.value) if min(trained.value, untrained.value) > 0 else None


def _cost(record: TrialRecord, objective: Objective, recipe: Recipe) -> Quantity | None:
    found = record.quantity(objective.key)
    return _untrained(record, objective, recipe) if found is None else found


def _untrained(record: TrialRecord, objective: Objective, recipe: Recipe) -> Quantity | None:
    """A cost of the untrained network; at a place that of the fastest of its targets."""
    if (found := record.quantity(f"{UNTRAINED}{objective.key}")) is not None:
        return found
    place = Place.parse(objective.target) if objective.target else None
    if place is None:
        return None
    there = (record.quantity(f"{UNTRAINED}{objective.name}@{name}") for name in recipe.targets_at(place))
    return min((found for found in there if found is not None), key=lambda found: found.value, default=None)


def expected_cost(record: TrialRecord, objective: Objective, recipe: Recipe) -> float | None:
    """What is known of a cost before a training, else what the surrogate said of it."""
    known = known_cost(record, objective, recipe)
    return _value(prediction(record, objective)) if known is None else known


def _value(quantity: Quantity | None) -> float | None:
    return None if quantity is None else quantity.value
