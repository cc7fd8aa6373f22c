"""Strategy guided, with everything real but the evaluation: what is given up, what goes on, what is kept of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import LATENCY, TARGET, make_recipe
from search_fakes import FakeEvaluate, Memory, make_space

from nas.choice import Choice
from nas.design import Design
from nas.evaluate import EvalRequest, EvalResult
from nas.outcome import How, Outcome, Quantity
from nas.proxies import PREDICTED, rung_accuracy, rung_key
from nas.recipe import Recipe
from nas.record import StageResult, TrialRecord
from nas.search import knowledge
from nas.search.guide import Guide
from nas.search.insight import Insight
from nas.search.loop import Ended, Loop
from nas.search.network_facts import NetworkFacts, network_facts
from nas.space import SearchSpace
from nas.stages import Progress
from nas.study import Study, StudyFolder
from nas.train import rung_epochs
from nas.workers.here import Here

EPOCHS = 9
TRIALS = 18


class InRungs(FakeEvaluate):
    """As its parent; before the end it tells what is known there, and remembers how many epochs each design trained."""

    def __init__(self, interrupt_at: int | None = None, train_seconds: float = 10.0, agreeing: bool = False) -> None:
        super().__init__(interrupt_at)
        self.agreeing = agreeing  # the more accurate, the faster: one trial beats all others
        self.trained: dict[str, int] = {}
        self.train_seconds = train_seconds

    def __call__(self, request: EvalRequest, progress: Progress | None) -> EvalResult:
        whole = super().__call__(request, progress)
        if self.agreeing and whole.outcome is Outcome.MEASURED:
            error = next(1 - quantity.value for quantity in whole.quantities if quantity.name == "accuracy")
            whole = replace(
                whole,
                quantities=tuple(
                    replace(quantity, value=error, low=error, high=error) if quantity.name == "latency_ms" else quantity
                    for quantity in whole.quantities
                ),
            )
        until = EPOCHS if request.until is None else request.until
        before = self.trained.get(request.design.architecture_digest, 0)
        self.trained[request.design.architecture_digest] = max(before, until)
        seconds = max(0, until - before) * self.train_seconds / EPOCHS
        stages = (StageResult("train", f"key-{until}", seconds, seconds == 0),)
        if whole.outcome is not Outcome.MEASURED:
            return whole
        if request.until is None:
            return EvalResult(
                Outcome.MEASURED,
                quantities=whole.quantities,
                stages=(*stages, StageResult("export", "", 0.1, False), StageResult("measure", "", 0.1, False)),
                manifest=whole.manifest,
            )
        values = {quantity.name: quantity.value for quantity in whole.quantities}
        if request.until == 0:
            proxies = (Quantity("proxy_latency_ms", values["latency_ms"], "ms", How.PROXY, target=TARGET),)
            return EvalResult(Outcome.STOPPED, quantities=proxies, stages=stages)
        error = (1 - values["accuracy"]) * (1 + 2 / request.until)
        rung = Quantity("rung_accuracy", 1 - min(1.0, error), "1", How.PROXY, target=f"epoch-{request.until}")
        return EvalResult(Outcome.STOPPED, quantities=(rung,), stages=stages)


def guided_recipe(trials: int = 40, sampler: str = "random", **changes: object) -> Recipe:
    budget = {"trials": trials, "epochs": EPOCHS}
    return make_recipe(**({"sampler": sampler, "budget": budget} | changes))


def run_guided(
    path: Path,
    recipe: Recipe,
    evaluate: FakeEvaluate,
    space: SearchSpace | None = None,
    clock: Callable[[], float] = time.monotonic,
    facts: NetworkFacts | None = None,
) -> tuple[Study, Ended]:
    folder = StudyFolder(path)
    space = space or make_space()
    guide = Guide(Insight(space, recipe, rung_epochs(EPOCHS, recipe.guided.reduction), facts=facts))
    with folder.claim():
        folder.start(recipe, {"space": space.digest, "data": "none"})
        ended = Loop(folder, recipe, space, Here(evaluate), {}, Memory(), guide=guide, clock=clock).run()
    return Study.open(path), ended


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A guided search of 18 trials by a sampler that proposes anything."""
    return run_guided(tmp_path_factory.mktemp("guided") / "s", guided_recipe(trials=18), InRungs())[0]


@pytest.fixture(scope="module")
def stopping(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A search that stops trainings, and for that trains a new network in nearly every trial."""
    recipe = guided_recipe(trials=TRIALS, guided={"fans": False})
    return run_guided(tmp_path_factory.mktemp("stopping") / "s", recipe, InRungs(agreeing=True))[0]


def by_outcome(study: Study, outcome: Outcome) -> list[TrialRecord]:
    return [record for record in study.records if record.outcome is outcome]


def test_trainings_that_fall_behind_are_stopped_and_told_so(stopping: Study) -> None:
    stopped = by_outcome(stopping, Outcome.STOPPED)
    assert stopped
    for record in stopped:
        assert record.epochs in (1, 3)
        assert rung_accuracy(record, record.epochs) is not None
        assert record.quantity("accuracy") is None
        assert record.reason is not None
        assert record.reason.kind == "rung"
        assert f"after {record.epochs} of {EPOCHS} epochs" in record.reason.message
        assert not record.feasible(())
    assert all(record.outcome is Outcome.MEASURED for record in stopping.front)


def test_stopped_ones_cost_their_share_of_the_budget(stopping: Study) -> None:
    assert TRIALS <= stopping.spent < TRIALS + 1
    assert len(stopping.counted) > TRIALS


def test_a_promotion_goes_on_from_where_it_was_stopped(stopping: Study) -> None:
    promotions = [record for record in stopping.records if record.origin == "promotion"]
    assert promotions, "a random sampler leaves somebody to promote"
    numbers = {record.number: record for record in stopping.records}
    for record in promotions:
        assert record.parent is not None
        parent = numbers[record.parent]
        assert parent.outcome is Outcome.STOPPED
        assert parent.design == record.design
        assert record.quantity(rung_key(parent.epochs or 0)) is None, "it stands once at each rung"
    assert len({record.parent for record in promotions}) == len(promotions)


def test_fans_are_other_compressions_of_trained_networks(guided: Study) -> None:
    fans = [record for record in guided.records if record.origin == "fan"]
    numbers = {record.number: record for record in guided.records}
    assert fans, "a fan trains nothing, so some must be worth their time"
    for record in fans:
        assert record.parent is not None
        parent = numbers[record.parent]
        assert parent.design.architecture_digest == record.design.architecture_digest
        assert parent.design != record.design
        assert parent.outcome is Outcome.MEASURED


def test_no_file_is_measured_twice_under_different_names(tmp_path: Path) -> None:
    """Of narrow layers pruning leaves the same channels, whatever the ratio."""
    pruned = (0.25, 0.5, 0.75)
    space = SearchSpace(
        "narrow",
        "convnet",
        "for tests",
        (
            Choice("stem.width", "architecture", (8, 16)),
            Choice("stages", "architecture", (1,)),
            Choice("stage1.conv", "architecture", ("standard", "separable")),
            Choice("stage1.width", "architecture", (8, 16)),
            Choice("stage1.pooling", "architecture", ("max", "average")),
            Choice("pruning_ratio", "compression", (0.0, *pruned)),
            Choice("pruning_criterion", "compression", ("l1", "taylor"), {"pruning_ratio": pruned}),
        ),
    )
    facts = network_facts(space, (1, 28, 28), 10)
    assert facts is not None
    study, _ = run_guided(tmp_path / "s", guided_recipe(sampler="predictor"), InRungs(), space, facts=facts)
    measured = by_outcome(study, Outcome.MEASURED)
    files = Counter(facts.files([record.design for record in measured]))
    assert len(measured) > 20
    assert max(files.values()) == 1
    assert sum(record.design.step("pruning_ratio") > 0 for record in measured) > 5


def test_what_was_foreseen_is_kept_as_proxies(guided: Study) -> None:
    foreseen = [r for r in guided.measured if r.quantity(f"{PREDICTED}accuracy") is not None]
    assert foreseen
    for record in foreseen:
        for key in guided.recipe.objectives:
            quantity = record.quantity(f"{PREDICTED}{key}")
            assert quantity is not None
            assert quantity.how is How.PROXY
            assert quantity.low is not None
            assert quantity.high is not None
            assert quantity.low <= quantity.value <= quantity.high


def test_the_hopeless_are_screened_out_but_one_in_ten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In so small a space nothing is hopeless to the degree that a real search asks for.
    monkeypatch.setattr(knowledge, "SCREENING_WIDTH", 0.2)
    monkeypatch.setattr(knowledge, "FEWEST_TO_SCREEN", 8)
    recipe = guided_recipe(trials=20, guided={"fans": False, "rungs": False})
    study, _ = run_guided(tmp_path / "s", recipe, InRungs())
    screened = by_outcome(study, Outcome.SCREENED)
    spared = [record for record in study.records if record.spared]
    assert screened
    for record in screened:
        assert record.reason is not None
        assert "which trial" in record.reason.message
        assert record.quantity("accuracy") is None
        assert not [stage for stage in record.stages if stage.stage == "train" and stage.seconds]
    assert all(record.outcome in (Outcome.MEASURED, Outcome.FAILED, Outcome.INFEASIBLE) for record in spared)


def test_a_limit_that_is_broken_before_training_is_infeasible_and_costs_nothing(tmp_path: Path) -> None:
    evaluate = InRungs(train_seconds=100.0)
    recipe = guided_recipe(trials=18, constraints=[f"{LATENCY} <= 0.2"], guided={"fans": False, "rungs": False})
    study, _ = run_guided(tmp_path / "s", recipe, evaluate)
    infeasible = by_outcome(study, Outcome.INFEASIBLE)
    broken = [r for r in infeasible if r.reason is not None and r.reason.kind == "constraint"]
    assert broken
    for record in broken:
        assert record.reason is not None
        assert "<= 0.2, but it is about" in record.reason.message
        proxy = record.quantity(f"proxy_{LATENCY}")
        assert proxy is not None
        assert proxy.value > 0.22


@pytest.mark.parametrize("sampler", ["nsga2", "predictor"])
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(tmp_path: Path, sampler: str) -> None:
    recipe = guided_recipe(trials=9, sampler=sampler)
    whole, _ = run_guided(tmp_path / "whole", recipe, InRungs())
    for number in (0, 7):
        with pytest.raises(KeyboardInterrupt):
            run_guided(tmp_path / "cut", recipe, InRungs(interrupt_at=number))
    cut, _ = run_guided(tmp_path / "cut", recipe, InRungs())

    def told(study: Study) -> list[tuple[int, str, Design, Outcome, int | None]]:
        return [(r.number, r.origin, r.design, r.outcome, r.parent) for r in study.records]

    # What a fan is worth depends on the seconds that trials took, which no two runs share: the designs may differ, but
    # nothing is lost and none counted twice.
    assert [record.number for record in cut.records] == list(range(len(cut.records)))
    assert told(cut)[:5] == told(whole)[:5]


def test_a_space_with_less_than_the_budget_is_evaluated_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge, "FEWEST", 1000)  # surrogates take time and have no part in this
    whole = make_space()
    few = SearchSpace(
        "few", whole.family, "", tuple(c for c in whole.choices if c.name not in ("stages", "stage2.width"))
    )
    study, ended = run_guided(tmp_path / "s", guided_recipe(trials=1000), InRungs(), few)
    size = few.size()
    assert size == 24
    assert "every design" in ended.why
    settled = [Outcome.MEASURED, Outcome.FAILED, Outcome.INFEASIBLE]
    assert len({record.design.digest for record in study.records if record.outcome in settled}) == size


class Constant(InRungs):
    """Everything is as good as everything else."""

    def __call__(self, request: EvalRequest, progress: Progress | None) -> EvalResult:
        result = super().__call__(request, progress)
        values = {"accuracy": 0.5, "latency_ms": 0.1, "size_bytes": 1000.0}
        quantities = tuple(
            Quantity(q.name, values.get(q.name, q.value), q.unit, q.how, q.target) for q in result.quantities
        )
        return EvalResult(result.outcome, result.reason, quantities, stages=result.stages, manifest=result.manifest)


def test_constant_objectives_are_searched_all_the_same(tmp_path: Path) -> None:
    study, ended = run_guided(tmp_path / "s", guided_recipe(trials=12), Constant())
    assert "12 trials" in ended.why
    assert study.front
