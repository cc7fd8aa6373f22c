"""A trial's proxies as a person reads them; where one is shown it says what it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nas.outcome import Quantity
from nas.proxies import INHERITED_ACCURACY, PREDICTED, RUNG_ACCURACY, UNTRAINED, rung_of
from nas.wording import display, epochs_words, percent, plain_name, target_words

ACCURACY = "accuracy"
# Of an interval that does not say its own.
USUAL_LEVEL = 0.9


@dataclass(frozen=True)
class ProxyWords:
    """A proxy as a person reads it: ``latency``, ``0.0312 ms``, ``foreseen before its training, 90 % interval …``."""

    title: str
    value: str
    facts: str


def level_of(predicted: Quantity) -> float:
    """With which confidence a prediction's interval was given, 0 to 1."""
    return float(predicted.detail.get("level", USUAL_LEVEL))


def proxy_words(quantity: Quantity) -> ProxyWords:
    """A proxy in words, with what it is; one of another name is told by it."""
    name, target = quantity.name, quantity.target or ""
    if name == RUNG_ACCURACY:
        epochs = rung_of(quantity)
        after = target if epochs is None else epochs_words(epochs)
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
