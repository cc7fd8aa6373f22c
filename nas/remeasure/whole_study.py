"""Every measured trial of a study timed anew: on another machine, after another runtime's update, on more targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas.data.dataset import Dataset
from nas.errors import ArtifactError, MeasureError, StudyError
from nas.measure.measurer import Measurer
from nas.measurements import Measurements, write_measurements
from nas.outcome import Outcome, Quantity
from nas.record import TrialRecord, record_path, utc_now
from nas.remeasure.serving_anew import served_anew
from nas.remeasure.surroundings import surroundings_of
from nas.remeasure.unfinished import Unfinished
from nas.serving import services
from nas.study import Study
from nas.target import ONNX, Target
from nas.wording import listing, plural

# Hears how many trials of how many are done.
Progress = Callable[[int, int], None]


def measure_all(
    study: Study,
    targets: Sequence[Target],
    measurer: Measurer,
    dataset: Dataset,
    progress: Progress | None = None,
) -> Measurements:
    """Times the artifact of every measured trial on some targets, and lets the study have these numbers instead.

    Who serves at a place is chosen anew, and where that is another runtime than before, it gives the accuracy too. The
    study keeps its old numbers until all are there; a second start on the same machine goes on where the first ended.
    Where what the recipe names was measured in another environment before, the sampler's memory is deleted: the next
    search makes it again from the trials and their new numbers. The caller has claimed the study's folder.

    Args:
        study: Whose trials.
        targets: What to measure on; empty for the recipe's. Others than the recipe's are added to the trials.
        measurer: Measures.
        dataset: The study's data; its validation part gives images to time, and scores a runtime that serves anew.
        progress: Hears how far it is.

    Returns:
        What was measured, which now lies in the study's folder too.

    Raises:
        StudyError: There is nothing to measure, files are missing, or targets that belong together are torn apart.
        UnsupportedError: A target cannot be measured here.
        ArtifactError, MeasureError: As ``Measurer.measure``; the message names the trial.
    """
    targets = list(dict.fromkeys(targets)) or [Target.parse(name) for name in study.recipe.all_targets]
    _check_targets(study, targets)
    records = [record for record in study.as_told if record.outcome is Outcome.MEASURED]
    if not records:
        raise StudyError(f"no trial of {study.folder.path} was measured, so there is none to measure again")
    _check_files(study, records, targets)
    fingerprints = {target.name: measurer.environment_id(target) for target in targets}
    unfinished = Unfinished(study.folder.measurements / "unfinished", fingerprints)
    task = _Task(study, targets, measurer, dataset, fingerprints)
    for done, record in enumerate(records):
        if progress is not None:
            progress(done, len(records))
        if record.number not in unfinished.quantities:
            unfinished.add(record.number, *task.measure(record))
    if progress is not None:
        progress(len(records), len(records))
    numbers = [record.number for record in records]
    quantities = {number: unfinished.quantities[number] for number in numbers}
    if _has_moved(study, records, fingerprints):
        # Before the numbers are there: whoever dies in between leaves a memory to be made again, never a wrong one.
        study.folder.forget_sampler()
    found = Measurements("all", utc_now(), quantities, surroundings_of(measurer, targets))
    written = write_measurements(study.folder.measurements, found, unfinished.samples(numbers))
    unfinished.delete()
    return written


@dataclass(frozen=True)
class _Task:
    """What is the same for all trials."""

    study: Study
    targets: Sequence[Target]
    measurer: Measurer
    dataset: Dataset
    fingerprints: Mapping[str, str]

    def measure(self, record: TrialRecord) -> tuple[list[Quantity], dict[str, np.ndarray]]:
        """What one trial's files give here, and the raw samples in ms by ``00012 onnxruntime-cpu-1t-b1``."""
        forms = dict.fromkeys([ONNX, *(target.form for target in self.targets)])
        files = {form: self.study.artifact(record, form) for form in forms}
        quantities: list[Quantity] = []
        samples: dict[str, np.ndarray] = {}
        try:
            for target in self.targets:
                latency = self._latency(files[target.form], target)
                if latency is None:
                    continue
                samples[f"{record.number:05d} {target.name}"] = latency[1]
                quantities.append(latency[0])
                quantities += self._startup(record, target)
            quantities += served_anew(
                self.study.recipe,
                record,
                self.targets,
                quantities,
                files,
                self.dataset.validation,
                self.measurer.outputs,
            )
        except (ArtifactError, MeasureError) as error:
            raise type(error)(f"trial {record.number}: {error.message}", error.hint) from error
        return quantities, samples

    def _latency(self, file: bytes, target: Target) -> tuple[Quantity, np.ndarray] | None:
        """The latency on a target; None where it refuses the artifact and the recipe can do without it."""
        try:
            return self.measurer.measure(file, target, self.dataset.validation.images)
        except ArtifactError:
            if target.name in self.study.recipe.served:
                raise
            return None

    def _startup(self, record: TrialRecord, target: Target) -> tuple[Quantity, ...]:
        """Load time and peak memory, where the recipe asks for them on that target."""
        recipe, sha = self.study.recipe, record.file_for(target.form)
        if not recipe.needs_fresh_process or target.name not in recipe.all_targets or sha is None:
            return ()
        path = self.study.store.blob_path(sha)
        return self.measurer.startup(path, target, self.dataset.validation.images)


def _check_targets(study: Study, targets: Sequence[Target]) -> None:
    """Refuses to measure on nothing, and on some alone of the targets that compete for a place."""
    if not targets:
        raise StudyError(
            f"{study.folder.path} asks for no latency, so there is nothing to measure again",
            "name a target: --target onnxruntime-cpu-1t-b1",
        )
    for service in services(study.recipe):
        left_out = [target.name for target in service.candidates if target not in targets]
        if service.is_place and 0 < len(left_out) < len(service.candidates):
            raise StudyError(
                f"{service.name} is served by the fastest of several targets, which can be told only of all together: "
                f"{listing(left_out)} {'is' if len(left_out) == 1 else 'are'} left out",
                "name these too, or leave --target out to measure on all of the recipe's",
            )


def _check_files(study: Study, records: Sequence[TrialRecord], targets: Sequence[Target]) -> None:
    """Makes sure that every trial's files are there in every form, before anything is measured."""
    for target in targets:
        if all(record.file_for(target.form) is None for record in records):
            raise StudyError(
                f"{target.name} wants the model in the form '{target.form}', in which {study.folder.path} holds none",
                f"it is made by a search whose recipe lists {target.name} among its targets",
            )
    forms = dict.fromkeys([ONNX, *(target.form for target in targets)])
    gone = [
        record
        for record in records
        if any((sha := record.file_for(form)) is None or study.store.read_blob(sha) is None for form in forms)
    ]
    if gone:
        numbers = ", ".join(str(record.number) for record in gone[:12]) + (", …" if len(gone) > 12 else "")
        first = record_path(study.folder.trials, gone[0].number)
        raise StudyError(
            f"the artifacts of {plural(len(gone), 'trial')} are gone from {study.folder.cache}: {numbers}",
            "where the study was made, 'nas search' makes those of the front anew (and cache_limit_mb leaves room for "
            f"more); without the others' records, such as {first}, the rest can be measured",
        )


def _has_moved(study: Study, records: Sequence[TrialRecord], fingerprints: Mapping[str, str]) -> bool:
    """Whether something that the recipe names was measured in another environment before."""
    names = [name for name in study.recipe.all_targets if name in fingerprints]
    before = [record.quantity(f"latency_ms@{name}") for name in names for record in records]
    return any(q is not None and q.environment_id != fingerprints[str(q.target)] for q in before)
