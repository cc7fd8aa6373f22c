"""What a choice buys where matched pairs are too few: a regression over all trials, which is told as *adjusted*.

Ridge regression of the logarithm of each cost, and of accuracy, on which value of which choice a trial has. It takes
for granted that choices act independently of each other (costs multiply, accuracy adds up), which matched pairs do not;
so it stands in where there are no such pairs, says how much of the differences between trials it explains, each
left out in turn, and is silent on a quantity of which it explains less than half.

Choices inside a part that not every design has are centred among those that have them, so that what the part as a
whole costs is told for the choice that it hangs on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.compression import IDENTITY, split_name
from nas.design import Value
from nas.record import TrialRecord
from nas.report.effect import CONFIDENCE, Compared, Effect, what_words
from nas.report.pairing import Coded
from nas.wording import choice_words, listing, percent, plural

TRIALS_PER_VALUE = 1.5  # of all choices together; fewer trials than that say nothing
FEWEST_WITH_VALUE = 5
LEAST_EXPLAINED = 0.5
RESAMPLES = 100
STRENGTHS = tuple(10.0 ** (exponent / 2) for exponent in range(-4, 5))
SEED = 0


@dataclass(frozen=True)
class Adjusted:
    """One value of a choice held against another by regression.

    Args:
        choice: Its name.
        value: What is taken ...
        other: ... for this, as in ``Comparison``.
        trials: How many trials have the rarer of the two.
        effects: On every quantity that the regression explains well enough, with 95 % intervals by the bootstrap over
            trials, the first cost first.
    """

    choice: str
    value: Value
    other: Value
    trials: int
    effects: tuple[Effect, ...]

    @property
    def words(self) -> str:
        """``stem width, 8 for 32: −74 % time (−80 to −66), −2.3 points (−3.0 to −1.8), adjusted``."""
        return f"{self.label}, {self.what}: {', '.join(effect.words for effect in self.effects)}, adjusted"

    def effect(self, key: str) -> Effect | None:
        """The effect on the quantity of that key; None where the regression does not explain it."""
        return next((effect for effect in self.effects if effect.key == key), None)

    @property
    def label(self) -> str:
        return choice_words(self.choice)

    @property
    def what(self) -> str:
        return what_words(self.choice, self.value, self.other)

    def to_json(self) -> dict[str, Any]:
        return {
            "choice": self.choice,
            "value": self.value,
            "other": self.other,
            "trials": self.trials,
            "effects": [effect.to_json() for effect in self.effects],
            "label": self.label,
            "what": self.what,
            "words": self.words,
            "adjusted": True,
        }


@dataclass(frozen=True)
class Regression:
    """What a regression over all trials tells of choices that have too few matched pairs.

    Args:
        rows: What saves the most of the first cost first.
        explained: For each quantity, by its short name, the share of the differences between trials that is explained
            when each is predicted from all others; at most 1, below 0 where the mean would do better.
        why_not: Why there are no rows, in a sentence; empty where there are some, or nothing is wanted.
    """

    rows: tuple[Adjusted, ...]
    explained: Mapping[str, float]
    why_not: str = ""

    @property
    def summary(self) -> str:
        """``Of the differences between trials the regression explains 93 % in time and 71 % in points.``"""
        if self.why_not:
            return self.why_not
        said = [f"{percent(max(0.0, share), 0)} % in {title}" for title, share in self.explained.items()]
        return f"Of the differences between trials the regression explains {listing(said)}." if said else ""

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": [row.to_json() for row in self.rows],
            "explained": dict(self.explained),
            "why_not": self.why_not,
            "summary": self.summary,
        }


def adjusted(records: Sequence[TrialRecord], quantities: Sequence[Compared], wanted: Sequence[str]) -> Regression:
    """The effects of choices by regression over all measured trials.

    Args:
        records: The measured trials.
        quantities: What to compare, see ``quantities_of``; one that some trial lacks is left out.
        wanted: The choices to tell of.
    """
    if not wanted:
        return Regression((), {})
    table = _Table.of(records)
    needed = math.ceil(TRIALS_PER_VALUE * table.numbers.shape[1])
    if len(records) < needed:
        why = f"too few for adjusted estimates, which need {needed:,} in this space"
        return Regression((), {}, f"{plural(len(records), 'measured trial')}: {why}.")
    usable = [one for one in quantities if np.isfinite(one[2]).all() and np.ptp(one[2]) > 0]
    if not usable:
        return Regression((), {}, "Nothing that is measured differs between the trials.")
    fitted = _fit(table.numbers, np.stack([numbers for _, _, numbers in usable], axis=1))
    explained = {title: float(share) for (_, title, _), share in zip(usable, fitted.explained, strict=True)}
    known = [place for place, share in enumerate(fitted.explained) if share >= LEAST_EXPLAINED]
    if not known:
        return Regression((), explained, "The regression explains too little of the differences between trials.")
    compressed = {name for record in records for name in record.design.compression}
    rows = [row for name in wanted for row in _rows(name, table, fitted, usable, known, name in compressed)]
    return Regression(tuple(sorted(rows, key=lambda row: (row.effects[0].value, row.choice, row.what))), explained)


@dataclass(frozen=True)
class _Table:
    """Trials as numbers for the regression.

    Args:
        coded: The designs.
        columns: Choice and value of each of D columns.
        numbers: N×D: 1 where the trial has the value, less the share of those that have the choice and have the value;
            0 where it has not the choice.
        counts: How many trials have each value.
    """

    coded: Coded
    columns: tuple[tuple[str, Value], ...]
    numbers: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, records: Sequence[TrialRecord]) -> _Table:
        coded = Coded.of(records)
        columns, numbers, counts = [], [], []
        for place, (name, values) in enumerate(zip(coded.names, coded.values, strict=True)):
            if len(values) > 1:
                codes = coded.codes[:, place]
                has = codes >= 0
                for code, value in enumerate(values):
                    columns.append((name, value))
                    counts.append(int((codes == code).sum()))
                    numbers.append(np.where(has, (codes == code) - counts[-1] / has.sum(), 0.0))
        stacked = np.stack(numbers, axis=1) if numbers else np.zeros((len(records), 0))
        return cls(coded, tuple(columns), stacked, np.array(counts, dtype=int))


@dataclass(frozen=True)
class _Fit:
    """Coefficients of D columns for Q quantities: of all trials Q×D, of resampled ones B×Q×D; what is explained, Q."""

    coefficients: np.ndarray
    resampled: np.ndarray
    explained: np.ndarray


def _fit(numbers: np.ndarray, values: np.ndarray) -> _Fit:
    """Ridge regression whose strength is chosen for each quantity by leaving out each trial in turn."""
    from sklearn.linear_model import Ridge, RidgeCV

    spread = values.std(axis=0)
    scaled = (values - values.mean(axis=0)) / spread
    chosen = RidgeCV(STRENGTHS, alpha_per_target=True).fit(numbers, scaled)
    model = Ridge(alpha=np.atleast_1d(chosen.alpha_))
    rng = np.random.default_rng(SEED)
    trials = len(numbers)
    drawn = [rng.integers(trials, size=trials) for _ in range(RESAMPLES)]
    again = [np.atleast_2d(model.fit(numbers[sample], scaled[sample]).coef_) for sample in drawn]
    unscale = spread[:, None]
    explained = 1 + np.atleast_1d(chosen.best_score_)  # minus the mean square of what is left, of a variance of 1
    return _Fit(np.atleast_2d(chosen.coef_) * unscale, np.stack(again) * unscale, explained)


def _rows(
    name: str, table: _Table, fitted: _Fit, quantities: Sequence[Compared], known: Sequence[int], compressed: bool
) -> list[Adjusted]:
    """Each value of a choice against the one that leaves compression out, or else that costs most."""
    columns = [c for c, (own, _) in enumerate(table.columns) if own == name and table.counts[c] >= FEWEST_WITH_VALUE]
    if len(columns) < 2:
        return []
    identity = IDENTITY.get(split_name(name)[1]) if compressed else None
    plain = [column for column in columns if table.columns[column][1] == identity]
    leading = fitted.coefficients[known[0]]
    worst = min if quantities[known[0]][0].maximise else max
    base = plain[0] if plain else worst(columns, key=lambda column: float(leading[column]))
    return [
        Adjusted(
            name,
            table.columns[column][1],
            table.columns[base][1],
            int(min(table.counts[column], table.counts[base])),
            tuple(_effect(fitted, quantities[place], place, column, base) for place in known),
        )
        for column in columns
        if column != base
    ]


def _effect(fitted: _Fit, quantity: Compared, place: int, column: int, base: int) -> Effect:
    objective, title, _ = quantity
    value = float(fitted.coefficients[place, column] - fitted.coefficients[place, base])
    again = fitted.resampled[:, place, column] - fitted.resampled[:, place, base]
    low, high = np.quantile(again, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    ends = [value, min(value, float(low)), max(value, float(high))]
    told = ends if objective.maximise else [math.exp(end) for end in ends]
    return Effect(objective.key, title, not objective.maximise, objective.maximise, *told)
