"""A search with several trials under way: nothing is lost, nothing counted twice, whatever happens to workers."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from search_fakes import FakeEvaluate, Memory, fake_recipe, make_space

from nas.errors import StudyError
from nas.evaluate import DEVICE_GONE, EvalRequest, EvalResult
from nas.outcome import Outcome, Reason
from nas.recipe import Recipe
from nas.search.guide import Guide
from nas.search.insight import Insight
from nas.search.loop import Ended, Loop
from nas.search.stopping import Stopping
from nas.space import SearchSpace
from nas.study import Study, StudyFolder
from nas.workers.executor import Done, JobProgress, Lost

TRIALS = 24


class Several:
    """An executor of several slots whose jobs end in any order, and some of whose workers die."""

    def __init__(self, slots: int, seed: int = 0, dying: float = 0.0, reason: Reason | None = None) -> None:
        self.slots = slots
        self.evaluate = FakeEvaluate()
        self.draw = random.Random(seed)
        self.dying = dying
        self.reason = reason or Reason("worker", "the worker died (SIGKILL)", transient=True)
        self.jobs: dict[int, EvalRequest] = {}
        self.most = 0
        self.together: list[set[str]] = []
        self.closed = False

    def submit(self, job: int, request: EvalRequest) -> None:
        assert job not in self.jobs
        self.jobs[job] = request
        assert len(self.jobs) <= self.slots
        self.most = max(self.most, len(self.jobs))
        digests = [request.design.digest for request in self.jobs.values()]
        assert len(set(digests)) == len(digests), "one design is evaluated once at a time"

    def wait(self, progress: JobProgress) -> Done[EvalResult] | Lost:
        job = self.draw.choice(sorted(self.jobs))
        request = self.jobs.pop(job)
        progress(job, "train", 0.5)
        if self.draw.random() < self.dying:
            return Lost(job, self.reason)
        return Done(job, self.evaluate(request, None), 10**8)

    def close(self) -> None:
        self.closed = True


def search(
    path: Path,
    executor: Several,
    recipe: Recipe | None = None,
    space: SearchSpace | None = None,
    stopping: Stopping | None = None,
    guided: bool = False,
) -> tuple[Study, Ended]:
    folder = StudyFolder(path)
    recipe, space = recipe or fake_recipe("predictor", trials=TRIALS), space or make_space()
    guide = Guide(Insight(space, recipe, ())) if guided else None
    with folder.claim():
        folder.start(recipe, {"space": space.digest, "data": "none"})
        ended = Loop(folder, recipe, space, executor, {}, Memory(), guide=guide, stopping=stopping).run()
    assert executor.closed
    return Study.open(path), ended


def whole(study: Study, trials: int) -> None:
    """Every number once, the budget spent exactly, no design evaluated twice but by a duplicate's name."""
    assert [record.number for record in study.records] == list(range(len(study.records)))
    assert study.spent == trials
    evaluated = Counter((r.design.digest, r.teacher) for r in study.records if r.outcome is not Outcome.DUPLICATE)
    failed = {(r.design.digest, r.teacher) for r in study.records if r.reason is not None and r.reason.transient}
    assert all(count == 1 or which in failed for which, count in evaluated.items())


@pytest.mark.parametrize(
    ("guided", "sampler"), [(True, "predictor"), (False, "predictor"), (False, "tpe"), (False, "random")]
)
def test_several_trials_at_a_time_fill_the_budget_once(tmp_path: Path, sampler: str, guided: bool) -> None:
    executor = Several(4)
    study, ended = search(tmp_path / "s", executor, fake_recipe(sampler, trials=TRIALS), guided=guided)
    whole(study, TRIALS)
    assert executor.most == 4
    assert ended.why == f"the budget of {TRIALS} trials is spent"
    assert all(record.peak_memory_bytes == 10**8 for record in study.measured)


def test_a_space_is_exhausted_by_several(tmp_path: Path) -> None:
    space = make_space()
    small = SearchSpace(space.name, space.family, space.description, (*space.choices[:1], *space.choices[2:3]))
    study, ended = search(tmp_path / "s", Several(3), fake_recipe("random", trials=100), small)
    assert "every design" in ended.why
    assert len({record.design.digest for record in study.measured}) == small.size()


def test_what_a_dead_worker_had_is_tried_again_in_the_same_trial(tmp_path: Path) -> None:
    executor = Several(3, seed=1, dying=0.15)
    study, _ = search(tmp_path / "s", executor)
    whole(study, TRIALS)
    assert max(record.attempts for record in study.records) == 2
    assert any(record.attempts == 2 and record.outcome is Outcome.MEASURED for record in study.records)


def test_what_kills_its_worker_is_not_tried_again(tmp_path: Path) -> None:
    executor = Several(2, seed=1, dying=0.2, reason=Reason("worker", "the worker died (SIGSEGV)"))
    study, _ = search(tmp_path / "s", executor)
    whole(study, TRIALS)
    failed = [record for record in study.records if record.reason is not None and record.reason.kind == "worker"]
    assert failed
    assert all(record.attempts == 1 and record.outcome is Outcome.FAILED for record in failed)


def test_a_full_disk_ends_the_search_and_costs_no_trial(tmp_path: Path) -> None:
    class Full(Several):
        def wait(self, progress: JobProgress) -> Done[EvalResult] | Lost:
            ended = super().wait(progress)
            if len(self.evaluate.requests) < 10:
                return ended
            result = EvalResult(Outcome.FAILED, Reason("disk full", "the disk is full at x", transient=True))
            return Done(ended.job, result)

    with pytest.raises(StudyError, match="the disk is full") as raised:
        search(tmp_path / "s", Full(2))
    assert raised.value.hint == "make room; the same command goes on"
    assert len(Study.open(tmp_path / "s").records) == 9
    study, _ = search(tmp_path / "s", Several(2))
    whole(study, TRIALS)


def test_a_device_that_is_gone_ends_the_search_and_costs_no_trial(tmp_path: Path) -> None:
    class Gone(Several):
        def wait(self, progress: JobProgress) -> Done[EvalResult] | Lost:
            ended = super().wait(progress)
            if len(self.evaluate.requests) < 10:
                return ended
            return Done(ended.job, EvalResult(Outcome.FAILED, Reason(DEVICE_GONE, "the agent is gone", transient=True)))

    with pytest.raises(StudyError, match="the agent is gone") as raised:
        search(tmp_path / "s", Gone(2))
    assert raised.value.hint == "the same command goes on once the device answers"
    assert len(Study.open(tmp_path / "s").records) < TRIALS
    assert all(record.reason is None or not record.reason.transient for record in Study.open(tmp_path / "s").records)
    study, _ = search(tmp_path / "s", Several(2))
    whole(study, TRIALS)


def test_a_record_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.search import ledger

    def full(folder: Path, record: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "00000.json"))

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "write_record", full)
        with pytest.raises(StudyError, match="the disk is full"):
            search(tmp_path / "s", Several(1))
    study, _ = search(tmp_path / "s", Several(1))
    whole(study, TRIALS)


def press_ctrl_c() -> None:
    """What a signal does: calls the handler of this moment. It is not sent (``tests/faults`` sends real ones to
    processes of their own), so that nothing that loaded libraries do with signals ends the process of the tests."""
    handler = signal.getsignal(signal.SIGINT)
    assert callable(handler)
    handler(signal.SIGINT, None)


def test_ctrl_c_once_finishes_what_is_under_way(tmp_path: Path) -> None:
    said: list[str] = []
    stopping = Stopping(lambda: said.append("finishing"))

    class Interrupted(Several):
        def wait(self, progress: JobProgress) -> Done[EvalResult] | Lost:
            if len(self.evaluate.requests) == 6:
                press_ctrl_c()
            return super().wait(progress)

    executor = Interrupted(3)
    with stopping.listen(), pytest.raises(KeyboardInterrupt):
        search(tmp_path / "s", executor, stopping=stopping)
    assert said == ["finishing"]
    assert executor.closed
    study = Study.open(tmp_path / "s")
    assert len(study.records) == len(executor.evaluate.requests) == 9, "the three that ran, and no other"
    study, _ = search(tmp_path / "s", Several(3))
    whole(study, TRIALS)


def test_ctrl_c_twice_stops_at_once(tmp_path: Path) -> None:
    stopping = Stopping()

    class Interrupted(Several):
        def wait(self, progress: JobProgress) -> Done[EvalResult] | Lost:
            if len(self.evaluate.requests) >= 6:
                press_ctrl_c()
            return super().wait(progress)

    executor = Interrupted(3)
    with stopping.listen(), pytest.raises(KeyboardInterrupt):
        search(tmp_path / "s", executor, stopping=stopping)
    assert len(Study.open(tmp_path / "s").records) == 7
    study, _ = search(tmp_path / "s", Several(3))
    whole(study, TRIALS)


def test_ctrl_c_before_any_trial_stops_at_once() -> None:
    with Stopping().listen(), pytest.raises(KeyboardInterrupt):
        press_ctrl_c()


RECIPE = """
data: {source: digits}
space: mlp
objectives: [accuracy, size_bytes]
budget: {trials: 6, epochs: 1, finetune_epochs: 1}
strategy: plain
sampler: random
workers: {count: 2}
"""


def test_a_search_with_workers_survives_the_death_of_one(tmp_path: Path) -> None:
    """The real thing: two processes train, one is killed at work, the search goes on and tries its trial again."""
    recipe = tmp_path / "study.yaml"
    recipe.write_text(RECIPE)
    command = [sys.executable, "-c", "from nas.cli import main; main()", "search", str(recipe)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
        killed = False
        deadline = time.monotonic() + 120
        while running.poll() is None and not killed and time.monotonic() < deadline:
            for child in map(int, children.read_text().split()) if children.exists() else ():
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                # Once a record is there, both workers are at work.
                if b"nas.search.worker" in words and list((tmp_path / "study" / "trials").glob("*.json")):
                    os.kill(child, signal.SIGKILL)
                    killed = True
                    break
            time.sleep(0.01)
        assert running.stdout is not None
        said = running.stdout.read()
    assert running.returncode == 0, said
    assert killed
    study = Study.open(tmp_path / "study")
    whole(study, 6)
    assert all(record.peak_memory_bytes for record in study.measured)
