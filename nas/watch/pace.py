"""How fast a search goes, and how long its budget lasts."""

from __future__ import annotations

from nas.study import Study
from nas.watch.snapshot import Snapshot

LATELY = 10  # trials that "lately" looks back on


def trials_a_minute(study: Study, last: int | None = None) -> float | None:
    """Trials that something was spent on, for each minute of the search; None before the first.

    Args:
        study: The study.
        last: Of so many of the latest such trials; of all where None.
    """
    records = study.records
    if last is not None and len(study.counted) > last:
        first = study.counted[-last].number
        records = [record for record in records if record.number >= first]
    seconds = sum(record.seconds for record in records)
    numbers = {record.number for record in records}
    counted = sum(record.number in numbers for record in study.counted)
    return 60 * counted / seconds if counted and seconds > 0 else None


def seconds_running(snapshot: Snapshot) -> float:
    """How long what runs now has been running; 0 where nothing does."""
    return max(0.0, snapshot.time - snapshot.running.began) if snapshot.running is not None else 0.0


def seconds_left(study: Study, running: float = 0.0) -> float | None:
    """How long the budget lasts, about, at the pace so far; None where nothing tells yet.

    Args:
        study: The study.
        running: How many seconds the trial that has not ended has been running.
    """
    budget, spent, used = study.recipe.budget, study.spent, study.seconds
    left = []
    if budget.trials is not None and spent:
        left.append((budget.trials - spent) * used / spent - running)
    if budget.minutes is not None:
        left.append(60 * budget.minutes - used - running)
    return max(0.0, min(left)) if left else None


def budget_share(study: Study, running: float = 0.0) -> float:
    """How much of the budget is spent, 0 to 1: of trials or minutes, whichever is nearer to its end."""
    budget = study.recipe.budget
    shares = []
    if budget.trials is not None:
        shares.append(study.spent / budget.trials)
    if budget.minutes is not None:
        shares.append((study.seconds + running) / (60 * budget.minutes))
    return min(1.0, max(shares, default=0.0))


def clock_words(seconds: float) -> str:
    """``0:42``, ``12:05``, ``3:07:00``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
