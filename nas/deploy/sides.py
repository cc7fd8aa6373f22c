"""What stands on either side of a chosen trial on the front, and what it would cost to move there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.deploy import words
from nas.deploy.question import Question, meets, value_of
from nas.front import non_dominated
from nas.objectives import Objective
from nas.record import TrialRecord
from nas.ties import told_apart
from nas.wording import display, listing, plain_name, significant


@dataclass(frozen=True)
class Side:
    """The next member of the front in one direction.

    Args:
        direction: ``faster``, ``more accurate``, or such as ``lower in FLOPs`` where no latency decides.
        record: The trial.
        words: What it gains and what it costs, with numbers.
    """

    direction: str
    record: TrialRecord
    words: str


def sides_of(question: Question, chosen: TrialRecord, front: Sequence[TrialRecord]) -> tuple[Side, ...]:
    """The next faster and the next more accurate member of the front, as far as there is one.

    Members that are there for another objective alone, such as a small file, are no step on this way: for accuracy and
    cost another is better in both. Limits do not count here, since a person who sees the price may give one up; a limit
    that is broken is named.

    Args:
        question: What was asked.
        chosen: The trial.
        front: The members of the front that have the figures.
    """
    both = (question.cost, question.quality)
    values = np.array([[value_of(record, figure) for figure in both] for record in front]).reshape(-1, 2)
    steps = [record for record, kept in zip(front, non_dominated(values, (False, True)), strict=True) if kept]
    found: list[Side] = []
    for gained, paid in (both, both[::-1]):
        record = _next(question, chosen, steps, gained)
        if record is not None and record not in [side.record for side in found]:
            found.append(Side(_direction(gained), record, _price(question, chosen, record, gained, paid)))
    return tuple(found)


def _next(
    question: Question, chosen: TrialRecord, front: Sequence[TrialRecord], gained: Objective
) -> TrialRecord | None:
    """The member that is better in a figure by least; of equals the best in the other, then the lowest number."""
    sign = 1 if gained.maximise else -1
    here = sign * value_of(chosen, gained)
    better = [record for record in front if sign * value_of(record, gained) > here]

    def rank(record: TrialRecord) -> tuple[float, float, int]:
        loss, cost = -value_of(record, question.quality), value_of(record, question.cost)
        return sign * value_of(record, gained), cost if gained.maximise else loss, record.number

    return min(better, key=rank, default=None)


def _direction(gained: Objective) -> str:
    if gained.maximise:
        return "more accurate"
    return "faster" if gained.name == "latency_ms" else f"lower in {plain_name(gained.key)}"


def _price(question: Question, chosen: TrialRecord, record: TrialRecord, gained: Objective, paid: Objective) -> str:
    """``trial 1: 0.0200 ms, 50 % less, costs 2 points (validation accuracy 95.00 %); file 50.0 kB, 10.0 kB more``."""
    old, new = value_of(chosen, paid), value_of(record, paid)
    worse = new < old if paid.maximise else new > old
    verb = "at the same" if new == old else "costs" if worse else "and gains"
    price = f"{verb} {_amount(paid, old, new)}" if new != old else f"{verb} {plain_name(paid.key)}"
    parts = [f"trial {record.number}: {_reached(gained, chosen, record)} {price}", *_size(chosen, record)]
    unsure = [plain_name(o.key) for o in (gained, paid) if not _is_apart(question, o, chosen, record)]
    if unsure:
        parts.append(f"by {listing(unsure)} the two cannot be told apart")
    broken = [words.limit(bound) for bound in question.bounds if not meets(record, [bound])]
    if broken:
        parts.append(f"breaks your limit: {listing(broken)}")
    return "; ".join(parts)


def _reached(gained: Objective, chosen: TrialRecord, record: TrialRecord) -> str:
    old, new = value_of(chosen, gained), value_of(record, gained)
    if gained.maximise:
        return f"{words.gap(gained.name, new - old)} more ({plain_name(gained.key)} {display(gained.name, new)})"
    return f"{words.shown(gained.name, new)} ({words.change(gained.name, old, new)})"


def _amount(paid: Objective, old: float, new: float) -> str:
    """``2 points (validation accuracy 95.00 %)``, ``0.06 ms, 2.5 times as much (0.100 ms)``."""
    shown = display(paid.name, new)
    if paid.maximise:
        return f"{words.gap(paid.name, abs(new - old))} ({plain_name(paid.key)} {shown})"
    change = words.change(paid.name, old, new)
    if old > 0 and new / old >= 2:
        change = f"{significant(new / old, 2)} times as much"
    return f"{words.gap(paid.name, abs(new - old))} ({shown}, {change})"


def _size(chosen: TrialRecord, record: TrialRecord) -> list[str]:
    """How its file differs, where both sizes are known."""
    old, new = chosen.quantity("size_bytes"), record.quantity("size_bytes")
    if old is None or new is None:
        return []
    if new.value == old.value:
        return ["file of the same size"]
    by = words.gap("size_bytes", abs(new.value - old.value))
    return [f"file {by} {'larger' if new.value > old.value else 'smaller'}"]


def _is_apart(question: Question, figure: Objective, chosen: TrialRecord, record: TrialRecord) -> bool:
    first, second = chosen.quantity(figure.key), record.quantity(figure.key)
    if first is None or second is None:
        return True
    return told_apart(first, second, question.spread if figure == question.quality else None)
