"""The end of a search: its finalists' files are there, scored on the test data that no trial saw, timed in turns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.data.dataset import Dataset
from nas.errors import StudyError
from nas.gains import confirmed, finalists
from nas.lineage import Giver, start_of
from nas.measure.measurer import Measurer
from nas.pipeline import AnyTeacher, Pipeline, Teacher
from nas.record import record_path
from nas.remeasure import hopeful, time_front
from nas.report.measured_anew import changes_of_front
from nas.search.loop import Watcher
from nas.serving import Scores, server_of, services
from nas.stages import Trace
from nas.store import artifact_entry, sha256_bytes, write_atomically
from nas.study import Study
from nas.target import ONNX, usable_cores
from nas.teacher.given import GivenTeacher

# So many hopeful trials are looked for where others may have their files; about as many have a turn.
MOST_FETCHED = 20


def confirm(
    path: Path,
    pipeline: Pipeline,
    dataset: Dataset,
    measurer: Measurer,
    watcher: Watcher,
    given: GivenTeacher | None = None,
    giver: Giver | None = None,
) -> Study:
    """Restores, scores and times the finalists of the study in a folder, and gives the study as it then stands.

    Whom the turns bring onto the front is scored afterwards: should they fail, the others have their scores.
    """
    study = Study.open(path)
    restore_artifacts(study, pipeline, watcher, given, giver)
    scores = score_front(study, dataset, measurer)
    before = [record.number for record in study.front]
    time_front(study, measurer, dataset.validation.images, lambda share: watcher.progress("finalists", share))
    study = Study.open(path)
    after = [record.number for record in study.front]
    if set(after) != set(before):
        for line in changes_of_front(before, after, scored=True):
            watcher.note(f"timed in turns: {line}")
        score_front(study, dataset, measurer, scores)
    return Study.open(path)


def restore_artifacts(
    study: Study,
    pipeline: Pipeline,
    watcher: Watcher,
    given: GivenTeacher | None = None,
    giver: Giver | None = None,
) -> None:
    """Makes the finalists' artifacts again where the cache lost them, and keeps them only if they are the same files.

    Those of contenders are fetched where others have them, and not made again.

    Args:
        study: What was searched.
        pipeline: Makes artifacts.
        watcher: Hears which ones are made again.
        given: The teacher that the recipe names, if any.
        giver: The supernet that trainings started from, if any.
    """
    for record in hopeful(study)[:MOST_FETCHED]:
        for sha in record.files:
            pipeline.store.read_blob(sha)
    for record in confirmed(study):
        wanted = {ONNX: record.artifact_sha256, **record.forms}
        # The pipeline's cache may be one that searchers share; what it finds there it brings into the folder.
        gone = [form for form, sha in wanted.items() if sha is not None and pipeline.store.read_blob(sha) is None]
        if not gone:
            continue
        watcher.note(f"the artifact of trial {record.number} is gone from the cache; making it again")
        teacher: AnyTeacher | None = given
        if record.teacher_trial is not None:
            taught_by = study.record(record.teacher_trial)
            teacher = Teacher(taught_by.number, taught_by.design, start_of(taught_by, study.records, giver))
        trace = Trace(watcher.progress)
        inherits = start_of(record, study.records, giver)
        product = pipeline.run(record.design, record.seed, teacher, trace, inherits)
        for form in gone:
            made = product.artifact
            if form != ONNX:
                made = pipeline.in_form(form, product, record.design, record.seed, teacher, trace).content
            if sha256_bytes(made) != wanted[form]:
                raise StudyError(
                    f"the artifact of trial {record.number} is gone from the cache, and this machine makes another one",
                    f"move {record_path(study.folder.trials, record.number)} away; the next search evaluates it anew",
                )
            study.store.put(artifact_entry(record.number, form), made, {"trial": record.number})


def score_front(
    study: Study, dataset: Dataset, measurer: Measurer, known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Scores the finalists' artifacts on the test data, which no trial saw, and writes the scores into the folder.

    Each is scored by the runtime that serves it; where there are several, the lowest accuracy counts, as in a trial.

    Args:
        study: Whose finalists.
        dataset: Has the test data.
        measurer: Gives the runtimes' outputs.
        known: What this gave before of the same study: those are not scored again.

    Returns:
        What was written: by a trial's number its scores.
    """
    known = known or {}
    written = {}
    for record in finalists(study):
        if (number := str(record.number)) in known:
            written[number] = known[number]
            continue
        files = {ONNX: study.artifact(record)}
        files |= {form: study.artifact(record, form) for form in record.forms}
        images, labels = dataset.test.images, dataset.test.labels
        here = measurer.on_this_machine
        scores = Scores(files, images, labels, measurer.outputs, usable_cores(), "test_", here)
        serving = [
            server_of(record.quantity(f"latency_ms@{service.name}")) or service.candidates[0]
            for service in services(study.recipe)
        ]
        written[number] = [quantity.to_json() for quantity in scores.lowest(serving)]
    write_atomically(study.folder.test_scores, json.dumps(written, indent=1).encode())
    return written
