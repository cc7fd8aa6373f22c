"""A small space, an evaluator that computes instead of training, and a watcher that remembers."""

from __future__ import annotations

from pathlib import Path

from fakes import TARGET, make_recipe

from nas.choice import Choice
from nas.design import Design
from nas.evaluate import EvalRequest, EvalResult
from nas.outcome import How, Outcome, Quantity, Reason
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.search.loop import Ended, Loop
from nas.space import SearchSpace
from nas.stages import Progress
from nas.study import Study, StudyFolder
from nas.teacher.given import GivenTeacher
from nas.workers.here import Here


def make_space() -> SearchSpace:
    """A conditional space of 176 designs with every kind of parameter: positions, steps, categories, constants."""
    return SearchSpace(
        "tiny",
        "convnet",
        "for tests",
        (
            Choice("stem.width", "architecture", (8, 16, 64)),
            Choice("stages", "architecture", (1, 2)),
            Choice("stage1.conv", "architecture", ("standard", "separable")),
            Choice("stage2.width", "architecture", (8, 16, 24), {"stages": (2,)}),
            Choice("pruning_ratio", "compression", (0.0, 0.25)),
            Choice("weight_sharing", "compression", ("none",)),
            Choice("distillation", "compression", (False, True)),
        ),
    )


class FakeEvaluate:
    """Numbers that follow from the design alone; designs of one width are infeasible, of another fail."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.requests: list[EvalRequest] = []
        self.interrupt_at = interrupt_at

    def __call__(self, request: EvalRequest, progress: Progress | None) -> EvalResult:
        self.requests.append(request)
        if request.number == self.interrupt_at:
            raise KeyboardInterrupt
        design = request.design
        width, depth = int(design.architecture["stem.width"]), int(design.architecture.get("stage2.width", 0))
        if depth == 24 and width == 8:
            return EvalResult(Outcome.INFEASIBLE, Reason("shape", "shrinks to nothing"))
        if depth == 8 and width == 64:
            return EvalResult(Outcome.FAILED, Reason("diverged", "the loss is nan"))
        cost = (width + depth) * (0.6 if design.architecture["stage1.conv"] == "separable" else 1.0)
        cost *= 1 - float(design.step("pruning_ratio"))
        accuracy = cost / (cost + 5) + (0.01 if design.step("distillation") else 0.0)
        return EvalResult(
            Outcome.MEASURED,
            quantities=(
                Quantity("accuracy", accuracy, "1", How.MEASURED),
                Quantity("latency_ms", cost / 100, "ms", How.MEASURED, target=TARGET),
                Quantity("size_bytes", 1000 * cost, "bytes", How.MEASURED),
            ),
            manifest={"class_names": ["a", "b"]},
        )


class Memory:
    """A watcher that remembers what it heard."""

    def __init__(self) -> None:
        self.records: list[TrialRecord] = []
        self.began_with: int | None = None

    def note(self, text: str) -> None:
        pass

    def began(self, study: Study) -> None:
        self.began_with = len(study.records)

    def asked(self, number: int, design: Design) -> None:
        pass

    def progress(self, stage: str, share: float, number: int | None = None) -> None:
        pass

    def told(self, record: TrialRecord, study: Study) -> None:
        self.records.append(record)


class Listener(Memory):
    """Also remembers what a person is told beside the trials."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def fake_recipe(sampler: str = "tpe", trials: int = 16, **changes: object) -> Recipe:
    return make_recipe(sampler=sampler, budget={"trials": trials, "epochs": 1}, **changes)


def run_loop(
    path: Path,
    recipe: Recipe,
    evaluate: FakeEvaluate,
    space: SearchSpace | None = None,
    given: GivenTeacher | None = None,
) -> tuple[Study, Ended]:
    """A search with everything real but the evaluation."""
    folder = StudyFolder(path)
    space = space or make_space()
    with folder.claim():
        folder.start(recipe, {"space": space.digest, "data": "none"})
        ended = Loop(folder, recipe, space, Here(evaluate), {}, Memory(), given).run()
    return Study.open(path), ended
