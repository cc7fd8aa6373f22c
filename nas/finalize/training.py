"""One design trained again from one seed, compressed, exported, measured and scored, as a run to keep."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nas.data.dataset import Dataset
from nas.errors import StudyError
from nas.evaluate import EvalRequest, EvalResult, Evaluator
from nas.finalize.plan import Plan
from nas.finalized import ORIGIN, FullBudget, Run, artifact_store, finalized_folder
from nas.measure.environment import has_fast_bfloat16
from nas.measure.measurer import Measurer, saturates
from nas.outcome import Outcome, Quantity
from nas.own_module import FAMILY as OWN_MODULE
from nas.pipeline import AnyTeacher, Pipeline, Teacher, normalisation_for, own_network
from nas.record import TrialRecord, utc_now
from nas.remeasure.surroundings import surroundings_of
from nas.serving import Scores, server_of, services
from nas.space import load_space
from nas.stages import Progress
from nas.store import write_atomically
from nas.study import Study
from nas.target import ONNX, Target, usable_cores
from nas.teacher.given import GivenTeacher, load_teacher
from nas.train import numerics_for


@dataclass(frozen=True)
class Trainer:
    """Trains a study's designs again.

    Args:
        study: Whose designs.
        budget: For how long.
        dataset: The study's data.
        evaluator: Trains, compresses and measures at that budget.
        measurer: Runs what does not run in this process.
        here: Fingerprint of this machine and the runtime, by target.
        given: The teacher that the recipe names.
    """

    study: Study
    budget: FullBudget
    dataset: Dataset
    evaluator: Evaluator
    measurer: Measurer
    here: Mapping[str, str]
    given: GivenTeacher | None

    @classmethod
    def of(cls, study: Study, plan: Plan, dataset: Dataset, measurer: Measurer) -> Trainer:
        """What trains the designs of a plan.

        Trained networks go into the study's cache, whose keys know of the budget; artifacts into a store of their own.

        Raises:
            StudyError: The data, a teacher or a person's own network are no longer those of the study.
            NasError: They cannot be loaded, or a target cannot be measured here.
        """
        recipe = plan.recipe(study.recipe)
        is_own = any(record.design.family == OWN_MODULE for record in plan.records)
        own = own_network(load_space(recipe.space).module if is_own else None, dataset)
        numerics = numerics_for(recipe.training, has_fast_bfloat16(), usable_cores())
        given = None
        if recipe.teacher is not None and any(record.design.step("distillation") for record in plan.records):
            given = load_teacher(recipe.teacher, dataset, normalisation_for(own, dataset), numerics)
        now = {"data": dataset.digest, "module": own and own.digest, "teacher": given and given.sha256}
        _check_unchanged(study, {name: digest for name, digest in now.items() if digest})
        pipeline = Pipeline(recipe, dataset, study.store, numerics, reduce_range=saturates(measurer), own=own)
        artifacts = artifact_store(study.folder.path, recipe.cache_limit_mb * 10**6)
        evaluator = Evaluator(
            recipe, dataset, pipeline, artifacts, measurer.measure, measurer.outputs, measurer.startup
        )
        here = {name: measurer.environment_id(Target.parse(name)) for name in recipe.all_targets}
        return cls(study, plan.budget, dataset, evaluator, measurer, here, given)

    @property
    def trains_from_scratch(self) -> bool:
        """Whether the float networks are trained; False for a person's own that comes with its weights."""
        return self.evaluator.trains_from_scratch

    def is_done(self, run: Run | None) -> bool:
        """Whether a run need not be done again: it was measured here and its files are there, or it failed for good."""
        if run is None or not run.measured:
            return run is not None
        record = run.record
        latencies = [q for q in record.quantities if q.name == "latency_ms" and q.target in self.here]
        if any(q.environment_id != self.here[str(q.target)] for q in latencies):
            return False
        files = [record.artifact_sha256, *record.forms.values()]
        return all(sha is not None and self.evaluator.store.read_blob(sha) is not None for sha in files)

    def run(self, searched: TrialRecord, seed: int, progress: Progress) -> Run:
        """Trains a design from a seed, from random weights whatever its training in the search started from."""
        started, began = time.perf_counter(), utc_now()
        request = EvalRequest(searched.number, searched.design, seed, self._teacher(searched))
        result = self.evaluator.evaluate(request, progress)
        record = TrialRecord(
            searched.number,
            ORIGIN,
            searched.design,
            result.outcome,
            seed,
            reason=result.reason,
            teacher=searched.teacher,
            teacher_trial=searched.teacher_trial,
            quantities=self._with_samples(searched.number, seed, result),
            labels=result.labels,
            stages=result.stages,
            artifact_sha256=result.artifact_sha256,
            forms=result.forms,
            manifest=result.manifest,
            environment=surroundings_of(self.measurer, self.evaluator.targets),
            started_at=began,
            notes=result.notes,
        )
        self._keep_traceback(searched.number, seed, result)
        test = self._test_scores(record) if record.outcome is Outcome.MEASURED else ()
        return Run(self.budget, replace(record, seconds=time.perf_counter() - started), test)

    def _teacher(self, searched: TrialRecord) -> AnyTeacher | None:
        """Whom a distilled design learns from: a given network as it is, or one of the study's own, which is trained
        again for as long and from the same seed (once, as all designs find it in the cache)."""
        if searched.teacher_trial is None:
            return self.given
        return Teacher(searched.teacher_trial, self.study.record(searched.teacher_trial).design)

    def _test_scores(self, record: TrialRecord) -> tuple[Quantity, ...]:
        """As the runtime that serves scores it; where there are several, the lowest counts, as in a trial."""
        shas = {ONNX: record.artifact_sha256, **record.forms}
        files = {form: self.evaluator.store.read_blob(str(sha)) or b"" for form, sha in shas.items()}
        test = self.dataset.test
        here = self.measurer.on_this_machine
        scores = Scores(files, test.images, test.labels, self.measurer.outputs, usable_cores(), "test_", here)
        serving = [
            server_of(record.quantity(f"latency_ms@{service.name}")) or service.candidates[0]
            for service in services(self.study.recipe)
        ]
        return scores.lowest(serving)

    def _with_samples(self, trial: int, seed: int, result: EvalResult) -> tuple[Quantity, ...]:
        """What was measured, with the place of the raw latencies, which go to a file of their own."""
        if not result.samples:
            return result.quantities
        folder = finalized_folder(self.study.folder.path)
        path = self._path("samples", trial, seed, ".npz")
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **dict(result.samples))
        write_atomically(path, buffer.getvalue())
        where = str(path.relative_to(folder))
        return tuple(replace(q, samples_ref=where) if q.name == "latency_ms" else q for q in result.quantities)

    def _keep_traceback(self, trial: int, seed: int, result: EvalResult) -> None:
        if result.traceback:
            write_atomically(self._path("failures", trial, seed, ".txt"), result.traceback.encode())

    def _path(self, kind: str, trial: int, seed: int, suffix: str) -> Path:
        name = f"trial-{trial:05d}-{self.budget.epochs}-{self.budget.finetune_epochs}-{seed}{suffix}"
        return finalized_folder(self.study.folder.path) / kind / name


def _check_unchanged(study: Study, now: Mapping[str, str]) -> None:
    """Makes sure that what networks learn from is what it was in the search."""
    for name, digest in study.folder.read_inputs().items():
        if now.get(name, digest) != digest:
            raise StudyError(
                f"the {name} of {study.folder.path} changed since the study began",
                "put it back as it was, or search anew; accuracies on other data could not be compared",
            )
