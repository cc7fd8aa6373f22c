"""What a search looks like in a terminal: one line for each trial, a progress bar, the time left."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from nas.describe import describe, lineage
from nas.design import Design
from nas.front import hypervolume
from nas.objectives import Objective
from nas.outcome import Outcome
from nas.record import TrialRecord
from nas.study import Study
from nas.wording import display

STYLES = {
    Outcome.MEASURED: "green",
    Outcome.DUPLICATE: "dim",
    Outcome.INFEASIBLE: "yellow",
    Outcome.SCREENED: "dim",
    Outcome.STOPPED: "cyan",
    Outcome.FAILED: "red",
}


class _TimeLeft(ProgressColumn):
    """Time left until the budget is spent, from the time that trials took so far."""

    def render(self, task: Task) -> Text:
        seconds = task.fields["left"]
        if seconds is None:
            return Text("-:--", style="dim")
        minutes, rest = divmod(round(seconds), 60)
        return Text(f"{minutes}:{rest:02d} left", style="dim")


class TerminalWatcher:
    """Watches a search for a person. Use as a context manager; without a terminal there is no bar, only the lines."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Progress(
            TextColumn("{task.fields[volume]}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            _TimeLeft(),
            TextColumn("[dim]{task.fields[stage]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("", total=None, volume="", left=None, stage="starting")
        self.last_drawn = 0.0
        self.stages: dict[int, str] = {}

    def __enter__(self) -> TerminalWatcher:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def note(self, text: str) -> None:
        self.console.print(text, style="dim", soft_wrap=True)

    def began(self, study: Study) -> None:
        if study.records:
            self.console.print(f"continuing {study.folder.path}: {len(study.records)} trials are there already")
        self._update(study)

    def asked(self, number: int, design: Design) -> None:
        self.stages[number] = f"trial {number}"
        self.bar.update(self.task, stage=self._stages())

    def progress(self, stage: str, share: float, number: int | None = None) -> None:
        words = f"{stage} {100 * share:.0f} %" if share else stage
        if number is not None:
            self.stages[number] = words
        now = time.monotonic()
        if now - self.last_drawn > 0.1:
            self.last_drawn = now
            self.bar.update(self.task, stage=words if number is None else self._stages())

    def _stages(self) -> str:
        """What is being done for the trials under way: of several each with its number."""
        if len(self.stages) < 2:
            return next(iter(self.stages.values()), "")
        words = [f"{number} {self.stages[number].removeprefix('trial ')}" for number in sorted(self.stages)]
        return ", ".join(words[:4]) + (" …" if len(words) > 4 else "")

    def told(self, record: TrialRecord, study: Study) -> None:
        self.stages.pop(record.number, None)
        line = Text()
        line.append(f"{record.number:4d} ", style="bold")
        line.append(f"{record.outcome:10s} ", style=STYLES.get(record.outcome, ""))
        if record.outcome is Outcome.MEASURED:
            objectives = study.recipe.parsed_objectives
            line.append("  ".join(display(o.name, record.value(o.key)).rjust(_width(o)) for o in objectives))
            on_front = any(member.number == record.number for member in study.front)
            line.append(" ★ " if on_front else "   ", style="yellow")
            goes_on = lineage(record.origin, record.goes_on_from, record.spared)
            line.append(f"{goes_on}: " if goes_on else "", style="dim")
            line.append(describe(record.design), style="" if on_front else "dim")
        elif record.duplicate_of is not None:
            line.append(f"the same design as trial {record.duplicate_of}", style="dim")
        elif record.reason is not None:
            # What was screened out, or waits, cost nothing and tells nothing new; what was stopped or failed did.
            untrained = record.outcome is Outcome.SCREENED or record.epochs == 0
            line.append(record.reason.message, style="dim" if untrained else "")
            log = study.folder.failures / f"{record.number:05d}.txt"
            if log.exists():
                line.append(f" (traceback in {log})")
        # A terminal gets one line however narrow it is; a log file gets all of it.
        terminal = self.console.is_terminal
        self.console.print(line, no_wrap=True, crop=terminal, overflow="ellipsis" if terminal else "ignore")
        self._update(study)

    def _update(self, study: Study) -> None:
        """Moves the bar: by trials, or by minutes where only they are limited."""
        budget = study.recipe.budget
        spent, used = study.spent, study.seconds
        lefts = []
        if budget.trials is not None and spent:
            lefts.append(max(0.0, (budget.trials - spent) * used / spent))
        if budget.minutes is not None:
            lefts.append(max(0.0, 60 * budget.minutes - used))
        volume = ""
        if study.reference is not None:
            value = hypervolume(
                study.records, study.reference, study.recipe.parsed_objectives, study.recipe.parsed_constraints
            )
            volume = f"hypervolume {value:.4f}"
        # Where only minutes limit the study, the total is the number of trials that they are expected to hold.
        expected = round(spent + lefts[-1] * spent / used) if spent and used and lefts else None
        self.bar.update(
            self.task,
            total=budget.trials or expected,
            completed=int(spent),  # in whole trials: what was stopped counts by its share
            left=min(lefts, default=None),
            volume=volume,
            stage=self._stages(),
        )


def _width(objective: Objective) -> int:
    return 8 if objective.maximise else 10
