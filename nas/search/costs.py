"""What a trial costs, stage by stage, as a search plans by it: of a few designs, or of the trials that a study has.

Where a study has too few trials to tell, ``nas.search.probe`` tries some designs.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nas.outcome import Outcome
from nas.recipe import Recipe
from nas.record import TRAINING, TrialRecord
from nas.wording import plural

# What a trial's time goes into, in the order in which it does; ``rest`` is all that no other part names.
PARTS = ("train", "fine-tune", "export", "quantise", "score", "measure", "rest")
_PART_OF = {
    **{name: name for name in ("export", "quantise", "score", "measure")},
    **dict.fromkeys(TRAINING, "train"),
    **dict.fromkeys(("prune", "sparsify", "finetune", "teacher"), "fine-tune"),
    "share": "quantise",
}
# Stages that may train. A trial that had one of them from the cache does not show what a new design costs.
MAY_TRAIN = TRAINING | {"prune", "sparsify", "finetune", "share", "quantise"}
# Trials from which on a study's own costs are taken, and nothing is tried beforehand.
ENOUGH_TRIALS = 5


class Spread(NamedTuple):
    """Seconds: of the cheapest design, the one in the middle, and the dearest."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class DesignCost:
    """The seconds of one design's trial by part (``PARTS``); zero for what it leaves out."""

    seconds: Mapping[str, float]
    baseline: bool = False

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Costs:
    """What trials cost.

    Args:
        designs: One entry for each design; not empty.
        epochs: Epochs in the part ``train``.
        steps: Steps of an epoch.
        source: How they were had, in words.
        notes: What a reader should know, in words.
    """

    designs: tuple[DesignCost, ...]
    epochs: int
    steps: int
    source: str
    notes: tuple[str, ...] = ()

    @property
    def sampled(self) -> tuple[DesignCost, ...]:
        """The designs less the baseline: what a sampler may propose; the baseline where there is no other."""
        return tuple(design for design in self.designs if not design.baseline) or self.designs

    @property
    def baseline(self) -> float:
        """Seconds of the first trial: the baseline's, or a design's in the middle where the space has none."""
        return next((design.total for design in self.designs if design.baseline), self.trial.median)

    @property
    def trial(self) -> Spread:
        """Seconds of a whole trial."""
        return _spread([design.total for design in self.designs])

    def part(self, name: str) -> Spread:
        """Seconds that one part of a trial takes."""
        return _spread([design.seconds.get(name, 0.0) for design in self.designs])

    def mean(self, name: str) -> float:
        """Seconds that one part of a sampled design's trial takes on average: what many trials together depend on."""
        return statistics.fmean(design.seconds.get(name, 0.0) for design in self.sampled)

    @property
    def mean_trial(self) -> float:
        """Seconds of a sampled design's whole trial on average."""
        return statistics.fmean(design.total for design in self.sampled)

    @property
    def epoch(self) -> Spread:
        """Seconds of one epoch of training."""
        return Spread(*(seconds / self.epochs for seconds in self.part("train")))


def _spread(seconds: Sequence[float]) -> Spread:
    return Spread(min(seconds), statistics.median(seconds), max(seconds))


def steps_of(images: int, recipe: Recipe) -> int:
    """Steps of an epoch on so many training images."""
    return images // min(recipe.training.batch_size, images)


def costs_of(records: Sequence[TrialRecord], recipe: Recipe, steps: int) -> Costs | None:
    """The costs of a study's own trials; None where too few of them show what a new design costs.

    Args:
        records: The study's.
        recipe: Its recipe.
        steps: Steps of an epoch.

    Counted are trials that were measured, began from nothing and had no training from the cache.
    """
    designs = []
    for record in records:
        from_cache = any(stage.cached and stage.stage in MAY_TRAIN for stage in record.stages)
        if record.outcome is Outcome.MEASURED and record.parent is None and not from_cache:
            seconds = by_part([(stage.stage, stage.seconds) for stage in record.stages])
            seconds["rest"] += max(0.0, record.seconds - sum(seconds.values()))
            designs.append(DesignCost(seconds, record.origin == "baseline"))
    if len(designs) < ENOUGH_TRIALS:
        return None
    source = f"as measured in {plural(len(designs), 'trial')} of this study"
    return Costs(tuple(designs), recipe.budget.epochs, steps, source)


def by_part(stages: Sequence[tuple[str, float]]) -> dict[str, float]:
    """The seconds of stages, by the parts (``PARTS``) that they belong to."""
    seconds = dict.fromkeys(PARTS, 0.0)
    for stage, spent in stages:
        seconds[_PART_OF.get(stage, "rest")] += spent
    return seconds


def duration(seconds: float) -> str:
    """Seconds as a person reads them: ``0.42 s``, ``32 s``, ``4.5 min``, ``2.1 h``."""
    steps = ((1, "s", 1, 2), (10, "s", 1, 1), (100, "s", 1, 0), (6000, "min", 60, 1), (360_000, "h", 3600, 1))
    for below, unit, size, decimals in steps:
        if seconds < below:
            return f"{seconds / size:.{decimals}f} {unit}"
    return f"{seconds / 3600:,.0f} h"
