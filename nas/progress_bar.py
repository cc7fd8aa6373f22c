"""What a search looks like in a notebook, and in a terminal from which Python was started: one bar that stays."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

from nas.design import Design
from nas.front import hypervolume
from nas.outcome import Outcome
from nas.record import TrialRecord
from nas.study import Study

OFTEN = 0.2  # seconds between two drawings


def in_notebook() -> bool:
    """Whether this process is a notebook's."""
    shell = sys.modules.get("IPython")
    found = shell.get_ipython() if shell is not None else None
    return found is not None and "IPKernelApp" in found.config


class ProgressBar:
    """Watches a search with a bar of trials or minutes, of what runs now, and of the hypervolume and front so far.

    A notebook shows it as a widget where ``ipywidgets`` is installed, else as text. Nothing is shown where there is
    neither notebook nor terminal. Use it as a context manager.

    Args:
        shown: False to show nothing at all.
    """

    def __init__(self, shown: bool = True) -> None:
        self.shown = shown and (in_notebook() or sys.stderr.isatty())
        self.bar: Any = None
        self._drawn = 0.0

    def __enter__(self) -> Self:
        if self.shown:
            from tqdm.auto import tqdm

            self.bar = tqdm(total=1.0, desc="preparing", bar_format="{desc} |{bar}| {percentage:3.0f} %{postfix}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            if kind is None:
                self.bar.n = 1.0  # a budget of minutes ends before the next trial would pass it
            self.bar.set_postfix_str("" if kind is None else "stopped")
            self.bar.close()

    def note(self, text: str) -> None:
        if self.bar is not None:
            self.bar.write(text)

    def began(self, study: Study) -> None:
        self._follow(study)

    def asked(self, number: int, design: Design) -> None:
        self._say(f"trial {number}")

    def progress(self, stage: str, share: float, number: int | None = None) -> None:
        if time.monotonic() - self._drawn >= OFTEN:
            trial = "" if number is None else f"trial {number}: "
            self._say(trial + (f"{stage} {100 * share:.0f} %" if share else stage))

    def share(self, what: str, share: float) -> None:
        """Moves the bar to a share of the whole, from 0 to 1, and says what runs."""
        if self.bar is not None:
            self.bar.n = share
            self._say(what)

    def told(self, record: TrialRecord, study: Study) -> None:
        self._follow(study)

    def _say(self, text: str) -> None:
        if self.bar is not None:
            self._drawn = time.monotonic()
            self.bar.set_postfix_str(text)

    def _follow(self, study: Study) -> None:
        """Moves the bar to how much of the budget is spent."""
        if self.bar is None:
            return
        budget = study.recipe.budget
        shares = [study.spent / budget.trials] if budget.trials is not None else []
        shares += [study.seconds / (60 * budget.minutes)] if budget.minutes is not None else []
        measured = sum(record.outcome is Outcome.MEASURED for record in study.records)
        words = f"{study.name}: {measured} measured"
        if study.reference is not None:
            objectives, constraints = study.recipe.parsed_objectives, study.recipe.parsed_constraints
            volume = hypervolume(study.records, study.reference, objectives, constraints)
            words += f", {len(study.front)} on the front, hypervolume {volume:.3f}"
        self.bar.set_description_str(words, refresh=False)
        self.bar.n = min(1.0, max(shares, default=0.0))
        self.bar.refresh()
