"""``nas reproduce`` without its command line: loads what the study loaded, evaluates the trial, compares."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from nas.errors import StudyError
from nas.evaluate import EvalRequest
from nas.lineage import SUPERNET, Giver, start_of
from nas.measure.measurer import Measurer
from nas.networks import FloatNetworks, Inherits
from nas.pipeline import AnyTeacher, Pipeline, Teacher
from nas.record import StageResult, TrialRecord, read_records, utc_now
from nas.remeasure.surroundings import surroundings_of
from nas.reproduce.compare import WEIGHTS, Reproduction, pair_numbers, pair_stages
from nas.reproduce.reasons import KeyOf, differences_between, threads_by_key, told_by_key
from nas.search.evaluators import evaluator_for
from nas.search.prepared import Prepared, load
from nas.search.shared_network import train_shared
from nas.search.strategy import kept_plan
from nas.stages import Progress, Stages
from nas.store import Store
from nas.study import Study, StudyFolder
from nas.target import usable_cores
from nas.train import Numerics
from nas.wording import plural


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
    trained = _as_trained(study, number)
    recorded = threads_of(trained)
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
        key_of = _keys(pipeline, record, request.inherits)
        if recorded is None and (recorded := threads_by_key(record, key_of)) is not None:
            prepared = replace(prepared, numerics=replace(prepared.numerics, threads=recorded))
            pipeline = prepared.pipeline(store)
        note(_summary(record, prepared.numerics, recorded is not None))
        evaluator = evaluator_for(prepared, pipeline, measurer)
        result = evaluator.evaluate(request, progress)
        if result.reason is not None and result.reason.transient:  # which says nothing of the trial
            raise StudyError(f"trial {number} cannot be evaluated now: {result.reason.message}", "try again")
        now = replace(
            record,
            outcome=result.outcome,
            reason=result.reason,
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
        pairs = pair_stages(record, now, _contents(store, now.stages), _contents(study.store, record.stages))
        differences = differences_between(trained.environment, now.environment)
        if any(not pair.same_key for pair in pairs if pair.stage in WEIGHTS):
            differences += told_by_key(record, study.recipe.seed, prepared.numerics.threads, key_of, bool(differences))
        return Reproduction(
            record,
            now,
            pairs,
            pair_numbers(record.quantities, now.quantities),
            (record.artifact_sha256, record.forms) == (now.artifact_sha256, now.forms),
            tuple(differences),
            tuple(inputs),
        )


def _as_trained(study: Study, number: int) -> TrialRecord:
    """The record as the search wrote it: latencies that were measured later bring their own environment, and do not say
    where the networks were trained."""
    return next(record for record in read_records(study.folder.trials) if record.number == number)


def threads_of(record: TrialRecord) -> int | None:
    """With how many threads a trial was trained; None where its record, of an earlier version, does not say."""
    training = record.environment.get("training")
    threads = training.get("threads") if isinstance(training, Mapping) else None
    return threads if isinstance(threads, int) else None


def _keys(pipeline: Pipeline, record: TrialRecord, inherits: Inherits | None) -> KeyOf:
    """What tells the key that the trial's training would have from another seed or with other threads."""

    def key_of(seed: int, threads: int) -> str:
        numerics = replace(pipeline.numerics, threads=threads)
        stages = Stages(pipeline.store, pipeline.stages.data_digest, numerics)
        recipe, data = pipeline.recipe, pipeline.data
        networks = FloatNetworks(recipe, data, pipeline.input_shape, stages, numerics, pipeline.own)
        return networks.key(record.design, seed, inherits)

    return key_of


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
