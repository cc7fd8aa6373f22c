"""What a trial will cost, of a handful of designs that are tried in small.

A design is tried by the very code that evaluates trials, on a part of the data: a few training steps instead of
epochs, a part of the validation images; exported, compressed, and measured as any trial. From that the whole is
extrapolated: an epoch from the steps that it has, scores from the number of images. The rest does not depend on how
much data there is.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nas.choice import Choice
from nas.data.dataset import Dataset, Split
from nas.design import Design, Value
from nas.errors import NasError, UnsupportedError
from nas.evaluate import EvalRequest, EvalResult, Evaluator
from nas.families import OwnNetwork
from nas.measure.measurer import Measurer, saturates
from nas.outcome import Outcome
from nas.pipeline import AnyTeacher, Pipeline, Teacher
from nas.recipe import Recipe
from nas.record import StageResult
from nas.search.costs import Costs, DesignCost, by_part, steps_of
from nas.space import SearchSpace
from nas.stages import Progress, Trace
from nas.store import Store
from nas.teacher.given import GivenTeacher
from nas.train import Numerics
from nas.wording import plural

# How a design is tried. The first epoch is not timed: in it, buffers are allocated and kernels chosen. Of the others
# the fastest counts, so that whatever else the machine does for a moment does not.
PROBE_STEPS, PROBE_EPOCHS = 4, 3
PROBE_IMAGES = 512  # of validation
CALIBRATION_IMAGES = 256  # of training at least, as compression looks at so many
# Beside the baseline so many designs, fewer where the time is over, but not less than the second number.
PROBE_DESIGNS, FEWEST_DESIGNS = 6, 2
MOST_TRIED = 20  # where designs turn out infeasible, which costs next to nothing
PROBE_SECONDS = 8.0

Evaluate = Callable[[EvalRequest, Progress | None], EvalResult]


@dataclass(frozen=True)
class Scale:
    """How much more a trial does than what was tried in small.

    Args:
        steps: Steps of an epoch.
        tried: Steps of an epoch that was tried.
        epochs: Epochs of training.
        finetune_epochs: Epochs of fine-tuning, which ``PROBE_EPOCHS`` stood for.
        images: Training images, over those that were tried.
        validation: Validation images, over those that were tried.
    """

    steps: int
    tried: int
    epochs: int
    finetune_epochs: int
    images: float
    validation: float

    def whole(self, stage: StageResult) -> float:
        """The seconds of a stage in a trial, from those that it took in small."""
        curve = [float(epoch["seconds"]) for epoch in stage.detail.get("curve") or ()]
        if stage.stage == "score":
            return stage.seconds * self.validation
        if stage.stage == "teacher":
            return stage.seconds * self.images
        if not curve:
            return stage.seconds
        epochs = self.epochs if stage.stage == "train" else self.finetune_epochs * len(curve) / PROBE_EPOCHS
        fixed = max(0.0, stage.seconds - sum(curve))
        return fixed + min(curve[1:] or curve) * self.steps / self.tried * epochs


def probe_costs(
    recipe: Recipe,
    space: SearchSpace,
    dataset: Dataset,
    numerics: Numerics,
    measurer: Measurer,
    own: OwnNetwork | None = None,
    given: GivenTeacher | None = None,
    progress: Progress | None = None,
    most_seconds: float = PROBE_SECONDS,
) -> Costs:
    """Tries a handful of designs in small; nothing of it is kept.

    Args:
        recipe: What is to be searched.
        space: Where designs come from.
        dataset: The data, whole.
        numerics: On what networks train.
        measurer: Measures latencies.
        own: The network of a space of family ``module``.
        given: The teacher that the recipe names.
        progress: Hears what is being tried, and the share done.
        most_seconds: For how long, once all is loaded; the first few designs are tried all the same.

    Raises:
        UnsupportedError: None of the designs could be evaluated; the message says why not.
    """
    small = _part_of(dataset, recipe.training.batch_size, recipe.seed)
    budget = recipe.budget
    scale = Scale(
        steps_of(len(dataset.train), recipe),
        steps_of(len(small.train), recipe),
        budget.epochs,
        budget.finetune_epochs,
        len(dataset.train) / len(small.train),
        len(dataset.validation) / len(small.validation),
    )
    shortened = budget.model_copy(update={"epochs": PROBE_EPOCHS, "finetune_epochs": PROBE_EPOCHS})
    brief = recipe.model_copy(update={"budget": shortened})
    with tempfile.TemporaryDirectory(prefix="nas-dry-run-") as folder:
        store = Store(Path(folder), recipe.cache_limit_mb * 10**6)
        pipeline = Pipeline(brief, small, store, numerics, reduce_range=saturates(measurer), own=own)
        evaluator = Evaluator(
            brief,
            small,
            pipeline,
            store,
            measurer.measure,
            measurer.outputs,
            measurer.startup,
            here=measurer.on_this_machine,
        )

        def warm_up(design: Design) -> None:
            with contextlib.suppress(NasError):
                pipeline.run(design, recipe.seed + 1, given, Trace())

        return try_designs(evaluator.evaluate, warm_up, space, scale, recipe.seed, given, progress, most_seconds)


def try_designs(
    evaluate: Evaluate,
    warm_up: Callable[[Design], None],
    space: SearchSpace,
    scale: Scale,
    seed: int = 0,
    given: GivenTeacher | None = None,
    progress: Progress | None = None,
    most_seconds: float = PROBE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Costs:
    """Evaluates the baseline and designs spread over the space, and extrapolates what they cost.

    Args:
        evaluate: Evaluates a design in small.
        warm_up: Called first, with one of the designs: has all loaded and compiled that a process loads only once.
        scale: How much more a trial does.
        seed: Of the designs and their trainings.
        most_seconds: As of ``probe_costs``.
        clock: Gives seconds, monotonic.

    Raises:
        As ``probe_costs``.
    """
    teacher: AnyTeacher | None = given
    found: list[DesignCost] = []
    ended: dict[Outcome, str] = {}
    failed = 0
    wanted = PROBE_DESIGNS + (space.baseline is not None)
    warm_up(space.baseline or space.sample(random.Random(seed)))
    began = clock()
    for number, design in enumerate(_to_try(space, seed)):
        over = clock() - began > most_seconds
        if len(found) == wanted or (over and (len(found) > FEWEST_DESIGNS or failed > wanted)):
            break
        if design.step("distillation") and teacher is None:
            continue
        watched = _announced(progress, len(found), wanted)
        result = evaluate(EvalRequest(number, design, seed, teacher), watched)
        if result.outcome is not Outcome.MEASURED:
            ended[result.outcome] = result.reason.message if result.reason else str(result.outcome)
            failed += result.outcome is Outcome.FAILED
            continue
        seconds = by_part([(stage.stage, scale.whole(stage)) for stage in result.stages])
        found.append(DesignCost(seconds, design == space.baseline))
        teacher = teacher or Teacher(number, design)
    if not found:
        why = "; ".join(ended.values())
        raise UnsupportedError(f"no design of search space '{space.name}' could be evaluated: {why}")
    notes = (f"{plural(failed, 'design')} tried failed: {ended[Outcome.FAILED]}",) if failed else ()
    source = f"extrapolated from {plural(len(found), 'design')} tried in small"
    return Costs(tuple(found), scale.epochs, scale.steps, source, notes)


def _to_try(space: SearchSpace, seed: int) -> Iterator[Design]:
    """The baseline, designs that are spread over the space, and others in place of those that turn out infeasible."""
    generator = random.Random(f"{seed}-more")
    spread = spread_designs(space, PROBE_DESIGNS, seed)
    more = (space.sample(generator) for _ in range(MOST_TRIED))
    baseline = [space.baseline] if space.baseline is not None else []
    seen: set[Design] = set()
    for design in (*baseline, *spread, *more):
        if design not in seen:
            seen.add(design)
            yield design


def _announced(progress: Progress | None, number: int, among: int) -> Progress | None:
    if progress is None:
        return None
    return lambda stage, share: progress(f"design {number + 1} of {among}: {stage}", number / among)


def spread_designs(space: SearchSpace, count: int, seed: int) -> list[Design]:
    """Random designs that are spread over the space: each choice takes its values equally often, as far as it goes.

    A Latin hypercube sample (McKay, Beckman and Conover, 1979) of the choices, those of inactive ones unused.
    """
    generator = random.Random(f"{seed}-spread")
    columns = {choice.name: list(_balanced(choice, count, generator)) for choice in space.choices}

    def design(row: int) -> Design:
        return space.choose(lambda choice: columns[choice.name][row])

    return list(dict.fromkeys(design(row) for row in range(count)))


def _balanced(choice: Choice, count: int, generator: random.Random) -> Iterator[Value]:
    """So many values of a choice, each as often as any other, or once more, in random order."""
    values: list[Value] = []
    while len(values) < count:
        values += generator.sample(choice.values, len(choice.values))
    values = values[:count]
    generator.shuffle(values)
    yield from values


def _part_of(dataset: Dataset, batch_size: int, seed: int) -> Dataset:
    """A data set's part that is tried on: a few batches of its training images, some of its validation images."""
    generator = np.random.default_rng(seed)
    wanted = max(CALIBRATION_IMAGES, PROBE_STEPS * batch_size)
    train, validation = (
        _some(split, count, generator) for split, count in ((dataset.train, wanted), (dataset.validation, PROBE_IMAGES))
    )
    return replace(dataset, train=train, validation=validation, digest=f"{dataset.digest}-part")


def _some(split: Split, count: int, generator: np.random.Generator) -> Split:
    chosen = np.sort(generator.permutation(len(split))[:count])
    return Split(np.ascontiguousarray(split.images[chosen]), split.labels[chosen])
