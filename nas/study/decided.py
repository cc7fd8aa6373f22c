"""Who is on the front once all that might be were timed in turns.

Trials are measured alone, minutes or hours apart. One that something disturbed seems much slower than it is, and by the
number of then it is off the front for good. So those of which that may be so are timed in turns with the front's
members, and the turns decide among all that had one, where they can: intervals that overlap change nothing, or each
time that turns are taken again the front would be another of those that nobody can tell apart. A trial without a turn
neither gets on the front by them nor off it: it was not timed beside the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from nas.front import non_dominated, values_of
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
        Of ``told`` those without a turn, and those that no trial as good in all else was clearly faster than; besides,
        whoever was clearly faster than all that are as good in all else, less whom those without a turn (they came
        later, or their files are gone) beat by both readings. All of ``told`` where no latency is compared.
    """
    told = set(told)
    times = [objective.key for objective in objectives if objective.name == "latency_ms"]
    rest = [objective for objective in objectives if objective.key not in times]
    if not times or not timed:
        return told
    alone = {record.number: record for record in as_told if record.number in timed or record.number in told}
    decided = {
        number: Turn(record, times, rest)
        for number, record in timed.items()
        if all(_had_a_turn(record, key) for key in times)
        and (record.feasible(constraints) or alone[number].feasible(constraints))
    }
    untimed = [alone[number] for number in told if number not in decided]

    def leaves(one: Turn) -> bool:
        return any(other.is_as_good_as(one) and other.is_faster_than(one) for other in decided.values())

    def joins(number: int, one: Turn) -> bool:
        rivals = (o for n, o in decided.items() if n != number and o.is_as_good_as(one) and o.may_be_as_fast_as(one))
        if any(rival.record.number in told or rival.comes_before(one) for rival in rivals):
            return False
        record = one.record
        return not any(_beats(u, record, objectives) and _beats(u, alone[number], objectives) for u in untimed)

    stay = {number for number in told if number not in decided or not leaves(decided[number])}
    return stay | {number for number, one in decided.items() if number not in told and joins(number, one)}


class Turn:
    """A trial as its turns found it.

    Args:
        record: The trial.
        times: Keys of the latencies that are compared.
        rest: The other objectives.
    """

    def __init__(self, record: TrialRecord, times: Sequence[str], rest: Sequence[Objective]) -> None:
        self.record = record
        latencies = [quantity for key in times if (quantity := record.quantity(key)) is not None]
        self.values = np.array([q.value for q in latencies])
        self.low = np.array([q.value if q.low is None else q.low for q in latencies])
        self.high = np.array([q.value if q.high is None else q.high for q in latencies])
        self.rest = np.array([record.value(o.key) * (1.0 if o.maximise else -1.0) for o in rest])

    def is_as_good_as(self, other: Turn) -> bool:
        """Whether it is at least as good in all but latencies."""
        return bool((self.rest >= other.rest).all())

    def may_be_as_fast_as(self, other: Turn) -> bool:
        """Whether no latency of it is clearly longer."""
        return bool((self.low <= other.high).all())

    def is_faster_than(self, other: Turn) -> bool:
        """Whether a latency of it is clearly shorter, and none clearly longer."""
        return self.may_be_as_fast_as(other) and bool((self.high < other.low).any())

    def comes_before(self, other: Turn) -> bool:
        """Whether of two that nobody can tell apart in latency, and of which it is as good in all else, it is taken."""
        if (self.rest > other.rest).any():
            return True
        return (*self.values.tolist(), self.record.number) < (*other.values.tolist(), other.record.number)


def _had_a_turn(record: TrialRecord, key: str) -> bool:
    latency = record.quantity(key)
    return latency is not None and in_turns(latency)


def _beats(one: TrialRecord, other: TrialRecord, objectives: Sequence[Objective]) -> bool:
    return not non_dominated(values_of((one, other), objectives), [objective.maximise for objective in objectives])[1]
