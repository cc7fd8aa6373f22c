"""Complete tables of measured designs: every design of a space with what training and timing it gave.

    python tests/benchmarks/tables.py                             # figures of digits_table.csv.gz
    python tests/benchmarks/tables.py nas_bench_201_hw.csv.gz     # of a table of NAS-Bench-201's cells

Where all designs are known so is the true front, and a search strategy is judged in seconds by replaying what it asks
for. A table is a CSV file, compressed or not: a line for each design, first a column for each choice (empty where the
choice is inactive), then the measured values.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from nas.choice import Choice
from nas.compression import Value
from nas.errors import NasError, SpaceError, unknown_name
from nas.front import non_dominated
from nas.report.agreement import kendall_tau
from nas.space import SearchSpace, load_space

HERE = Path(__file__).parent
DIGITS = HERE / "digits_table.csv.gz"
DIGITS_SPACE = HERE / "digits_table_space.yaml"

# Six edges of a cell, each with one of five operations (Dong and Yang, NAS-Bench-201, ICLR 2020).
CELL_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
CELL_EDGES = 6
CELL_NUMBER = "arch_idx"


@dataclass(frozen=True, eq=False)
class Table:
    """All designs of a space with their values.

    Args:
        name: What the table is called.
        columns: The choices, each after those that it depends on.
        rows: For each of N designs its active choices and their values.
        values: By name N float64; NaN where a value is not known.
    """

    name: str
    columns: tuple[Choice, ...]
    rows: tuple[Mapping[str, Value], ...]
    values: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def _numbers(self) -> dict[tuple[Value | None, ...], int]:
        return {self._key(row): number for number, row in enumerate(self.rows)}

    def _key(self, row: Mapping[str, Value]) -> tuple[Value | None, ...]:
        return tuple(row.get(column.name) for column in self.columns)

    def find(self, row: Mapping[str, Value]) -> int:
        """The number of the design with these active choices.

        Raises:
            NasError: The table has no such design, or a choice is not one of its columns.
        """
        names = [column.name for column in self.columns]
        for name in row:
            if name not in names:
                raise NasError(unknown_name(f"choice of table '{self.name}':", name, names))
        number = self._numbers.get(self._key(row))
        if number is None:
            raise NasError(f"table '{self.name}' has no design {dict(row)}", "name every active choice and no other")
        return number

    def points(self, names: Sequence[str]) -> np.ndarray:
        """Values of these names, N×M.

        Raises:
            NasError: No value of that name.
        """
        for name in names:
            if name not in self.values:
                raise NasError(unknown_name(f"value of table '{self.name}':", name, self.values))
        return np.stack([self.values[name] for name in names], axis=1)

    def front(self, names: Sequence[str], maximise: Sequence[bool]) -> np.ndarray:
        """Numbers of the designs that no other dominates, ascending; designs with an unknown value are left out."""
        points = self.points(names)
        known = np.flatnonzero(~np.isnan(points).any(axis=1))
        front: np.ndarray = known[non_dominated(points[known], maximise)]
        return front


def read_table(path: Path, name: str, columns: Sequence[Choice], ignore: Iterable[str] = ()) -> Table:
    """Reads a table, compressed where the file's name ends in ``.gz``.

    Args:
        path: The CSV file.
        name: What the table is to be called.
        columns: Its choices, each after those that it depends on. Every other column holds values.
        ignore: Columns that are neither.

    Raises:
        NasError: The file cannot be read, has no column for a choice, a line's choices are no design, a design stands
            twice, or a value is no number; the message names the line.
    """
    lines = csv.reader(io.StringIO(_text(path)))
    header = next(lines, [])
    for column in columns:
        if column.name not in header:
            raise NasError(f"{path}: there is no column '{column.name}'", f"its columns: {', '.join(header)}")
    choices = {column.name for column in columns}
    named = [other for other in header if other not in choices and other not in set(ignore)]
    rows: list[Mapping[str, Value]] = []
    values: dict[str, list[float]] = {other: [] for other in named}
    first_seen: dict[tuple[tuple[str, Value], ...], int] = {}
    for number, line in enumerate(lines, 2):
        where = f"{path}, line {number}"
        if len(line) != len(header):
            raise NasError(f"{where} must have {len(header)} cells, but has {len(line)}")
        cells = dict(zip(header, line, strict=True))
        row = _design(cells, columns, where)
        earlier = first_seen.setdefault(tuple(row.items()), number)
        if earlier != number:
            raise NasError(f"{where} is the design of line {earlier} again")
        rows.append(MappingProxyType(row))
        for other in named:
            values[other].append(_number(cells[other], other, where))
    return Table(name, tuple(columns), tuple(rows), {other: np.array(given) for other, given in values.items()})


def digits_space() -> SearchSpace:
    """The space whose designs the digits table holds."""
    return load_space(str(DIGITS_SPACE))


def digits_table() -> Table:
    """Architecture and compression on handwritten digits, made by ``digits_table.py``, which describes the values."""
    return read_table(DIGITS, "digits", digits_space().choices)


def nas_bench_201(path: Path) -> Table:
    """The cells of NAS-Bench-201 (columns ``op0`` to ``op5``) with accuracies in per cent and latencies in ms."""
    columns = [Choice(f"op{edge}", "architecture", CELL_OPERATIONS) for edge in range(CELL_EDGES)]
    return read_table(path, "nas-bench-201", columns, ignore=[CELL_NUMBER])


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise NasError(f"the table {path} cannot be read: {error}") from None


def _design(cells: Mapping[str, str], columns: Sequence[Choice], where: str) -> dict[str, Value]:
    """A line's active choices; a cell must be filled where its choice is active, and empty elsewhere."""
    row: dict[str, Value] = {}
    for column in columns:
        cell = cells[column.name]
        if column.active(row) != bool(cell):
            rule = "must have a value" if column.active(row) else "is inactive and must be empty"
            raise NasError(f"{where}: '{column.name}' {rule}, but got {cell!r}")
        if cell:
            try:
                row[column.name] = column.find(_value(cell))
            except SpaceError as error:
                raise NasError(f"{where}: {error.message}") from None
    return row


def _value(cell: str) -> Value:
    """What a cell says: true or false, a number, or a text."""
    if cell in ("true", "false"):
        return cell == "true"
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def _number(cell: str, name: str, where: str) -> float:
    """A measured value; NaN where the cell is empty."""
    try:
        return float(cell) if cell else float("nan")
    except ValueError:
        raise NasError(f"{where}: '{name}' must be a number, but got {cell!r}") from None


def describe(table: Table) -> list[str]:
    """Figures of a table, a line each: ranges, how many designs are on fronts, what FLOPs say of latency."""
    lines = [f"{table.name}: {len(table):,} designs of {len(table.columns)} choices"]
    for name, values in table.values.items():
        low, median, high = np.nanpercentile(values, [0, 50, 100])
        unknown = int(np.isnan(values).sum())
        lines.append(
            f"  {name:26s} {low:11.5g} … {median:11.5g} … {high:11.5g}   {len(np.unique(values)):6,} values"
            + (f", {unknown:,} unknown" if unknown else "")
        )
    qualities = [name for name in table.values if name == "accuracy" or name.endswith("val_accuracy")]
    for cost in (name for name in table.values if name.startswith("latency_ms")):
        for quality in qualities:
            lines.append(f"  front of {quality} and {cost}: {len(table.front([quality, cost], [True, False]))} designs")
            if "size_bytes" in table.values:
                front = table.front([quality, cost, "size_bytes"], [True, False, False])
                lines.append(f"  and of size_bytes too: {len(front)} designs")
            lines.append(f"  Kendall's tau of {quality} and {cost}: {_tau(table, quality, cost):.3f}")
        if "flops" in table.values:
            lines.append(f"  Kendall's tau of flops and {cost}: {_tau(table, 'flops', cost):.3f}")
    lines += [
        f"  Kendall's tau of {rung} and accuracy: {_tau(table, rung, 'accuracy'):.3f}"
        for rung in table.values
        if rung.startswith("rung_accuracy") and "accuracy" in table.values
    ]
    return lines


def _tau(table: Table, first: str, second: str) -> float:
    points = table.points([first, second])
    known = points[~np.isnan(points).any(axis=1)]
    tau = kendall_tau(list(known[:, 0]), list(known[:, 1]))
    return float("nan") if tau is None else tau


def main() -> None:
    try:
        table = nas_bench_201(Path(sys.argv[1])) if len(sys.argv) > 1 else digits_table()
    except NasError as error:
        sys.exit(str(error))
    print("\n".join(describe(table)))


if __name__ == "__main__":
    main()
