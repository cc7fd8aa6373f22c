"""A comparison of studies as text of at most 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from string import ascii_uppercase

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nas.report.compare import Comparison, Lead
from nas.report.plots import duration, reference_words
from nas.wording import display, listing, percent, plain_name, target_words

CLEAR, UNCLEAR = 0.95, 0.05  # a lead is called clear in the whole range, or nowhere, from these shares of its steps on


def comparison_table(comparison: Comparison) -> RenderableType:
    """The studies with their hypervolumes, who covers whom, and who is ahead where; warnings first."""
    parts: list[RenderableType] = [Text(f"warning: not comparable: {words}", "yellow") for words in comparison.warnings]
    parts += [Text(_heading(comparison), "bold"), _studies(comparison), Text(verdict(comparison)), Text()]
    parts += [Text("Share of each front that another study matches or beats in every objective", "bold")]
    parts += [_matrix(comparison, _coverage(comparison))]
    parts += [Text("Distance that another front lacks to cover it (0: covers it; 1: a whole axis)", "bold")]
    parts += [_matrix(comparison, _distances(comparison))]
    parts += [Text(f"Who has the best {plain_name(comparison.quality.key)}, by {_cost_words(comparison)}", "bold")]
    parts += [_leads(comparison), Text(_shares(comparison))]
    parts += [Text(_note(note), "dim") for note in _notes(comparison)]
    return Group(*parts)


def letter(index: int) -> str:
    """What a study is called for short: A, B, …"""
    return ascii_uppercase[index]


def verdict(comparison: Comparison) -> str:
    """Who dominates whom, in a sentence."""
    indices = [index for index, contender in enumerate(comparison.contenders) if contender.front]
    beaten = []
    for one in indices:
        for other in indices:
            if one != other and _covers(comparison, one, other) and not _covers(comparison, other, one):
                beaten.append(f"{letter(one)} dominates {letter(other)}")
    if beaten:
        return f"{listing(beaten)}: for every design of the one front, the other has one that is at least as good."
    if len(indices) > 1 and all(_covers(comparison, one, other) for one in indices for other in indices):
        return "The fronts are equal."
    return "No front dominates another: each has designs that the others do not match."


def _covers(comparison: Comparison, one: int, other: int) -> bool:
    return comparison.covered(one, other) == len(comparison.contenders[other].front)


def _heading(comparison: Comparison) -> str:
    names = listing([plain_name(objective.key) for objective in comparison.objectives])
    target = next((o.target for o in comparison.objectives if o.target), None)
    return f"{len(comparison.contenders)} studies by {names}{f' on {target_words(target)}' if target else ''}"


def _cost_words(comparison: Comparison) -> str:
    return plain_name(comparison.cost.key)


def _table(columns: Iterable[str], first: str = "") -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _studies(comparison: Comparison) -> Table:
    quality, cost = comparison.quality, comparison.cost
    table = _table(("Trials", "Time", "Front", "Hypervol.", "Best", "Cheapest"), "Study")
    for index, contender in enumerate(comparison.contenders):
        study, front = contender.study, contender.front
        best = [
            display(objective.name, choose(record.value(objective.key) for record in front)) if front else "–"
            for objective, choose in ((quality, max), (cost, min))
        ]
        numbers = [
            f"{len(study.records):,}",
            duration(study.seconds),
            str(len(front)),
            f"{contender.volume:.4f}",
            *best,
        ]
        table.add_row(Text.assemble((f"{letter(index)} ", "bold"), contender.label), *map(Text, numbers))
    return table


def _matrix(comparison: Comparison, cells: Sequence[Sequence[str]]) -> Table:
    """A row for each study, a column for each front."""
    indices = range(len(comparison.contenders))
    table = _table([f"front of {letter(i)}" if len(indices) < 5 else letter(i) for i in indices])
    for index, row in zip(indices, cells, strict=True):
        table.add_row(Text(f"by {letter(index)}", "bold"), *map(Text, row))
    return table


def _coverage(comparison: Comparison) -> list[list[str]]:
    def cell(one: int, other: int) -> str:
        members = len(comparison.contenders[other].front)
        if one == other or not members:
            return "–"
        covered = comparison.covered(one, other)
        share = f"{percent(covered / members, 0)} %"
        return f"{covered} of {members}, {share}" if len(comparison.contenders) < 5 else share

    indices = range(len(comparison.contenders))
    return [[cell(one, other) for other in indices] for one in indices]


def _distances(comparison: Comparison) -> list[list[str]]:
    def cell(one: int, other: int) -> str:
        distance = comparison.short_of(one, other) if one != other else None
        return "–" if distance is None else f"{max(distance, 0.0):.3f}"

    indices = range(len(comparison.contenders))
    return [[cell(one, other) for other in indices] for one in indices]


def _leads(comparison: Comparison) -> Table:
    table = _table(("Ahead", "By, points"), capitalised(_cost_words(comparison)))
    table.add_column("95 % intervals", no_wrap=True)
    for lead in comparison.leads:
        who = "level" if lead.leader is None else letter(lead.leader)
        table.add_row(Text(_range(comparison, lead)), Text(who, "bold"), Text(_by(lead)), Text(_clear(lead), "dim"))
    return table


def capitalised(text: str) -> str:
    """A text with a capital first letter."""
    return text[:1].upper() + text[1:]


def _range(comparison: Comparison, lead: Lead) -> str:
    low = display(comparison.cost.name, lead.low)
    return f"from {low}" if lead.high is None else f"{low} to {display(comparison.cost.name, lead.high)}"


def _by(lead: Lead) -> str:
    if lead.least is None or lead.most is None:
        return ""
    least, most = f"{100 * lead.least:.2f}", f"{100 * lead.most:.2f}"
    return least if least == most else f"{least} to {most}"


def _clear(lead: Lead) -> str:
    """Whether the lead is more than what the validation data could bring about."""
    if lead.least is None:
        return "no rival this cheap"
    if lead.leader is None:
        return ""
    if lead.clear >= CLEAR:
        return "apart"
    return "≈ overlap" if lead.clear <= UNCLEAR else "≈ overlap in part"


def _shares(comparison: Comparison) -> str:
    shares = comparison.shares_ahead()
    told = [f"{letter(index)} over {percent(share, 0)} %" for index, share in enumerate(shares)]
    scale = " on a logarithmic axis" if comparison.cost.kind.log_axis else ""
    return f"Ahead of the rest over the range of {_cost_words(comparison)}{scale}: {listing(told)}."


def _notes(comparison: Comparison) -> list[str]:
    reference = f"hypervolumes are all against the same reference: {reference_words(comparison.reference)}."
    rivalled = [lead for lead in comparison.leads if lead.leader is not None and lead.least is not None]
    unsure = any(lead.clear < CLEAR for lead in rivalled)
    overlap = ["≈ where intervals overlap, do not say that one study is better: values alone decide who is ahead."]
    return [reference, *(overlap if unsure else []), *comparison.notes]


def _note(text: str) -> str:
    return capitalised(text) if not text.startswith(tuple("/.~")) else text
