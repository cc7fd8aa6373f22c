"""A study's folder: where its recipe, records, cache and results lie, who owns it, and how it is read.

Reading needs neither torch nor optuna. One process at a time may write: it holds a kernel lock on a file in the
folder, which the kernel lets go when the process dies, however it dies.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import yaml

from nas.errors import RecipeError, StudyError
from nas.front import Reference, pareto_front, reference_from
from nas.measurements import environments, measured_anew, read_measurements, timed_in_turns
from nas.outcome import Outcome, Quantity
from nas.recipe import Recipe, load_recipe
from nas.record import TrialRecord, read_records, record_path
from nas.safety.json_text import read_json
from nas.store import Store, write_atomically
from nas.target import ONNX, Place

RECIPE_FILE = "recipe.yaml"
INPUTS_FILE = "inputs.json"
LOCK_FILE = ".lock"
SENSITIVITY_FILE = re.compile(r"sensitivity-\d{5,}(-layers)?\.(json|csv|png)")
PLOT_FILE = re.compile(r"plot-(front|history|importance|flops-latency|sensitivity)\.png")


class StudyFolder:
    """The layout of a study's folder: the one place that knows where things lie.

    ``recipe.yaml``, ``inputs.json`` (digests of space, data and what else the recipe names), ``trials/NNNNN.json`` (the
    truth), ``samples/`` (raw latency samples), ``measurements/`` (latencies taken later), ``failures/`` (tracebacks),
    ``cache/`` (trained networks, artifacts), ``test_scores.json``, ``optuna.sqlite3`` (the sampler's memory),
    ``plan.json`` (the strategy), ``supernet.safetensors`` (of the strategy of that name), ``running.json`` (what a
    search at work does), ``finalized/`` (designs trained again at full budget), and what ``front``,
    ``report`` and ``sensitivity`` write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / RECIPE_FILE
        self.inputs = path / INPUTS_FILE
        self.trials = path / "trials"
        self.samples = path / "samples"
        self.measurements = path / "measurements"
        self.failures = path / "failures"
        self.cache = path / "cache"
        self.test_scores = path / "test_scores.json"
        self.storage = path / "optuna.sqlite3"
        self.plan = path / "plan.json"
        self.supernet = path / "supernet.safetensors"
        self.front_csv = path / "front.csv"
        self.front_json = path / "front.json"
        self.picture = path / "pareto.png"
        self.flops_picture = path / "flops.png"
        self.baseline_picture = path / "baseline.png"
        self.page = path / "report.html"
        self.finalized = path / "finalized"
        self.running = path / "running.json"

    def sensitivity(self, trial: int, layers: bool, suffix: str) -> Path:
        """Where the sensitivity of a trial lies, by stages or by single layers: ``sensitivity-00012.json``."""
        return self.path / f"sensitivity-{trial:05d}{'-layers' if layers else ''}{suffix}"

    def is_study(self) -> bool:
        """Whether a study lies here: a recipe alone is somebody's own file."""
        return self.recipe.is_file() and (self.inputs.is_file() or self.trials.is_dir())

    def own(self) -> list[Path]:
        """Everything here that a study wrote, in the order in which it is deleted: what makes it a study goes last."""
        aside = [path for path in self.path.glob(".*.part") if path.is_file()]
        sensitivities = [path for path in self.path.glob("sensitivity-*") if SENSITIVITY_FILE.fullmatch(path.name)]
        plots = [path for path in self.path.glob("plot-*.png") if PLOT_FILE.fullmatch(path.name)]
        drawn = [self.picture, *(self.picture.with_suffix(suffix) for suffix in (".svg", ".pdf"))]
        pictures = [*drawn, self.flops_picture, self.baseline_picture, *plots]
        written = [
            self.plan,
            self.running,
            self.supernet,
            self.front_csv,
            self.front_json,
            *pictures,
            self.page,
            self.test_scores,
            *sensitivities,
        ]
        work = [self.trials, self.samples, self.measurements, self.failures, self.finalized, self.cache]
        everything = [*aside, *self._sampler_files(), *written, *work, self.recipe, self.inputs]
        return [path for path in everything if path.exists()]

    def _sampler_files(self) -> list[Path]:
        """The sampler's memory: the log of what is not yet in it before the file itself."""
        return [self.storage.with_name(self.storage.name + suffix) for suffix in ("-wal", "-shm", "-journal", "")]

    def forget_sampler(self) -> None:
        """Deletes the sampler's memory, which the next search makes again from the records.

        Raises:
            StudyError: It cannot be deleted.
        """
        try:
            for path in self._sampler_files():
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StudyError(f"the sampler's memory {self.storage} cannot be deleted: {error.strerror}") from error

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Makes the folder where it is missing, and owns it for the time of the block.

        Raises:
            StudyError: Another process owns it, it holds something else than a study, or it cannot be written.
        """
        try:
            if self.path.exists() and not self.is_study() and (not self.path.is_dir() or _strangers(self.path)):
                raise StudyError(f"{self.path} exists and is no study", "name another folder with --output")
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.path / LOCK_FILE, "a+")  # noqa: SIM115 - held open as long as the lock
        except OSError as error:
            message = f"the study folder {self.path} cannot be written: {error.strerror}"
            raise StudyError(message, "make it writable, or work on a copy") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip() or "unknown"
                raise StudyError(
                    f"another search is at work in {self.path} (process {owner})", "wait for it, or end it"
                ) from None
            except OSError as error:
                raise StudyError(f"the study folder {self.path} cannot be locked: {error.strerror}") from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def start(self, recipe: Recipe, inputs: Mapping[str, str]) -> None:
        """Writes the recipe into the claimed folder, or checks that the study there is of the same one.

        Budget and cache size may differ; the folder then holds the new ones.

        Args:
            recipe: What is to be searched.
            inputs: Digests of what the recipe only names: search space, data, a teacher, a prior.

        Raises:
            StudyError: The folder holds a study of another recipe, space or data, or cannot be written.
        """
        self.check(recipe, inputs)
        try:
            # The recipe last: a process that dies before leaves what the next start takes up.
            write_atomically(self.inputs, json.dumps(dict(inputs), indent=1).encode())
            write_atomically(self.recipe, yaml.safe_dump(recipe.to_json(), sort_keys=False).encode())
            for folder in (self.trials, self.samples, self.cache):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            message = f"the study folder {self.path} cannot be written: {error.strerror}"
            raise StudyError(message, "make it writable, or work on a copy") from error

    def check(self, recipe: Recipe, inputs: Mapping[str, str]) -> None:
        """Checks that a study that lies here is of the same recipe, but for budget and cache size.

        Args:
            recipe: As for ``start``.
            inputs: As for ``start``.

        Raises:
            StudyError: It is of another recipe, space or data.
        """
        if not self.is_study():
            return
        differences = _load_own_recipe(self.recipe).differences(recipe)
        differences += [
            f"{name}: changed since the study began"
            for name, digest in self.read_inputs().items()
            if inputs.get(name) != digest
        ]
        if differences:
            raise StudyError(
                f"{self.path} holds a study of another recipe (there, here): {'; '.join(differences)}",
                "name another folder with --output, or start over with --fresh",
            )

    def read_inputs(self) -> Mapping[str, str]:
        """Digests of what the recipe only names, by name, as they were when the study was last taken up.

        Raises:
            StudyError: The file that holds them is damaged.
        """
        try:
            return {str(name): str(digest) for name, digest in read_json(self.inputs, StudyError).items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as error:
            raise StudyError(
                f"{self.inputs} cannot be read: {error}", "delete it; the next search writes it anew"
            ) from None

    def clear(self) -> None:
        """Deletes all that the study produced, and nothing else; the caller holds the lock and has asked.

        A process that dies meanwhile leaves a study that can be cleared again.

        Raises:
            StudyError: Something cannot be deleted.
        """
        try:
            for path in self.own():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        except OSError as error:
            raise StudyError(f"the study folder {self.path} cannot be cleared: {error}") from error


class Study:
    """A study as it stands on disk, for reading.

    Args:
        folder: Where it lies.
        recipe: What it searches.
        records: Its trials.
        in_turns: Those of them whose latencies were timed in turns, with these latencies, by number. They stand in for
            the records, but do not decide who is on the front (see ``nas.measurements``).
    """

    def __init__(
        self,
        folder: StudyFolder,
        recipe: Recipe,
        records: list[TrialRecord],
        in_turns: Mapping[int, TrialRecord] | None = None,
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.as_told = records
        self.in_turns = dict(in_turns or {})
        self.records = [self.in_turns.get(record.number, record) for record in records]

    @classmethod
    def open(cls, path: Path) -> Study:
        """Reads a study.

        Raises:
            StudyError: There is none, or a file of it is damaged.
        """
        folder = StudyFolder(path)
        if not folder.is_study():
            raise StudyError(f"there is no study in {path}", "run 'nas search RECIPE' first, or name its folder")
        recipe = _load_own_recipe(folder.recipe)
        records = read_trials(folder, recipe)
        return cls(folder, recipe, records, timed_in_turns(records, read_measurements(folder.measurements)))

    @property
    def name(self) -> str:
        """The folder's name; bytes in it that are no UTF-8, which could not be printed, are spelled ``\\xe9``."""
        return os.fsencode(self.folder.path.resolve().name).decode(errors="backslashreplace")

    @property
    def measured(self) -> list[TrialRecord]:
        """The trials that were measured, by number."""
        return [record for record in self.records if record.outcome is Outcome.MEASURED]

    @property
    def counted(self) -> list[TrialRecord]:
        """The trials that something was spent on, see ``counted``."""
        return counted(self.records)

    @property
    def spent(self) -> float:
        """How many trials of the budget are spent, see ``spent``."""
        return spent(self.records, self.recipe.budget.epochs)

    @property
    def seconds(self) -> float:
        """Wall time of the search so far, all runs of it together."""
        return sum(record.seconds for record in self.records)

    @cached_property
    def front(self) -> list[TrialRecord]:
        """The non-dominated feasible measured trials, cheapest first (by the first objective that is a cost).

        Raises:
            StudyError: Their latencies were measured on more than one machine, and so cannot be compared.
        """
        check_one_machine(self.folder, self.recipe, self.as_told)
        objectives = self.recipe.parsed_objectives
        members = {r.number for r in pareto_front(self.as_told, objectives, self.recipe.parsed_constraints)}
        cost = next(objective.key for objective in objectives if not objective.maximise)
        return sorted(
            (record for record in self.records if record.number in members),
            key=lambda record: (record.value(cost), record.number),
        )

    @cached_property
    def reference(self) -> Reference | None:
        """The reference point of this study's hypervolume; None before the first measured trial."""
        return reference_from(self.records, self.recipe.parsed_objectives)

    def record(self, number: int) -> TrialRecord:
        """The record of a trial.

        Raises:
            StudyError: There is none of that number.
        """
        for record in self.records:
            if record.number == number:
                return record
        last = (
            f"trials run from {self.records[0].number} to {self.records[-1].number}"
            if self.records
            else "no trials yet"
        )
        raise StudyError(f"there is no trial {number} in {self.folder.path}", last)

    def measured_trial(self, number: int, otherwise: str) -> TrialRecord:
        """The record of a trial that was measured itself.

        Args:
            number: The trial's.
            otherwise: What is said of another, such as ``cannot be trained again``.

        Raises:
            StudyError: There is none of that number, it repeats another's design, or it was not measured.
        """
        record = self.record(number)
        if (first := record.duplicate_of) is not None:
            raise StudyError(f"trial {number} only repeats the design of trial {first}", f"--trial {first}")
        if record.outcome is not Outcome.MEASURED:
            reason = f": {record.reason.message}" if record.reason else ""
            hint = f"name a measured one; 'nas front {self.folder.path}' lists the best"
            raise StudyError(f"trial {number} {otherwise}, it ended as {record.outcome}{reason}", hint)
        return record

    @cached_property
    def test_scores(self) -> Mapping[int, Mapping[str, Quantity]]:
        """Test accuracy of the finished front: trial number → quantity name → quantity. Empty before the end."""
        try:
            data = read_json(self.folder.test_scores, StudyError)
            return {
                int(number): {item["name"]: Quantity.from_json(item) for item in items}
                for number, items in data.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StudyError(
                f"{self.folder.test_scores} cannot be read: {error}", "delete it; the next search writes it anew"
            ) from error

    @cached_property
    def store(self) -> Store:
        """The study's cache."""
        return Store(self.folder.cache, self.recipe.cache_limit_mb * 10**6)

    def artifact(self, record: TrialRecord, form: str = ONNX) -> bytes:
        """The artifact of a measured trial in a form, checked against its digest.

        Raises:
            StudyError: It is not in the cache, or was changed.
        """
        sha256 = record.file_for(form)
        content = self.store.read_blob(sha256) if sha256 else None
        if content is None:
            raise StudyError(
                f"the artifact of trial {record.number} is not in {self.folder.cache}",
                "run the search again, which makes the front's missing artifacts anew; others stay while there is room",
            )
        return content


def counted(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials that something was spent on: all but duplicates and those screened out."""
    free = (Outcome.DUPLICATE, Outcome.SCREENED)
    return [record for record in records if record.outcome not in free]


def spent(records: Sequence[TrialRecord], epochs: int) -> float:
    """How many trials of a budget are spent: one that was stopped counts by the share of its epochs.

    So does the rest of a training that goes on after it was stopped.

    Args:
        records: All trials.
        epochs: Of a whole training.
    """
    done = {record.number: record.epochs or 0 for record in records if record.outcome is Outcome.STOPPED}
    total = 0.0
    for record in counted(records):
        reached = record.epochs or 0 if record.outcome is Outcome.STOPPED else epochs
        before = done.get(record.parent, 0) if record.parent is not None else 0
        total += (reached - before) / epochs
    return total


def read_trials(folder: StudyFolder, recipe: Recipe) -> list[TrialRecord]:
    """A study's records, checked: each measured trial has what the recipe's objectives and constraints ask for.

    Raises:
        StudyError: A record is damaged or lacks a quantity; the message names the file.
    """
    records = measured_anew(read_records(folder.trials), read_measurements(folder.measurements))
    asked = [*recipe.parsed_objectives, *(constraint.quantity for constraint in recipe.parsed_constraints)]
    for record in records:
        missing = [quantity.key for quantity in asked if record.quantity(quantity.key) is None]
        if record.outcome is Outcome.MEASURED and missing:
            raise StudyError(
                f"the trial record {record_path(folder.trials, record.number)} lacks {', '.join(missing)}",
                "move it out of the study folder; the next search evaluates that trial again",
            )
    return records


def check_one_machine(
    folder: StudyFolder, recipe: Recipe, records: Sequence[TrialRecord], here: Mapping[str, str] | None = None
) -> None:
    """Makes sure that what is compared was measured in one environment.

    Args:
        folder: The study's folder.
        recipe: Whose objectives and constraints are compared.
        records: The trials.
        here: Fingerprint of this machine by target, where trials are to be added.

    Raises:
        StudyError: It was not; the message says which trials were measured where, the hint how to mend it.
    """
    for key, target in _compared(recipe):
        found = environments(records, key)
        if here is not None and target in here and found:
            found.setdefault(here[target], [])
        if len(found) < 2:
            continue
        where = "; ".join(
            f"{_numbers(numbers)} on {_machine(records, numbers)} ({fingerprint})"
            if numbers
            else f"new trials here ({fingerprint})"
            for fingerprint, numbers in found.items()
        )
        raise StudyError(
            f"{key} of {folder.path} was measured in different environments, which cannot stand on one front: {where}",
            f"measure all again here: nas measure {folder.path}",
        )


def _compared(recipe: Recipe) -> list[tuple[str, str]]:
    """The keys of what a recipe compares, with their targets: of a place all that compete for it, as each runtime has
    a fingerprint of its own.
    """
    named = [*recipe.parsed_objectives, *(constraint.quantity for constraint in recipe.parsed_constraints)]
    found = []
    for item in named:
        if item.target is not None:
            place = Place.parse(item.target)
            names = (item.target,) if place is None else recipe.targets_at(place)
            found += [(f"{item.name}@{name}", name) for name in names]
    return list(dict.fromkeys(found))


def _numbers(numbers: Sequence[int]) -> str:
    """``trials 0 to 11, 14``: runs of neighbours shortened."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    words = words if len(words) <= 4 else [*words[:3], "…"]
    return f"trial{'' if len(numbers) == 1 else 's'} {', '.join(words)}"


def _machine(records: Sequence[TrialRecord], numbers: Sequence[int]) -> str:
    environment = next((record.environment for record in records if record.number in numbers), {})
    return f"{environment.get('cpu', 'another machine')}, {environment.get('cores', '?')} cores"


def _load_own_recipe(path: Path) -> Recipe:
    try:
        return load_recipe(path)
    except RecipeError as error:
        raise StudyError(f"the study's own recipe is damaged: {error.message}", "restore it, or start over") from None


def _strangers(path: Path) -> list[Path]:
    """Files in a folder that no study put there before it had a recipe."""
    known = (LOCK_FILE, INPUTS_FILE)
    return [item for item in path.iterdir() if item.name not in known and not item.match(".*.part")]
