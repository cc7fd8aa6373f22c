"""One column of numbers, and the rows that the front's table has."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len

from nas.gains import baseline_of
from nas.record import TrialRecord
from nas.study import Study

BASE = "base"  # what the baseline is called in a table


@dataclass(frozen=True)
class Column:
    """One column of numbers.

    Args:
        key: The quantity that it shows, empty for the trial's number.
        title: First line of the heading.
        unit: Second line of the heading.
        cells: Text for each row, empty where it has none.
        suffix: Put after a cell where it stands below the line, without its heading.
        words: What stands below the line instead; columns that have such words are the first to stand there.
    """

    key: str
    title: str
    unit: str
    cells: list[str]
    suffix: str = ""
    words: list[str] | None = None

    @property
    def width(self) -> int:
        return max(cell_len(text) for text in (self.title, self.unit, *self.cells))

    def below(self, row: int) -> str:
        """The cell as it stands below the line; empty where there is none."""
        if not self.cells[row]:
            return ""
        return self.words[row] if self.words else f"{self.title} {self.cells[row]}{self.suffix}"


def table_rows(study: Study) -> list[TrialRecord]:
    """The front, cheapest first, and below it the baseline where that is not a part of it."""
    baseline = baseline_of(study)
    aside = [baseline] if study.front and baseline is not None and baseline not in study.front else []
    return [*study.front, *aside]
