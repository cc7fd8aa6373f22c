"""``nas reproduce`` without its command line: loads what the study loaded, evaluates the trial, compares."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from nas.errors import StudyError
from nas.evaluate import EvalRequest
from nas.lineage import SUPERNET, Giver, start_of
from nas.measure.measurer import Measurer
from nas.outcome import Outcome
from nas.pipeline import AnyTeacher, Pipeline, Teacher
from nas.record import TRAINING, StageResult, TrialRecord, utc_now
from nas.remeasure.surroundings import surroundings_of
from nas.reproduce.compare import Reproduction, pair_numbers, pair_stages
from nas.search.evaluators import evaluator_for
from nas.search.prepared import Prepared, load
from nas.search.shared_network import train_shared
from nas.search.strategy import kept_plan
from nas.stages import Progress
from nas.store import Store
from nas.study import Study, StudyFolder
from nas.target import usable_cores
from nas.train import Numerics
from nas.wording import plural

# What a machine's description says that trained weights may depend on, and what to call it.
_DEPENDS_ON = {"cpu": "processor", "machine": "architecture", "python": "Python", "torch": "torch"}


def reproduce(
    path: Path, number: int, note: Callable[[str], None], progress: Progress, measurer: Measurer | None = None
) -> Reproduction:
    """Evaluates a trial again from scratch, with its seed and what it learned from, and compares.

    Nothing is taken from the study's cache, and nothing is written into its folder. Networks that the trial learned
    from (a teacher's, a relative's) are trained again too; a supernet is not, but read as it lies there.

    Args:
        path: The study's folder.
        number: The trial's.
        note: Hears what a person should know.
        progress: Hears how far each stage has come.
        measurer: Measures latencies; one of its own by default, which ends with the call.

    Raises:
        StudyError: There is no such trial, it was not measured, what it learned from is gone or changed, or it cannot
            be evaluated any more.
        NasError: What the recipe names cannot be loaded.
    """
    if measurer is None:
        with Measurer() as own:
            return reproduce(path, number, note, progress, own)
    study = Study.open(path)
    record = study.measured_trial(number, "cannot be reproduced")
    recorded = threads_of(record)
    prepared = load(study.recipe, measurer, min(recorded or usable_cores(), usable_cores()))
    _check_unchanged(study, prepared)
    with tempfile.TemporaryDirectory(prefix="nas-reproduce-") as scratch:
        # Nothing is dropped from it: what is needed twice, such as a teacher, is trained once.
        store = Store(Path(scratch) / "cache", limit_bytes=1 << 62)
        pipeline = prepared.pipeline(store)
        inputs: list[str] = []
        giver = _giver(study, record, prepared, pipeline, Path(scratch), progress, inputs)
        request = EvalRequest(
            number,
            record.design,
            record.seed,
            _teacher(study, record, prepared, giver),
            inherits=start_of(record, study.records, giver),
        )
        if recorded is None and (numerics := _numerics_by_key(record, prepared, store, request)) is not None:
            prepared = replace(prepared, numerics=numerics)
            pipeline = prepared.pipeline(store)
            recorded = numerics.threads
        note(_summary(record, prepared.numerics, recorded is not None))
        evaluator = evaluator_for(prepared, pipeline, measurer)
        result = evaluator.evaluate(request, progress)
        if result.outcome is not Outcome.MEASURED:
            why = f": {result.reason.message}" if result.reason is not None else ""
            raise StudyError(
                f"trial {number} was measured in the search, but ends as {result.outcome} now{why}", result.traceback
            )
        now = replace(
            record,
            quantities=result.quantities,
            labels=result.labels,
            stages=result.stages,
            artifact_sha256=result.artifact_sha256,
            forms=result.forms,
            manifest=result.manifest,
            environment=surroundings_of(measurer, prepared.targets) | {"training": prepared.numerics.to_json()},
            started_at=utc_now(),
            notes=result.notes,
        )
        same_files = (record.artifact_sha256, record.forms) == (now.artifact_sha256, now.forms)
        return Reproduction(
            record,
            now,
            pair_stages(record, now, _contents(store, now.stages), _contents(study.store, record.stages)),
            pair_numbers(record.quantities, now.quantities),
            same_files,
            tuple(_differences(record, now)),
            tuple(inputs),
        )


def threads_of(record: TrialRecord) -> int | None:
    """With how many threads a trial was trained; None where its record, of an earlier version, does not say."""
    training = record.environment.get("training")
    threads = training.get("threads") if isinstance(training, Mapping) else None
    return threads if isinstance(threads, int) else None


def _numerics_by_key(record: TrialRecord, prepared: Prepared, store: Store, request: EvalRequest) -> Numerics | None:
    """The numeric policy of which the trial's training has its key; None where it is none that this machine has."""
    keys = {stage.key for stage in record.stages if stage.stage in TRAINING}
    for threads in range(1, usable_cores() + 1):
        numerics = replace(prepared.numerics, threads=threads)
        pipeline = replace(prepared, numerics=numerics).pipeline(store)
        if pipeline.train_key(record.design, record.seed, request.inherits) in keys:
            return numerics
    return None


def _check_unchanged(study: Study, prepared: Prepared) -> None:
    """Makes sure that what the networks learn from is what it was.

    Raises:
        StudyError: It is not.
    """
    for name, digest in study.folder.read_inputs().items():
        if name in ("space", "prior", "warm_start"):  # they propose designs, and have no part in what becomes of them
            continue
        if prepared.inputs.get(name) != digest:
            raise StudyError(
                f"the {name} of {study.folder.path} changed since the study began",
                "put it back as it was: a trial on other data is another trial",
            )


def _teacher(study: Study, record: TrialRecord, prepared: Prepared, giver: Giver | None) -> AnyTeacher | None:
    """Whom a distilled trial learned from: a trial of the study, trained again too, or the recipe's."""
    if record.teacher_trial is None:
        return prepared.given if record.teacher is not None else None
    taught_by = study.record(record.teacher_trial)
    return Teacher(taught_by.number, taught_by.design, start_of(taught_by, study.records, giver))


def _giver(
    study: Study,
    record: TrialRecord,
    prepared: Prepared,
    pipeline: Pipeline,
    scratch: Path,
    progress: Progress,
    inputs: list[str],
) -> Giver | None:
    """The supernet that the trial's training, or its teacher's, started from; None where none did."""
    if not any(ancestor.inherits == SUPERNET for ancestor in _ancestors(study, record)):
        return None
    plan = kept_plan(study.folder)
    if plan is None or plan.supernet is None or not study.folder.supernet.is_file():
        raise StudyError(f"trial {record.number} started from a supernet, which is not in {study.folder.path} any more")
    copy = StudyFolder(scratch)  # its training would go on in the study's own file
    shutil.copyfile(study.folder.supernet, copy.supernet)
    shared = train_shared(prepared, pipeline, copy, plan.supernet, progress)
    inputs.append("the supernet's weights were taken from the study, not trained again")
    return shared


def _ancestors(study: Study, record: TrialRecord) -> list[TrialRecord]:
    """The trial, and those whose networks it learned from, directly or not."""
    found, todo = {record.number: record}, [record]
    while todo:
        one = todo.pop()
        before = [one.teacher_trial, int(one.inherits) if one.inherits and one.inherits.isdigit() else None]
        for number in before:
            if number is not None and number not in found:
                found[number] = study.record(number)
                todo.append(found[number])
    return list(found.values())


def _contents(store: Store, stages: tuple[StageResult, ...]) -> dict[str, str]:
    """Digests of what a store holds of some stages, by key."""
    digests = {stage.key: store.digest(stage.key) for stage in stages if stage.key}
    return {key: digest for key, digest in digests.items() if digest is not None}


def _summary(record: TrialRecord, numerics: Numerics, known: bool) -> str:
    trains = f"{numerics.precision} on {numerics.device}, {plural(numerics.threads, 'thread')}"
    text = f"trial {record.number} again, from seed {record.seed}: {trains}"
    if not known:
        text += "\n  its record does not say with how many threads it was trained, on which weights depend"
    return text


def _differences(before: TrialRecord, now: TrialRecord) -> list[str]:
    """What the weights depend on and is not the same, in words."""
    found = []
    then = before.environment.get("training")
    if isinstance(then, Mapping):
        here = now.environment["training"]
        found += [
            f"{name}: {then[name]} then, {here[name]} now" for name in here if name in then and then[name] != here[name]
        ]
    said = {line.partition(":")[0] for line in found}
    for name, words in _DEPENDS_ON.items():
        was, is_ = before.environment.get(name), now.environment.get(name)
        if words not in said and was is not None and is_ is not None and was != is_:
            found.append(f"{words}: {was} then, {is_} now")
    return found


def to_file(found: Reproduction, path: Path) -> None:
    """Writes a reproduction as JSON.

    Raises:
        StudyError: The file cannot be written.
    """
    try:
        path.write_text(json.dumps(found.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror}", "name another file") from None
