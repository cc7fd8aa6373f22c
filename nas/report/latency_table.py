"""Latencies as a table for the terminal that fits 80 columns: median, interval, tail and spread, and what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nas.gains import OVERHEAD_WORDS
from nas.outcome import Quantity
from nas.wording import digits_apart, display, listing, significant

UNSTABLE, AMBIGUOUS, BOUND = "~", "≈", "°"


@dataclass(frozen=True)
class Row:
    """One line.

    Args:
        name: The target, or the trial's number.
        latency: ``latency_ms``.
        load: ``load_ms`` in a fresh process, where it was measured.
        memory: ``peak_memory_bytes`` there.
        overlaps: Names of the rows whose intervals overlap with this one's.
    """

    name: str
    latency: Quantity
    load: Quantity | None = None
    memory: Quantity | None = None
    overlaps: tuple[str, ...] = ()


def latency_table(what: str, rows: Sequence[Row]) -> RenderableType:
    """The rows as a table, with footnotes for those that are unstable, overhead-bound or hard to tell apart.

    Args:
        what: What a row is: ``Target``, ``Trial``.
        rows: At least one.
    """
    columns = ["ms", "95 % interval", "p95", "IQR", *_startup_headings(rows)]
    # With all columns one blank between them is what eighty characters leave beside a target's name.
    table = Table(box=None, padding=(0, 2 if len(columns) < 6 else 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(what, no_wrap=False, overflow="fold", justify="left" if what == "Target" else "right")
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.name, *_cells(row)[: len(columns)])
    return Group(table, *(Text(note, style="dim") for note in latency_notes(rows)))


def _startup_headings(rows: Sequence[Row]) -> list[str]:
    return ["Load", "Memory"] if any(row.load or row.memory for row in rows) else []


def _cells(row: Row) -> list[str]:
    latency = row.latency
    spread = float(latency.detail.get("iqr", 0.0)) / latency.value
    return [
        f"{significant(latency.value)}{marks(latency, bool(row.overlaps))}",
        _interval(latency),
        significant(float(latency.detail["p95"])) if "p95" in latency.detail else "",
        f"{100 * spread:.1f} %" if "iqr" in latency.detail else "",
        display(row.load.name, row.load.value) if row.load else "",
        display(row.memory.name, row.memory.value) if row.memory else "",
    ]


def _interval(latency: Quantity) -> str:
    """``0.0310–0.0315``, with as many digits as it takes for the ends to differ from the value."""
    if latency.low is None or latency.high is None:
        return ""
    digits = digits_apart(latency.name, latency.value, latency.low, latency.high)
    return f"{significant(latency.low, digits)}–{significant(latency.high, digits)}"


def marks(latency: Quantity, ambiguous: bool) -> str:
    """The signs beside a latency: ``~`` unstable, ``≈`` not told apart from another, ``°`` overhead-bound."""
    signs = [(AMBIGUOUS, ambiguous), (BOUND, latency.detail.get("overhead_bound"))]
    signs.append((UNSTABLE, latency.detail.get("unstable")))
    return "".join(sign for sign, holds in signs if holds)


def latency_notes(rows: Sequence[Row]) -> list[str]:
    """What the marks mean, and for which rows."""
    notes = []
    pairs = [f"{first} and {second}" for first, second in overlapping({row.name: row.overlaps for row in rows})]
    if pairs:
        notes.append(f"{AMBIGUOUS} intervals overlap: {', '.join(pairs)}")
    bound = [row for row in rows if row.latency.detail.get("overhead_bound")]
    if bound:
        notes.append(f"{BOUND} {bound_words([row.latency for row in bound])}: {listing([row.name for row in bound])}")
    unstable = [
        f"{row.name} ({row.latency.detail.get('why_unstable', 'spread')})"
        for row in rows
        if row.latency.detail.get("unstable")
    ]
    if unstable:
        notes.append(f"{UNSTABLE} unstable while it was measured: {', '.join(unstable)}")
    return notes


def bound_words(latencies: Sequence[Quantity]) -> str:
    """What overhead-bound means, with what a call costs here."""
    costs = sorted({float(q.detail["overhead_ms"]) for q in latencies if "overhead_ms" in q.detail})
    cost = ""
    if costs:
        ends = dict.fromkeys(significant(value) for value in (costs[0], costs[-1]))
        cost = f" ({' to '.join(ends)} ms)"
    return f"{OVERHEAD_WORDS}, within 3 times of a call that computes nothing{cost}"


def overlapping(members: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    """Every pair of members that name each other, once, in the order of the members."""
    order = list(members)
    return [
        (first, second)
        for index, first in enumerate(order)
        for second in order[index + 1 :]
        if second in members[first] or first in members[second]
    ]
