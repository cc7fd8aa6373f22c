"""A trial's results apart from its proxies: what was known of it before its end, by a surrogate, a rung, a supernet.

Proxies (``How.PROXY``) decide what is worth a training. They are no results: tables, pictures and files of the front
are made from ``results`` alone, and where a proxy is shown it says what it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nas.objectives import Objective
from nas.outcome import How, Quantity
from nas.record import TrialRecord
from nas.wording import display, percent, plain_name, plural, target_words

# What a proxy's name says: of a surrogate, of the untrained network, of a training that is not at its end, of the
# network that all designs share.
PREDICTED, UNTRAINED = "predicted_", "proxy_"
RUNG_ACCURACY, RUNG = "rung_accuracy", "epoch-"
INHERITED_ACCURACY = "inherited_accuracy"
ACCURACY = "accuracy"
# Of an interval that does not say its own.
USUAL_LEVEL = 0.9


@dataclass(frozen=True)
class ProxyWords:
    """A proxy as a person reads it: ``latency``, ``0.0312 ms``, ``foreseen before its training, 90 % interval …``."""

    title: str
    value: str
    facts: str


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
    return next((quantity for quantity in proxies(record) if quantity.key == key), None)


def level_of(predicted: Quantity) -> float:
    """With which confidence a prediction's interval was given, 0 to 1."""
    return float(predicted.detail.get("level", USUAL_LEVEL))


def proxy_words(quantity: Quantity) -> ProxyWords:
    """A proxy in words, with what it is; one of another name is told by it."""
    name, target = quantity.name, quantity.target or ""
    if name == RUNG_ACCURACY:
        epochs = target.removeprefix(RUNG)
        after = plural(int(epochs), "epoch") if epochs.isdigit() else target
        facts = "of the float network, at a rung"
        return ProxyWords(f"accuracy after {after}", display(ACCURACY, quantity.value), facts)
    if name == INHERITED_ACCURACY:
        return ProxyWords("inherited accuracy", display(ACCURACY, quantity.value), "with the weights of the supernet")
    for prefix, facts in ((PREDICTED, _foreseen(quantity)), (UNTRAINED, "of the untrained network")):
        if name.startswith(prefix):
            plain = replace(quantity, name=name.removeprefix(prefix))
            where = [target_words(target)] if target else []
            return ProxyWords(plain_name(plain.name), display(plain.name, plain.value), ", ".join([facts, *where]))
    return ProxyWords(plain_name(name), display(name, quantity.value), ", ".join(filter(None, ["proxy", target])))


def _foreseen(quantity: Quantity) -> str:
    """``foreseen before its training, 90 % interval 0.0280 ms to 0.0350 ms``."""
    if quantity.low is None or quantity.high is None:
        return "foreseen before its training"
    name, level = quantity.name.removeprefix(PREDICTED), percent(level_of(quantity), 1, zeros=False)
    ends = " to ".join(display(name, end) for end in (quantity.low, quantity.high))
    return f"foreseen before its training, {level} % interval {ends}"
