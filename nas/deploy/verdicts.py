"""What ``nas verify`` found, as a table for the terminal that fits 80 columns."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nas.deploy.recheck import Rechecked
from nas.wording import listing

STYLES = {"pass": "green", "fail": "bold red", "not judged": "yellow"}


def verdict_table(rechecked: Rechecked) -> RenderableType:
    """A row for each promise, the reasons of those that do not hold or were not judged, and ``pass`` or ``fail``."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for heading in ("What", "Promised", "Here"):
        table.add_column(heading, overflow="fold")
    table.add_column("Verdict", no_wrap=True)
    reasons = []
    for finding in rechecked.findings:
        verdict = Text(finding.verdict, style=STYLES[finding.verdict])
        table.add_row(Text(finding.what), Text(finding.promised), Text(finding.found or "–"), verdict)
        if finding.why:
            reasons.append(Text(f"{finding.what}: {finding.why}", style="dim"))
    return Group(table, *reasons, _ending(rechecked))


def _ending(rechecked: Rechecked) -> Text:
    if rechecked.passed:
        return Text("pass", style="bold green")
    broken = [finding.what for finding in rechecked.findings if finding.holds is False]
    return Text(f"fail: {listing(broken)}", style="bold red")
