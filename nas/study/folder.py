"""A study's folder for the process that writes it: where things lie, who owns them, and what may be deleted."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from nas.errors import RecipeError, StudyError
from nas.recipe import Recipe, load_recipe
from nas.safety.json_text import read_json
from nas.store import write_atomically

RECIPE_FILE = "recipe.yaml"
INPUTS_FILE = "inputs.json"
LOCK_FILE = ".lock"
# Written into the folder of a searcher that shares a study.
SHARED_FILE = "shared.json"
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

    def check(self, recipe: Recipe, inputs: Mapping[str, str], may_be_emptied: bool = True) -> None:
        """Checks that a study that lies here is of the same recipe, but for budget and cache size.

        Args:
            recipe: As for ``start``.
            inputs: As for ``start``.
            may_be_emptied: Whether starting over is a remedy.

        Raises:
            StudyError: It is of another recipe, space or data.
        """
        if not self.is_study():
            return
        differences = load_own_recipe(self.recipe).differences(recipe)
        differences += [
            f"{name}: changed since the study began"
            for name, digest in self.read_inputs().items()
            if inputs.get(name) != digest
        ]
        if differences:
            raise StudyError(
                f"{self.path} holds a study of another recipe (there, here): {'; '.join(differences)}",
                "name another folder with --output" + (", or start over with --fresh" if may_be_emptied else ""),
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


def load_own_recipe(path: Path) -> Recipe:
    """The recipe that a study's folder holds.

    Raises:
        StudyError: It cannot be read.
    """
    try:
        return load_recipe(path)
    except RecipeError as error:
        raise StudyError(f"the study's own recipe is damaged: {error.message}", "restore it, or start over") from None


def _strangers(path: Path) -> list[Path]:
    """Files in a folder that no study put there before it had a recipe."""
    known = (LOCK_FILE, INPUTS_FILE)
    return [item for item in path.iterdir() if item.name not in known and not item.match(".*.part")]
