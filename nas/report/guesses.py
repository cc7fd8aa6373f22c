"""Where the page may draw a trial that was given up: by what was measured or foreseen of it. Never a result."""

from __future__ import annotations

from collections.abc import Iterable

from nas.objectives import Objective
from nas.outcome import How, Outcome
from nas.proxies import PREDICTED, RUNG_ACCURACY, UNTRAINED, results, rung_of
from nas.record import TrialRecord

NOT_DRAWN = (Outcome.MEASURED, Outcome.DUPLICATE)


def guesses(record: TrialRecord, wanted: Iterable[Objective]) -> dict[str, tuple[float, str]]:
    """What is known of a trial that was not measured: key → value and how it was had, in words.

    What was counted or measured comes first, then a training that was stopped (its accuracy at the last rung), the
    untrained network, what was foreseen. Empty for a trial that was measured, and for a duplicate.

    Args:
        record: The trial.
        wanted: The quantities to look for, such as the objectives.
    """
    if record.outcome in NOT_DRAWN:
        return {}
    found = {objective.key: _guess(record, objective) for objective in wanted}
    return {key: guess for key, guess in found.items() if guess is not None}


def _guess(record: TrialRecord, objective: Objective) -> tuple[float, str] | None:
    own = next((q for q in results(record) if q.key == objective.key), None)
    if own is not None:
        return own.value, str(own.how)
    if objective.name == "accuracy":
        rungs = [q for q in record.quantities if q.name == RUNG_ACCURACY and q.how is How.PROXY]
        if rungs:
            return max(rungs, key=lambda quantity: rung_of(quantity) or 0.0).value, "at its last rung"
    for prefix, words in ((UNTRAINED, "of the untrained network"), (PREDICTED, "foreseen")):
        proxy = record.quantity(f"{prefix}{objective.key}")
        if proxy is not None:
            return proxy.value, words
    return None
