"""How a guided search begins: networks are gathered at the first rung, the best of them go on, and are looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fakes import LATENCY, TARGET, make_design, make_record
from search_fakes import make_space
from test_guided import EPOCHS, InRungs, guided_recipe, run_guided

from nas.choice import Choice
from nas.design import Design
from nas.outcome import How, Outcome, Quantity
from nas.record import StageResult, TrialRecord
from nas.search.choosing import DRAWN_AFTER
from nas.search.fans import shape
from nas.search.guide import Guide
from nas.search.insight import Insight
from nas.search.opening import GATHERING_MOST
from nas.search.rung_gains import FEWEST_GAINS
from nas.search.samplers import STARTUP_TRIALS
from nas.search.tally import Tally
from nas.space import SearchSpace
from nas.study import Study

TRIALS = 40


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return run_guided(tmp_path_factory.mktemp("gathering") / "s", guided_recipe(TRIALS), InRungs())[0]


def test_until_there_are_enough_all_wait_at_the_first_rung(study: Study) -> None:
    gathered = int(min(STARTUP_TRIALS, GATHERING_MOST * TRIALS))
    for record in study.records[:gathered]:
        assert record.outcome is not Outcome.MEASURED
        if record.outcome is Outcome.STOPPED:
            assert (record.origin, record.epochs) == ("asked", 1)
            assert record.reason is not None
            assert "others come so far first" in record.reason.message
    later = [record.reason.message for record in study.records[gathered + 1 :] if record.reason is not None]
    assert not any("others come so far first" in message for message in later)


def test_networks_are_gathered_uncompressed(study: Study) -> None:
    gathered = [record for record in study.records if record.reason and "come so far" in record.reason.message]
    assert gathered
    assert all(record.design.compression["pruning_ratio"] == 0 for record in gathered)
    asked = [record for record in study.records if record.origin == "asked"]
    assert any(record.design.compression["pruning_ratio"] != 0 for record in asked), "only at first"


def test_then_the_best_go_on(study: Study) -> None:
    first = next(record for record in study.records if record.outcome is Outcome.MEASURED)
    assert first.origin == "promotion"
    assert first.number == int(min(STARTUP_TRIALS, GATHERING_MOST * TRIALS))


def test_a_network_of_which_one_file_is_known_shows_what_it_is_without_pruning() -> None:
    space = make_space()
    design = next(design for design in space.designs() if design.compression["pruning_ratio"] != 0)
    guide = Guide(Insight(space, guided_recipe(TRIALS), (1, 3)))
    pruned = make_record(0, design=design)
    found = guide.choosing._free_fan([pruned], set())
    assert found is not None
    assert (found.origin, found.parent) == ("fan", 0)
    assert found.design.compression["pruning_ratio"] == 0
    assert found.design.architecture_digest == design.architecture_digest
    plain = make_record(1, design=found.design)
    assert guide.choosing._free_fan([pruned, plain], set()) is None, "two are known"
    assert guide.choosing._free_fan([pruned], {found.design.digest}) is None, "it is being evaluated"


def test_without_rungs_nothing_waits(tmp_path: Path) -> None:
    recipe = guided_recipe(12, guided={"rungs": False})
    found, _ = run_guided(tmp_path / "s", recipe, InRungs())
    assert all(record.outcome is not Outcome.STOPPED for record in found.records)


def rung(accuracy: float) -> Quantity:
    return Quantity("rung_accuracy", accuracy, "1", How.PROXY, target="epoch-1")


def test_at_a_rung_a_pruned_network_is_not_taken_for_the_large_one_that_it_comes_from() -> None:
    tally = Tally(guided_recipe())
    plain, pruned = (make_design(pruning_ratio=ratio) for ratio in (0.0, 0.75))
    stopped = []
    for number, design in enumerate((plain, pruned)):
        record = make_record(number, design=design)
        latency = record.quantity(LATENCY)
        assert latency is not None
        stopped.append(replace(record, outcome=Outcome.STOPPED, quantities=(rung(0.8), latency), epochs=1))
    tally.learn(stopped)
    own, other = tally.at_end(1).rows(tally.at_end(1).trials)[:, 0]
    assert own == pytest.approx(0.8), "nobody tells yet how accuracies change"
    assert other < 0.8
    others = [replace(plain, architecture={**plain.architecture, "stem.width": n}) for n in range(FEWEST_GAINS)]
    measured = [make_record(2 + n, design=design, accuracy=0.9) for n, design in enumerate(others)]
    tally.learn([replace(record, quantities=(*record.quantities, rung(0.8))) for record in measured])
    own = tally.at_end(1).rows(tally.at_end(1).trials)[0, 0]
    assert own == pytest.approx(0.9, abs=0.001), "half the error, as of those that went on"


def test_files_that_were_trained_otherwise_have_the_same_costs(study: Study) -> None:
    guide = Guide(Insight(make_space(), guided_recipe(TRIALS), (1, 3)))
    record = next(record for record in study.records if record.outcome is Outcome.MEASURED)
    design = record.design
    taught = replace(design, compression={**design.compression, "distillation": not design.step("distillation")})
    assert shape(taught) == shape(design)
    tally = guide.insight.tally.of(study.records)
    costs = guide.choosing._costs_alike(taught, tally)
    assert costs[1] == (record.value(LATENCY), 0.0)
    assert costs[0][0] != costs[0][0], "what another training gives is not known"
    smaller = replace(design, compression={**design.compression, "pruning_ratio": 0.33})
    assert shape(smaller) != shape(design)
    assert all(cost != cost for cost, _ in guide.choosing._costs_alike(smaller, tally))


def looked_at(number: int, latency: float, **fields: object) -> TrialRecord:
    """A trial of which the latency is known before its training."""
    known = Quantity("proxy_latency_ms", latency, "ms", How.PROXY, target=TARGET)
    return replace(make_record(number, outcome=Outcome.STOPPED), quantities=(known,), **fields)  # type: ignore[arg-type]


def test_what_costs_more_than_was_foreseen_waits_while_others_are_worth_more() -> None:
    space = make_space()
    guide = Guide(Insight(space, guided_recipe(budget={"minutes": 10.0, "epochs": EPOCHS}), (1, 3)))
    designs = list(space.designs())
    records = [
        make_record(number, accuracy=0.7 + 0.02 * number, latency_ms=0.1 * 1.5**number, design=designs[number])
        for number in range(8)
    ]
    fast, slow = (looked_at(8, latency, design=designs[9], origin="asked") for latency in (0.01, 500.0))
    assert guide.judging.outdone(records, slow) is None, "nobody said what else there is"
    guide.choosing.rivals[designs[9].digest] = 1e-6
    assert guide.judging.outdone(records, fast) is None
    reason = guide.judging.outdone(records, slow)
    assert reason is not None
    assert reason.kind == "rung"
    assert "500 ms" in reason.message
    trials = Guide(Insight(space, guided_recipe(), (1, 3)))
    trials.choosing.rivals[designs[9].digest] = 1e-6
    assert trials.judging.outdone(records, slow) is None, "where trials are counted, one that waits would cost nothing"


def test_one_that_waits_untrained_may_go_on_and_is_not_looked_at_again() -> None:
    space = make_space()
    guide = Guide(Insight(space, guided_recipe(), (1, 3)))
    design = next(iter(space.designs()))
    waiting = looked_at(0, 0.05, design=design, epochs=0)
    proposals = guide.choosing.promotions([waiting])
    assert [(p.origin, p.parent, p.design) for p in proposals] == [("promotion", 0, design)]
    promotion = replace(make_record(1, design=design, origin="promotion", outcome=Outcome.STOPPED), parent=0)
    assert guide.judging.carried([waiting], promotion) == waiting.quantities
    assert guide.judging.gates([waiting], promotion) == (1, 3)
    assert guide.judging.carried([waiting], replace(promotion, parent=None)) == ()


def test_in_a_space_of_few_architectures_none_is_gathered(tmp_path: Path) -> None:
    space = make_space()
    few = replace(space, choices=tuple(c for c in space.choices if c.name != "stage2.width" and c.name != "stages"))
    assert few.architectures() == 6
    found, _ = run_guided(tmp_path / "s", guided_recipe(24), InRungs(), few)
    assert not any(record.reason and "come so far" in record.reason.message for record in found.records)
    pruned = [record for record in found.records if record.design.compression["pruning_ratio"] != 0]
    assert any(record.outcome is Outcome.MEASURED for record in pruned)


@pytest.mark.parametrize(("budget", "first"), [({"minutes": 10.0, "epochs": EPOCHS}, 2), ({"trials": TRIALS}, 0)])
def test_of_those_that_may_go_on_the_fastest_does_first_where_time_is_spent(
    budget: dict[str, float], first: int
) -> None:
    """All are of one rung and none beats another; nothing was measured, so nothing tells what they are worth."""
    space = make_space()
    designs = list({design.architecture_digest: design for design in space.designs()}.values())
    seconds = [9.0, 5.0, 2.0, *[4.0] * (STARTUP_TRIALS - 3)]
    stopped = [
        replace(
            looked_at(number, 0.1 + 0.01 * number, design=design, epochs=1, origin="asked"),
            stages=(StageResult("train", str(number), spent, False, {"epochs": 1}),),
        )
        for number, (design, spent) in enumerate(zip(designs, seconds, strict=False))
    ]
    records = [
        replace(record, quantities=(*record.quantities, rung(0.8 - 0.1 * (number > 2) + 0.01 * number)))
        for number, record in enumerate(stopped)
    ]
    guide = Guide(Insight(space, guided_recipe(budget={"epochs": EPOCHS, **budget}), (1, 3)))
    promotions = guide.choosing.promotions(records)
    assert {proposal.parent for proposal in promotions} >= {0, 1, 2}
    chosen = guide.choosing.choose(records, lambda: designs[-1], teacher=True)
    assert (chosen.origin, chosen.parent) == ("promotion", promotions[0].parent if first == 0 else first)


class SlowClock:
    """Each look at it is so many seconds later."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.mark.parametrize("step", [2.0, 20.0, 90.0])
def test_however_small_the_budget_a_search_does_not_end_with_trainings_only_begun(step: float, tmp_path: Path) -> None:
    recipe = guided_recipe(budget={"minutes": 1.0, "epochs": EPOCHS})
    found, ended = run_guided(tmp_path / "s", recipe, InRungs(), clock=SlowClock(step))
    assert "1 minutes" in ended.why or "every design" in ended.why
    outcomes = {record.outcome for record in found.records}
    assert Outcome.MEASURED in outcomes or Outcome.STOPPED not in outcomes


def test_the_best_that_was_begun_is_finished_where_nothing_was_measured() -> None:
    space = make_space()
    guide = Guide(Insight(space, guided_recipe(), (1, 3)))
    designs = list(space.designs())
    begun = [looked_at(number, 0.1 + number, design=designs[number], epochs=1) for number in range(3)]
    begun = [
        replace(record, quantities=(*record.quantities, rung(accuracy)))
        for record, accuracy in zip(begun, (0.7, 0.6, 0.5), strict=True)
    ]
    assert guide.choosing.unfinished(begun[:1]) is not None
    found = guide.choosing.unfinished(begun)
    assert found is not None
    assert (found.origin, found.parent) == ("promotion", 0), "the most accurate is the fastest, too"
    busy = guide.choosing.unfinished(begun, {designs[0].digest})
    assert busy is not None
    assert busy.parent == 1
    assert guide.choosing.unfinished([*begun, make_record(3, design=designs[3])]) is None, "something was measured"
    assert guide.choosing.unfinished([]) is None


def test_a_duplicate_does_not_end_a_training_that_waits() -> None:
    tally = Tally(guided_recipe())
    design = next(iter(make_space().designs()))
    waiting = looked_at(0, 0.1, design=design, epochs=1)
    again = replace(make_record(1, design=design, outcome=Outcome.DUPLICATE), duplicate_of=0, reason=None)
    tally.learn([waiting, again])
    assert design.digest not in tally.ended
    tally.learn([make_record(2, design=design)])
    assert design.digest in tally.ended


def test_what_a_training_is_expected_to_take_counts_the_rungs_before_its_end() -> None:
    guide = Guide(Insight(make_space(), guided_recipe(), (1, 3)))
    assert guide.insight.remaining_share(0) == pytest.approx((1 + 2 / 3 + 6 / 9) / 9)
    assert guide.insight.remaining_share(1) == pytest.approx((2 + 6 / 3) / 9)
    assert guide.insight.remaining_share(3) == pytest.approx(6 / 9)
    assert Guide(Insight(make_space(), guided_recipe(), ())).insight.remaining_share(0) == 1


def test_now_and_then_a_network_is_drawn_that_is_unlike_all_others(study: Study) -> None:
    drawn = [record for record in study.records if record.origin == "drawn"]
    asked = [record for record in study.records if record.origin == "asked" and record.epochs != 0]
    assert 0 < len(drawn) <= len(asked) / DRAWN_AFTER
    for record in drawn:
        assert record.design.compression["pruning_ratio"] == 0
        before = {other.design.architecture_digest for other in study.records[: record.number]}
        assert record.design.architecture_digest not in before
        assert record.outcome is not Outcome.SCREENED, "surrogates would look elsewhere"


@pytest.mark.parametrize("budget", [{"trials": 24}, {"minutes": 2.0}])
def test_whatever_is_counted_a_fair_share_of_what_was_begun_is_finished(
    budget: dict[str, float], tmp_path: Path
) -> None:
    """In a large space there is always something new that seems worth more than what was begun."""
    widths = tuple(range(10, 74))
    space = SearchSpace(
        "wide",
        "convnet",
        "for tests",
        (
            Choice("stem.width", "architecture", widths),
            Choice("stage2.width", "architecture", widths),
            Choice("stage1.conv", "architecture", ("standard", "separable")),
            Choice("pruning_ratio", "compression", (0.0, 0.25)),
            Choice("distillation", "compression", (False,)),
        ),
    )
    recipe = guided_recipe(sampler="predictor", budget={**budget, "epochs": EPOCHS})
    found, _ = run_guided(tmp_path / "s", recipe, InRungs(), space, SlowClock(1.0))
    begun = [record for record in found.records if record.outcome is Outcome.STOPPED and record.epochs]
    measured = [record for record in found.records if record.outcome is Outcome.MEASURED]
    trained = [record for record in measured if record.origin != "fan"]
    assert len(trained) >= len(begun) // recipe.guided.reduction / 2
    assert len(measured) >= 8


def test_a_distilled_design_does_not_go_on_while_nobody_can_teach_it() -> None:
    """Whether somebody can may change: while a baseline is to come that would teach better, nobody else does."""
    space = make_space()
    guide = Guide(Insight(space, guided_recipe(guided={"fans": False}), (1, 3)))
    distilled = next(design for design in space.designs() if design.step("distillation"))
    other = next(design for design in space.designs() if not design.step("distillation"))
    waiting = looked_at(0, 0.05, design=distilled, epochs=0)
    assert guide.choosing.promotions([waiting])
    measured = [make_record(number, design=design) for number, design in enumerate(_unlike(distilled, 8), 1)]
    chosen = guide.choosing.choose([waiting, *measured], lambda: other, teacher=False)
    assert chosen.origin != "promotion"


def _unlike(design: Design, count: int) -> list[Design]:
    """Designs of other architectures, that are not distilled."""
    plain = [d for d in make_space().designs() if not d.step("distillation")]
    return [d for d in plain if d.architecture_digest != design.architecture_digest][:count]
