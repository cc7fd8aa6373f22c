"""What a search sets out to do: its strategy, its rungs, how many trials to expect."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.search.costs import Costs, duration
from nas.search.opening import BASELINE_MOST, DEAR
from nas.search.rule import ELASTIC, ENOUGH_TRIALS, asked, chosen_by, may_pay
from nas.space import SearchSpace
from nas.study import counted, spent
from nas.train import DECAY_SHARE, rung_epochs
from nas.wording import plural

# Draws, and the share of them within, of the expected number of trials.
DRAWS, WITHIN = 1000, 0.9


@dataclass(frozen=True)
class Course:
    """What a search goes by.

    Args:
        strategy: ``guided``, ``plain`` or ``supernet``.
        why: Why this one, in a sentence without the strategy's name.
        rungs: Epochs after which trainings are judged, ascending; empty where none is.
        notes: What a person should know, in words: such as a budget that is too small.
    """

    strategy: str
    why: str
    rungs: tuple[float, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Plan(Course):
    """What a search goes by, and what may be expected of it.

    Args:
        trials_expected: How many trials it will begin from now on: few, in the middle, many; by how much the costs of
            designs differ.
        seconds: How long that takes, about.
    """

    trials_expected: tuple[int, int, int]
    seconds: float


def rungs_of(recipe: Recipe, space: SearchSpace, steps: int) -> tuple[float, ...]:
    """The rungs of a search in which some trainings are stopped; empty where the recipe or the space has none.

    Args:
        recipe: The epochs of a training, and how many go on from a rung.
        space: What is searched.
        steps: Steps of an epoch.
    """
    trained = space.module is not None and space.module.weights is not None
    if trained or not recipe.guided.rungs:
        return ()
    return rung_epochs(recipe.budget.epochs, recipe.guided.reduction, steps)


def plan(recipe: Recipe, space: SearchSpace, costs: Costs, records: Sequence[TrialRecord] = ()) -> Plan:
    """Plans a search, or the rest of one.

    Args:
        recipe: Budget, strategy, what of it is on.
        space: What is searched.
        costs: What trials cost.
        records: The trials that there are already.

    Raises:
        RecipeError: The recipe asks for a supernet of a family that has none.
    """
    left_out = recipe.strategy != "plain" and baseline_is_left_out(recipe, costs)
    first = costs.mean_trial if left_out else costs.baseline
    whole = trials_that_fit(recipe, costs, records, first)
    trials = whole[1] + len(counted(records))
    strategy, why = asked(recipe, space) or chosen_by(recipe, space, trials, costs)
    if left_out and strategy == "plain":
        first = costs.baseline
        whole = trials_that_fit(recipe, costs, records, first)
    rungs = rungs_of(recipe, space, costs.steps) if strategy == "guided" else ()
    by_number = whole[1] + 1 > _trials_left(recipe, records)
    share = 1 - recipe.supernet.share if strategy == "supernet" else 1.0
    factor, seconds = _begun(recipe, costs, rungs, by_number)
    left = _designs_left(space, records)
    low, median, high = (int(share * factor * count) for count in whole)
    needed = min(left, median) * seconds / share / at_once(recipe, costs)
    if not records and median:
        needed += first - costs.mean_trial
    notes = [*costs.notes, *_notes(recipe, records, left, median, (first, costs.mean_trial))]
    expected = min(left, low), min(left, median), min(left, high)
    return Plan(strategy, why, rungs, tuple(notes), expected, min(needed, _seconds_left(recipe, records)))


def plan_without_costs(
    recipe: Recipe, space: SearchSpace, records: Sequence[TrialRecord] = (), steps: int | None = None
) -> Course | None:
    """What a search goes by where that does not depend on what a trial costs; None where it does.

    Args:
        recipe: Budget, strategy, what of it is on.
        space: What is searched.
        records: The trials that there are already.
        steps: Steps of an epoch; without them it is not known whether a supernet might pay, nor whether a part of an
            epoch can be judged.

    Raises:
        As ``plan``.
    """
    chosen = asked(recipe, space)
    trials = recipe.budget.trials
    if chosen is None and trials is not None and recipe.budget.minutes is None:
        whole_space = space.size() <= trials
        if whole_space or space.family not in ELASTIC or (steps and not may_pay(recipe, trials, steps)):
            chosen = chosen_by(recipe, space, trials, None)
    if chosen is None:
        return None
    begun = 0 if trials is None else int(_trials_left(recipe, records))
    notes = _notes(recipe, records, _designs_left(space, records), begun, None)
    rungs = rungs_of(recipe, space, steps or 1) if chosen[0] == "guided" else ()
    return Course(*chosen, rungs, tuple(notes))


def baseline_is_left_out(recipe: Recipe, costs: Costs) -> bool:
    """Whether a guided search of such costs goes without the baseline; see ``nas.search.opening``."""
    minutes = recipe.budget.minutes
    return minutes is not None and costs.baseline > max(DEAR * costs.mean_trial, BASELINE_MOST * 60 * minutes)


def trials_that_fit(
    recipe: Recipe, costs: Costs, records: Sequence[TrialRecord] = (), first: float | None = None
) -> tuple[int, int, int]:
    """How many trials what is left of the budget holds, each trained to its end: few, in the middle, many.

    The first one runs whatever it takes: ``first`` seconds, the baseline's where not given. The others' mean cost is
    drawn anew from the designs that costs are known of (a bootstrap), since it is the mean that many trials together
    depend on. Where only trials are limited all three are the same.
    """
    by_number = _trials_left(recipe, records)
    seconds = _seconds_left(recipe, records) * at_once(recipe, costs)
    if math.isinf(seconds):
        return (int(by_number),) * 3
    if not records:
        seconds = max(0.0, seconds - (costs.baseline if first is None else first))
    totals = np.array([design.total for design in costs.sampled])
    draws = np.random.default_rng(0).choice(totals, (DRAWS, len(totals)))
    dear, middle, cheap = np.quantile(draws.mean(axis=1), [(1 + WITHIN) / 2, 0.5, (1 - WITHIN) / 2])
    begun = 0 if records else 1
    low, median, high = (int(min(by_number, begun + seconds / float(mean))) for mean in (dear, middle, cheap))
    return low, median, high


def at_once(recipe: Recipe, costs: Costs) -> float:
    """How many trials' worth of work is done in the time of one: workers train at the same time, but only one of them
    measures at a time, and the others wait meanwhile.
    """
    count = max(1, recipe.workers.count)
    return count * costs.mean_trial / (costs.mean_trial + (count - 1) * costs.mean("measure"))


def _seconds_left(recipe: Recipe, records: Sequence[TrialRecord]) -> float:
    """What is left of a budget of minutes; infinite where there is none."""
    minutes = recipe.budget.minutes
    return math.inf if minutes is None else max(0.0, 60 * minutes - sum(record.seconds for record in records))


def _trials_left(recipe: Recipe, records: Sequence[TrialRecord]) -> float:
    """What is left of a budget of trials; infinite where there is none."""
    if recipe.budget.trials is None:
        return math.inf
    return max(0.0, recipe.budget.trials - spent(records, recipe.budget.epochs))


def _begun(recipe: Recipe, costs: Costs, rungs: Sequence[float], by_number: bool) -> tuple[float, float]:
    """What rungs make of a trial, which they stop more often than not.

    Args:
        by_number: Whether it is trials that are limited: of these a stopped one counts by its share of epochs.

    Returns:
        How many trials are begun for each that the budget would hold without rungs, and a trial's seconds on average.
    """
    if not rungs:
        return 1.0, costs.mean_trial
    epochs, through = epochs_begun(rungs, recipe.budget.epochs, recipe.guided.reduction)
    training = costs.mean("train")
    seconds = training * epochs / recipe.budget.epochs + through * (costs.mean_trial - training)
    return recipe.budget.epochs / epochs if by_number else costs.mean_trial / seconds, seconds


def epochs_begun(rungs: Sequence[float], epochs: int, reduction: int) -> tuple[float, float]:
    """What successive halving leaves of a training that is begun.

    At each rung 1 / ``reduction`` goes on. To a rung of r epochs leads a stable part, which a longer training
    continues, and a decay, ``DECAY_SHARE`` of r, which it does not.

    Returns:
        The epochs that a training has on average, and the share of trainings that come to their end.
    """
    expected, through, kept = 0.0, 1.0, 0.0
    for rung in (*rungs, epochs):
        expected += through * (rung - kept)
        kept = (1 - DECAY_SHARE) * rung
        through /= reduction
    return expected, through * reduction


def _notes(
    recipe: Recipe, records: Sequence[TrialRecord], left: int, expected: int, seconds: tuple[float, float] | None
) -> Iterator[str]:
    """What a person should know of budget and space; ``seconds`` are those of the first trial and of the mean one."""
    if not records and (too_small := _too_small(recipe, seconds)):
        yield too_small
    if left < expected:
        yield f"the space has {plural(left, 'design')} left: the search ends when all are evaluated"


def _too_small(recipe: Recipe, seconds: tuple[float, float] | None) -> str | None:
    """Says that a budget holds no more than one trial, and what would be enough; None where it does."""
    budget, enough = recipe.budget, ENOUGH_TRIALS
    if budget.trials == 1:
        return f"the budget is too small: one trial shows no front; name 2 trials at least, better {enough}"
    if budget.minutes is None or seconds is None:
        return None
    first, mean = seconds
    least, good = (first + count * mean for count in (1, enough - 1))
    if 60 * budget.minutes >= least:
        return None
    return (
        f"the budget of {budget.minutes:g} minutes is too small: the first trial and one more take about "
        f"{duration(least)}; name {_minutes(least)} minutes at least, better {_minutes(good)} for {enough} trials"
    )


def _designs_left(space: SearchSpace, records: Sequence[TrialRecord]) -> int:
    return max(0, space.size() - len({record.design.digest for record in records}))


def _minutes(seconds: float) -> str:
    """Minutes that hold so many seconds: rounded up, to a tenth below ten."""
    minutes = seconds / 60
    return f"{math.ceil(10 * minutes) / 10:g}" if minutes < 10 else f"{math.ceil(minutes)}"
