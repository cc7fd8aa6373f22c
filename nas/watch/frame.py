"""One frame of the live view: a study on a screen of any size, cut rather than wrapped."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from nas.describe import describe
from nas.objectives import Objective
from nas.outcome import Outcome
from nas.record import TrialRecord
from nas.report.target_names import short_targets
from nas.study import Study
from nas.watch.pace import LATELY, budget_share, clock_words, seconds_left, seconds_running, trials_a_minute
from nas.watch.snapshot import Snapshot
from nas.watch.sparkline import sparkline
from nas.wording import display, plain_name, plural

ROWS = 24  # of a screen whose height is not known
FEWEST_ROWS = 3  # of the front's table: a heading, a member, and how many more there are
LABEL = 13  # columns of what stands before each line
GAP = 2


class Frame:
    """A snapshot as lines that fit the width and height they are printed at.

    Args:
        snapshot: What to show.
        closing: The last line, such as how to end the view.
    """

    def __init__(self, snapshot: Snapshot, closing: str = "") -> None:
        self.snapshot = snapshot
        self.closing = closing

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, rows = options.max_width, options.height or ROWS
        for line in self.lines(width, rows):
            line.truncate(width, overflow="ellipsis")
            line.no_wrap = True
            yield line

    def lines(self, width: int, rows: int) -> list[Text]:
        """What is shown, at most so many rows."""
        snapshot = self.snapshot
        closing = [Text(self.closing, style="dim")] if self.closing else []
        if snapshot.study is None:
            return [Text(snapshot.problem, style="yellow"), *closing][:rows]
        study = snapshot.study
        lines = [
            self._heading(study),
            self._budget(study, width),
            *self._now(),
            *_trials(study),
            *_volume(snapshot, width),
        ]
        if snapshot.problem:
            lines.append(_line("Note", Text(snapshot.problem, style="yellow")))
        left = rows - len(lines) - len(closing)
        if snapshot.front and left > FEWEST_ROWS:
            lines += [Text(""), *front_lines(snapshot, left - 1)]
        return [*lines[: rows - len(closing)], *closing]

    def _heading(self, study: Study) -> Text:
        owner = self.snapshot.owner
        at_work = f"searching (process {owner})" if owner is not None else "no search is at work"
        style = "green" if owner is not None else "dim"
        return Text.assemble((study.name, "bold"), "  ", (at_work, style))

    def _budget(self, study: Study, width: int) -> Text:
        # What follows once the budget is spent, such as timing the front again, is no part of it.
        running = seconds_running(self.snapshot) if budget_share(study) < 1 else 0.0
        budget, parts = study.recipe.budget, []
        if budget.trials is not None:
            parts.append(f"{study.spent:.4g} of {plural(budget.trials, 'trial')}")
        used = clock_words(study.seconds + running)
        parts.append(
            f"{used} of {clock_words(60 * budget.minutes)}" if budget.minutes is not None else f"{used} so far"
        )
        left, share = seconds_left(study, running), budget_share(study, running)
        if share >= 1:
            parts.append("spent")
        elif left is not None:
            parts.append(f"{'about ' if budget.trials is not None else ''}{clock_words(left)} left")
        words = ", ".join(parts)
        room = max(0, min(30, width - LABEL - GAP - cell_len(words)))
        filled = round(room * share)
        bar = (("━" * filled, "green"), ("━" * (room - filled), "bright_black"), "  " if room else "")
        return _line("Budget", Text.assemble(*bar, words))

    def _now(self) -> list[Text]:
        """What runs now, and the design of it."""
        running = self.snapshot.running
        if self.snapshot.owner is None:
            return []
        if running is None:
            return [_line("Now", Text("preparing", style="dim"))]
        stage = running.stage or "choosing the next design"
        share = f" {100 * running.share:.0f} %" if running.share > 0 else ""
        trial = f"trial {running.number}: " if running.number is not None else ""
        words = Text.assemble(
            (f"{trial}{stage}{share}", "cyan"), f", for {clock_words(seconds_running(self.snapshot))}"
        )
        lines = [_line("Now", words)]
        if running.design is not None:
            lines.append(_line("", Text(describe(running.design), style="dim")))
        if running.beside:
            others = ", ".join(f"trial {number}: {stage or 'begun'}" for number, stage in running.beside.items())
            lines.append(_line("", Text(f"beside it {others}", style="cyan")))
        return lines


def _line(label: str, words: Text) -> Text:
    return Text.assemble((label.ljust(LABEL), "bold"), words)


def _trials(study: Study) -> list[Text]:
    """How trials ended, how fast they come, and what became of the last one."""
    if not study.records:
        return [_line("Trials", Text("none has ended yet", style="dim"))]
    counts = Counter(record.outcome for record in study.records)
    ended = ", ".join(f"{counts[outcome]:,} {outcome}" for outcome in Outcome if counts[outcome])
    lines = [_line("Trials", Text(f"{len(study.records):,}: {ended}"))]
    if (pace := trials_a_minute(study)) is not None:
        lately = trials_a_minute(study, LATELY) or pace
        words = f"{pace:.3g} trials a minute, the last {min(LATELY, len(study.counted))} at {lately:.3g} a minute"
        lines.append(_line("Pace", Text(words)))
    return [*lines, _line("Last", _last(study, study.records[-1]))]


def _last(study: Study, record: TrialRecord) -> Text:
    words = Text(f"trial {record.number} {record.outcome}: ")
    if record.outcome is Outcome.MEASURED:
        words.append("  ".join(display(o.name, record.value(o.key)) for o in study.recipe.parsed_objectives))
    elif record.duplicate_of is not None:
        words.append(f"the same design as trial {record.duplicate_of}", style="dim")
    elif record.reason is not None:
        words.append(record.reason.message, style="red" if record.outcome is Outcome.FAILED else "dim")
    return words


def _volume(snapshot: Snapshot, width: int) -> list[Text]:
    """The hypervolume, its course over trials, and when it last grew."""
    if not snapshot.history:
        return []
    values = [value for _, value in snapshot.history]
    grew = next(number for number, value in snapshot.history if value == values[-1])
    words = f"  last grew with trial {grew}" if values[-1] > 0 else ""
    room = max(1, min(40, width - LABEL - 6 - 2 - len(words)))
    return [
        _line("Hypervolume", Text.assemble(f"{values[-1]:.4f}  ", (sparkline(values, room), "green"), (words, "dim")))
    ]


def front_lines(snapshot: Snapshot, rows: int) -> list[Text]:
    """The front as a table of so many rows, cheapest first; where it has more members, some of them and both ends.

    Args:
        snapshot: One with a study and a front.
        rows: At least 3: a heading, one member, and a line that says how many there are.
    """
    study, front = snapshot.study, list(snapshot.front)
    assert study is not None
    shown = front if len(front) <= rows - 1 else _spread(front, rows - 2)
    objectives = study.recipe.parsed_objectives
    cells = [[f"{r.number}", *(display(o.name, r.value(o.key)) for o in objectives)] for r in shown]
    titles = ["Trial", *_titles(objectives)]
    widths = [max(cell_len(row[column]) for row in (titles, *cells)) for column in range(len(titles))]
    lines = [Text.assemble((_row(widths, titles), "bold"), (" " * GAP + "Front, cheapest first", "dim"))]
    newest = study.records[-1].number
    for record, row in zip(shown, cells, strict=True):
        style = "green" if record.number == newest else ""
        lines.append(Text.assemble((_row(widths, row), style), (" " * GAP + describe(record.design), style or "dim")))
    if len(shown) < len(front):
        command = shlex.join(["nas", "front", str(snapshot.path)])
        lines.append(Text(f"{len(shown)} of {len(front)} are shown; all of them: {command}", style="dim"))
    return lines


def _titles(objectives: Sequence[Objective]) -> list[str]:
    """What each column holds; with its target only where the name alone would not tell two columns apart."""
    names = [plain_name(o.key).removeprefix("validation ").capitalize() for o in objectives]
    short = short_targets(list(dict.fromkeys(o.target for o in objectives if o.target)))
    return [
        f"{name} {short[o.target]}" if o.target and names.count(name) > 1 else name
        for name, o in zip(names, objectives, strict=True)
    ]


def _row(widths: Sequence[int], cells: Sequence[str]) -> str:
    return (" " * GAP).join(" " * (width - cell_len(cell)) + cell for width, cell in zip(widths, cells, strict=True))


def _spread(front: Sequence[TrialRecord], count: int) -> list[TrialRecord]:
    """So many members at equal distances, the first and the last among them where there is room for two."""
    if count == 1:
        return [front[0]]
    return [front[round(index * (len(front) - 1) / (count - 1))] for index in range(count)]
