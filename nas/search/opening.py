"""How a guided search begins: many networks are trained a little and the best go on; a dear baseline comes in time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from nas.design import Design
from nas.growing import Growing
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.search.durations import training_seconds
from nas.search.rough import RoughCosts
from nas.search.samplers import STARTUP_TRIALS
from nas.space import SearchSpace

# A baseline that costs more than so many times what designs of the space do comes once so many times its seconds have
# gone to others: it then takes a fifth of the time at most.
DEAR, BASELINE_AFTER = 3.0, 4.0
# One that would take more than this share of the whole budget is left out: what it teaches is not worth so much.
BASELINE_MOST = 0.1
# Networks are gathered at their first rung for so much of the budget at most, and as long as the rest of it holds so
# many whole trainings.
GATHERING_MOST, TRAININGS_AFTER = 0.2, 5
# Designs drawn to tell what the space's cost.
DRAWN = 16
# After so many trials that trained nothing it comes as well.
UNTRAINED = 15


class Opening:
    """The order in which a search begins.

    Args:
        space: What designs are of.
        recipe: The budget, the seed.
        rough: What trainings cost against each other; None where that is not known, and the baseline comes first.
        say: Told once where the baseline is left out.
    """

    def __init__(
        self,
        space: SearchSpace,
        recipe: Recipe,
        rough: RoughCosts | None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.space = space
        self.recipe = recipe
        self.rough = rough
        self.say = say
        self._said = False
        self._rates = Growing(list[float], self._learn_rates)

    def baseline_waits(self, records: Sequence[TrialRecord]) -> bool:
        """Whether the space's baseline is so dear that other designs come first.

        It is tried all the same, as speeds are told against it and as the first good teacher, unless time runs out or
        it alone would take much of the budget.
        """
        baseline, minutes = self.space.baseline, self.recipe.budget.minutes
        if baseline is None or minutes is None or self.rough is None:
            return False
        if any(record.design.digest == baseline.digest for record in records) or not self._baseline_is_dear:
            return False
        seconds = self._baseline_seconds(records)
        if seconds is None:
            return len(records) < UNTRAINED  # nothing could be trained: it may be for want of an easy design
        if seconds > BASELINE_MOST * 60 * minutes:
            self._left_out(seconds, minutes)
            return True
        spent = sum(record.seconds for record in records)
        return spent < BASELINE_AFTER * seconds

    def _left_out(self, seconds: float, minutes: float) -> None:
        if not self._said:
            self._said = True
            self.say(
                f"the baseline would train for about {seconds / 60:.2g} of {minutes:g} minutes, as far as others tell, "
                "and is left out unless that turns out to be less: speeds are told against none"
            )

    def baseline_is_left_out(self, records: Sequence[TrialRecord]) -> bool:
        """Whether it waits for good, as it would take too much of the budget."""
        minutes = self.recipe.budget.minutes
        seconds = self._baseline_seconds(records) if minutes is not None and self.baseline_waits(records) else None
        return minutes is not None and seconds is not None and seconds > BASELINE_MOST * 60 * minutes

    def _baseline_seconds(self, records: Sequence[TrialRecord]) -> float | None:
        """How long the baseline would train, by what others took; None where none was trained."""
        # The least rate: small networks take longer for what they compute than large ones.
        rates = self._rates.of(records)
        return min(rates) * self._baseline_work if rates else None

    def _learn_rates(self, rates: list[float], records: Sequence[TrialRecord]) -> None:
        """Adds what whole trainings took for each unit of what they cost against each other."""
        assert self.rough is not None
        epochs = self.recipe.budget.epochs
        timed = [(record, seconds) for record in records if (seconds := training_seconds(record, epochs)) is not None]
        if timed:
            work = self.rough([record.design for record, _ in timed])
            pairs = zip(timed, work.tolist(), strict=True)
            rates += [seconds / own for (_, seconds), own in pairs if 0 < own < float("inf")]

    @cached_property
    def _baseline_work(self) -> float:
        """What the baseline's training costs against others'."""
        assert self.rough is not None
        assert self.space.baseline is not None
        return float(self.rough([self.space.baseline])[0])

    def gathers(self, records: Sequence[TrialRecord], arrived: int) -> bool:
        """Whether trainings wait at their first rung until enough networks came so far to choose among.

        Not in a space of few architectures, each of which is trained anyway, nor with a budget of few trainings.

        Args:
            records: All trials that ended.
            arrived: How many came to the first rung.
        """
        if arrived >= STARTUP_TRIALS or self.architectures <= STARTUP_TRIALS:
            return False
        minutes, trials = self.recipe.budget.minutes, self.recipe.budget.trials
        if minutes is not None:
            spent = sum(record.seconds for record in records)
            whole = [training_seconds(record, self.recipe.budget.epochs) for record in records]
            usual = float(np.median([seconds for seconds in whole if seconds is not None] or [0.0]))
            if spent >= GATHERING_MOST * 60 * minutes or 60 * minutes - spent < TRAININGS_AFTER * usual:
                return False
        return trials is None or len(records) < GATHERING_MOST * trials

    @cached_property
    def architectures(self) -> int:
        """How many the space has."""
        return self.space.architectures()

    @cached_property
    def _drawn(self) -> list[Design]:
        """Designs at random."""
        rng = random.Random(f"drawn-{self.recipe.seed}")
        return [self.space.sample(rng) for _ in range(DRAWN)]

    @cached_property
    def _baseline_is_dear(self) -> bool:
        assert self.rough is not None
        drawn = self.rough(self._drawn)
        usual = float(np.median(drawn[np.isfinite(drawn)])) if np.isfinite(drawn).any() else float("inf")
        return self._baseline_work > DEAR * usual
