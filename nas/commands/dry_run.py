"""The dry run for the terminal, from 80 columns on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.search.costs import PARTS, Spread, duration
from nas.wording import plural

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from nas.search.dry_run import DryRun

# What a part of a trial is called.
WORDS = {
    "train": "train",
    "fine-tune": "prune and fine-tune",
    "export": "export",
    "quantise": "quantise or share weights",
    "score": "score on validation images",
    "measure": "measure",
    "rest": "count, compare, keep",
}


def render(found: DryRun) -> RenderableType:
    """Space and budget, what a trial costs as a table, what the search would do, and what to mind."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [
        *(Text(line, style="dim") for note in found.notes for line in note.splitlines()),
        Text(f"budget: {found.budget}", style="dim"),
        Text(f"\nWhat a trial costs, {found.costs.source}", style="bold"),
        _table(found),
        Text("\nWhat the search would do", style="bold"),
        *(Text(sentence) for sentence in found.sentences()),
    ]
    if found.plan.notes:
        parts.append(Text("\nMind", style="bold"))
        parts += [Text(f"{note[0].upper()}{note[1:]}.", style="yellow") for note in found.plan.notes]
    parts.append(Text("\nNothing was written. Without --dry-run the search begins."))
    return Group(*parts)


def _table(found: DryRun) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim", show_footer=False)
    table.add_column("stage")
    for column in ("median", "least", "most"):
        table.add_column(column, justify="right")
    costs = found.costs
    for part in PARTS:
        if costs.part(part).high > 0:
            words = f"train {plural(costs.epochs, 'epoch')}" if part == "train" else WORDS[part]
            table.add_row(words, *_cells(costs.part(part)))
    table.add_section()
    table.add_row("a whole trial", *_cells(costs.trial), style="bold")
    return table


def _cells(spread: Spread) -> list[str]:
    return [duration(seconds) for seconds in (spread.median, spread.low, spread.high)]
