"""What a sampler is told of a trial that ended, and which of all trials it is shown.

What the storage holds, and a dashboard shows:

========================================  ========  =============================  ===========================
outcome                                   state     values                         constraints
========================================  ========  =============================  ===========================
MEASURED                                  COMPLETE  the objectives, as measured    of what was measured
DUPLICATE                                 as the trial whose design it repeats was told
INFEASIBLE, SCREENED, STOPPED             PRUNED    none                           all: as known, else in full
FAILED                                    FAIL      none                           none
========================================  ========  =============================  ===========================

What a sampler is shown of it (``shown``):

============================  ==========================================================================
sampler                       PRUNED trials
============================  ==========================================================================
tpe, predictor (falls back    the latest, never more than there are COMPLETE ones; the others as FAIL.
on it)                        TPE counts PRUNED trials where it sizes its good set, and fills that set
                              with them where it has too few others.
gp, nsga2, random             all, of which none is looked at: GP and NSGA-II take COMPLETE trials alone.
============================  ==========================================================================

A violation is known of what was measured or counted; what an untrained network or a surrogate says is a proxy and is
told nobody. An unknown one is told as ``FULL_VIOLATION``, also of a trial that was stopped or screened out. TPE fills
its good set with feasible COMPLETE trials, then with PRUNED ones that violate nothing, then with the others, the least
sum of violations first. Where few trials are feasible, a trial given up and told to violate nothing would so come
before all that were measured and miss a limit by a hair. COMPLETE trials violate what they violate, so no front knows
of this number.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial, TrialState

from nas.objectives import Constraint, Objective
from nas.outcome import How, Outcome
from nas.record import TrialRecord

# How an unknown violation is told: as missing the limit by all of it.
FULL_VIOLATION = 1.0

_STATES = {
    Outcome.MEASURED: TrialState.COMPLETE,
    Outcome.INFEASIBLE: TrialState.PRUNED,
    Outcome.SCREENED: TrialState.PRUNED,
    Outcome.STOPPED: TrialState.PRUNED,
    Outcome.FAILED: TrialState.FAIL,
}

# Samplers that are disturbed by many PRUNED trials.
_FEW_PRUNED = frozenset({"tpe", "predictor"})


@dataclass(frozen=True)
class Told:
    """What is told of a trial.

    Args:
        state: Its state in Optuna.
        values: The objectives, in the recipe's order; None but for COMPLETE.
        violations: Of every constraint, by key, in the recipe's order; empty for FAIL.
    """

    state: TrialState
    values: tuple[float, ...] | None = None
    violations: dict[str, float] = field(default_factory=dict)


def told_as(
    record: TrialRecord,
    original: TrialRecord | None,
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
) -> Told:
    """What is told of a trial, see the table above.

    Args:
        record: The trial's.
        original: Of a duplicate the trial whose values it is given.
        objectives: The recipe's.
        constraints: The recipe's.
    """
    told = record if original is None else original
    assert told.outcome is not Outcome.DUPLICATE, f"of what trial {record.number} repeats there is no record"
    state = _STATES[told.outcome]
    if state is TrialState.FAIL:
        return Told(state)
    values = tuple(told.value(o.key) for o in objectives) if state is TrialState.COMPLETE else None
    return Told(state, values, {constraint.key: _violation(constraint, told) for constraint in constraints})


def _violation(constraint: Constraint, record: TrialRecord) -> float:
    quantity = record.quantity(constraint.quantity.key)
    if quantity is None or quantity.how not in (How.MEASURED, How.COUNTED):
        return FULL_VIOLATION
    return constraint.violation(quantity.value)


def shown(trials: Sequence[FrozenTrial], sampler: str) -> list[FrozenTrial]:
    """All trials as a sampler is shown them, see the table above; at the positions of their numbers."""
    if sampler not in _FEW_PRUNED:
        return list(trials)
    states = [trial.state for trial in trials]
    superfluous = states.count(TrialState.PRUNED) - states.count(TrialState.COMPLETE)
    if superfluous <= 0:
        return list(trials)
    seen = []
    for trial in trials:
        if superfluous > 0 and trial.state is TrialState.PRUNED:
            superfluous -= 1
            trial = copy.copy(trial)
            trial.state = TrialState.FAIL
        seen.append(trial)
    return seen
