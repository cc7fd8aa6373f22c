"""When a study's trials ran: the hours after which each had ended, what the cache saved, when nothing ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from nas.record import TrialRecord

# A trial's start is kept to the second: shorter gaps are not told from none.
LEAST_GAP_S = 2.0


@dataclass(frozen=True)
class Elapsed:
    """A study on the clock.

    Args:
        seconds: From the start of its first trial to the end of its last.
        idle_seconds: Of these, when no trial ran: waiting for the machine, or between two runs of the search.
        saved_seconds: What the stages that came from the cache took when they were carried out.
        from_cache: How many stages came from the cache.
        stages: How many stages there are in all.
    """

    seconds: float
    idle_seconds: float
    saved_seconds: float
    from_cache: int
    stages: int


def elapsed(records: Sequence[TrialRecord]) -> Elapsed:
    """When a study's trials ran, and what came from its cache; all 0 where no trial says when it started."""
    spans = sorted(span for record in records if (span := _span(record)) is not None)
    idle, latest = 0.0, spans[0][0] if spans else 0.0
    for start, end in spans:
        idle += start - latest if start - latest >= LEAST_GAP_S else 0.0
        latest = max(latest, end)
    stages = [stage for record in records for stage in record.stages]
    carried_out = {stage.key: stage.seconds for stage in stages if stage.key and not stage.cached}
    cached = [stage for stage in stages if stage.cached]
    saved = sum(max(0.0, carried_out.get(stage.key, 0.0) - stage.seconds) for stage in cached)
    return Elapsed(latest - spans[0][0] if spans else 0.0, idle, saved, len(cached), len(stages))


def ends(records: Sequence[TrialRecord]) -> dict[int, float]:
    """For every trial that says when it started, the seconds from the study's start until it and all before had ended.

    Args:
        records: All trials, in any order.
    """
    spans = {record.number: span for record in records if (span := _span(record)) is not None}
    first = min((start for start, _ in spans.values()), default=0.0)
    found: dict[int, float] = {}
    latest = 0.0
    for number in sorted(spans):
        latest = max(latest, spans[number][1] - first)
        found[number] = latest
    return found


def _span(record: TrialRecord) -> tuple[float, float] | None:
    """Start and end of a trial in seconds since 1970; None where it does not say when it started."""
    try:
        start = datetime.fromisoformat(record.started_at)
    except ValueError:
        return None
    if start.tzinfo is None:
        start = start.replace(tzinfo=UTC)
    return start.timestamp(), start.timestamp() + record.seconds
