"""Which network of a study's front to deploy, under limits or by preference, and why. Reads records alone.

Candidates are the members of the front that meet every limit; validation figures decide, never test figures.

| asked for | rule |
|---|---|
| an accuracy limit, whatever else | the fastest that is accurate enough (and within the other limits) |
| a latency (median, 95th percentile, throughput) or size limit alone | the most accurate within it |
| no limit, or the knee | the knee of those that meet the limits |
| weights | the best weighed sum of those that meet the limits (see ``nas.deploy.preference``) |
| one figure first | of those that meet the limits and are near the best in it, the best in the next figure |

Those that cannot be told apart from what the rule takes, in accuracy nor in cost, are a tie (see ``nas.ties``): of a
tie the smaller file is taken. Of equal figures it is the smaller file too, then the better in the other figure, then
the lower number. With an accuracy *and* a latency limit the fastest is taken: whoever states an accuracy says that it
is enough.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from nas.deploy import words
from nas.deploy.limits import Limits
from nas.deploy.nearest import nothing_meets
from nas.deploy.preference import First, Preference, Weights
from nas.deploy.question import (
    CHEAPEST,
    FASTEST,
    IN_ORDER,
    KNEE,
    MOST_ACCURATE,
    WEIGHED,
    Question,
    meets,
    take,
)
from nas.deploy.service import FPS, P95, ServiceFigure
from nas.deploy.sides import Side, sides_of
from nas.deploy.why import why
from nas.errors import NasError, NothingFeasibleError, RecipeError, unknown_name
from nas.gains import Measured
from nas.objectives import Constraint, Objective
from nas.record import TrialRecord
from nas.serving import server_of
from nas.study import Study
from nas.target import Place, Target
from nas.ties import tied_with

__all__ = ["Choice", "Limits", "broken_limits", "choose"]


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Args:
        record: The trial.
        why: A few sentences, with numbers and the runner-up.
        rule: ``fastest``, ``most accurate``, ``knee``, ``weighed``, ``in order``, or ``cheapest`` where no latency was
            measured.
        limits: What was asked for.
        target: The target or place that the latency is of; None where the study measures none.
        runner_up: What the rule takes where the chosen one is left out; None where nothing else meets the limits.
        sides: The next faster and the next more accurate member of the front, with what it costs to move there.
        tied: Trials that meet the limits too and cannot be told apart from the chosen one, on the front or behind it.
        spread: Standard deviation of the accuracy between training seeds that was allowed for; None where unknown.
    """

    record: TrialRecord
    why: str
    rule: str
    limits: Limits
    target: str | None
    runner_up: TrialRecord | None = None
    sides: tuple[Side, ...] = ()
    tied: tuple[TrialRecord, ...] = ()
    spread: float | None = None

    @property
    def served_by(self) -> Target | None:
        """What the latency was measured on: at a place the fastest; None where the study measures none."""
        return server_of(self.record.quantity(f"latency_ms@{self.target}"))


def choose(
    study: Study,
    limits: Limits,
    knee: bool = False,
    preference: Preference | None = None,
    spread: float | None = None,
) -> Choice:
    """Chooses a member of the front under limits, as the table at the top of this module says.

    The accuracy that counts is plain accuracy, or balanced accuracy where that is the study's only quality. The knee
    is that of the study's own objectives.

    Args:
        study: A study, finished or not.
        limits: What the choice must keep to.
        knee: Take the knee of those that meet the limits.
        preference: What decides among those that meet the limits, in place of the rule for limits.
        spread: Standard deviation of the accuracy from training seed to training seed, as a fraction, where trainings
            were repeated; it widens what cannot be told apart.

    Raises:
        NothingFeasibleError: No trial was measured, or none meets the limits; names the nearest.
        NasError: A latency limit where no latency was measured, an unknown target, or the knee and a preference.
    """
    if knee and preference is not None:
        raise NasError("the knee and a preference are two ways to choose", "ask for one of them")
    if not study.measured:
        raise NothingFeasibleError(
            f"no trial of {study.folder.path} was measured{_outcomes(study)}", "let the search go on, then choose"
        )
    target = _target(study, limits)
    question = _question(study, limits, target, knee, preference, spread)
    able = question.able(study.front)
    if study.front and not able:
        raise NothingFeasibleError(f"no trial on the front was measured on '{target}'", _measure_hint(study, target))
    candidates = [record for record in able if meets(record, question.bounds)]
    if not candidates:
        raise nothing_meets(question)
    taken = take(question, candidates)
    rest = [record for record in candidates if record is not taken.record]
    runner_up = take(question, rest).record if rest else None
    return Choice(
        taken.record,
        why(question, taken, runner_up, candidates),
        question.rule,
        limits,
        target,
        runner_up,
        sides_of(question, taken.record, able),
        _tied(question, taken.record),
        spread,
    )


def broken_limits(study: Study, choice: Choice, measured: Measured) -> list[str]:
    """Which limits of a choice a deployment's own numbers break, in words; a number that it lacks breaks none."""
    found = []
    for bound in _question(study, choice.limits, choice.target).bounds:
        value = _value(measured, bound.quantity)
        if value is not None and bound.violation(value) > 0:
            found.append(f"{words.called(bound.quantity)} {words.value_and_miss(bound, value)}")
    return found


def _value(measured: Measured, figure: Objective) -> float | None:
    if isinstance(figure, ServiceFigure):
        return figure.read(measured)
    quantity = measured.quantity(figure.key)
    return quantity.value if quantity is not None else None


def _tied(question: Question, chosen: TrialRecord) -> tuple[TrialRecord, ...]:
    """All that nobody could prefer to the chosen one by what was measured, dominated ones too."""
    own = question.study.recipe.parsed_constraints
    able = [record for record in question.able(question.study.measured) if record.feasible(own)]
    alike = tied_with(chosen, able, question.quality, question.cost, question.spread)
    return tuple(record for record in alike if meets(record, question.bounds))


def _target(study: Study, limits: Limits) -> str | None:
    """What latencies are read at: the target or place asked for, else the first that a latency objective names."""
    measured = _measured_on(study)
    if limits.target is not None:
        if limits.target not in measured:
            raise NasError(unknown_name("target", limits.target, measured), _unmeasured_hint(study, limits.target))
        return limits.target
    named = next((o.target for o in study.recipe.parsed_objectives if o.name == "latency_ms"), None)
    if named is None and limits.on_latency:
        hint = f"name one with --target: {', '.join(measured)}" if measured else "search with such an objective"
        raise NasError(f"a latency limit needs a latency objective, and {study.folder.path} has none", hint)
    return named


def _unmeasured_hint(study: Study, name: str) -> str:
    """How a study gets latencies on a target that it has none for."""
    if Place.parse(name) is not None:
        return "a place can be named where the recipe's objectives or constraints do"
    try:
        Target.parse(name)
    except RecipeError as error:
        return error.hint
    return f"nas measure {study.folder.path} --target {name} measures the study's trials there"


def _measured_on(study: Study) -> list[str]:
    """Every place and target that latencies may be read at: the recipe's, then those measured later."""
    recipe = study.recipe
    later = (q.target for r in study.measured for q in r.quantities if q.name == "latency_ms" and q.target is not None)
    return list(dict.fromkeys([*recipe.served, *recipe.all_targets, *later]))


def _measure_hint(study: Study, target: str | None) -> str:
    return "" if target is None or Place.parse(target) else f"nas measure {study.folder.path} --target {target}"


def _question(
    study: Study,
    limits: Limits,
    target: str | None,
    knee: bool = False,
    preference: Preference | None = None,
    spread: float | None = None,
) -> Question:
    objectives = study.recipe.parsed_objectives
    qualities = [o for o in objectives if o.maximise]
    quality = next((o for o in qualities if o.name == "accuracy"), qualities[0])
    cost = Objective("latency_ms", target) if target else next(o for o in objectives if not o.maximise)
    bounds = tuple(
        Constraint(quantity, at_most, limit)
        for quantity, at_most, limit in (
            (quality, False, limits.min_accuracy),
            (cost, True, limits.max_latency_ms),
            (ServiceFigure(P95, target), True, limits.max_p95_ms),
            (ServiceFigure(FPS, target), False, limits.min_fps),
            (Objective("size_bytes"), True, limits.max_size_bytes),
        )
        if limit is not None
    )
    rule = _rule(limits, bool(bounds), bool(target), knee, preference)
    return Question(study, bounds, quality, cost, rule, preference, spread)


def _rule(limits: Limits, limited: bool, timed: bool, knee: bool, preference: Preference | None) -> str:
    if isinstance(preference, Weights):
        return WEIGHED
    if isinstance(preference, First):
        return IN_ORDER
    if knee or not limited:
        return KNEE
    if limits.min_accuracy is not None:
        return FASTEST if timed else CHEAPEST
    return MOST_ACCURATE


def _outcomes(study: Study) -> str:
    """How the trials ended, most frequent first: ``: 3 infeasible, 1 failed``."""
    counts = Counter(str(record.outcome) for record in study.records)
    return ": " + ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()) if counts else ""
