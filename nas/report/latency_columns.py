"""The front's latencies, column by column: where each was measured, how sure it is, and what it gains."""

from __future__ import annotations

from collections.abc import Sequence

from nas.gains import OVERHEAD_WORDS, baseline_of, gain_words, latency_gain, mac_gain, overhead_bound, speed_up
from nas.measurements import ambiguous_with, in_turns
from nas.outcome import Outcome, Quantity
from nas.record import TrialRecord
from nas.report.column import BASE, Column, table_rows
from nas.report.latency_table import AMBIGUOUS, BOUND, UNSTABLE, bound_words, marks, overlapping
from nas.report.target_names import server_name, short_targets
from nas.serving import server_of
from nas.study import Study
from nas.target import Place
from nas.wording import frames_per_second, human, significant, target_words, times

# So many pairs of members that nobody can tell apart are named.
MOST_PAIRS = 6


def latency_targets(study: Study) -> list[str]:
    """The targets (and places) of a study: those that an objective names first, those measured later last."""
    named = [o.target for o in study.recipe.parsed_objectives if o.target]
    later = [
        q.target
        for record in study.records
        if record.outcome is Outcome.MEASURED
        for q in record.quantities
        if q.name == "latency_ms" and q.target
    ]
    return list(dict.fromkeys([*named, *study.recipe.served, *study.recipe.all_targets, *later]))


def latency_columns(study: Study, rows: Sequence[TrialRecord]) -> list[Column]:
    """Latency on every target; speed in images and who serves where the recipe asks for the latency."""
    targets = latency_targets(study)
    names = short_targets(targets)
    heading = f"ms ±{'IQR' if has_iqr(study) else 'CI'}/2"
    columns = []
    for target in targets:
        suffix = f" {names[target]}" if len(targets) > 1 else ""
        latencies = [record.quantity(f"latency_ms@{target}") for record in rows]
        cells = [_latency_cell(q, has_iqr(study), rows) for q in latencies]
        columns.append(Column(f"latency_ms@{target}", f"Latency{suffix}", heading, cells, " (ms)"))
        if _is_asked_for(study, target):
            speeds = [human(frames_per_second(q)) if q else "" for q in latencies]
            columns.append(Column(f"fps@{target}", f"fps{suffix}", "1/s", speeds))
        if Place.parse(target) is not None:
            servers = [server_name(server) if (server := server_of(q)) else "" for q in latencies]
            columns.append(Column(f"served_by@{target}", "Served by", names[target], servers))
    return columns


def _is_asked_for(study: Study, target: str) -> bool:
    """Whether the recipe compares latencies there; where it compares none, on every target."""
    return target in study.recipe.served or not study.recipe.served


def gain_columns(study: Study, rows: Sequence[TrialRecord]) -> list[Column]:
    """Speed against the baseline, and what pruning took off multiply-adds and off latency.

    A ratio of an overhead-bound trial stands in parentheses: it is no gain of the network's.
    """
    baseline, targets = baseline_of(study), latency_targets(study)
    names = short_targets(targets)
    columns = []
    for target in (target for target in targets if _is_asked_for(study, target)):
        suffix = f" {names[target]}" if len(targets) > 1 else ""
        bound = [overhead_bound(record, target) for record in rows]
        if baseline is not None and len(rows) > 1:
            ratios = [speed_up(record, baseline, target) for record in rows]
            words = [
                _speed_words(ratio, b) + suffix if ratio and record is not baseline else ""
                for ratio, record, b in zip(ratios, rows, bound, strict=True)
            ]
            cells = [_ratio(ratio, "×", b) for ratio, b in zip(ratios, bound, strict=True)]
            columns.append(Column(f"speed_up@{target}", f"Speed{suffix}", f"× {BASE}", cells, words=words))
        gains = [(mac_gain(record), latency_gain(record, target)) for record in rows]
        cells = [
            f"{significant(macs, 2)}, {_ratio(ms, '', b)}" if macs and ms else ""
            for (macs, ms), b in zip(gains, bound, strict=True)
        ]
        words = [gain_words(record, target) + suffix for record in rows]
        columns.append(Column(f"gain@{target}", f"Gain{suffix}", "× MACs, ms", cells, words=words))
    return columns


def _ratio(ratio: float | None, sign: str, bound: bool) -> str:
    if not ratio:
        return ""
    text = f"{significant(ratio, 2)}{sign}"
    return f"({text})" if bound else text


def _speed_words(ratio: float, bound: bool) -> str:
    if bound:
        return OVERHEAD_WORDS
    return times(ratio, f"faster than {BASE}", f"slower than {BASE}", f"as fast as {BASE}")


def _latency_cell(latency: Quantity | None, by_iqr: bool, rows: Sequence[TrialRecord]) -> str:
    """Median, spread and marks: ``0.0312 ±2%≈``."""
    if latency is None:
        return ""
    spread = None
    if by_iqr:
        spread = float(latency.detail["iqr"]) / 2
    elif latency.low is not None and latency.high is not None:
        spread = (latency.high - latency.low) / 2
    share = f" ±{_share(spread / latency.value)}%" if spread is not None else ""
    return f"{significant(latency.value)}{share}{marks(latency, bool(_others(latency, rows)))}"


def _share(value: float) -> str:
    """Per cent without decimals, but never rounded down to nothing: ``14``, ``2``, ``0.3``."""
    return f"{100 * value:.0f}" if value >= 0.01 else significant(100 * value, 1)


def _others(latency: Quantity, rows: Sequence[TrialRecord]) -> tuple[str, ...]:
    """The other rows that a latency cannot be told apart from; trials that have left the front are none."""
    numbers = {record.number for record in rows}
    return tuple(str(number) for number in ambiguous_with(latency) if number in numbers)


def has_iqr(study: Study) -> bool:
    """Whether the spread that the table shows is the samples': they all have one, and none was timed in turns.

    What was timed in turns has an interval that tells by how much a later measurement would differ.
    """
    latencies = [q for record in table_rows(study) for q in record.quantities if q.name == "latency_ms"]
    return all("iqr" in q.detail for q in latencies) and not any(in_turns(q) for q in latencies)


def latency_notes(study: Study) -> list[str]:
    """Where latencies are from and what their spread is; what else is wrong with some comes in ``mark_notes``."""
    targets = latency_targets(study)
    if not targets:
        return []
    names = short_targets(targets)
    where = "; ".join(target_words(t) + (f" ({names[t]})" if len(targets) > 1 else "") for t in targets)
    spread = "half the interquartile range of the samples" if has_iqr(study) else "half the 95 % interval"
    turns = any(in_turns(q) for record in study.front for q in record.quantities if q.name == "latency_ms")
    return [f"Latency: median on {where}; ± {spread}{'; the front was timed in turns' if turns else ''}."]


def mark_notes(study: Study) -> list[str]:
    """What the marks beside latencies mean, and which members nobody can tell apart."""
    rows, notes = table_rows(study), []
    targets = latency_targets(study)
    names = short_targets(targets)
    for target in targets:
        latencies = [(record, record.quantity(f"latency_ms@{target}")) for record in rows]
        pairs = overlapping({str(record.number): _others(q, rows) for record, q in latencies if q is not None})
        if pairs:
            named = "; ".join(f"trials {first} and {second}" for first, second in pairs[:MOST_PAIRS])
            more = f"; and {len(pairs) - MOST_PAIRS} more pairs" if len(pairs) > MOST_PAIRS else ""
            at = f" ({names[target]})" if len(targets) > 1 else ""
            notes.append(f"{AMBIGUOUS} intervals overlap{at}: {named}{more}.")
    shown = [q for record in rows for q in record.quantities if q.name == "latency_ms"]
    if bound := [q for q in shown if q.detail.get("overhead_bound")]:
        notes.append(f"{BOUND} {bound_words(bound)}: a ratio in parentheses is no gain of the network's.")
    if any(q.detail.get("unstable") for q in shown):
        notes.append(f"{UNSTABLE} the latency was unstable while it was measured.")
    return notes
