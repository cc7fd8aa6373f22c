"""A sensitivity as a table for the terminal: a row for each stage, points lost at each setting, coloured by loss."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nas.describe import describe
from nas.sensitivity.result import Effect, Sensitivity, Setting
from nas.sensitivity.words import HARMLESS, LARGE, MODERATE, NOTHING, is_noise, points, refusals, subtitle


def sensitivity_table(sensitivity: Sensitivity) -> RenderableType:
    """The table for ``rich`` to print, 80 columns wide, with what it is of above and how to read it below.

    In each cell stands the loss in points, and below it what that saves of the whole network.
    """
    heading = Text.assemble((f"Sensitivity of trial {sensitivity.trial} of {sensitivity.study}", "bold"))
    parts: list[RenderableType] = [heading, Text(describe(sensitivity.design)), Text(f"{subtitle(sensitivity)}\n")]
    parts += [_table(sensitivity), Text(""), *(Text(line, style="dim") for line in _notes(sensitivity))]
    return Group(*parts)


def _table(sensitivity: Sensitivity) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False, header_style="")
    table.add_column(Text("stage", "bold"), overflow="fold", min_width=6)
    for title, whole in (("MACs", sensitivity.macs), ("params", sensitivity.params)):
        assert whole > 0
        table.add_column(Text.assemble((title, "bold"), ("\n%", "dim")), justify="right", no_wrap=True)
    for setting in sensitivity.settings:
        table.add_column(_title(setting), justify="right", no_wrap=True)
    for stage in sensitivity.stages:
        shares = (f"{100 * stage.macs / sensitivity.macs:.1f}", f"{100 * stage.params / sensitivity.params:.1f}")
        cells = (_cell(sensitivity, stage.effect(setting)) for setting in sensitivity.settings)
        table.add_row(Text(stage.name, "bold"), *map(Text, shares), *cells)
    return table


def _title(setting: Setting) -> Text:
    return Text.assemble((setting.label, "bold"), ("\npruned" if setting.prunes else "\nbits", "dim"))


def _cell(sensitivity: Sensitivity, effect: Effect | None) -> Text:
    """Points lost, and below them what is saved; a dash where the setting does nothing."""
    if effect is None or effect.lost is None:
        return Text(NOTHING, style="dim")
    saved = sensitivity.saved(effect)
    below = "" if saved is None else f"\n{_saving(saved)}"
    return Text.assemble((points(effect.lost), _style(effect)), (below, "dim"))


def _saving(saved: float) -> str:
    """``−23 %``; a file that grew has a plus."""
    percent = round(100 * saved)
    return f"{'−' if percent > 0 else '+' if percent < 0 else ''}{abs(percent)} %"


def _style(effect: Effect) -> str:
    assert effect.lost is not None
    lost = 100 * effect.lost
    if lost <= HARMLESS:
        return "green dim" if is_noise(effect) else "green"
    if is_noise(effect):
        return "dim"
    return "yellow" if lost <= MODERATE else "red" if lost <= LARGE else "bold red"


def _notes(sensitivity: Sensitivity) -> list[str]:
    """How to read the table, and what was refused."""
    return [
        "Points of validation accuracy lost where that stage alone is compressed and nothing is fine-tuned; below, "
        "what it saves of the whole network: MACs by pruning, bytes of the file by bits (of weights/activations). "
        f"Dim: within two standard errors of none. {NOTHING}: nothing to be done there "
        "(classes and channels shared with other stages stay), or refused.",
        *(f"Refused: {line}" for line in refusals(sensitivity)),
    ]
