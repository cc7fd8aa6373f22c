"""What a search sets out to do: costs of a trial, the rule of ``strategy: auto``, rungs, what fits, when it is flat."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from fakes import make_recipe, make_record
from hypothesis import given
from hypothesis import strategies as st
from search_fakes import make_space

from nas.choice import Choice
from nas.design import Design
from nas.errors import RecipeError, UnsupportedError
from nas.evaluate import EvalRequest, EvalResult
from nas.front import hypervolume, reference_from
from nas.outcome import How, Outcome, Quantity, Reason
from nas.own_module import FAMILY, OwnModule
from nas.recipe import Recipe
from nas.recipe_sections import WorkersConfig
from nas.record import StageResult, TrialRecord
from nas.search.costs import PARTS, Costs, DesignCost, Spread, costs_of, duration
from nas.search.dry_run import DryRun
from nas.search.flat import GROWTH, Flatness
from nas.search.plan import (
    Plan,
    at_once,
    epochs_begun,
    plan,
    plan_without_costs,
    rungs_of,
    trials_that_fit,
)
from nas.search.probe import FEWEST_DESIGNS, PROBE_EPOCHS, PROBE_SECONDS, Scale, spread_designs, try_designs
from nas.search.rule import SUPERNET_STEPS, may_pay, supernet_seconds
from nas.search.strategy import probed
from nas.space import SearchSpace, load_space
from nas.train import rung_epochs

SPACE = make_space()
LARGE, UNSHARED = load_space("convnet"), load_space("resnet")


def recipe_of(strategy: str = "auto", guided: dict[str, Any] | None = None, **budget: Any) -> Recipe:
    return make_recipe(strategy=strategy, budget={"epochs": 9} | budget, guided=guided or {})


def costs_from(*totals: float, train: float = 0.6, baseline: float | None = None, epochs: int = 9) -> Costs:
    """Designs that take so many seconds, of which training has a share; an epoch has 100 steps."""
    designs = [DesignCost({"train": train * total, "measure": (1 - train) * total}) for total in totals]
    if baseline is not None:
        designs.append(DesignCost({"train": train * baseline, "measure": (1 - train) * baseline}, baseline=True))
    return Costs(tuple(designs), epochs, 100, "by a test")


# --- rungs


@pytest.mark.parametrize(
    ("epochs", "reduction", "rungs"),
    [(3, 3, (1,)), (9, 3, (1, 3)), (10, 3, (1, 3)), (20, 3, (2, 6)), (100, 4, (1, 6, 25)), (2, 3, ()), (1, 2, ())],
)
def test_rungs_are_epochs_over_powers_of_the_reduction(epochs: int, reduction: int, rungs: tuple[int, ...]) -> None:
    assert rung_epochs(epochs, reduction) == rungs


@pytest.mark.parametrize(
    ("epochs", "steps", "rungs"),
    [
        (3, 250, (0.333, 1)),
        (2, 250, (0.667,)),
        (2, 300, (0.222, 0.667)),
        (1, 100, ()),
        (1, 1000, (0.111, 0.333)),
        (9, 1000, (1, 3)),
        (5, 170, (1,)),
    ],
)
def test_a_short_training_of_much_data_is_judged_amid_an_epoch(
    epochs: int, steps: int, rungs: tuple[float, ...]
) -> None:
    """Where there would be fewer than two rungs, and 60 steps at least tell something."""
    assert rung_epochs(epochs, 3, steps) == rungs


@given(st.integers(1, 500), st.integers(2, 9))
def test_each_rung_is_the_next_over_the_reduction(epochs: int, reduction: int) -> None:
    ends = [*rung_epochs(epochs, reduction), epochs]
    assert all(below == above // reduction for below, above in itertools.pairwise(ends))
    assert ends[0] < reduction
    assert ends[0] >= 1


def test_a_network_that_comes_trained_has_no_rungs_and_neither_has_a_recipe_that_turns_them_off() -> None:
    own = OwnModule("net.py", "make", {}, weights="net.safetensors")
    module = Choice(FAMILY, "architecture", ("net.py:make",))
    trained = SearchSpace("mine", FAMILY, "", (module,), module=own)
    assert rungs_of(recipe_of(trials=20), LARGE, 100) == (1, 3)
    assert rungs_of(recipe_of(trials=20), trained, 100) == ()
    assert rungs_of(recipe_of(trials=20), replace(trained, module=replace(own, weights=None)), 100) == (1, 3)
    assert rungs_of(recipe_of(trials=20, guided={"rungs": False}), LARGE, 100) == ()


def test_what_successive_halving_leaves_of_a_training() -> None:
    assert epochs_begun((), 9, 3) == (9.0, 1.0)
    # To epoch 1; a third from 0.6 to 3; a ninth from 1.8 to 9.
    assert epochs_begun((1, 3), 9, 3) == pytest.approx((1 + 2.4 / 3 + 7.2 / 9, 1 / 9))


# --- the rule


def chosen(recipe: Recipe, costs: Costs, space: SearchSpace = LARGE) -> str:
    return plan(recipe, space, costs).strategy


def test_a_space_that_the_budget_holds_whole_is_evaluated_whole() -> None:
    found = plan(recipe_of(trials=SPACE.size()), SPACE, costs_from(5.0))
    assert found.strategy == "plain"
    assert "all 96 designs" in found.why
    assert chosen(recipe_of(trials=SPACE.size() - 1), costs_from(5.0), SPACE) == "guided"


@pytest.mark.parametrize(("trials", "strategy"), [(1, "plain"), (14, "plain"), (15, "guided"), (500, "guided")])
def test_few_trials_have_nothing_to_learn_from(trials: int, strategy: str) -> None:
    assert chosen(recipe_of(trials=trials), costs_from(5.0)) == strategy


def test_minutes_are_worth_the_trials_that_fit_in_them() -> None:
    for minutes, words in (
        (2, "about 12 trials of the mean cost: cheap designs come first"),
        (3, "about 18 trials of"),
    ):
        found = plan(recipe_of(minutes=minutes), LARGE, costs_from(10.0))
        assert found.strategy == "guided"
        assert words in found.why
    found = plan(recipe_of(minutes=20), SPACE, costs_from(10.0))
    assert found.strategy == "plain", "120 trials hold all of the space"


def long_training(epochs: int = 200) -> Costs:
    """Designs that train for so many epochs of a second, and beside that take half a minute."""
    designs = (DesignCost({"train": epochs * 1.0, "measure": 30.0}), DesignCost({"train": epochs * 3.0}, baseline=True))
    return Costs(designs, epochs, 100, "by a test")


def test_a_supernet_trains_its_largest_and_smallest_network_and_others_at_each_step() -> None:
    # An epoch of 100 steps: the largest 3 s, the smallest 1 s, two others of 1 s.
    assert supernet_seconds(recipe_of(trials=9), long_training()) == pytest.approx(SUPERNET_STEPS / 100 * (3 + 1 + 2))


def test_long_trainings_are_worth_a_supernet_where_the_budget_holds_it() -> None:
    shared = supernet_seconds(recipe_of(trials=9), long_training())  # 120 s, a trial is 230 s
    enough = recipe_of(epochs=200, minutes=(600 + 3 * shared) / 60)
    assert chosen(enough, long_training()) == "supernet"
    assert "as long as 0.5 of the" in plan(enough, LARGE, long_training()).why
    assert chosen(recipe_of(epochs=200, trials=1), long_training()) == "plain", "the budget does not hold three of it"
    assert chosen(recipe_of(epochs=9, trials=100), long_training(9)) == "guided", "it costs as much as many trainings"
    assert chosen(enough, long_training(), UNSHARED) != "supernet", "no family for it"
    mostly_measured = replace(
        long_training(), designs=tuple(DesignCost({**d.seconds, "rest": 500.0}) for d in long_training().designs)
    )
    assert chosen(recipe_of(epochs=200, trials=100), mostly_measured) == "guided", "it saves trainings alone"


@given(
    st.lists(st.tuples(st.floats(0.1, 50), st.floats(0, 50)), min_size=1, max_size=5),
    st.integers(1, 60),
    st.integers(1, 200),
    st.integers(1, 2000),
)
def test_where_a_supernet_cannot_pay_it_is_never_chosen(
    designs: list[tuple[float, float]], epochs: int, trials: int, steps: int
) -> None:
    recipe = recipe_of(trials=trials, epochs=epochs)
    entries = tuple(DesignCost({"train": epochs * epoch, "measure": rest}) for epoch, rest in designs)
    if not may_pay(recipe, trials, steps):
        assert plan(recipe, LARGE, Costs(entries, epochs, steps, "")).strategy != "supernet"


@pytest.mark.parametrize("strategy", ["guided", "plain", "supernet"])
def test_what_the_recipe_asks_for_is_done(strategy: str) -> None:
    found = plan(recipe_of(strategy, trials=5), LARGE, costs_from(5.0))
    assert (found.strategy, found.why) == (strategy, "the recipe asks for it")
    assert found.rungs == ((1, 3) if strategy == "guided" else ())


def test_a_supernet_needs_a_family_that_can_share_one() -> None:
    for ask in (lambda r, s: plan(r, s, costs_from(5.0)), plan_without_costs):
        with pytest.raises(RecipeError, match="families convnet and mobilenet, but search space 'resnet'"):
            ask(recipe_of("supernet", trials=5), UNSHARED)


# --- the rule where costs are not known


def test_costs_are_asked_for_only_where_they_decide() -> None:
    assert plan_without_costs(recipe_of(minutes=5), LARGE) is None
    assert plan_without_costs(recipe_of(trials=50, minutes=5), LARGE) is None
    assert plan_without_costs(recipe_of(trials=50), LARGE) is None, "a supernet may pay, for all that is known"
    assert plan_without_costs(recipe_of(trials=500, epochs=300), LARGE, steps=250) is None, "it may pay"
    for recipe, space, steps, strategy in (
        (recipe_of("guided", minutes=5), LARGE, None, "guided"),
        (recipe_of(trials=50), LARGE, 10, "guided"),
        (recipe_of(trials=5), UNSHARED, None, "plain"),
        (recipe_of(trials=50), UNSHARED, None, "guided"),
        (recipe_of(trials=200), SPACE, None, "plain"),
    ):
        found = plan_without_costs(recipe, space, steps=steps)
        assert found is not None
        assert found.strategy == strategy


@given(st.integers(1, 200), st.integers(1, 60), st.integers(1, 1000), st.sampled_from([LARGE, UNSHARED]))
def test_the_rule_is_the_same_with_costs_and_without(trials: int, epochs: int, steps: int, space: SearchSpace) -> None:
    recipe = recipe_of(trials=trials, epochs=epochs)
    without = plan_without_costs(recipe, space, steps=steps)
    if without is not None:
        known = plan(recipe, space, replace(costs_from(5.0, 7.0, epochs=epochs), steps=steps))
        assert (without.strategy, without.why, without.rungs) == (known.strategy, known.why, known.rungs)


# --- what fits


def test_a_budget_of_trials_is_what_it_says() -> None:
    assert trials_that_fit(recipe_of(trials=40), costs_from(5.0, 50.0)) == (40, 40, 40)
    records = [make_record(0), make_record(1, outcome=Outcome.DUPLICATE), make_record(2, outcome=Outcome.FAILED)]
    stopped = make_record(3, outcome=Outcome.STOPPED, epochs=3)
    assert trials_that_fit(recipe_of(trials=40), costs_from(5.0), [*records, stopped]) == (37, 37, 37), (
        "a third is left"
    )


def test_minutes_hold_the_baseline_and_then_trials_of_the_mean_cost() -> None:
    assert trials_that_fit(recipe_of(minutes=10), costs_from(10.0, baseline=100.0)) == (51, 51, 51)
    assert trials_that_fit(recipe_of(minutes=10, trials=30), costs_from(10.0, baseline=100.0)) == (30, 30, 30)
    low, median, high = trials_that_fit(recipe_of(minutes=100), costs_from(4.0, 8.0, 12.0, 16.0, baseline=0.0))
    assert 6000 / 16 < low < median < high < 6000 / 4
    assert median == pytest.approx(600, rel=0.05)


def test_a_baseline_that_is_left_out_takes_nothing_of_the_minutes() -> None:
    """It would take 100 of 600 seconds, more than a tenth and ten times what others do."""
    costs = costs_from(10.0, baseline=100.0)
    left_out = plan(recipe_of("auto", minutes=10), LARGE, costs)
    assert "holds about 60 trials" in left_out.why
    assert left_out.trials_expected == plan(recipe_of("guided", minutes=10), LARGE, costs_from(10.0)).trials_expected
    assert not plan(recipe_of("auto", minutes=0.5), LARGE, costs).notes, "the baseline need not fit"
    assert plan(recipe_of("plain", minutes=10), LARGE, costs).trials_expected == (51, 51, 51), "it comes first there"
    dear = costs_from(10.0, baseline=59.0)
    assert "holds about 55 trials" in plan(recipe_of("auto", minutes=10), LARGE, dear).why, "comes later"


@pytest.mark.parametrize(("workers", "speed"), [(0, 1.0), (1, 1.0), (2, 2 * 10 / (10 + 4)), (4, 4 * 10 / (10 + 12))])
def test_workers_train_at_the_same_time_but_measure_one_after_the_other(workers: int, speed: float) -> None:
    recipe = recipe_of(minutes=100).model_copy(update={"workers": WorkersConfig(count=workers)})
    costs = costs_from(10.0)
    assert at_once(recipe, costs) == pytest.approx(speed)
    low, median, high = trials_that_fit(recipe, costs)
    assert low == median == high == 1 + int((6000 * speed - 10) / 10)


def test_what_is_spent_is_not_spent_again() -> None:
    records = [make_record(number) for number in range(4)]  # of 1.5 s
    assert trials_that_fit(recipe_of(minutes=0.2), costs_from(2.0), records) == (3, 3, 3)
    assert trials_that_fit(recipe_of(minutes=0.1), costs_from(2.0), records) == (0, 0, 0)


def test_rungs_begin_more_trials_in_the_same_time() -> None:
    costs = costs_from(10.0, train=0.6, baseline=10.0)
    plain = plan(recipe_of("plain", minutes=10), LARGE, costs)
    guided = plan(recipe_of("guided", minutes=10), LARGE, costs)
    assert plain.trials_expected == (60, 60, 60)
    # 2.6 of 9 epochs on average, and a ninth of the rest.
    each = 6 * 2.6 / 9 + 4 / 9
    assert guided.trials_expected[1] == int(60 * 10 / each)
    assert guided.seconds == pytest.approx(600, abs=each)
    # Of trials alone a stopped one counts by its epochs, and the rest is saved.
    by_number = plan(recipe_of("guided", trials=60), LARGE, costs)
    assert by_number.trials_expected[1] == int(60 * 9 / 2.6)
    assert by_number.seconds == pytest.approx(int(60 * 9 / 2.6) * each)


def test_a_supernet_leaves_less_time_for_trials() -> None:
    found = plan(recipe_of("supernet", minutes=10), LARGE, costs_from(10.0, baseline=10.0))
    assert found.trials_expected == (36, 36, 36)
    assert found.seconds == pytest.approx(600)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (
            {"minutes": 0.5},
            r"0\.5 minutes is too small: the first trial and one more take about 40 s; name 0\.7",
        ),
        ({"trials": 1}, r"one trial shows no front; name 2 trials at least, better 15"),
        ({"minutes": 0.7}, None),
        ({"trials": 2}, None),
    ],
)
def test_a_budget_too_small_for_anything_is_said_and_what_would_do(budget: dict[str, Any], message: str | None) -> None:
    found = plan(recipe_of(**budget), LARGE, costs_from(10.0, baseline=30.0))
    assert found.trials_expected[1] >= 1, "one trial runs all the same"
    if message is None:
        assert not found.notes
    else:
        assert len(found.notes) == 1
        assert re.search(message, found.notes[0])


def test_a_space_with_fewer_designs_than_trials_ends_when_they_are_evaluated() -> None:
    found = plan(recipe_of(trials=1000), SPACE, costs_from(5.0), [make_record(0)])
    assert found.trials_expected[1] == SPACE.size() - 1
    assert "95 designs left" in found.notes[0]
    one = SearchSpace("one", "mlp", "", (Choice("depth", "architecture", (1,)),))
    assert plan(recipe_of(minutes=5), one, costs_from(5.0)).why == "the space has one design"


# --- flat


def history(*points: tuple[float, float]) -> list[TrialRecord]:
    """Trials of 10 seconds with such accuracies and latencies; those of accuracy 0 are infeasible."""
    outcomes = [Outcome.MEASURED if accuracy else Outcome.INFEASIBLE for accuracy, _ in points]
    return [
        replace(make_record(number, *point, outcome=outcome), seconds=10.0)
        for number, (point, outcome) in enumerate(zip(points, outcomes, strict=True))
    ]


def test_flat_is_the_time_since_the_hypervolume_grew() -> None:
    records = history((0.8, 1.0), (0.9, 1.0), (0.85, 1.0), (0.7, 2.0))
    assert Flatness(recipe_of(trials=9)).seconds(records) == 20
    assert Flatness(recipe_of(trials=9)).seconds(records, now=47.5) == 27.5
    assert Flatness(recipe_of(trials=9)).seconds(list(reversed(records))) == 20, "in whichever order they come"


def test_before_anything_is_feasible_it_is_flat_from_the_beginning() -> None:
    assert Flatness(recipe_of(trials=9)).seconds([]) == 0
    assert Flatness(recipe_of(trials=9)).seconds([], now=5) == 5
    assert Flatness(recipe_of(trials=9)).seconds(history((0, 1), (0, 1))) == 20
    begun = [replace(make_record(n, outcome=Outcome.STOPPED), seconds=10.0, epochs=1) for n in range(3)]
    assert Flatness(recipe_of(trials=9)).seconds(begun) == 0, "nothing was measured that could have grown"
    grown = replace(make_record(3), seconds=10.0)
    later = [replace(record, number=4 + record.number) for record in begun]
    assert Flatness(recipe_of(trials=9)).seconds([*begun, grown, *later]) == 30


def test_gains_too_small_to_count_add_up() -> None:
    recipe = recipe_of(trials=9)
    records = history((0.5, 1.0), *((0.5 + step * 1e-4, 1.0) for step in range(1, 9)))
    volume = [hypervolume(records[: n + 1], reference_from(records, recipe.parsed_objectives), recipe.parsed_objectives)
              for n in range(len(records))]  # fmt: skip
    grown = next(n for n in range(len(records)) if volume[n] > volume[0] * (1 + GROWTH))
    assert 1 < grown < 8, "no step counts by itself"
    again = next((n for n in range(grown, len(records)) if volume[n] > volume[grown] * (1 + GROWTH)), grown)
    assert Flatness(recipe).seconds(records) == 10 * (len(records) - 1 - again)


def test_trials_that_do_not_meet_the_constraints_are_no_growth() -> None:
    recipe = make_recipe(constraints=["accuracy >= 0.85"])
    records = history((0.9, 1.0), (0.8, 0.001), (0.84, 0.0001))
    assert Flatness(recipe).seconds(records) == 20


# --- costs of records


def stages(*names: str, cached: tuple[str, ...] = ()) -> tuple[StageResult, ...]:
    return tuple(StageResult(name, "key", 0.0 if name in cached else 2.0, name in cached) for name in names)


def test_costs_are_those_of_the_trials_that_trained_themselves() -> None:
    fresh = stages("train", "prune", "finetune", "export", "quantise", "score", "count", "measure", "compare")
    records = [make_record(number, stages=fresh, origin="baseline" if number == 0 else "asked") for number in range(5)]
    records = [replace(record, seconds=20.0) for record in records]
    others = [
        make_record(5, stages=stages("train", "export", "measure", cached=("train",))),
        make_record(6, stages=stages("trunk", "train", cached=("trunk",))),
        make_record(7, stages=fresh, parent=3),
        make_record(8, outcome=Outcome.FAILED, stages=fresh),
    ]
    found = costs_of([*records, *others], recipe_of(trials=9), steps=7)
    assert found is not None
    assert len(found.designs) == 5
    assert found.trial == Spread(20.0, 20.0, 20.0)
    assert {part: found.part(part).median for part in PARTS} == {
        "train": 2.0, "fine-tune": 4.0, "export": 2.0, "quantise": 2.0, "score": 2.0, "measure": 2.0, "rest": 6.0
    }  # fmt: skip
    assert found.epoch.median == pytest.approx(2 / 9)
    assert (found.steps, found.source) == (7, "as measured in 5 trials of this study")
    assert costs_of(records[:4], recipe_of(trials=9), steps=7) is None, "too few to tell"


def test_the_baseline_is_no_design_that_a_sampler_proposes() -> None:
    costs = costs_from(1.0, 3.0, baseline=50.0)
    assert (costs.mean_trial, costs.baseline, costs.trial) == (2.0, 50.0, Spread(1.0, 3.0, 50.0))
    assert costs_from(1.0, 3.0).baseline == 2.0


# --- costs of designs tried in small


SCALE = Scale(steps=40, tried=4, epochs=20, finetune_epochs=6, images=8.0, validation=2.0)


def test_an_epoch_is_extrapolated_from_the_fastest_after_the_first() -> None:
    curve = [{"seconds": 1.0}, {"seconds": 0.5}, {"seconds": 0.4}]
    train = StageResult("train", "k", 2.0, False, {"curve": curve})
    # 0.1 s beside the epochs; each of 20 epochs has ten times the steps.
    assert SCALE.whole(train) == pytest.approx(0.1 + 0.4 * 10 * 20)
    assert SCALE.whole(replace(train, stage="finetune")) == pytest.approx(0.1 + 0.4 * 10 * 6)
    half = replace(train, stage="prune", detail={"curve": curve[:1]})
    assert SCALE.whole(half) == pytest.approx(1.0 + 1.0 * 10 * 6 / PROBE_EPOCHS), (
        "as many epochs as it had its share of"
    )


@pytest.mark.parametrize(
    ("stage", "seconds"), [("score", 4.0), ("teacher", 16.0), ("export", 2.0), ("measure", 2.0), ("prune", 2.0)]
)
def test_what_does_not_train_grows_with_the_images_that_it_looks_at(stage: str, seconds: float) -> None:
    assert SCALE.whole(StageResult(stage, "", 2.0, False, {"curve": []})) == seconds


@given(st.integers(0, 10**6), st.integers(1, 12))
def test_designs_to_try_are_spread_over_each_choice(seed: int, count: int) -> None:
    designs = spread_designs(SPACE, count, seed)
    assert designs == spread_designs(SPACE, count, seed)
    assert all(SPACE.contains(design) for design in designs)
    if len(designs) == count:  # else two were alike
        for name in ("stem.width", "stages", "stage1.conv", "pruning_ratio"):
            counts = Counter({**design.architecture, **design.compression}[name] for design in designs)
            values = len(SPACE.by_name[name].values)
            assert max(counts.values()) - (min(counts.values()) if len(counts) == values else 0) <= 1


class Tried:
    """An evaluation that takes a time for each design, by a clock of its own."""

    def __init__(self, seconds: float = 1.0, fail: int = 0) -> None:
        self.seconds, self.fail, self.now = seconds, fail, 0.0
        self.requests: list[EvalRequest] = []
        self.warmed: list[Design] = []

    def clock(self) -> float:
        return self.now

    def __call__(self, request: EvalRequest, progress: Any) -> EvalResult:
        self.requests.append(request)
        self.now += self.seconds
        if progress is not None:
            progress("train", 0.5)
        if len(self.requests) <= self.fail:
            return EvalResult(Outcome.FAILED, Reason("diverged", "the loss is nan"))
        curve = [{"seconds": 0.1}] * PROBE_EPOCHS
        done = (StageResult("train", "k", 0.1 * PROBE_EPOCHS, False, {"curve": curve}), *stages("export", "measure"))
        return EvalResult(Outcome.MEASURED, quantities=(Quantity("accuracy", 0.9, "1", How.MEASURED),), stages=done)


def baseline_space() -> SearchSpace:
    plain = next(design for design in SPACE.designs() if not design.step("distillation"))
    return replace(SPACE, baseline=plain)


def test_designs_are_tried_after_the_baseline_which_teaches() -> None:
    tried, heard = Tried(), []
    space = baseline_space()
    costs = try_designs(
        tried, tried.warmed.append, space, SCALE, progress=lambda *what: heard.append(what), clock=tried.clock
    )
    assert tried.requests[0].design == space.baseline
    assert len(tried.requests) == len(costs.designs) == 7
    assert [design.baseline for design in costs.designs] == [True] + [False] * 6
    assert len(tried.warmed) == 1
    assert all(request.teacher is not None for request in tried.requests if request.design.step("distillation"))
    assert costs.part("train").median == pytest.approx(0.1 * 10 * 20)
    assert costs.source == "extrapolated from 7 designs tried in small"
    assert heard[0] == ("design 1 of 7: train", 0.0)


def test_trying_ends_when_the_time_is_over_but_not_before_there_is_something_to_tell() -> None:
    slow = Tried(seconds=PROBE_SECONDS + 1)
    costs = try_designs(slow, slow.warmed.append, baseline_space(), SCALE, clock=slow.clock)
    assert len(costs.designs) == FEWEST_DESIGNS + 1


def test_a_search_tries_out_costs_for_a_hundredth_of_its_budget_unless_a_supernet_may_pay() -> None:
    assert probed(recipe_of(minutes=5), 100) == pytest.approx(3.0)
    assert probed(recipe_of(minutes=60), 100) == PROBE_SECONDS
    assert probed(recipe_of(trials=5), 100) == PROBE_SECONDS, "they cost nothing of a budget of trials"
    assert probed(recipe_of(minutes=5, epochs=500), 100) == PROBE_SECONDS, "a shared network may pay"
    brief = Tried(seconds=1.0)
    costs = try_designs(brief, brief.warmed.append, baseline_space(), SCALE, most_seconds=3.0, clock=brief.clock)
    assert len(costs.designs) == 4


def test_designs_that_fail_are_left_out_and_told() -> None:
    tried = Tried(fail=2)
    costs = try_designs(tried, tried.warmed.append, baseline_space(), SCALE, clock=tried.clock)
    assert costs.notes == ("2 designs tried failed: the loss is nan",)
    assert len(costs.designs) == 7, "others took their place"
    with pytest.raises(UnsupportedError, match="no design of search space 'tiny' could be evaluated: the loss is nan"):
        try_designs(Tried(fail=99), tried.warmed.append, baseline_space(), SCALE, clock=tried.clock)


# --- words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.034, "0.03 s"), (4.24, "4.2 s"), (59.6, "60 s"), (150, "2.5 min"), (7200, "2.0 h"), (720_000, "200 h")],
)
def test_durations_read_as_a_person_says_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def dry(recipe: Recipe, planned: Plan | None = None, **changes: Any) -> str:
    costs = costs_from(10.0, baseline=20.0)
    found = DryRun(recipe, LARGE, costs, planned or plan(recipe, LARGE, costs), (), {}, ())
    return " ".join(replace(found, **changes).sentences())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (20.0, "It begins with the baseline."),
        (50.0, "The baseline, of about 50 s, comes after about 3.3 min: others are cheaper."),
        (100.0, "The baseline would take about 1.7 min of 10 minutes and is left out."),
        (200.0, "The baseline would take about 3.3 min of 10 minutes and is left out."),
    ],
)
def test_a_dear_baseline_is_not_said_to_come_first(seconds: float, words: str) -> None:
    recipe, costs = recipe_of("guided", minutes=10), costs_from(10.0, baseline=seconds)
    said = " ".join(DryRun(recipe, LARGE, costs, plan(recipe, LARGE, costs), (), {}, ()).sentences())
    assert words in said
    assert ("begins with the baseline" in said) == (seconds == 20)
    assert "Up to 10 networks train for 1 epoch first" in said


def test_what_a_search_would_do_is_said_in_sentences() -> None:
    guided = dry(recipe_of(trials=60, patience_minutes=4))
    assert "Strategy guided: the budget holds about 60 trials" in guided
    assert "judged after 1 and 3 of 9 epochs: one in 3 may go on" in guided
    assert "not grown for 4 minutes" in guided
    plain = dry(recipe_of("plain", minutes=5))
    assert "It begins with the baseline." in plain
    assert "About 29 trials in about 5.0 min, each trained to its end." in plain
    assert "trains first, for 40% of the budget" in dry(recipe_of("supernet", minutes=10))
    bare = dry(recipe_of("guided", trials=60, guided={"rungs": False, "screening": False, "fans": False}))
    assert "each trained to its end" in bare
    assert "beaten" not in bare
    assert "compressions" not in bare
    assert "goes on from 1 trial" in dry(recipe_of(trials=60), records=(make_record(0),))
    assert "the baseline and 3 designs from earlier studies" in dry(recipe_of(trials=60), starts={"warm": 3})


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"trials": 1}, "1 trial"),
        ({"minutes": 2.5}, "2.5 minutes"),
        ({"trials": 40, "minutes": 1}, "40 trials or 1 minute, whichever comes first"),
    ],
)
def test_a_budget_in_words(budget: dict[str, Any], words: str) -> None:
    costs = costs_from(10.0)
    recipe = recipe_of(**budget)
    assert DryRun(recipe, LARGE, costs, plan(recipe, LARGE, costs), (), {}, ()).budget == words
