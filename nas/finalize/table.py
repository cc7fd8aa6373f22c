"""What a final training gave, for the terminal: 80 columns, a line of numbers for each design and one for its words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from nas.describe import describe
from nas.finalize.run import Finished
from nas.finalized import Coefficient, Finalized, Ranking, Spread
from nas.measurements import ambiguous_with
from nas.outcome import Quantity
from nas.report.agreement import signed
from nas.wording import human, listing, percent, plural, significant

GAP = "  "
TITLES = ("Trial", "Search", "Full budget", "Full budget", "Latency", "Size", "Seeds")
UNITS = ("", "% valid.", "% valid. ±95 %", "% test ±95 %", "ms ±95 %", "", "")
INDENT = len(TITLES[0]) + len(GAP)


def result_table(finished: Finished) -> RenderableType:
    """The designs, what their numbers mean, how reliable the search's ranking was, and what could not be done."""
    plan, study = finished.plan, finished.study
    heading = Text.assemble((f"Final training of {study.name}", "bold"), f": {plan.words(study.recipe)}\n")
    parts: list[RenderableType] = [heading, *_rows(finished), Text("")]
    parts += [Text(line, style="dim") for line in _notes(finished)]
    parts += [Text(""), *map(Text, dict.fromkeys(ranking_words(ranking) for ranking in finished.rankings))]
    parts += [Text(f"not done: {line}", style="yellow") for line in finished.missing]
    return Group(*parts)


def ranking_words(ranking: Ranking) -> str:
    """How far the search's order is the one at full budget, in a sentence or two, or why that cannot be said."""
    if ranking.kendall is None or ranking.spearman is None or ranking.chance is None:
        return f"How reliable the search's ranking was cannot be said: {ranking.why_not}."
    data = "test" if ranking.name == "test_accuracy" else "validation"
    claim = f"The search's ranking against {data} accuracy at full budget"
    said = (
        f"{claim}: Kendall's τ {_coefficient(ranking.kendall)}, Spearman's ρ {_coefficient(ranking.spearman)} over "
        f"{plural(ranking.designs, 'design')}"
    )
    if ranking.chance > 0.05:
        return f"{said}; chance alone gives as much in {percent(ranking.chance, 0)} of 100 cases, so that says little."
    return f"{said}; chance alone gives as much in {significant(100 * ranking.chance, 2)} of 100 cases."


def _coefficient(found: Coefficient) -> str:
    if found.low is None or found.high is None:
        return signed(found.value)
    return f"{signed(found.value)} ({signed(found.low)} to {signed(found.high)})"


def _rows(finished: Finished) -> Iterable[RenderableType]:
    rows = [_cells(finished, done) for done in finished.designs]
    widths = [max(cell_len(cell) for cell in column) for column in zip(TITLES, UNITS, *rows, strict=True)]
    yield Text(_line(widths, TITLES), style="bold", no_wrap=True)
    yield Text(_line(widths, UNITS), style="dim", no_wrap=True)
    yield Text("─" * (sum(widths) + len(GAP) * (len(widths) - 1)), style="dim", no_wrap=True)
    for cells, done in zip(rows, finished.designs, strict=True):
        numbers = Text(_line(widths, cells), no_wrap=True)
        numbers.stylize("bold", 0, widths[0])
        yield numbers
        yield Padding(Text(describe(done.design), style="dim"), (0, 0, 0, INDENT))


def _line(widths: Sequence[int], cells: Sequence[str]) -> str:
    return GAP.join(" " * (width - cell_len(cell)) + cell for width, cell in zip(widths, cells, strict=True))


def _cells(finished: Finished, done: Finalized) -> tuple[str, ...]:
    record = done.record
    latency = record.quantity(f"latency_ms@{_target(finished)}")
    size = record.quantity("size_bytes")
    seeds = str(len(done.measured))
    if len(done.measured) < len(done.runs):
        seeds += f" of {len(done.runs)}"
    return (
        str(done.trial),
        percent(finished.searched[done.trial]),
        f"→ {_share(done.accuracy)}",
        _share(done.test_accuracy),
        "–" if latency is None else _latency(latency),
        "–" if size is None else human(size.value, "bytes"),
        seeds,
    )


def _share(found: Spread) -> str:
    return f"{percent(found.mean)} ±{percent(found.half_width)}"


def _latency(latency: Quantity) -> str:
    """``≈0.0344 ±0.8%``; ``≈`` where another design's cannot be told apart."""
    mark = "≈" if ambiguous_with(latency) else ""
    if latency.low is None or latency.high is None or not latency.value:
        return f"{mark}{significant(latency.value)}"
    half = max(latency.value - latency.low, latency.high - latency.value) / latency.value
    return f"{mark}{significant(latency.value)} ±{significant(max(100 * half, 0.1), 1)}%"


def _target(finished: Finished) -> str | None:
    objectives = finished.study.recipe.parsed_objectives
    return next((objective.target for objective in objectives if objective.name == "latency_ms"), None)


def _notes(finished: Finished) -> list[str]:
    """How to read the numbers."""
    several = any(len(done.measured) > 1 for done in finished.designs)
    if several:
        spread = (
            "Full budget: the mean over seeds; ±: 95 %, of other seeds and other images together. Latency and size are "
            "those of the seed to ship, the most accurate on validation data."
        )
    else:
        spread = "±: 95 %, of other images alone; with one seed nothing is known of the chance in training."
    notes = [spread]
    target = _target(finished)
    if target is not None:
        alike = [r.number for r in finished.study.records if _is_alike(r.quantity(f"latency_ms@{target}"))]
        words = f" Trials {listing([str(n) for n in alike])} (≈) cannot be told apart from another." if alike else ""
        notes.append(f"Latency on {target}, taken in turns.{words}")
    unstable = [r.number for r in finished.study.records if _is_unstable(r.quantity(f"latency_ms@{target}"))]
    if unstable:
        notes.append(f"Disturbed while it was timed: {listing([f'trial {number}' for number in unstable])}.")
    return notes


def _is_alike(latency: Quantity | None) -> bool:
    return latency is not None and bool(ambiguous_with(latency))


def _is_unstable(latency: Quantity | None) -> bool:
    return latency is not None and bool(latency.detail.get("unstable"))
