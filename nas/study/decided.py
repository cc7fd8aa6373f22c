"""Who is on the front once all that might be were timed in turns.

Trials are measured alone, minutes or hours apart. One that something disturbed seems much slower than it is, and by the
number of then it is off the front for good. So those of which that may be so are timed in turns with the front's
members, and the turns decide among all that had one. A trial without a turn neither gets on the front by them nor off
it: it was not timed beside the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from nas.front import non_dominated, pareto_front
from nas.measurements import in_turns
from nas.objectives import Constraint, Objective
from nas.record import TrialRecord


def decided_in_turns(
    told: Collection[int],
    as_told: Sequence[TrialRecord],
    timed: Mapping[int, TrialRecord],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
) -> set[int]:
    """The front's members.

    Args:
        told: Those by the numbers that trials were told with.
        as_told: The trials with these numbers.
        timed: Those of them that were timed in turns, with these latencies, by number.
        objectives: Of which it is the front.
        constraints: What its members meet, by one of the two readings.

    Returns:
        Of those with a turn whom no other of them beats by the turns; and those of ``told`` without one (they came
        later, or their files are gone), less whom these beat by both readings. All of ``told`` where no latency is
        compared.
    """
    keys = [objective.key for objective in objectives if objective.name == "latency_ms"]
    told = set(told)
    if not keys or not timed:
        return told
    alone = {record.number: record for record in as_told if record.number in timed or record.number in told}
    decided = {
        number: record
        for number, record in timed.items()
        if all(_had_a_turn(record, key) for key in keys)
        and (record.feasible(constraints) or alone[number].feasible(constraints))
    }
    others = [alone[number] for number in told if number not in decided]
    winners = {record.number: record for record in pareto_front(list(decided.values()), objectives, ())}
    for other in others:
        winners = {
            number: record
            for number, record in winners.items()
            if not (_beats(other, record, objectives) and _beats(other, alone[number], objectives))
        }
    return {*winners, *(record.number for record in others)}


def _had_a_turn(record: TrialRecord, key: str) -> bool:
    latency = record.quantity(key)
    return latency is not None and in_turns(latency)


def _beats(one: TrialRecord, other: TrialRecord, objectives: Sequence[Objective]) -> bool:
    points = np.array([[record.value(objective.key) for objective in objectives] for record in (one, other)])
    return not non_dominated(points, [objective.maximise for objective in objectives])[1]
