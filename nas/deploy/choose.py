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
from dataclasses import asdict, dataclass
from typing import Any

from nas.deploy import words
from nas.deploy.nearest import nothing_meets
from nas.deploy.question import CHEAPEST, FASTEST, KNEE, MOST_ACCURATE, Question, best, figure, meets, value_of
from nas.errors import NasError, NothingFeasibleError, unknown_name
from nas.gains import Measured
from nas.objectives import Constraint, Objective
from nas.record import TrialRecord
from nas.serving import server_of
from nas.study import Study
from nas.target import Place, Target
from nas.wording import constraint_words, listing, plain_name


@dataclass(frozen=True)
class Limits:
    """What a deployment must keep to; None where it may be anything.

    Args:
        max_latency_ms: Largest latency (median) at ``target``, in milliseconds.
        min_accuracy: Smallest validation accuracy, as a fraction.
        max_size_bytes: Largest model file.
        target: What the latency is of: a target such as ``onnxruntime-cpu-1t-b1``, or a place that the recipe names,
            ``cpu-b1``, where each trial is served by the fastest; None for the first that an objective names.

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
        target: The target or place that the latency is of; None where the study measures none.
        runner_up: What the rule takes where the chosen one is left out; None where nothing else meets the limits.
    """

    record: TrialRecord
    why: str
    rule: str
    limits: Limits
    target: str | None
    runner_up: TrialRecord | None = None

    @property
    def served_by(self) -> Target | None:
        """What the latency was measured on: at a place the fastest; None where the study measures none."""
        return server_of(self.record.quantity(f"latency_ms@{self.target}"))


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
    able = question.able(study.front)
    candidates = [record for record in able if meets(record, question.bounds)]
    if study.front and not able:
        raise NothingFeasibleError(f"no trial on the front was measured on '{target}'", _measure_hint(study, target))
    if not candidates:
        raise nothing_meets(question)
    chosen = best(question, candidates)
    rest = [record for record in candidates if record is not chosen]
    runner_up = best(question, rest) if rest else None
    why = _why(question, chosen, runner_up, len(candidates), target)
    return Choice(chosen, why, question.rule, limits, target, runner_up)


def broken_limits(study: Study, choice: Choice, measured: Measured) -> list[str]:
    """Which limits of a choice a deployment's own numbers break, in words; a number that it lacks breaks none."""
    found = []
    for bound in _question(study, choice.limits, choice.target, knee=False).bounds:
        quantity = measured.quantity(bound.quantity.key)
        if quantity is not None and bound.violation(quantity.value) > 0:
            found.append(f"{plain_name(quantity.key)} {words.value_and_miss(bound, quantity.value)}")
    return found


def _target(study: Study, limits: Limits) -> str | None:
    """What latencies are read at: the target or place asked for, else the first that a latency objective names."""
    measured = _measured_on(study)
    if limits.target is not None:
        if limits.target not in measured:
            raise NasError(
                unknown_name("target", limits.target, measured),
                "a place can be named where the recipe's objectives or constraints do"
                if Place.parse(limits.target)
                else "",
            )
        return limits.target
    named = next((o.target for o in study.recipe.parsed_objectives if o.name == "latency_ms"), None)
    if named is None and limits.max_latency_ms is not None:
        hint = f"name one with --target: {', '.join(measured)}" if measured else "search with such an objective"
        raise NasError(f"a latency limit needs a latency objective, and {study.folder.path} has none", hint)
    return named


def _measured_on(study: Study) -> list[str]:
    """Every place and target that latencies may be read at: the recipe's, then those measured later."""
    recipe = study.recipe
    later = (q.target for r in study.measured for q in r.quantities if q.name == "latency_ms" and q.target is not None)
    return list(dict.fromkeys([*recipe.served, *recipe.all_targets, *later]))


def _measure_hint(study: Study, target: str | None) -> str:
    return "" if target is None or Place.parse(target) else f"nas measure {study.folder.path} --target {target}"


def _question(study: Study, limits: Limits, target: str | None, knee: bool) -> Question:
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
    return Question(study, tuple(bounds), quality, cost, rule)


def _why(question: Question, chosen: TrialRecord, runner_up: TrialRecord | None, count: int, target: str | None) -> str:
    within = f" with {listing([constraint_words(bound) for bound in question.bounds])}" if question.bounds else ""
    measured_on = f" ({_where(chosen, target)})" if target else ""
    figures = f"{figure(question.quality, chosen)} at {figure(question.cost, chosen)}{measured_on}"
    if runner_up is None:
        return f"Trial {chosen.number} is the only one on the front{within}: {figures}."
    ranking = {KNEE: "knee", MOST_ACCURATE: "most accurate"}.get(question.rule, words.superlative(question.cost))
    meaning = ", where a little more of one objective begins to cost much of another" if question.rule == KNEE else ""
    quality, cost = (
        words.change(o.name, value_of(chosen, o), value_of(runner_up, o)) for o in (question.quality, question.cost)
    )
    return (
        f"Trial {chosen.number} is the {ranking} of the {count} on the front{within}{meaning}: {figures}. "
        f"The runner-up, trial {runner_up.number}, has {figure(question.quality, runner_up)} ({quality}) "
        f"at {figure(question.cost, runner_up)} ({cost})."
    )


def _where(record: TrialRecord, target: str) -> str:
    """The target, or the place and who serves there: ``cpu-b1, by openvino-cpu-2t-b1``."""
    server = server_of(record.quantity(f"latency_ms@{target}"))
    return target if server is None or server.name == target else f"{target}, by {server.name}"


def _outcomes(study: Study) -> str:
    """How the trials ended, most frequent first: ``: 3 infeasible, 1 failed``."""
    counts = Counter(str(record.outcome) for record in study.records)
    return ": " + ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()) if counts else ""
