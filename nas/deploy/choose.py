"""Which network of a study's front to deploy, under limits, and why. Reads records alone.

Candidates are the members of the front that meet every limit; validation figures decide, never test figures.

| limits | rule |
|---|---|
| an accuracy limit, whatever else | the fastest that is accurate enough (and within the other limits) |
| a latency or size limit alone | the most accurate within it |
| none, or the knee is asked for | the knee of those that meet the limits |

Of a tie the smaller file is taken, then the better in the other figure, then the lower number. With an accuracy *and*
a latency limit the fastest is taken: whoever states an accuracy says that it is enough.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nas.deploy import words
from nas.errors import NasError, NothingFeasibleError, StudyError, unknown_name
from nas.front import knee as knee_of
from nas.objectives import Constraint, Objective
from nas.record import TrialRecord
from nas.study import Study
from nas.wording import constraint_words, display, listing, plain_name

FASTEST = "fastest"
CHEAPEST = "cheapest"  # the same where the study measures no latency: least of its first cost, such as FLOPs
MOST_ACCURATE = "most accurate"
KNEE = "knee"


@dataclass(frozen=True)
class Limits:
    """What a deployment must keep to; None where it may be anything.

    Args:
        max_latency_ms: Largest latency (median) at ``target``, in milliseconds.
        min_accuracy: Smallest validation accuracy, as a fraction.
        max_size_bytes: Largest model file.
        target: What the latency is of, such as ``onnxruntime-cpu-1t-b1``; None for the first that an objective names.

    Raises:
        NasError: A limit is no positive number, or the accuracy no fraction.
    """

    max_latency_ms: float | None = None
    min_accuracy: float | None = None
    max_size_bytes: int | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_latency_ms", "min_accuracy", "max_size_bytes"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise NasError(f"{name} must be greater than 0, but got {value}", "leave it out to have no such limit")
        if self.min_accuracy is not None and self.min_accuracy > 1:
            hint = "write it as a fraction, 0.97 for 97 %"
            raise NasError(f"min_accuracy must be at most 1, but got {self.min_accuracy}", hint)

    def to_json(self) -> dict[str, Any]:
        """The limits that are set, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Args:
        record: The trial.
        why: One or two sentences, with numbers and the runner-up.
        rule: ``fastest``, ``most accurate``, ``knee``, or ``cheapest`` where no latency was measured.
        limits: What was asked for.
        target: What the latency is of; None where the study measures none.
        runner_up: What the rule takes where the chosen one is left out; None where nothing else meets the limits.
    """

    record: TrialRecord
    why: str
    rule: str
    limits: Limits
    target: str | None
    runner_up: TrialRecord | None = None


@dataclass(frozen=True)
class _Question:
    """What is asked of a study: the limits as constraints, and the two figures that decide."""

    study: Study
    bounds: tuple[Constraint, ...]
    quality: Objective
    cost: Objective
    rule: str


def choose(study: Study, limits: Limits, knee: bool = False) -> Choice:
    """Chooses a member of the front under limits, as the table at the top of this module says.

    The accuracy that counts is plain accuracy, or balanced accuracy where that is the study's only quality. The knee
    is that of the study's own objectives.

    Args:
        study: A study, finished or not.
        limits: What the choice must keep to.
        knee: Take the knee of those that meet the limits.

    Raises:
        NothingFeasibleError: No trial was measured, or none meets the limits; names the nearest.
        NasError: A latency limit where no latency was measured, or an unknown target.
    """
    if not study.measured:
        raise NothingFeasibleError(
            f"no trial of {study.folder.path} was measured{_outcomes(study)}", "let the search go on, then choose"
        )
    target = _target(study, limits)
    question = _question(study, limits, target, knee)
    candidates = [record for record in study.front if _meets(record, question.bounds)]
    if not candidates:
        raise _nothing(question)
    chosen = _best(question, candidates)
    rest = [record for record in candidates if record is not chosen]
    runner_up = _best(question, rest) if rest else None
    why = _why(question, chosen, runner_up, len(candidates), target)
    return Choice(chosen, why, question.rule, limits, target, runner_up)


def _target(study: Study, limits: Limits) -> str | None:
    """What latencies are read at: the target asked for, else the first that a latency objective names."""
    measured = study.recipe.all_targets
    if limits.target is not None:
        if limits.target not in measured:
            raise NasError(unknown_name("target", limits.target, measured))
        return limits.target
    named = next((o.target for o in study.recipe.parsed_objectives if o.name == "latency_ms"), None)
    if named is None and limits.max_latency_ms is not None:
        hint = f"name one with --target: {', '.join(measured)}" if measured else "search with such an objective"
        raise NasError(f"a latency limit needs a latency objective, and {study.folder.path} has none", hint)
    return named


def _question(study: Study, limits: Limits, target: str | None, knee: bool) -> _Question:
    objectives = study.recipe.parsed_objectives
    qualities = [o for o in objectives if o.maximise]
    quality = next((o for o in qualities if o.name == "accuracy"), qualities[0])
    cost = Objective("latency_ms", target) if target else next(o for o in objectives if not o.maximise)
    bounds = [
        Constraint(quantity, at_most, limit)
        for quantity, at_most, limit in (
            (quality, False, limits.min_accuracy),
            (cost, True, limits.max_latency_ms),
            (Objective("size_bytes"), True, limits.max_size_bytes),
        )
        if limit is not None
    ]
    if knee or not bounds:
        rule = KNEE
    elif limits.min_accuracy is not None:
        rule = FASTEST if target else CHEAPEST
    else:
        rule = MOST_ACCURATE
    return _Question(study, tuple(bounds), quality, cost, rule)


def _best(question: _Question, candidates: Sequence[TrialRecord]) -> TrialRecord:
    """What the rule takes of several: by its figure, then the smaller file, then the other figure, then the number."""
    size = Objective("size_bytes")
    if question.rule == KNEE:
        objectives = question.study.recipe.parsed_objectives
        at_knee = [record.value(o.key) for record in [knee_of(candidates, objectives)] for o in objectives]
        equals = [record for record in candidates if [record.value(o.key) for o in objectives] == at_knee]
        return min(equals, key=lambda record: (_value(record, size), record.number))

    def rank(record: TrialRecord) -> tuple[float, float, float, int]:
        loss, cost = -_value(record, question.quality), _value(record, question.cost)
        first, last = (loss, cost) if question.rule == MOST_ACCURATE else (cost, loss)
        return first, _value(record, size), last, record.number

    return min(candidates, key=rank)


def _value(record: TrialRecord, quantity: Objective) -> float:
    try:
        return record.value(quantity.key)
    except KeyError:
        raise StudyError(
            f"trial {record.number} was measured without '{quantity.key}', so it cannot be chosen by it",
            "search again with --fresh",
        ) from None


def _meets(record: TrialRecord, bounds: Sequence[Constraint]) -> bool:
    return all(bound.violation(_value(record, bound.quantity)) <= 0 for bound in bounds)


def _why(
    question: _Question, chosen: TrialRecord, runner_up: TrialRecord | None, count: int, target: str | None
) -> str:
    within = f" with {listing([constraint_words(bound) for bound in question.bounds])}" if question.bounds else ""
    measured_on = f" ({target})" if target else ""
    figures = f"{_figure(question.quality, chosen)} at {_figure(question.cost, chosen)}{measured_on}"
    if runner_up is None:
        return f"Trial {chosen.number} is the only one on the front{within}: {figures}."
    ranking = {KNEE: "knee", MOST_ACCURATE: "most accurate"}.get(question.rule, words.superlative(question.cost))
    meaning = ", where a little more of one objective begins to cost much of another" if question.rule == KNEE else ""
    quality, cost = (
        words.change(o.name, _value(chosen, o), _value(runner_up, o)) for o in (question.quality, question.cost)
    )
    return (
        f"Trial {chosen.number} is the {ranking} of the {count} on the front{within}{meaning}: {figures}. "
        f"The runner-up, trial {runner_up.number}, has {_figure(question.quality, runner_up)} ({quality}) "
        f"at {_figure(question.cost, runner_up)} ({cost})."
    )


def _figure(quantity: Objective, record: TrialRecord) -> str:
    """``validation accuracy 97.22 %``, ``0.0213 ms``, ``12.1 k FLOPs``."""
    text = display(quantity.name, _value(record, quantity))
    if quantity.name in ("latency_ms", "size_bytes"):
        return text
    name = plain_name(quantity.key)
    counted = quantity.kind.unit in ("FLOP", "MAC") or quantity.name == "params"
    return f"{text} {name}" if counted else f"{name} {text}"


def _outcomes(study: Study) -> str:
    """How the trials ended, most frequent first: ``: 3 infeasible, 1 failed``."""
    counts = Counter(str(record.outcome) for record in study.records)
    return ": " + ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()) if counts else ""


def _nothing(question: _Question) -> NothingFeasibleError:
    """Says that nothing meets the limits, and what comes nearest on every side."""
    study = question.study
    own = study.recipe.parsed_constraints
    off_front = [r for r in study.measured if r.feasible(own) and _meets(r, question.bounds)]
    asked = listing([constraint_words(bound) for bound in question.bounds])
    if off_front:
        # Possible only where a limit is on what the study does not optimise.
        best = _best(question, off_front)
        return NothingFeasibleError(
            f"no trial on the front has {asked}; trial {best.number} has, but others dominate it: "
            f"{_figure(question.quality, best)} at {_figure(question.cost, best)}",
            "search with that quantity as an objective or a constraint",
        )
    everything = _strictest([*own, *question.bounds])
    asked = listing([constraint_words(bound) for bound in everything])
    sides = [side for bound in everything if (side := _nearest(study.measured, bound, everything))]
    return NothingFeasibleError(
        f"no trial has {asked}: {'; '.join(sides) or _nearest_overall(study.measured, everything)}",
        "loosen a limit, or let the search go on",
    )


def _strictest(bounds: Sequence[Constraint]) -> list[Constraint]:
    """Of several limits on the same side of the same quantity only the strictest."""
    kept: dict[tuple[Objective, bool], Constraint] = {}
    for bound in bounds:
        key = (bound.quantity, bound.at_most)
        if key not in kept or kept[key].violation(bound.limit) < 0:  # the new limit lies inside the old
            kept[key] = bound
    return list(kept.values())


def _nearest(records: Sequence[TrialRecord], bound: Constraint, bounds: Sequence[Constraint]) -> str:
    """The trial that misses this limit by least and meets all others, in words.

    Where none meets all others it is the best of all by this limit; empty where that one does not miss it.
    """
    others = [other for other in bounds if other is not bound]
    able = [record for record in records if _meets(record, others)]
    if not able:
        others, able = [], list(records)
    nearest = min(able, key=lambda record: (bound.violation(_value(record, bound.quantity)), record.number))
    value = _value(nearest, bound.quantity)
    if bound.violation(value) <= 0:
        return ""
    fine = [words.ENOUGH.get(other.quantity.name, f"within {constraint_words(other)}") for other in others]
    that = f" that is {listing(fine)}" if fine else ""
    name = f"the {words.superlative(bound.quantity)}{that}, trial {nearest.number},"
    return f"{name} has {words.value_and_miss(bound, value)}"


def _nearest_overall(records: Sequence[TrialRecord], bounds: Sequence[Constraint]) -> str:
    """The trial whose worst relative miss is least, in words."""

    def worst(record: TrialRecord) -> float:
        return max(bound.violation(_value(record, bound.quantity)) for bound in bounds)

    nearest = min(records, key=lambda record: (worst(record), record.number))
    missed = [b for b in bounds if b.violation(_value(nearest, b.quantity)) > 0]
    misses = [f"{plain_name(b.quantity.key)} {words.miss(b, _value(nearest, b.quantity))}" for b in missed]
    return f"the nearest, trial {nearest.number}, has {listing(misses)}"
