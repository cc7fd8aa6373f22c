"""Tells whoever looks at a study's folder what its search is doing, see ``nas.watch.running``."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
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
        self._tell(Running(os.getpid(), self.clock()))
        self.watcher.began(study)

    def asked(self, number: int, design: Design) -> None:
        # From the end of the trial before: choosing the design is a part of the trial's time.
        self._tell(replace(self.running, stage="", share=0.0, number=number, design=design))
        self.watcher.asked(number, design)

    def progress(self, stage: str, share: float) -> None:
        if stage != self.running.stage or self.clock() - self._told >= OFTEN:
            self._tell(replace(self.running, stage=stage, share=share))
        self.watcher.progress(stage, share)

    def told(self, record: TrialRecord, study: Study) -> None:
        self._tell(Running(os.getpid(), self.clock()))
        self.watcher.told(record, study)

    def _tell(self, running: Running) -> None:
        self.running, self._told = running, self.clock()
        with contextlib.suppress(OSError):  # a full disk ends the search where its results are written, not here
            write_running(self.folder, running)
