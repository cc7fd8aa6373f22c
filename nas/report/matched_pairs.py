"""What a choice buys, read off pairs of trials that differ in it alone: "separable for standard: −38 % time".

Two measured trials are a matched pair where all choices that both designs have agree, but for one. What only one of
them has then hangs on that choice (the width of a stage that the other lacks) and has to differ. Nothing is modelled
and no pair is made up: where a search never tried both, the comparison is not there.

One trial may be in several pairs, as a network without quantisation is beside each of its quantised forms. Such pairs
have the same *setting*, the choices that both have; intervals are drawn over settings, not over pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.compression import IDENTITY, split_name
from nas.design import Value
from nas.record import TrialRecord
from nas.report.effect import Compared, Effect, effects_of, quantities_of, what_words
from nas.report.pairing import Coded, Pairs, groups
from nas.study import Study
from nas.wording import choice_words, plural

MOST_COMPARISONS = 20  # of one choice; those with the most pairs are kept
SEED = 0


@dataclass(frozen=True)
class Comparison:
    """One value of a choice held against another, in all matched pairs.

    Args:
        choice: Its name, such as ``stage1.conv``; of a pooled comparison what the names have in common, ``stage.conv``.
        pooled: Whether it is of any one of several parts (``stage1.conv``, ``stage2.conv``).
        value: What is taken ...
        other: ... for this. Of compression what leaves it out; else whatever costs more by the first cost.
        pairs: How many matched pairs there are.
        settings: In how many settings of all other choices they are.
        example: The trials of one pair, that with ``value`` first.
        dependents: Choices that only one of a pair has, and that hang on this one.
        effects: On every quantity that is compared, the first cost first.
    """

    choice: str
    pooled: bool
    value: Value
    other: Value
    pairs: int
    settings: int
    example: tuple[int, int]
    dependents: tuple[str, ...]
    effects: tuple[Effect, ...]

    @property
    def label(self) -> str:
        """``stage1 conv``, ``weight bits``; pooled ``conv of one stage``."""
        if self.pooled:
            part, _, choice = self.choice.partition(".")
            return f"{choice.replace('_', ' ')} of one {part}"
        return choice_words(self.choice)

    @property
    def what(self) -> str:
        """``separable for standard``, ``8 for 32``, ``50 % for 0 %``."""
        return what_words(self.choice, self.value, self.other)

    @property
    def words(self) -> str:
        """``stage1 conv, separable for standard: −38 % time (−45 to −30), −0.6 points, 14 pairs``."""
        first, *others = self.effects
        said = [first.words, *(effect.short_words for effect in others)]
        return f"{self.label}, {self.what}: {', '.join([*said, plural(self.pairs, 'pair')])}"

    def effect(self, key: str) -> Effect | None:
        """The effect on the quantity of that key; None where no pair has it."""
        return next((effect for effect in self.effects if effect.key == key), None)

    def to_json(self) -> dict[str, Any]:
        return {
            "choice": self.choice,
            "pooled": self.pooled,
            "value": self.value,
            "other": self.other,
            "pairs": self.pairs,
            "settings": self.settings,
            "example": list(self.example),
            "dependents": list(self.dependents),
            "effects": [effect.to_json() for effect in self.effects],
            "label": self.label,
            "what": self.what,
            "words": self.words,
        }


@dataclass(frozen=True)
class MatchedPairs:
    """What the choices of a study buy.

    Args:
        comparisons: Those that save the most of the first cost first; those without an interval, as they have too few
            settings, at the end.
        trials: How many measured trials were compared.
        pairs: How many matched pairs there are among them.
        unmatched: Choices that differ among the trials, but never alone.
        left_out: Comparisons that are not there because their choice has so many values.
    """

    comparisons: tuple[Comparison, ...]
    trials: int
    pairs: int
    unmatched: tuple[str, ...]
    left_out: int = 0

    @property
    def summary(self) -> str:
        """How much the comparisons stand on, in one or two sentences."""
        if self.trials < 2:
            return f"{plural(self.trials, 'measured trial')}: nothing to compare."
        found = plural(self.pairs, "pair") if self.pairs else "No pair"
        said = f"{found} of {self.trials:,} measured trials differ{'s' if self.pairs <= 1 else ''} in one choice alone."
        if self.unmatched:
            said += f" Never alone: {', '.join(choice_words(name) for name in self.unmatched)}."
        if self.left_out:
            said += f" {plural(self.left_out, 'comparison')} with fewer pairs {'is' if self.left_out == 1 else 'are'}"
            said += " left out."
        return said

    def to_json(self) -> dict[str, Any]:
        return {
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "trials": self.trials,
            "pairs": self.pairs,
            "unmatched": list(self.unmatched),
            "left_out": self.left_out,
            "summary": self.summary,
        }


def matched_pairs(study: Study) -> MatchedPairs:
    """All comparisons that a study's measured trials allow, whether they meet the constraints or not."""
    records = study.measured
    trials = Coded.of(records)
    pairs = trials.pairs()
    quantities = quantities_of(records, study.recipe.parsed_objectives)
    found: list[Comparison] = []
    left_out = 0
    for members, pooled in groups(trials.names, pairs.choice):
        of_one = _of_choice(trials, pairs.of(members), pooled, quantities, records)
        kept = sorted(of_one, key=lambda comparison: -comparison.pairs)[:MOST_COMPARISONS]
        left_out += len(of_one) - len(kept)
        found += kept
    varied = {name for name, values in zip(trials.names, trials.values, strict=True) if len(values) > 1}
    matched = {trials.names[place] for place in set(pairs.choice.tolist())}
    return MatchedPairs(
        tuple(sorted(found, key=_rank)),
        len(records),
        len(pairs.choice),
        tuple(sorted(varied - matched)),
        left_out,
    )


def _rank(comparison: Comparison) -> tuple[bool, float, int, str, str]:
    first = comparison.effects[0]
    return first.low is None, first.value, -comparison.pairs, comparison.choice, comparison.what


def _of_choice(
    trials: Coded,
    pairs: Pairs,
    pooled: str | None,
    quantities: Sequence[Compared],
    records: Sequence[TrialRecord],
) -> list[Comparison]:
    """The comparisons of one choice, or of the same one in several parts: one for each two values that have a pair."""
    compressed = {name for record in records for name in record.design.compression}
    by_values: dict[tuple[Value, Value], list[tuple[int, bool]]] = {}
    for number, (first, second, place) in enumerate(zip(pairs.first, pairs.second, pairs.choice, strict=True)):
        one, other = (trials.values[place][trials.codes[trial, place]] for trial in (first, second))
        swapped = (other, one) in by_values
        by_values.setdefault((other, one) if swapped else (one, other), []).append((number, swapped))
    found = []
    for (value, other), members in by_values.items():
        numbers = np.array([number for number, _ in members])
        turned = np.array([is_turned for _, is_turned in members])
        first, second = pairs.first[numbers], pairs.second[numbers]
        own = Pairs(np.where(turned, second, first), np.where(turned, first, second), pairs.choice[numbers])
        if pooled is not None and len(set(own.choice.tolist())) == 1:
            continue  # it would say the same as the one choice by itself
        name = trials.names[own.choice[0]]
        identity = IDENTITY.get(split_name(name)[1]) if name in compressed else None
        found.append(_compare(trials, own, pooled, (value, other), identity, quantities, records))
    return found


def _compare(
    trials: Coded,
    pairs: Pairs,
    pooled: str | None,
    values: tuple[Value, Value],
    identity: Value | None,
    quantities: Sequence[Compared],
    records: Sequence[TrialRecord],
) -> Comparison:
    """One comparison, turned so that what leaves compression out, or else what costs more, is what is replaced."""
    settings = trials.settings(pairs)
    effects = effects_of(pairs.first, pairs.second, settings, quantities, np.random.default_rng(SEED))
    value, other = values
    example = records[pairs.first[0]].number, records[pairs.second[0]].number
    turned = value == identity if identity in values else effects[0].worse
    if turned:
        value, other, example = other, value, (example[1], example[0])
        effects = tuple(effect.turned() for effect in effects)
    return Comparison(
        pooled or trials.names[pairs.choice[0]],
        pooled is not None,
        value,
        other,
        len(pairs.choice),
        len(set(settings.tolist())),
        example,
        trials.dependents(pairs),
        effects,
    )
