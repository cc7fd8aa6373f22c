"""Tells whoever looks at a study's folder what its search is doing, see ``nas.watch.running``."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nas.design import Design
from nas.record import TrialRecord
from nas.study import Study
from nas.watch.running import RUNNING_FILE, Running, write_running

if TYPE_CHECKING:
    from nas.search.loop import Watcher

OFTEN = 1.0  # seconds between two tellings of how far the same stage has come


@dataclass
class _Trial:
    """A trial under way, and how far it has come."""

    design: Design
    stage: str = ""
    share: float = 0.0


class Announced:
    """A watcher that tells another one all it hears, and keeps ``running.json`` up to date meanwhile.

    As a context manager it removes the file at the end; the caller owns the study's folder.

    Args:
        watcher: The other one.
        folder: The study's folder.
        clock: Tells the seconds since 1970.
    """

    def __init__(self, watcher: Watcher, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.watcher = watcher
        self.folder = folder
        self.clock = clock
        self.running = Running(os.getpid(), clock())
        self.trials: dict[int, _Trial] = {}
        self._told = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            (self.folder / RUNNING_FILE).unlink(missing_ok=True)

    def note(self, text: str) -> None:
        self.watcher.note(text)

    def began(self, study: Study) -> None:
        self.trials.clear()
        self._rest()
        self.watcher.began(study)

    def asked(self, number: int, design: Design) -> None:
        self.trials[number] = _Trial(design)
        self._tell(self._now())
        self.watcher.asked(number, design)

    def progress(self, stage: str, share: float, number: int | None = None) -> None:
        trial = self.trials.get(number) if number is not None else None
        before = self.running.stage if trial is None else trial.stage
        if trial is not None:
            trial.stage, trial.share = stage, share
        # A clock that was put back must not silence it for as long.
        if stage != before or abs(self.clock() - self._told) >= OFTEN:
            self._tell(replace(self.running, stage=stage, share=share) if trial is None else self._now())
        self.watcher.progress(stage, share, number)

    def told(self, record: TrialRecord, study: Study) -> None:
        self.trials.pop(record.number, None)
        self._rest()
        self.watcher.told(record, study)

    def _rest(self) -> None:
        """Told from the end of a trial on: choosing the next design is a part of that one's time."""
        self.running = Running(os.getpid(), self.clock())
        self._tell(self._now())

    def _now(self) -> Running:
        """What runs: the trial that was begun first, and the others beside it."""
        blank = Running(self.running.pid, self.running.began)
        if not self.trials:
            return blank
        first, *others = sorted(self.trials)
        trial = self.trials[first]
        beside = {number: self.trials[number].stage for number in others}
        return replace(blank, stage=trial.stage, share=trial.share, number=first, design=trial.design, beside=beside)

    def _tell(self, running: Running) -> None:
        self.running, self._told = running, self.clock()
        with contextlib.suppress(OSError):  # a full disk ends the search where its results are written, not here
            write_running(self.folder, running)
