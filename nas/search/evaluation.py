"""One trial from its design to its record: foreseen, trained in rungs, evaluated; or given up on the way."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

import numpy as np

from nas.evaluate import EvalRequest, EvalResult
from nas.outcome import How, Outcome
from nas.record import TrialRecord
from nas.search.judging import Judging
from nas.stages import Progress
from nas.store import write_atomically
from nas.study import StudyFolder

Evaluate = Callable[[EvalRequest, Progress | None], EvalResult]
# Gives requests, is sent what came of each, and returns the trial's record.
Steps = Generator[EvalRequest, EvalResult, TrialRecord]

# All trials that ended, at the moment of the call.
Records = Callable[[], Sequence[TrialRecord]]


class Evaluation:
    """Evaluates trials of one search, step by step; whoever carries the steps out may have several trials under way.

    Args:
        folder: Where raw samples and tracebacks go.
        judging: Says which trials are given up, and when; None where all are evaluated to the end.
    """

    def __init__(self, folder: StudyFolder, judging: Judging | None = None) -> None:
        self.folder = folder
        self.judging = judging

    def steps(self, record: TrialRecord, request: EvalRequest, records: Records) -> Steps:
        """The evaluations that a trial takes, one after the other; what they told decides about the next.

        Args:
            record: The trial, not evaluated yet.
            request: Its evaluation, to the end.
            records: Gives the trials that ended, at the moment.
        """
        if self.judging is not None:
            record = yield from self._before_the_end(self.judging, record, request, records)
            if record.outcome is not Outcome.MEASURED:
                return record
        result = yield request
        return self._with_result(record, result)

    def _before_the_end(self, judging: Judging, record: TrialRecord, request: EvalRequest, records: Records) -> Steps:
        """The trial with what was learned of it before its whole evaluation; its outcome says whether that is due."""
        goes_on = record.origin == "promotion"
        known = judging.carried(records(), record) if goes_on else judging.foresee(records(), record.design)
        record = replace(record, outcome=Outcome.MEASURED, quantities=known)
        may_give_up = judging.may_give_up(records(), record)
        if may_give_up:
            record = self._screened(judging, record, records)
        if record.outcome is Outcome.MEASURED and judging.foresees(records(), record):
            if alike := judging.looked_alike(records(), record.design):
                record = replace(record, outcome=Outcome.STOPPED, quantities=(*alike, *record.quantities))
            else:
                record = yield from self._partly(record, replace(request, until=0))
            if record.outcome is Outcome.STOPPED:
                record = replace(record, outcome=Outcome.MEASURED)
                if may_give_up:
                    record = self._screened(judging, record, records)
            due = record.outcome is Outcome.MEASURED and not record.spared
            if due and (reason := judging.outdone(records(), record)) is not None:
                return replace(record, outcome=Outcome.STOPPED, reason=reason, epochs=0)
        for epochs in judging.gates(records(), record) if record.outcome is Outcome.MEASURED else ():
            record = yield from self._partly(record, replace(request, until=epochs))
            if record.outcome is not Outcome.STOPPED:
                return record
            if (reason := judging.judge(records(), record, epochs)) is not None:
                return replace(record, reason=reason, epochs=epochs)
            record = replace(record, outcome=Outcome.MEASURED)
        return record

    def _screened(self, judging: Judging, record: TrialRecord, records: Records) -> TrialRecord:
        """The trial screened out, or spared, or with nothing against it."""
        reason = judging.hopeless(records(), record)
        if reason is None:
            return replace(record, outcome=Outcome.MEASURED)
        if reason.kind == "constraint":
            return replace(record, outcome=Outcome.INFEASIBLE, reason=reason)
        if judging.spares(record.number):
            return replace(record, outcome=Outcome.MEASURED, spared=True)
        return replace(record, outcome=Outcome.SCREENED, reason=reason)

    def _partly(self, record: TrialRecord, request: EvalRequest) -> Steps:
        """The trial with what a partial evaluation told."""
        result = yield request
        return self._with_result(record, result)

    def _with_result(self, record: TrialRecord, result: EvalResult) -> TrialRecord:
        """The record with what an evaluation found, beside what was known before.

        Raw samples and tracebacks go to files of their own.
        """
        quantities = result.quantities
        if result.samples:
            path = self.folder.samples / f"{record.number:05d}.npz"
            buffer = io.BytesIO()
            np.savez_compressed(buffer, allow_pickle=False, **dict(result.samples))
            write_atomically(path, buffer.getvalue())
            where = str(path.relative_to(self.folder.path))
            quantities = tuple(
                replace(item, samples_ref=where) if item.name == "latency_ms" else item for item in quantities
            )
        if result.traceback:
            write_atomically(self.folder.failures / f"{record.number:05d}.txt", result.traceback.encode())
        found = {quantity.key for quantity in quantities}
        kept = (How.PROXY, How.COUNTED) if result.outcome is Outcome.STOPPED else (How.PROXY,)
        before = tuple(q for q in record.quantities if q.key not in found and (q.how in kept or not quantities))
        return replace(
            record,
            outcome=result.outcome,
            reason=result.reason,
            quantities=(*quantities, *before),
            labels=result.labels,
            stages=(*record.stages, *result.stages),
            artifact_sha256=result.artifact_sha256,
            forms=result.forms,
            manifest=result.manifest,
            notes=(*record.notes, *(note for note in result.notes if note not in record.notes)),
        )
