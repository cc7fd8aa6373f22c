"""Strategy ``supernet``: a network that all designs share is trained first, ranks them, and starts their trainings.

What it says of a design is a proxy: it chooses what is trained, helps the surrogates, and is never a trial's result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nas.choice import Choice
from nas.design import Design, Value
from nas.evaluate import EvalRequest
from nas.families import build
from nas.measure.complexity import count
from nas.networks import Start
from nas.outcome import How, Outcome, Quantity
from nas.pipeline import Pipeline
from nas.proxies import INHERITED_ACCURACY, rung_key
from nas.recipe import Recipe
from nas.record import StageResult
from nas.search.evaluation import Evaluate
from nas.search.prepared import Prepared
from nas.space import SearchSpace
from nas.stages import Progress
from nas.study import StudyFolder
from nas.supernet import Ranker, Supernet, SupernetBudget, Tried, better_for_its_cost, inherited_fronts, train_supernet
from nas.train import TrainingData

# So many members of its front, or from just behind it, are trained themselves, where the budget holds them: enough to
# tell how well it ranks.
MEMBERS = 24
# Architectures that are judged, and the images that each is judged by.
JUDGED, JUDGED_BY = 1000, 2000
# A step of four networks, the largest among them, takes so many times a step of the largest alone; others in
# proportion to how many more there are.
STEP_OF_FOUR = 1.34
# So many members are trained in both ways, from inherited weights and anew.
BOTH_WAYS = 3


@dataclass(frozen=True)
class SharedNetwork:
    """A trained supernet, and what it is used for.

    Args:
        ranker: Judges designs.
        samples: Validation images, which rungs are scored by.
        stage: What its training took, for the record that it is charged to.
        recipe: Of the study.
        space: Of the study.
    """

    ranker: Ranker
    samples: int
    stage: StageResult
    recipe: Recipe
    space: SearchSpace

    def accuracy(self, design: Design) -> float | None:
        """The inherited accuracy of a design's architecture; None where it does not fit the images."""
        return self.ranker.accuracy(design) if self.ranker.supernet.fits(design) else None

    def quantity(self, design: Design) -> Quantity | None:
        """The same, as a proxy."""
        accuracy = self.accuracy(design)
        return None if accuracy is None else Quantity(INHERITED_ACCURACY, accuracy, "1", How.PROXY)

    def cues(self, designs: Sequence[Design]) -> np.ndarray:
        """For the surrogates, N×1: the logarithm of the inherited error, in which accuracies are nearly linear."""
        errors = [1 - (self.accuracy(design) or 0.0) for design in designs]
        return np.asarray(-np.log(np.maximum(errors, 1e-3))).reshape(len(designs), 1)

    def starts(self, progress: Progress) -> list[Design]:
        """The members of its front, nothing compressed; those first that tell most of where the front lies.

        Where the front is short, others from just behind it follow, so that it can be told how well it ranks.
        """
        fronts = inherited_fronts(
            self.ranker,
            self._multiply_adds,
            MEMBERS,
            JUDGED,
            [design for design in (self.space.baseline, *self.space.first) if design is not None],
            self.recipe.seed,
            lambda judged: progress("rank", judged / JUDGED),
        )
        return [self._uncompressed(own[index].design) for own in fronts for index in halving_order(len(own))]

    def inherited(self, design: Design) -> Start:
        """The weights that a training of a design may start from."""
        return Start(self.ranker.finetune_start(design), "the supernet")

    def way(self, designs: Sequence[Design], evaluate: Evaluate, progress: Progress) -> tuple[str, str]:
        """Whether members are better trained from inherited weights or anew, tried on the first of them.

        Returns:
            ``finetune`` or ``retrain``, and why, in words.
        """
        epochs = self.recipe.budget.epochs
        tried: dict[bool, list[Tried]] = {False: [], True: []}
        for design in designs[:BOTH_WAYS]:
            for inherits in (False, True):
                start = self.inherited(design) if inherits else None
                request = EvalRequest(0, design, self.recipe.seed, until=epochs, inherits=start)
                result = evaluate(request, progress)
                accuracy = next((q for q in result.quantities if q.key == rung_key(epochs)), None)
                if result.outcome is Outcome.STOPPED and accuracy is not None:
                    seconds = max(1e-3, sum(stage.seconds for stage in result.stages))
                    tried[inherits].append(Tried(design, accuracy.value, seconds))
        # Both ways have the same number of epochs: what they cost differs by chance alone.
        level = {t.design: t.seconds for t in tried[False]}
        finetuned = [Tried(t.design, t.accuracy, level[t.design]) for t in tried[True] if t.design in level]
        decision = better_for_its_cost(tried[False], finetuned, self.samples)
        return (
            ("retrain", "none could be trained in both ways") if decision is None else (decision.way, decision.reason)
        )

    def _uncompressed(self, design: Design) -> Design:
        def pick(choice: Choice) -> Value:
            return design.architecture.get(choice.name, choice.values[0])

        return self.space.choose(pick)

    def _multiply_adds(self, designs: Sequence[Design]) -> np.ndarray:
        shape, classes = self.ranker.supernet.input_shape, self.ranker.supernet.classes
        return np.array([count(build(d.family, d.architecture, shape, classes), shape).macs for d in designs], float)


def train_shared(
    prepared: Prepared, pipeline: Pipeline, folder: StudyFolder, budget: SupernetBudget, progress: Progress
) -> SharedNetwork:
    """Trains the supernet of a study, or takes it up where it was left.

    Args:
        prepared: What is searched.
        pipeline: What its designs are trained by.
        folder: The study's, which keeps it.
        budget: How long it trains: what was decided when the study began, as a checkpoint is of one length of training.
        progress: Hears how far it has come.

    Raises:
        UnsupportedError: The space's family has none.
        DivergedError: Its training diverged.
        StudyError: What was kept of it is damaged.
    """
    recipe, dataset = prepared.recipe, prepared.dataset
    supernet = Supernet(prepared.space, pipeline.input_shape, len(dataset.class_names), recipe.seed)
    curve = train_supernet(
        supernet,
        pipeline.data,
        recipe.training,
        prepared.numerics,
        budget,
        recipe.seed,
        folder.supernet,
        lambda share: progress("supernet", share),
    )
    validation = TrainingData.from_arrays(
        dataset.validation.images,
        dataset.validation.labels,
        len(dataset.class_names),
        dataset.input.layout,
        pipeline.normalisation,
        prepared.numerics.device,
    )
    ranker = Ranker(supernet, pipeline.data, validation, prepared.numerics, JUDGED_BY, seed=recipe.seed)
    seconds = sum(float(epoch["seconds"]) for epoch in curve)
    stage = StageResult("supernet", "", seconds, False, {"epochs": len(curve), "curve": curve})
    return SharedNetwork(ranker, len(dataset.validation), stage, recipe, prepared.space)


def budget_of(recipe: Recipe) -> SupernetBudget:
    """How long the supernet trains: its share of the minutes, or of the epochs that all trials would have."""
    config, budget = recipe.supernet, recipe.budget
    if budget.minutes is not None:
        return SupernetBudget(minutes=config.share * budget.minutes, subnets=config.subnets)
    assert budget.trials is not None
    step = 1 + (STEP_OF_FOUR - 1) * (config.subnets - 1) / 3
    epochs = max(1, round(config.share * budget.trials * budget.epochs / step))
    return SupernetBudget(epochs=epochs, subnets=config.subnets)


def halving_order(count: int) -> list[int]:
    """Indices of a line, the ends first, then the middle of each widest gap."""
    order = [0, count - 1] if count > 1 else list(range(count))
    while len(order) < count:
        known = sorted(order)
        gaps = [(right - left, -left, left) for left, right in pairwise(known) if right - left > 1]
        width, _, left = max(gaps)
        order.append(left + width // 2)
    return order
