"""The front as a table for the terminal, at any width: what does not fit stands on a second line, nothing is cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from nas.describe import describe
from nas.front import hypervolume, knee
from nas.outcome import Quantity, Realisation
from nas.record import TrialRecord
from nas.report.numbers import (
    display,
    frames_per_second,
    human,
    latency_targets,
    plural,
    significant,
    target_words,
)
from nas.study import Study

GAP = 2  # blanks between columns
WORDS_WIDTH = 36  # the design gets a column of its own where this much room is left for it
KNEE, SIMULATED, UNSUPPORTED, UNSTABLE = "◆", "†", "‡", "~"


@dataclass(frozen=True)
class Column:
    """One column of numbers.

    Args:
        key: The quantity that it shows, empty for the trial's number.
        title: First line of the heading.
        unit: Second line of the heading.
        cells: Text for each member of the front, empty where it has none.
        suffix: Put after a cell where it stands below the line, without its heading.
    """

    key: str
    title: str
    unit: str
    cells: list[str]
    suffix: str = ""

    @property
    def width(self) -> int:
        return max(cell_len(text) for text in (self.title, self.unit, *self.cells))


def front_table(study: Study) -> Table:
    """The front, cheapest first: a row for each member, with all its numbers and its design in words.

    Accuracy is of validation data, and of test data in a column of its own where the front was scored on it. The
    spread beside a latency is half the interquartile range of its samples, in per cent of the median; where a trial
    has none, it is for all half the 95 % interval of the median. The heading says which.

    Where the terminal is wide the design is the last column. Where it is not, the design stands below its numbers, and
    so do numbers that the line has no room for, each with its name.
    """
    return FrontTable(study)


class FrontTable(Table):
    """A table that lays itself out for the width that it is printed at."""

    def __init__(self, study: Study) -> None:
        super().__init__(box=SIMPLE_HEAD, padding=(0, GAP, 0, 0), show_edge=False, pad_edge=False, header_style="")
        self.numbers = _columns(study)
        self.words = [describe(record.design) for record in study.front]
        self.heading = _heading(study)
        self.footnotes = _footnotes(study)
        for column in self.numbers:
            heading = Text.assemble((column.title, "bold"), "\n", (column.unit, "dim"))
            self.add_column(heading, justify="right", no_wrap=True, min_width=column.width)
        self.add_column(Text("Design\n", style="bold"))
        for row, words in enumerate(self.words):
            trial, *cells = (column.cells[row] for column in self.numbers)
            self.add_row(Text(trial, style="bold"), *map(Text, cells), Text(words))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.heading
        if self.words:
            needed = sum(column.width + GAP + 1 for column in self.numbers) + WORDS_WIDTH
            wide = options.max_width >= needed
            yield from super().__rich_console__(console, options) if wide else self._narrow(options.max_width)
        yield from self.footnotes

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)

    def _narrow(self, width: int) -> Iterable[Text | Table]:
        """Two or more lines for each member: numbers, then what the line had no room for and the design."""
        shown, left = _fitting(self.numbers, width)
        widths = [column.width for column in shown]
        yield Text(_line(widths, [column.title for column in shown]), style="bold", no_wrap=True)
        yield Text(_line(widths, [column.unit for column in shown]), style="dim", no_wrap=True)
        yield Text("─" * min(width, sum(widths) + GAP * (len(widths) - 1)), style="dim", no_wrap=True)
        for row, words in enumerate(self.words):
            numbers = Text(_line(widths, [column.cells[row] for column in shown]), no_wrap=True)
            numbers.stylize("bold", 0, widths[0])
            yield numbers
            rest = [f"{c.title} {c.cells[row]}{c.suffix}" for c in left if c.cells[row]]
            below = Table.grid(padding=0)
            below.add_column(width=widths[0] + GAP)
            below.add_column()
            below.add_row("", Text(" · ".join([*rest, words]), style="dim"))
            yield below


def _line(widths: Sequence[int], cells: Sequence[str]) -> str:
    """One line of right-aligned cells."""
    aligned = (" " * (width - cell_len(cell)) + cell for width, cell in zip(widths, cells, strict=True))
    return (" " * GAP).join(aligned)


def _fitting(columns: Sequence[Column], width: int) -> tuple[Sequence[Column], Sequence[Column]]:
    """The first columns, as many as fit on a line but at least one, and the others."""
    used, count = columns[0].width, 1
    while count < len(columns) and (used := used + GAP + columns[count].width) <= width:
        count += 1
    return columns[:count], columns[count:]


def _columns(study: Study) -> list[Column]:
    """The columns for which the front has numbers: the trial, qualities, costs that are objectives, the rest."""
    front, recipe = study.front, study.recipe
    best = knee(front, recipe.parsed_objectives).number if front else None
    trials = Column("", "Trial", "", [_marked(record, best) for record in front])
    costs = [o.key for o in recipe.parsed_objectives if not o.maximise]
    others = sorted(
        _cost_columns(study), key=lambda c: costs.index(c.key) if c.key in costs else len(costs)
    )  # a stable sort: the rest stays in order
    return [trials, *(c for c in (*_quality_columns(study), *others) if any(c.cells))]


def _quality_columns(study: Study) -> list[Column]:
    recipe = study.recipe
    named = {item.key for item in (*recipe.parsed_objectives, *(c.quantity for c in recipe.parsed_constraints))}
    columns = []
    for name, title in (("accuracy", "Accuracy"), ("balanced_accuracy", "Balanced")):
        if name == "accuracy" or name in named:
            on_test = [study.test_scores.get(record.number, {}).get(f"test_{name}") for record in study.front]
            values = [_cell(record.quantity(name)) for record in study.front]
            columns.append(Column(name, title, "% valid.", values, " %"))
            columns.append(Column(f"test_{name}", title, "% test", [_cell(q) for q in on_test], " % (test)"))
    return columns


def _cost_columns(study: Study) -> list[Column]:
    front, targets = study.front, latency_targets(study)
    by_iqr = _has_iqr(study)
    columns = []

    def cells(key: str) -> list[str]:
        return [_cell(record.quantity(key)) for record in front]

    for target in targets:
        suffix = f" {_short(target)}" if len(targets) > 1 else ""
        key = f"latency_ms@{target}"
        latencies = [record.quantity(key) for record in front]
        heading = "ms ±IQR/2" if by_iqr else "ms ±CI/2"
        columns.append(Column(key, f"Latency{suffix}", heading, [_latency_cell(q, by_iqr) for q in latencies], " (ms)"))
        speeds = [human(frames_per_second(q)) if q else "" for q in latencies]
        columns.append(Column("", f"fps{suffix}", "1/s", speeds))
    for name, title in (("flops", "FLOPs"), ("macs", "MACs"), ("params", "Params"), ("size_bytes", "Size")):
        columns.append(Column(name, title, "", cells(name)))
    for name, title in (("load_ms", "Load"), ("peak_memory_bytes", "Memory")):
        for target in targets:
            suffix = f" {_short(target)}" if len(targets) > 1 else ""
            columns.append(Column(f"{name}@{target}", f"{title}{suffix}", "", cells(f"{name}@{target}")))
    return columns


def _cell(quantity: Quantity | None) -> str:
    return display(quantity.name, quantity.value).removesuffix(" %") if quantity else ""


def _latency_cell(latency: Quantity | None, by_iqr: bool) -> str:
    """Median and spread: ``0.0312 ±2%``."""
    if latency is None:
        return ""
    spread = None
    if by_iqr:
        spread = float(latency.detail["iqr"]) / 2
    elif latency.low is not None and latency.high is not None:
        spread = (latency.high - latency.low) / 2
    mark = UNSTABLE if latency.detail.get("unstable") else ""
    share = f" ±{significant(100 * spread / latency.value, 1)}%" if spread is not None else ""
    return f"{significant(latency.value)}{share}{mark}"


def _has_iqr(study: Study) -> bool:
    latencies = [q for record in study.front for q in record.quantities if q.name == "latency_ms"]
    return all("iqr" in q.detail for q in latencies)


def _short(target: str) -> str:
    """Threads and batch of a target, where several have to be told apart: ``1t-b1``."""
    return "-".join(target.split("-")[2:])


def _marked(record: TrialRecord, best: int | None) -> str:
    labels = set(record.labels.values())
    simulated = SIMULATED if Realisation.SIMULATED in labels else ""
    unsupported = UNSUPPORTED if Realisation.UNSUPPORTED in labels else ""
    return f"{KNEE if record.number == best else ''}{simulated}{unsupported}{record.number}"


def _heading(study: Study) -> Text:
    share = f": {len(study.front)} of {plural(len(study.records), 'trial')}"
    text = Text.assemble((f"Front of {study.name}", "bold"), share)
    if study.reference is not None:
        recipe = study.recipe
        volume = hypervolume(study.records, study.reference, recipe.parsed_objectives, recipe.parsed_constraints)
        text.append(f", hypervolume {volume:.3f}")
    return text.append("\n")


def _footnotes(study: Study) -> list[Text]:
    """What the columns and marks mean, as far as the table has them."""
    if not study.front:
        why = "meets every constraint" if study.measured else "was measured"
        return [Text(f"No trial is on the front: of {plural(len(study.records), 'trial')} none {why}.", style="dim")]
    targets = latency_targets(study)
    latencies = "; ".join(target_words(t) + (f" ({_short(t)})" if len(targets) > 1 else "") for t in targets)
    spread = "half the interquartile range of the samples" if _has_iqr(study) else "half the 95 % interval"
    notes = [f"Latency: median on {latencies}; ± {spread}."] if targets else []
    notes.append(f"{KNEE} the knee: past it, a little more of one objective costs much of another.")
    for mark, label, meaning in (
        (SIMULATED, Realisation.SIMULATED, "only simulated on this target, saves no time there"),
        (UNSUPPORTED, Realisation.UNSUPPORTED, "not supported by this target"),
    ):
        choices = sorted({name for r in study.front for name, value in r.labels.items() if value is label})
        if choices:
            notes.append(f"{mark} {', '.join(choices)}: {meaning}.")
    if any(q.detail.get("unstable") for record in study.front for q in record.quantities):
        notes.append(f"{UNSTABLE} the latency was unstable while it was measured.")
    return [Text(""), *(Text(note, style="dim") for note in notes)]
