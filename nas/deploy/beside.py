"""Where a person's present model stands against the pick, as a terminal shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nas.deploy.choose import Choice
from nas.deploy.present import Present
from nas.outcome import Quantity
from nas.ties import told_apart
from nas.wording import display, interval, plain_name, significant, target_words, times

if TYPE_CHECKING:
    from rich.console import RenderableType

SCORES = ("accuracy", "balanced_accuracy", "test_accuracy", "test_balanced_accuracy")


def render_beside(choice: Choice, present: Present, test_scores: Mapping[str, Quantity]) -> RenderableType:
    """The pick and the present model in two columns, and what follows from it in sentences.

    Args:
        choice: The pick.
        present: The present model, measured.
        test_scores: Of the pick, by name; empty where it has none yet.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", style="bold")
    table.add_column(Text(f"the pick, trial {choice.record.number}"))
    table.add_column(Text(f"yours, {present.name}", overflow="fold"))
    for row in _rows(choice, present, test_scores):
        table.add_row(*(Text(cell) for cell in row))
    return Group(table, *(Text(line) for line in sentences(choice, present, test_scores)))


def _rows(choice: Choice, present: Present, test_scores: Mapping[str, Quantity]) -> list[tuple[str, str, str]]:
    record = choice.record
    rows = []
    studied = record.quantity(f"latency_ms@{choice.target}")
    if present.pick_latency is not None:
        rows.append(("latency, here now", _timed(present.pick_latency), _timed(present.latency)))
        rows.append(("latency, in the study", _timed(studied) if studied else "unknown", ""))
    else:
        rows.append(("latency", f"{_timed(studied)}, in the study" if studied else "unknown", _timed(present.latency)))
    for name in SCORES:
        own = test_scores.get(name) if name.startswith("test_") else record.quantity(name)
        other = present.scored.scores.get(name)
        if own is not None or other is not None:
            rows.append(
                (plain_name(name), interval(own) if own else "not scored", interval(other) if other else "not scored")
            )
    size = record.quantity("size_bytes")
    rows.append(
        (
            "file size",
            display("size_bytes", size.value) if size else "unknown",
            display("size_bytes", present.size_bytes),
        )
    )
    return rows


def _timed(latency: Quantity) -> str:
    unstable = f", unstable: {latency.detail.get('why_unstable', 'spread')}" if latency.detail.get("unstable") else ""
    return f"{interval(latency)}{unstable}"


def sentences(choice: Choice, present: Present, test_scores: Mapping[str, Quantity]) -> list[str]:
    """How the two compare, and what must be known to believe it."""
    lines = []
    if not present.same_machine:
        lines.append(_elsewhere(present))
    ours = present.pick_latency
    if ours is None and present.same_machine:
        ours = choice.record.quantity(f"latency_ms@{choice.target}")
    compared = [_latency(ours, present)] if ours is not None else []
    compared += _accuracy(choice, present, test_scores)
    size = choice.record.quantity("size_bytes")
    if size is not None:
        compared.append(_size(size.value, present.size_bytes))
    lines.append(f"Against {present.name} the pick is {'; '.join(compared)}." if compared else "Nothing is compared.")
    if present.pick_latency is None:
        which = "its latency in the study is compared" if ours is not None else "the latencies are not compared"
        lines.append(f"The pick could not be timed here ({present.why_not_timed}), so {which}.")
    if present.normalised_outside:
        lines.append(
            f"{present.name} wants its images normalised before: that is not in its latency, but in the pick's."
        )
    if present.scored.why_not:
        lines.append(f"The accuracy of {present.name} is not known: {present.scored.why_not}.")
    lines.append(f"Timed on {target_words(present.target.name)}, one after the other, by what serves the pick.")
    return lines


def _elsewhere(present: Present) -> str:
    there, fingerprint = present.there
    return (
        f"The study was measured elsewhere or with other versions ({there}, environment {fingerprint or 'unknown'}) "
        f"than this machine ({present.here[0]}, environment {present.here[1]}): its latencies, by which the pick was "
        "chosen, are not compared with what was timed here. 'nas measure STUDY' measures the study here."
    )


def _latency(ours: Quantity, present: Present) -> str:
    theirs = present.latency
    if not told_apart(ours, theirs):
        return f"not told apart in latency ({_pair(ours, theirs)})"
    return f"{times(theirs.value / ours.value, 'faster', 'slower', 'as fast within 5 %')} ({_pair(ours, theirs)})"


def _accuracy(choice: Choice, present: Present, test_scores: Mapping[str, Quantity]) -> list[str]:
    """By test data where both have it, which no trial was chosen by; else by validation data, and it says so."""
    pairs = (
        ("test", test_scores.get("test_accuracy"), present.scored.scores.get("test_accuracy")),
        ("validation", choice.record.quantity("accuracy"), present.scored.scores.get("accuracy")),
    )
    for data, own, other in pairs:
        if own is None or other is None:
            continue
        if own.value == other.value:
            return [f"as accurate on {data} data"]
        points = significant(100 * abs(own.value - other.value), 2, zeros=False)
        more = "more" if own.value > other.value else "less"
        unsure = "" if told_apart(own, other) else ", which is within chance"
        return [f"{points} point{'' if points == '1' else 's'} {more} accurate on {data} data{unsure}"]
    return []


def _size(ours: float, theirs: float) -> str:
    if not theirs or ours == theirs:
        return "of the same file size"
    return f"{times(theirs / ours, 'smaller', 'larger', 'as large within 5 %')} as a file"


def _pair(ours: Quantity, theirs: Quantity) -> str:
    return f"{display('latency_ms', ours.value)} against {display('latency_ms', theirs.value)}"
