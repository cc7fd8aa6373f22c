"""Proxies: what is known of a trial before its end, by a surrogate, the untrained network, a rung, a supernet.

They decide what is worth a training. They are no results (``How.PROXY``): tables, pictures and files of the front are
made from ``results`` alone.
"""

from __future__ import annotations

from nas.objectives import Objective
from nas.outcome import How, Quantity
from nas.record import TrialRecord

# What a proxy's name says: of a surrogate, of the untrained network, of a training that is not at its end, of the
# network that all designs share.
PREDICTED, UNTRAINED = "predicted_", "proxy_"
RUNG_ACCURACY, RUNG = "rung_accuracy", "epoch-"
INHERITED_ACCURACY = "inherited_accuracy"


def results(record: TrialRecord) -> tuple[Quantity, ...]:
    """What was measured, counted or estimated of a trial."""
    return tuple(quantity for quantity in record.quantities if quantity.how is not How.PROXY)


def proxies(record: TrialRecord) -> tuple[Quantity, ...]:
    """What was known of a trial before its end."""
    return tuple(quantity for quantity in record.quantities if quantity.how is How.PROXY)


def result(record: TrialRecord, key: str) -> float | None:
    """The value of a trial's result of that key; None where it has none, whatever its proxies are called."""
    return next((quantity.value for quantity in results(record) if quantity.key == key), None)


def prediction(record: TrialRecord, objective: Objective) -> Quantity | None:
    """What was foreseen of an objective before the trial was trained; None where nothing was."""
    key = f"{PREDICTED}{objective.key}"
    quantity = record.quantity(key)
    return quantity if quantity is not None and quantity.how is How.PROXY else None


def rung_key(epochs: float) -> str:
    """The key of a float network's validation accuracy after so many epochs."""
    return f"{RUNG_ACCURACY}@{RUNG}{epochs:g}"


def rung_of(quantity: Quantity) -> float | None:
    """After how many epochs a rung's accuracy was reached; None of another quantity, or where it does not say."""
    if quantity.name != RUNG_ACCURACY or not (quantity.target or "").startswith(RUNG):
        return None
    try:
        return float((quantity.target or "").removeprefix(RUNG))
    except ValueError:
        return None


def rung_accuracy(record: TrialRecord, epochs: float) -> float | None:
    """A trial's accuracy at a rung; None where it did not come so far."""
    quantity = record.quantity(rung_key(epochs))
    return None if quantity is None else quantity.value
