"""Whom the turns at a search's end are for: the finalists, and who may be off the front by a disturbance alone.

A trial that something disturbed while it was measured says so (its latency is unstable), but by that number it may be
off the front for good. What might add most to the front if it had been undisturbed gets a turn as well, and the turns
decide (see ``nas.study.decided``).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nas.front import added_volume, reference_from, values_of
from nas.gains import confirmed
from nas.measure.measurer import ROUNDS, TURN
from nas.outcome import Outcome, Quantity
from nas.record import TrialRecord
from nas.study import Study

# By so much a disturbed latency may be too long: a neighbour on the same core slows small networks down to this.
SLOWED = 1.5
# So long the turns of all contenders may take, in seconds: about a dozen small networks.
SECONDS = 6.0


def to_be_timed(study: Study) -> list[TrialRecord]:
    """Those that are confirmed in the end, and the contenders; each once."""
    trials = [*confirmed(study), *contenders(study)]
    return list({record.number: record for record in trials}.values())


def contenders(study: Study) -> list[TrialRecord]:
    """Of ``hopeful`` trials the first ones that are turned to within ``SECONDS``, if all their files are there."""
    found, left = [], SECONDS
    for record in hopeful(study):
        seconds = _turns_seconds(record)
        if seconds <= left and all(study.store.read_blob(sha) is not None for sha in record.files):
            found.append(record)
            left -= seconds
    return found


def hopeful(study: Study) -> list[TrialRecord]:
    """Trials off the front with disturbed latencies that might be on it undisturbed, what might add most first.

    By the numbers that trials were told with. Empty where no latency is compared.
    """
    objectives, limits = study.recipe.parsed_objectives, study.recipe.parsed_constraints
    times = [objective.key for objective in objectives if objective.name == "latency_ms"]
    front, reference = study.front_as_told, reference_from(study.as_told, objectives)
    members = {record.number for record in front}
    disturbed = [
        record
        for record in study.as_told
        if record.outcome is Outcome.MEASURED
        and record.number not in members
        and any(_is_disturbed(quantity) for quantity in record.quantities if quantity.key in times)
    ]
    undisturbed = [_undisturbed(record) for record in disturbed]
    meets = [record.feasible(limits) for record in undisturbed]
    if reference is None or not any(meets):
        return []
    hoped = reference.normalise(values_of(undisturbed, objectives))
    added = added_volume(reference.normalise(values_of(front, objectives)), hoped) * meets
    return [disturbed[place] for place in np.argsort(-added, kind="stable") if added[place] > 0]


def _is_disturbed(quantity: Quantity) -> bool:
    return quantity.name == "latency_ms" and bool(quantity.detail.get("unstable"))


def _undisturbed(record: TrialRecord) -> TrialRecord:
    """The trial as it may be."""
    quantities = (
        replace(quantity, value=quantity.value / SLOWED) if _is_disturbed(quantity) else quantity
        for quantity in record.quantities
    )
    return replace(record, quantities=tuple(quantities))


def _turns_seconds(record: TrialRecord) -> float:
    """How long all turns of a trial take, on all targets that it was measured on."""
    latencies = [q.value for q in record.quantities if q.name == "latency_ms"]
    each = (TURN.warmup_ms + max(TURN.minimum_ms, TURN.minimum_samples * latency) for latency in latencies)
    return ROUNDS * sum(each) / 1000
