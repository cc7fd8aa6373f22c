"""What ``nas measure`` says of a study: how its latencies changed, who joined or left the front, the front in turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from nas.gains import baseline_of
from nas.measurements import Measurements, ambiguous_with
from nas.outcome import Quantity
from nas.record import TrialRecord
from nas.report.latency_table import Row, latency_table
from nas.study import Study
from nas.wording import listing, plural, significant, target_words, times

# Named one by one; of more the number is told.
MOST_NAMED = 8


def summary_of(before: Sequence[TrialRecord], found: Measurements) -> list[str]:
    """One line for each target (or place) that was measured on: how many trials, how they changed, what was unstable.

    Args:
        before: The records as they were.
        found: What was measured of them.
    """
    records = {record.number: record for record in before}
    by_key: dict[str, dict[int, Quantity]] = {}
    for number, items in found.quantities.items():
        for quantity in items:
            if quantity.name == "latency_ms":
                by_key.setdefault(quantity.key, {})[number] = quantity
    lines = []
    for key, latencies in by_key.items():
        ratios = [
            old.value / quantity.value
            for number, quantity in latencies.items()
            if (old := records[number].quantity(key)) is not None
        ]
        unstable = [str(number) for number, quantity in latencies.items() if quantity.detail.get("unstable")]
        parts = [f"{plural(len(latencies), 'trial')} on {target_words(key.partition('@')[2])}", *_changed(ratios)]
        if unstable:
            named = listing(unstable) if len(unstable) <= MOST_NAMED else str(len(unstable))
            parts.append(f"unstable: {named}")
        lines.append("; ".join(parts))
    return lines


def _changed(ratios: Sequence[float]) -> list[str]:
    """How a study's latencies changed: in the middle, and from the least to the most."""
    if not ratios:
        return []
    middle = times(float(np.median(ratios)), "faster than before", "slower than before", "as fast as before")
    ends = list(dict.fromkeys(significant(value, 2) for value in (min(ratios), max(ratios))))
    return [f"in the median {middle}" + (f" ({' to '.join(ends)} times as fast)" if len(ends) > 1 else "")]


def changes_of_front(before: Sequence[int] | None, after: Sequence[int] | None, scored: bool = False) -> list[str]:
    """Who joined the front and who left it; None stands for a front that could not be told.

    Args:
        before: Numbers of the trials that were on the front.
        after: Those that are.
        scored: Whether what is new is scored on the test data at once.
    """
    if after is None:
        return ["there is no front yet: what the recipe compares was measured in different environments"]
    if before is None:
        return [f"the front: {_trials(after)}"] if after else ["the front is empty"]
    joined = [number for number in after if number not in before]
    left = [number for number in before if number not in after]
    if not joined and not left:
        return [f"the front is the same: {_trials(after)}" if after else "the front is empty, as before"]
    lines = []
    if joined:
        later = "" if scored else " (the next 'nas search' scores what is new on the test data)"
        lines.append(f"joined the front: {_trials(joined)}{later}")
    if left:
        lines.append(f"left the front: {_trials(left)}")
    return lines


def _trials(numbers: Sequence[int]) -> str:
    return f"trial{'' if len(numbers) == 1 else 's'} {listing([str(number) for number in sorted(numbers)])}"


def tables_in_turns(study: Study, found: Measurements) -> Iterator[RenderableType]:
    """A table for each target or place that the recipe names: all that had a turn, the fastest first.

    Args:
        study: As it stands with what was found.
        found: What the turns gave.
    """
    baseline = baseline_of(study)
    front = {record.number for record in study.front}
    for name in study.recipe.served:
        latencies = {
            number: quantity
            for number, items in found.quantities.items()
            for quantity in items
            if quantity.key == f"latency_ms@{name}"
        }
        if not latencies:
            continue
        members = sorted(latencies, key=lambda number: (latencies[number].value, number))
        yield Text(f"\nIn turns on {target_words(name)}", style="bold")
        yield latency_table("Trial", [_row(number, latencies[number]) for number in members])
        beside = [number for number in members if number not in front]
        if baseline is not None and baseline.number in beside:
            yield Text(f"trial {baseline.number} is the baseline, beside the front", style="dim")
            beside.remove(baseline.number)
        if beside:
            are = "is" if len(beside) == 1 else "are"
            yield Text(f"{_trials(beside)} {are} not on the front", style="dim")


def _row(number: int, latency: Quantity) -> Row:
    return Row(str(number), latency, overlaps=tuple(str(other) for other in ambiguous_with(latency)))
