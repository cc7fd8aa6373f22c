"""The front as a table for the terminal, at any width: what does not fit stands on a second line, nothing is cut."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from nas.describe import SEPARATOR, describe
from nas.front import hypervolume
from nas.report.columns import Column, front_notes, number_columns, table_rows
from nas.study import Study
from nas.wording import plural

GAP = 2  # blanks between columns
WORDS_WIDTH = 36  # the design gets a column of its own where this much room is left for it


def front_table(study: Study) -> FrontTable:
    """The front, cheapest first: a row for each member, with all its numbers and its design in words.

    A baseline that is not on the front has a row of its own below it.

    Accuracy is of validation data, and of test data in a column of its own where the front was scored on it. The
    spread beside a latency is half the interquartile range of its samples, in per cent of the median; where a trial
    has none, it is for all half the 95 % interval of the median. The heading says which.

    Where the terminal is wide the design is the last column. Where it is not, the design stands below its numbers, and
    so do numbers that the line has no room for, each with its name; objectives get room before other numbers.
    """
    return FrontTable(study)


class FrontTable:
    """A table that lays itself out for the width that it is printed at."""

    def __init__(self, study: Study) -> None:
        self.numbers = number_columns(study)
        self.words = [describe(record.design) for record in table_rows(study)]
        self.objectives = {objective.key for objective in study.recipe.parsed_objectives}
        self.heading = _heading(study)
        self.footnotes = [Text(note, style="dim") for note in front_notes(study)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.heading
        if self.words:
            yield from self._rows(options.max_width)
            yield Text("")
        yield from self.footnotes

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)

    def _rows(self, width: int) -> Iterable[Text | Table]:
        """With a column for the design where there is room, with what has words of its own put before it if need be."""
        for shown in (self.numbers, [column for column in self.numbers if column.words is None]):
            if width >= sum(column.width + GAP + 1 for column in shown) + WORDS_WIDTH:
                return [self._wide(shown)]
        return self._narrow(width)

    def _wide(self, shown: Sequence[Column]) -> Table:
        table = Table(box=SIMPLE_HEAD, padding=(0, GAP, 0, 0), show_edge=False, pad_edge=False, header_style="")
        for column in shown:
            heading = Text.assemble((column.title, "bold"), "\n", (column.unit, "dim"))
            table.add_column(heading, justify="right", no_wrap=True, min_width=column.width)
        table.add_column(Text("Design\n", style="bold"))
        left = [column for column in self.numbers if column not in shown]
        for row, words in enumerate(self.words):
            trial, *cells = (column.cells[row] for column in shown)
            table.add_row(Text(trial, style="bold"), *map(Text, cells), Text(_below(left, row, words)))
        return table

    def _narrow(self, width: int) -> Iterable[Text | Table]:
        """Two or more lines for each member: numbers, then what the line had no room for and the design."""
        shown, left = _fitting(self.numbers, self.objectives, width)
        widths = [column.width for column in shown]
        yield Text(_line(widths, [column.title for column in shown]), style="bold", no_wrap=True)
        yield Text(_line(widths, [column.unit for column in shown]), style="dim", no_wrap=True)
        yield Text("─" * min(width, sum(widths) + GAP * (len(widths) - 1)), style="dim", no_wrap=True)
        for row, words in enumerate(self.words):
            numbers = Text(_line(widths, [column.cells[row] for column in shown]), no_wrap=True)
            numbers.stylize("bold", 0, widths[0])
            yield numbers
            below = Table.grid(padding=0)
            below.add_column(width=widths[0] + GAP)
            below.add_column()
            below.add_row("", Text(_below(left, row, words), style="dim"))
            yield below


def _below(left: Sequence[Column], row: int, words: str) -> str:
    """What stands below a line or beside it: numbers that have no column, and the design."""
    return SEPARATOR.join([*(text for column in left if (text := column.below(row))), words])


def _line(widths: Sequence[int], cells: Sequence[str]) -> str:
    """One line of right-aligned cells."""
    aligned = (" " * (width - cell_len(cell)) + cell for width, cell in zip(widths, cells, strict=True))
    return (" " * GAP).join(aligned)


def _fitting(
    columns: Sequence[Column], objectives: Collection[str], width: int
) -> tuple[Sequence[Column], Sequence[Column]]:
    """The columns that fit on a line, but at least the first, and the others; objectives get their room first."""
    first, *others = sorted(range(len(columns)), key=lambda i: (i > 0) + (i > 0 and columns[i].key not in objectives))
    chosen, used = {first}, columns[first].width
    for index in others:
        used += GAP + columns[index].width
        if used > width:
            break
        chosen.add(index)
    shown = [column for index, column in enumerate(columns) if index in chosen]
    return shown, [column for index, column in enumerate(columns) if index not in chosen]


def _heading(study: Study) -> Text:
    share = f": {len(study.front)} of {plural(len(study.records), 'trial')}"
    text = Text.assemble((f"Front of {study.name}", "bold"), share)
    if study.reference is not None:
        recipe = study.recipe
        volume = hypervolume(study.records, study.reference, recipe.parsed_objectives, recipe.parsed_constraints)
        text.append(f", hypervolume {volume:.3f}")
    return text.append("\n")
