"""``nas sensitivity`` without its command line: finds the trial, claims the folder, analyses, writes the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from nas import data
from nas.data.dataset import Dataset
from nas.design import Design
from nas.errors import StudyError
from nas.gains import files_that_stay
from nas.lineage import start_of
from nas.measure.environment import has_fast_bfloat16, has_vnni
from nas.networks import Inherits
from nas.own_module import FAMILY as OWN_MODULE
from nas.pipeline import Pipeline, own_network
from nas.record import TrialRecord
from nas.report.files import encoded, write_output
from nas.sensitivity.analysis import Progress, analyse
from nas.sensitivity.picture import draw_sensitivity
from nas.sensitivity.result import Sensitivity
from nas.space import load_space
from nas.study import Study
from nas.target import usable_cores
from nas.train import numerics_for


def analyse_trial(
    path: Path, trial: int | None, images: int, layers: bool, note: Callable[[str], None], progress: Progress
) -> tuple[Sensitivity, list[Path]]:
    """Analyses a trial of a study and writes what was found into the study's folder.

    Args:
        path: The study's folder.
        trial: The trial's number; None for the most accurate member of the front.
        images: On how many validation images at most.
        layers: Take single layers instead of stages.
        note: Hears what a person should know.
        progress: Hears how far it has come.

    Returns:
        The sensitivity, and where its JSON, CSV and picture lie.

    Raises:
        NasError: There is no such study or trial, it was not measured, its data changed, or a search is at work there.
    """
    study = Study.open(path)
    record = _chosen(study, trial)
    dataset = data.load(study.recipe.data)
    with study.folder.claim():
        pipeline = _pipeline(study, record, dataset)
        inherits = start_of(record, study.records, None)
        if not _has_network(study, record, pipeline, inherits):
            note(f"the trained network of trial {record.number} is not in the cache; training it again")
        found = analyse(study.name, record, pipeline, images, layers, progress, inherits=inherits)
        study.store.evict(files_that_stay(study))
        return found, _write(study, found, layers)


def _chosen(study: Study, number: int | None) -> TrialRecord:
    """The trial that was asked for, if it was measured; by default the most accurate of the front."""
    if number is None:
        if not study.front:
            raise StudyError(f"{study.folder.path} has no front yet", "name a measured trial with --trial")
        return max(study.front, key=lambda record: (record.value("accuracy"), -record.number))
    return study.measured_trial(number, "has no network to analyse")


def _pipeline(study: Study, record: TrialRecord, dataset: Dataset) -> Pipeline:
    """The pipeline that made the trial, as far as this machine is the same.

    Raises:
        StudyError: The data, or a person's own network, are no longer those of the study.
    """
    recipe = study.recipe
    module = load_space(recipe.space).module if record.design.family == OWN_MODULE else None
    own = own_network(module, dataset)
    now = {"data": dataset.digest} | ({"module": own.digest} if own else {})
    for name, digest in study.folder.read_inputs().items():
        if now.get(name, digest) != digest:
            raise StudyError(
                f"the {name} of {study.folder.path} changed since the study began",
                "put it back as it was, or search anew; what another network or data would lose says nothing of this",
            )
    numerics = numerics_for(recipe.training, has_fast_bfloat16(), usable_cores())
    return Pipeline(recipe, dataset, study.store, numerics, reduce_range=not has_vnni(), own=own)


def _has_network(study: Study, record: TrialRecord, pipeline: Pipeline, inherits: Inherits | None) -> bool:
    """Whether the trial's float network is there: in the cache, or a person's own that came with its weights."""
    if pipeline.own is not None and pipeline.own.trained is not None:
        return True
    start = Design(record.design.family, record.design.architecture, {})
    return study.store.get(pipeline.train_key(start, record.seed, inherits)) is not None


def _write(study: Study, found: Sensitivity, layers: bool) -> list[Path]:
    json_path, csv_path, picture = (
        study.folder.sensitivity(found.trial, layers, suffix) for suffix in (".json", ".csv", ".png")
    )
    text = json.dumps(found.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_output(json_path, encoded(text))
    write_output(csv_path, encoded(found.to_csv()))
    draw_sensitivity(found, picture)
    return [json_path, csv_path, picture]
