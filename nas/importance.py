"""How much each choice decides about each objective: PED-ANOVA over a study's measured trials, by Optuna.

PED-ANOVA (S. Watanabe, A. Bansal and F. Hutter, "PED-ANOVA: efficiently quantifying hyperparameter importance in
arbitrary subspaces", IJCAI 2023) compares the values that a choice has among the best trials with those that it has
among all: the Pearson divergence of the two distributions. A choice that decides nothing has the same in both. The
importance of a choice is its share of the sum over all choices.

Choices that not every design has are compared among the designs that have them, as Optuna does from version 5 on
("Conditional PED-ANOVA", arXiv:2601.20800): that a stage is there at all counts for the choice of how many stages there
are, not for each choice inside the stage, as it would if "absent" were a value like the others.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.design import Value
from nas.divergence import LEAST_DENSITY, best_of, by_chance, divergences
from nas.objectives import Objective
from nas.record import TrialRecord
from nas.study import Study
from nas.wording import choice_words, listing, percent, plain_name, plural, target_words

if TYPE_CHECKING:
    import optuna

FEWEST_TRIALS = 15
# The best trials: this share of them, but at least so many where that is not more than half.
BEST_SHARE, FEWEST_BEST, MOST_SHARE = 0.1, 10, 0.5
RESAMPLES = 200
CONFIDENCE = 0.95
SEED = 0
MOST_NAMED = 3  # choices in a summary


@dataclass(frozen=True)
class ChoiceImportance:
    """What a choice decides about one objective.

    Args:
        choice: Its name, such as ``stage1.width``.
        share: Its importance, 0 to 1; those of all choices sum to 1.
        low: Lower end of the 95 % interval of the share, by the bootstrap over trials; never above the share.
        high: Upper end, never below the share.
        chance: What the share would be below, in 95 of 100 studies for all choices together, if the choice decided
            nothing: by shuffling which trials are the best.
        values: How many values it has among the trials.
        trials: How many trials have the choice.
    """

    choice: str
    share: float
    low: float
    high: float
    chance: float
    values: int
    trials: int

    @property
    def clear(self) -> bool:
        """Whether the choice decides more than chance would make it seem."""
        return self.share > self.chance

    @property
    def label(self) -> str:
        """The choice in words: ``stage1 width``."""
        return choice_words(self.choice)

    @property
    def words(self) -> str:
        """``stage1 width 41 % (30 to 52)``."""
        ends = f"{percent(self.low, 0)} to {percent(self.high, 0)}"
        return f"{self.label} {percent(self.share, 0)} % ({ends})"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "label": self.label, "clear": self.clear}


@dataclass(frozen=True)
class ObjectiveImportance:
    """The importance of every choice for one objective.

    Args:
        key: The objective's key.
        trials: How many measured trials it is read from.
        best_share: Which share of them counts as the best, 0 to 1.
        choices: Those that have more than one value among the trials, the most important first. Empty where the
            objective has the same value in all of them.
    """

    key: str
    trials: int
    best_share: float
    choices: tuple[ChoiceImportance, ...]

    @property
    def title(self) -> str:
        """The objective in words: ``latency, ONNX Runtime, CPU, 1 thread, batch 1``."""
        target = self.key.partition("@")[2]
        return f"{plain_name(self.key)}, {target_words(target)}" if target else plain_name(self.key)

    @property
    def summary(self) -> str:
        """One line: ``latency: to be among the best 10 % of 120 trials, what counts most is stem width 41 % (…)``."""
        what = self.title
        if not self.choices:
            return f"{what}: nothing to compare, as no choice or no value differs among {plural(self.trials, 'trial')}."
        clear = [choice for choice in self.choices if choice.clear]
        best = f"to be among the best {percent(self.best_share, 0)} % of {plural(self.trials, 'trial')}"
        if not clear:
            return f"{what}: {best}, no choice stands out from chance."
        named = listing([choice.words for choice in clear[:MOST_NAMED]])
        more = len(clear) - MOST_NAMED
        rest = f"; {plural(more, 'more choice')} above chance" if more > 0 else ""
        return f"{what}: {best}, what counts most is {named}{rest}."

    def to_json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "trials": self.trials,
            "best_share": self.best_share,
            "choices": [choice.to_json() for choice in self.choices],
            "title": self.title,
            "summary": self.summary,
        }


@dataclass(frozen=True)
class ImportanceReport:
    """The importance of every choice for every objective, or why there is none.

    Args:
        objectives: In the recipe's order; empty where there is none.
        why_not: Why nothing can be said, in a sentence; empty where something can.
    """

    objectives: tuple[ObjectiveImportance, ...]
    why_not: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"objectives": [objective.to_json() for objective in self.objectives], "why_not": self.why_not}


def importances(study: Study) -> Mapping[str, Mapping[str, float]]:
    """The importance of every choice for every objective, 0 to 1.

    Args:
        study: Its measured trials are looked at, whether they meet the constraints or not.

    Returns:
        Objective key → choice → share, the most important first; shares of one objective sum to 1. Empty where fewer
        than ``FEWEST_TRIALS`` trials were measured. ``importance_report`` also says why, and how sure it is.
    """
    found = importance_report(study).objectives
    return {one.key: {choice.choice: choice.share for choice in one.choices} for one in found}


def importance_report(study: Study) -> ImportanceReport:
    """The importance of every choice for every objective, with intervals and what chance alone would give."""
    records, objectives = study.measured, study.recipe.parsed_objectives
    if len(records) < FEWEST_TRIALS:
        few = f"{plural(len(records), 'trial')} {'was' if len(records) == 1 else 'were'} measured"
        return ImportanceReport((), f"What each choice decides needs at least {FEWEST_TRIALS} measured trials; {few}.")
    table = _Table.of(records)
    if not table.names:
        return ImportanceReport((), "All measured trials are of one design, so no choice can be compared.")
    losses = [_losses(records, objective) for objective in objectives]
    shares = _by_optuna(table, losses)
    rng = np.random.default_rng(SEED)
    told = zip(objectives, losses, shares, strict=True)
    return ImportanceReport(tuple(_of_objective(one.key, table, loss, share, rng) for one, loss, share in told))


@dataclass(frozen=True)
class _Table:
    """The choices that differ among trials.

    Args:
        names: Their names, in alphabetical order.
        values: The values of each that occur.
        params: For each trial the choices that it has.
        onehots: For each choice N×K numbers: 1 where the trial has the value, a row of 0 where it has not the choice.
    """

    names: tuple[str, ...]
    values: tuple[tuple[Value, ...], ...]
    params: tuple[Mapping[str, Value], ...]
    onehots: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, records: Sequence[TrialRecord]) -> _Table:
        rows = [{**record.design.architecture, **record.design.compression} for record in records]
        seen: dict[str, dict[Value, None]] = {}
        for row in rows:
            for name, value in row.items():
                seen.setdefault(name, {})[value] = None
        names = tuple(sorted(name for name, values in seen.items() if len(values) > 1))
        values = tuple(tuple(sorted(seen[name], key=lambda value: (str(type(value)), value))) for name in names)
        onehots = []
        for name, found in zip(names, values, strict=True):
            column = {value: place for place, value in enumerate(found)}
            onehot = np.zeros((len(rows), len(found)))
            for number, row in enumerate(rows):
                if name in row:
                    onehot[number, column[row[name]]] = 1
            onehots.append(onehot)
        params = tuple({name: row[name] for name in names if name in row} for row in rows)
        return cls(names, values, params, tuple(onehots))


def best_share(trials: int) -> float:
    """Which share of so many trials counts as the best, 0 to 1."""
    return min(MOST_SHARE, max(BEST_SHARE, FEWEST_BEST / trials))


def _losses(records: Sequence[TrialRecord], objective: Objective) -> np.ndarray:
    """What is to be small, N numbers."""
    sign = -1.0 if objective.maximise else 1.0
    return np.array([sign * record.value(objective.key) for record in records])


def _by_optuna(table: _Table, losses: Sequence[np.ndarray]) -> list[dict[str, float]]:
    """For every objective the divergence of every choice, by Optuna's evaluator; each objective's sum to 1 or are 0."""
    import optuna

    told = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it says that a study in memory was created
    try:
        study = _optuna_study(table, losses)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=best_share(len(table.params)))
        found = []
        for number in range(len(losses)):
            with warnings.catch_warnings():
                # It warns that low values count as good, which they are, and of choices that few trials have.
                warnings.simplefilter("ignore")
                divergences = evaluator.evaluate(study, target=partial(_value_at, number))
            total = sum(divergences.values())
            found.append({name: value / total if total else 0.0 for name, value in divergences.items()})
        return found
    finally:
        optuna.logging.set_verbosity(told)


def _value_at(number: int, trial: optuna.trial.FrozenTrial) -> float:
    return float(trial.values[number])


def _optuna_study(table: _Table, losses: Sequence[np.ndarray]) -> optuna.Study:
    """The trials as a study in memory, all values to be minimised; a trial lacks the choices that its design lacks."""
    import optuna

    study = optuna.create_study(directions=["minimize"] * len(losses))
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.CategoricalDistribution(values)
        for name, values in zip(table.names, table.values, strict=True)
    }
    for params, values in zip(table.params, zip(*losses, strict=True), strict=True):
        own = {name: distributions[name] for name in params}
        study.add_trial(optuna.create_trial(params=dict(params), distributions=own, values=[float(v) for v in values]))
    return study


def _of_objective(
    key: str, table: _Table, losses: np.ndarray, shares: Mapping[str, float], rng: np.random.Generator
) -> ObjectiveImportance:
    trials, share = len(losses), best_share(len(losses))
    if float(np.ptp(losses)) == 0:
        return ObjectiveImportance(key, trials, share, ())
    once = np.ones((1, trials))
    best = best_of(losses, once, share)
    drawn = rng.multinomial(trials, np.full(trials, 1 / trials), size=RESAMPLES).astype(float)
    resampled = divergences(table.onehots, drawn, best_of(losses, drawn, share))
    resampled /= np.maximum(resampled.sum(axis=1, keepdims=True), LEAST_DENSITY)
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    total = max(float(divergences(table.onehots, once, best).sum()), LEAST_DENSITY)
    # Of many choices one or another is always above its own 95 %, so that the rest is divided among them (Bonferroni).
    level = 1 - (1 - CONFIDENCE) / len(table.names)
    chance = [by_chance(onehot, int(best.sum()), level, rng) / total for onehot in table.onehots]
    found = [
        ChoiceImportance(
            name,
            shares[name],
            min(float(low[place]), shares[name]),
            max(float(high[place]), shares[name]),
            chance[place],
            len(table.values[place]),
            int(table.onehots[place].sum()),
        )
        for place, name in enumerate(table.names)
    ]
    return ObjectiveImportance(key, trials, share, tuple(sorted(found, key=lambda one: (-one.share, one.choice))))
