"""Why a trial was chosen, in sentences with numbers."""

from __future__ import annotations

from nas.deploy import words
from nas.deploy.preference import First, Weights
from nas.deploy.question import (
    IN_ORDER,
    KNEE,
    MOST_ACCURATE,
    WEIGHED,
    Question,
    Taken,
    best,
    figure,
    near_the_first,
    value_of,
)
from nas.objectives import Objective
from nas.record import TrialRecord
from nas.serving import server_of
from nas.wording import display, listing, significant


def why(question: Question, taken: Taken, runner_up: TrialRecord | None, candidates: list[TrialRecord]) -> str:
    """The rule, the figures, the runner-up, and where another trial's numbers lead, why it was not taken.

    Args:
        question: What was asked.
        taken: What the rule took.
        runner_up: What it takes where that one is left out; None where nothing else meets the limits.
        candidates: All members of the front that meet the limits.
    """
    chosen, target = taken.record, question.cost.target
    within = f" with {listing([words.limit(bound) for bound in question.bounds])}" if question.bounds else ""
    measured_on = f" ({_where(chosen, target)})" if target else ""
    figures = f"{figure(question.quality, chosen)} at {figure(question.cost, chosen)}{measured_on}"
    if runner_up is None:
        return f"Trial {chosen.number} is the only one on the front{within}: {figures}."
    first = f"Trial {chosen.number} is {_rank(question, len(candidates), within, candidates)}: {figures}."
    if taken.leader is not chosen:
        first = f"{_instead(question, taken, len(candidates), within, candidates)}: {figures}."
    return f"{first} {_runner_up(question, chosen, runner_up)}"


def _rank(question: Question, count: int, within: str, candidates: list[TrialRecord]) -> str:
    """``the fastest of the 3 on the front with …``."""
    of = f"of the {count} on the front{within}"
    if isinstance(question.preference, Weights):
        counted = [_weight_words(question.figure(name), weight) for name, weight in question.preference.items]
        return f"the best {of} where {listing(counted)}"
    if isinstance(question.preference, First):
        return _in_order(question, question.preference, of, candidates)
    ranking = {KNEE: "knee", MOST_ACCURATE: "most accurate"}.get(question.rule, words.superlative(question.cost))
    meaning = ", where a little more of one objective begins to cost much of another" if question.rule == KNEE else ""
    return f"the {ranking} {of}{meaning}"


def _weight_words(quantity: Objective, weight: float) -> str:
    unit = "a point" if quantity.maximise else "a halving"
    return f"{unit} of {words.called(quantity)} counts {weight:g}"


def _in_order(question: Question, preference: First, of: str, candidates: list[TrialRecord]) -> str:
    first, then = question.order
    near = near_the_first(question, candidates)
    amount = f"{preference.within:g} {'points' if first.maximise else '%'}"
    if len(near) == 1:
        nobody = f", and no other comes within {amount} of it" if preference.within else ""
        return f"the {words.superlative(first)} {of}{nobody}"
    sign = 1 if first.maximise else -1
    top = max(near, key=lambda record: (sign * value_of(record, first), -record.number))
    return (
        f"the {words.superlative(then)} of the {len(near)} that come within {amount} of the {words.superlative(first)} "
        f"{of} (trial {top.number}, {words.shown(first.name, value_of(top, first))})"
    )


def _instead(question: Question, taken: Taken, count: int, within: str, candidates: list[TrialRecord]) -> str:
    chosen, leader = taken.record, taken.leader
    sizes = [display("size_bytes", record.value("size_bytes")) for record in (chosen, leader)]
    return (
        f"Trial {leader.number} is {_rank(question, count, within, candidates)}, but trial {chosen.number} cannot be "
        f"told apart from it and is the smaller file ({sizes[0]}, not {sizes[1]}), so trial {chosen.number} is taken"
    )


def _runner_up(question: Question, chosen: TrialRecord, runner_up: TrialRecord) -> str:
    quality, cost = (
        words.change(o.name, value_of(chosen, o), value_of(runner_up, o)) for o in (question.quality, question.cost)
    )
    said = (
        f"The runner-up, trial {runner_up.number}, has {figure(question.quality, runner_up)} ({quality}) "
        f"at {figure(question.cost, runner_up)} ({cost})"
    )
    if question.rule == WEIGHED and best(question, [chosen, runner_up]) is chosen:
        behind = question.score(chosen) - question.score(runner_up)
        said += f", {significant(behind, 2, zeros=False)} behind by these weights"
    if question.rule == IN_ORDER:
        extra = [f for f in question.order if f not in (question.quality, question.cost)]
        said += "".join(f", {words.called(f)} {words.shown(f.name, value_of(runner_up, f))}" for f in extra)
    return f"{said}."


def _where(record: TrialRecord, target: str) -> str:
    """The target, or the place and who serves there: ``cpu-b1, by openvino-cpu-2t-b1``."""
    server = server_of(record.quantity(f"latency_ms@{target}"))
    return target if server is None or server.name == target else f"{target}, by {server.name}"
