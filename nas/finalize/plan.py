"""What a final training will do: which designs, for how long, from which seeds, and about how long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.errors import StudyError
from nas.finalized import FullBudget
from nas.front import most_telling_first
from nas.outcome import Outcome
from nas.recipe import Recipe
from nas.record import TRAINING, StageResult, TrialRecord
from nas.study import Study
from nas.wording import plural

# By default a design is trained for so many times the search's epochs.
LONGER = 5
SEEDS = 3
MOST_SEEDS = 100

# Stages that may train a network on after it was compressed.
_TRAINS_ON = frozenset({"finetune", "prune", "share", "quantise"})


@dataclass(frozen=True)
class Asked:
    """What a person asked for.

    Args:
        trials: Numbers of trials; empty for the whole front.
        epochs: Of the float network's training; None for ``LONGER`` times the search's.
        finetune_epochs: Of what trains on after compression; None for the search's, as many times longer as ``epochs``.
        seeds: How many seeds.
    """

    trials: tuple[int, ...] = ()
    epochs: int | None = None
    finetune_epochs: int | None = None
    seeds: int = SEEDS


@dataclass(frozen=True)
class Plan:
    """What will be done.

    Args:
        records: The search's trials, in the order asked for or the front's.
        budget: For how long each design is trained.
        seeds: From which seeds: none of them the search's, by whose luck the designs were chosen.
    """

    records: tuple[TrialRecord, ...]
    budget: FullBudget
    seeds: tuple[int, ...]

    def recipe(self, searched: Recipe) -> Recipe:
        """The search's recipe at the full budget."""
        changes = {"epochs": self.budget.epochs, "finetune_epochs": self.budget.finetune_epochs}
        return searched.model_copy(update={"budget": searched.budget.model_copy(update=changes)})

    def words(self, searched: Recipe) -> str:
        """``3 designs × 3 seeds, 50 epochs each (the search's 10)``."""
        return (
            f"{plural(len(self.records), 'design')} × {plural(len(self.seeds), 'seed')}, "
            f"{plural(self.budget.epochs, 'epoch')} each (the search's {searched.budget.epochs})"
        )


def plan_for(study: Study, asked: Asked) -> Plan:
    """Settles what is done.

    Raises:
        StudyError: A trial is not there or was not measured, there is no front, or a budget is less than the search's.
    """
    return Plan(_chosen(study, asked.trials), _budget(study.recipe, asked), _seeds(study.recipe, asked.seeds))


def _chosen(study: Study, numbers: Sequence[int]) -> tuple[TrialRecord, ...]:
    if not numbers:
        if not study.front:
            raise StudyError(f"{study.folder.path} has no front yet", _without_front(study))
        return tuple(study.front)
    return tuple(study.measured_trial(number, "cannot be trained again") for number in dict.fromkeys(numbers))


def most_telling(study: Study, records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Measured trials in the order in which each adds most to those before: little is missing where time runs out."""
    assert study.reference is not None, "there are measured trials"
    points = np.array([[record.value(key) for key in study.reference.objectives] for record in records])
    return [records[place] for place in most_telling_first(study.reference.normalise(points))]


def _without_front(study: Study) -> str:
    measured = any(record.outcome is Outcome.MEASURED for record in study.records)
    return "name a measured trial with --trial" if measured else "no trial was measured; let the search go on"


def _budget(recipe: Recipe, asked: Asked) -> FullBudget:
    searched = recipe.budget
    epochs = asked.epochs if asked.epochs is not None else LONGER * searched.epochs
    in_proportion = round(searched.finetune_epochs * epochs / searched.epochs)
    finetune = asked.finetune_epochs if asked.finetune_epochs is not None else in_proportion
    for option, given, least in (
        ("--epochs", epochs, searched.epochs),
        ("--finetune-epochs", finetune, searched.finetune_epochs),
    ):
        if given < least:
            raise StudyError(
                f"{option} must be at least the search's {least}, but got {given}",
                f"leave it out for {LONGER} times the search's",
            )
    return FullBudget(epochs, finetune)


def _seeds(recipe: Recipe, count: int) -> tuple[int, ...]:
    if not 1 <= count <= MOST_SEEDS:
        raise StudyError(f"--seeds must be from 1 to {MOST_SEEDS}, but got {count}", "3 give a mean and an interval")
    return tuple((recipe.seed + 1 + index) % 2**32 for index in range(count))


def expected_seconds(study: Study, plan: Plan) -> float:
    """About how long training, compressing and measuring take, from how long they took in the search.

    What designs of one architecture share is counted once for each seed. Nothing is known of what is there already.
    """
    took: dict[str, StageResult] = {}
    for record in study.records:
        for stage in record.stages:
            if stage.key and (stage.key not in took or stage.seconds > took[stage.key].seconds):
                took[stage.key] = stage
    searched = study.recipe.budget
    longer = plan.budget.epochs / searched.epochs
    finetuned = plan.budget.finetune_epochs / searched.finetune_epochs
    teachers = {r.teacher_trial for r in plan.records if r.teacher_trial is not None}
    taught_by = [r for r in study.records if r.number in teachers and r not in plan.records]
    trained: dict[str, float] = {}
    for record in (*plan.records, *taught_by):
        whole = sum(took.get(stage.key, stage).seconds for stage in record.stages if stage.stage in TRAINING)
        trained[record.design.architecture_digest] = max(whole, trained.get(record.design.architecture_digest, 0.0))
    stages = (took.get(stage.key, stage) for record in plan.records for stage in record.stages)
    rest = sum(_seconds(stage, finetuned) for stage in stages)
    return len(plan.seeds) * (longer * sum(trained.values()) + rest)


def _seconds(stage: StageResult, finetuned: float) -> float:
    """What a stage but training takes; one that trains on takes longer with more epochs."""
    if stage.stage in TRAINING or stage.stage in ("supernet", "teacher"):
        return 0.0
    return stage.seconds * (finetuned if stage.stage in _TRAINS_ON else 1.0)
