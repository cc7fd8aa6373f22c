"""A study as it stands at one moment, read again and again at little cost while a search writes it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nas.errors import NasError, RecipeError, StudyError
from nas.front import hypervolume_history
from nas.measurements import measured_anew, read_measurements, timed_in_turns
from nas.outcome import Outcome
from nas.recipe import Recipe, load_recipe
from nas.record import TrialRecord, record_path
from nas.safety.json_text import read_json
from nas.study import LOCK_FILE, Study, StudyFolder
from nas.watch.owner import owner_of
from nas.watch.running import Running, read_running

# What tells that a file is another one: its number, size and time.
Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Snapshot:
    """What can be seen of a study.

    Args:
        path: The study's folder.
        time: When, in seconds since 1970.
        study: The study; None where there is none yet.
        front: Its front; empty where there is none, or none can be told.
        history: The hypervolume after every trial, by number.
        problem: Why something cannot be shown, in one line; empty where all can.
        owner: The process that searches; None where none of this machine does.
        running: What that process is doing; None where it does not say.
    """

    path: Path
    time: float
    study: Study | None = None
    front: Sequence[TrialRecord] = ()
    history: Sequence[tuple[int, float]] = ()
    problem: str = ""
    owner: int | None = None
    running: Running | None = None


class Reader:
    """Reads a study's folder as often as it is asked to, and only what changed since.

    It writes nothing, takes no lock, and takes what it finds: a record that cannot be read (yet) is left out and
    counted, a folder that is not there (yet) is a snapshot without a study.

    Args:
        path: The study's folder.
        clock: Tells the seconds since 1970.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = StudyFolder(path)
        self.clock = clock
        self._records: dict[str, tuple[Stamp, TrialRecord | None]] = {}
        self._seen: object = None
        self._moment: object = None
        self._last = Snapshot(path, 0.0)

    def read(self) -> Snapshot:
        """The study as it stands now."""
        owner = owner_of(self.folder.path / LOCK_FILE)
        running = read_running(self.folder.path) if owner is not None else None
        if running is not None and running.pid != owner:  # left behind by one that was killed
            running = None
        # No record appears before what runs is over: next to nothing is done while a network may be timed.
        moment = (running.pid, running.began) if running is not None else None
        if moment is None or moment != self._moment or self._last.problem:
            self._look()
            self._moment = moment
        return replace(self._last, time=self.clock(), owner=owner, running=running)

    def _look(self) -> None:
        """Reads the study again where a file of it is another than before."""
        recipe, trials = _stamps([self.folder.recipe, self.folder.inputs]), _listing(self.folder.trials)
        seen = (recipe, trials, _listing(self.folder.measurements))
        if seen != self._seen or self._last.problem:
            self._last = self._anew(trials)
            self._seen = seen

    def _anew(self, trials: dict[str, Stamp]) -> Snapshot:
        path = self.folder.path
        if not self.folder.is_study():
            return Snapshot(path, 0.0, problem=f"there is no study in {path} yet")
        try:
            recipe = load_recipe(self.folder.recipe)
        except RecipeError as error:
            return Snapshot(path, 0.0, problem=error.message)
        try:
            study, unread = self._study(recipe, trials)
        except StudyError as error:  # of a later measurement
            return replace(self._last, problem=error.message)
        problem = f"{unread} of {len(trials)} records cannot be read" if unread else ""
        try:
            front = study.front
        except StudyError as error:  # measured on two machines
            return Snapshot(path, 0.0, study, problem=error.message)
        history: list[tuple[int, float]] = []
        if study.reference is not None:
            history = hypervolume_history(
                study.records, study.reference, recipe.parsed_objectives, recipe.parsed_constraints
            )
        return Snapshot(path, 0.0, study, front, history, problem)

    def _study(self, recipe: Recipe, trials: dict[str, Stamp]) -> tuple[Study, int]:
        """The study of the records that can be read, and how many cannot."""
        known = self._records
        self._records = {}
        for name, stamp in trials.items():
            before = known.get(name)
            if before is None or before[0] != stamp or before[1] is None:
                before = (stamp, _read(self.folder.trials / name))
            self._records[name] = before
        records = [record for _, record in self._records.values() if record is not None]
        taken = read_measurements(self.folder.measurements)
        told = measured_anew(sorted(records, key=lambda record: record.number), taken)
        asked = [*recipe.parsed_objectives, *(constraint.quantity for constraint in recipe.parsed_constraints)]
        whole = [
            record
            for record in told
            if record.outcome is not Outcome.MEASURED or all(record.quantity(item.key) for item in asked)
        ]
        study = Study(self.folder, recipe, whole, timed_in_turns(whole, taken))
        return study, len(trials) - len(whole)


def _read(path: Path) -> TrialRecord | None:
    """A trial's record; None where it cannot be read."""
    try:
        record = TrialRecord.from_json(read_json(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NasError):
        return None
    return record if path == record_path(path.parent, record.number) else None


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _stamps(paths: Sequence[Path]) -> list[Stamp | None]:
    """The stamps of single files; None for one that is not there."""
    found: list[Stamp | None] = []
    for path in paths:
        try:
            found.append(_stamp(path.stat()))
        except OSError:
            found.append(None)
    return found


def _listing(folder: Path) -> dict[str, Stamp]:
    """The numbered JSON files of a folder, by name; empty where there is none.

    Raises:
        StudyError: The folder may not be read.
    """
    found: dict[str, Stamp] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name[:1].isdigit() and entry.name.endswith(".json"):
                    try:
                        found[entry.name] = _stamp(entry.stat())
                    except OSError:  # it was there a moment ago
                        continue
    except PermissionError as error:
        raise StudyError(f"the study's folder {folder} cannot be read: {error.strerror}", "make it readable") from error
    except OSError:
        return {}
    return dict(sorted(found.items()))
