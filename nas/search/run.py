"""``nas search`` without its command line: checks everything, claims the folder, runs the loop, scores the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nas import data, families
from nas.data.dataset import Dataset
from nas.data.normalise import Normalisation
from nas.errors import RecipeError, SpaceError
from nas.estimate.estimator import Estimator
from nas.evaluate import Estimate, Evaluator
from nas.families import OwnNetwork
from nas.measure.complexity import Complexity
from nas.measure.environment import has_fast_bfloat16, has_vnni
from nas.measure.measurer import Measurer
from nas.outcome import Quantity
from nas.own_module import INCLUDED
from nas.pipeline import Pipeline, normalisation_for, own_network
from nas.recipe import Recipe
from nas.remeasure.surroundings import surroundings_of
from nas.search.confirm import confirm
from nas.search.loop import Ended, Loop, Watcher
from nas.search.optuna_bridge import storage_errors
from nas.sensitivity.prior import first_designs
from nas.sensitivity.result import Sensitivity, load_sensitivity
from nas.space import SearchSpace, load_space, size_words
from nas.store import Store
from nas.study import Study, StudyFolder, check_one_machine, read_trials
from nas.target import ONNX, Target, usable_cores
from nas.teacher.given import GivenTeacher, load_teacher
from nas.train import Numerics, numerics_for
from nas.wording import display, plural


def search(
    recipe: Recipe, path: Path, watcher: Watcher, fresh: bool = False, measurer: Measurer | None = None
) -> tuple[Study, Ended]:
    """Runs a study to the end of its budget, or takes up the one that lies in the folder.

    Args:
        recipe: What to search.
        path: The study's folder.
        watcher: Hears of every trial.
        fresh: Delete what the folder holds and start over; the caller has asked.
        measurer: Measures latencies; one of its own by default, which ends with the search.

    Returns:
        The study, and why it ended.

    Raises:
        NasError: The recipe, space, data or folder cannot be used; nothing was changed.
    """
    if measurer is None:
        with Measurer() as own_measurer:
            return search(recipe, path, watcher, fresh, own_measurer)
    space = load_space(recipe.space)
    families.check_space(space)
    check_teaching(space, recipe)
    targets = [Target.parse(name) for name in recipe.all_targets]
    here = {target.name: measurer.environment_id(target) for target in targets}  # refuses what cannot be measured
    dataset = data.load(recipe.data)
    numerics = numerics_for(recipe.training, has_fast_bfloat16(), usable_cores())
    own = own_network(space.module, dataset)
    watcher.note(_summary(recipe, space, dataset, numerics))
    if own is not None:
        watcher.note(_own_summary(own, recipe))
    given = _given_teacher(recipe, dataset, normalisation_for(own, dataset), numerics, watcher)
    folder = StudyFolder(path)
    prior = _prior(recipe, folder, fresh)
    priors = first_designs(space, prior) if prior else []
    if prior:
        watcher.note(f"prior: trial {prior.trial} of {prior.study}; begins with {plural(len(priors), 'design')} of it")
    with folder.claim():
        if fresh:
            folder.clear()
        optional = {
            "teacher": given and given.sha256,
            "module": own and own.digest,
            "prior": prior and prior.digest,
        }
        inputs = {name: digest for name, digest in optional.items() if digest}
        folder.start(recipe, {"space": space.digest, "data": dataset.digest} | inputs)
        store = Store(folder.cache, recipe.cache_limit_mb * 10**6)
        check_one_machine(folder, recipe, read_trials(folder, recipe), here)
        surroundings = surroundings_of(measurer, targets)
        pipeline = Pipeline(recipe, dataset, store, numerics, reduce_range=not has_vnni(), own=own)
        evaluator = Evaluator(
            recipe,
            dataset,
            pipeline,
            store,
            measurer.measure,
            measurer.outputs,
            measurer.environment_id,
            estimates_for(targets, here),
        )
        with storage_errors(folder.storage):
            ended = Loop(folder, recipe, space, evaluator.evaluate, surroundings, watcher, given, priors).run()
        study = confirm(path, pipeline, dataset, measurer, watcher, given)
    return study, ended


def estimates_for(targets: Sequence[Target], here: Mapping[str, str]) -> Estimate | None:
    """What this machine's calibrations estimate of an artifact; None where there are none (see ``nas calibrate``).

    Args:
        targets: What latencies are measured on.
        here: Fingerprint of this machine and the runtime, by target.
    """
    found = {target.name: Estimator.load(target, here[target.name]) for target in targets if target.form == ONNX}
    estimators = {name: estimator for name, estimator in found.items() if estimator is not None}
    if not estimators:
        return None

    def estimate(content: bytes, complexity: Complexity, target: Target) -> Sequence[Quantity]:
        estimator = estimators.get(target.name)
        return estimator.quantities(content, complexity) if estimator is not None else ()

    return estimate


def check_teaching(space: SearchSpace, recipe: Recipe) -> None:
    """Checks that distilled designs will have a teacher, and that a given teacher will have somebody to teach.

    Raises:
        SpaceError: The first trials would have to be distilled, but only a trial can give the recipe a teacher.
        RecipeError: The recipe names a teacher, but no design of the space is distilled.
    """
    choice = space.by_name.get("distillation")
    if recipe.teacher is None and choice is not None and False not in choice.values:
        raise SpaceError(
            "choice 'distillation' must offer false: before the first trial there is no teacher",
            "write [false, true], or name a 'teacher' in the recipe",
        )
    if recipe.teacher is not None and (choice is None or True not in choice.values):
        raise RecipeError(
            f"the recipe names a teacher, but no design of search space '{space.name}' is distilled",
            "add distillation: [false, true] to its compression, or leave 'teacher' out",
        )


def _prior(recipe: Recipe, folder: StudyFolder, fresh: bool) -> Sensitivity | None:
    """The sensitivity that the recipe names as its prior; None where it names none.

    Raises:
        RecipeError: It cannot be read, or starting over would delete it.
    """
    if recipe.prior is None:
        return None
    if fresh and recipe.prior.resolve() in [path.resolve() for path in folder.own()]:
        raise RecipeError(
            f"the prior {recipe.prior} lies in the study that --fresh would delete",
            "copy it elsewhere and name the copy, or name another folder with --output",
        )
    return load_sensitivity(recipe.prior)


def _given_teacher(
    recipe: Recipe, dataset: Dataset, normalisation: Normalisation, numerics: Numerics, watcher: Watcher
) -> GivenTeacher | None:
    """The teacher that the recipe names, checked, and told how good it is; None where it names none."""
    if recipe.teacher is None:
        return None
    teacher = load_teacher(recipe.teacher, dataset, normalisation, numerics)
    labels = dataset.validation.labels
    accuracy = teacher.accuracy(
        dataset.validation.images, labels, numerics, lambda share: watcher.progress("teacher", share)
    ).value
    note = f"teacher {teacher.name}: validation accuracy {display('accuracy', accuracy)}; it gets {teacher.input_words}"
    if accuracy <= float(np.bincount(labels).max()) / len(labels):
        names = dataset.class_names
        order = ", ".join(names if len(names) <= 4 else (*names[:3], "…", names[-1]))
        note += f"\n  no better than a guess: are its classes in this order ({order}), and its images normalised so?"
    watcher.note(note)
    return teacher


def _summary(recipe: Recipe, space: SearchSpace, dataset: Dataset, numerics: Numerics) -> str:
    """What is about to be searched, in two lines."""
    counts = ", ".join(
        f"{len(split.labels):,} {name}"
        for name, split in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test))
    )
    shape = "×".join(str(size) for size in dataset.input.shape)
    trains = f"{numerics.precision} on {numerics.device}, {plural(numerics.threads, 'thread')}"
    return (
        f"{recipe.data.source}: {counts} images of {shape}, {len(dataset.class_names)} classes\n"
        f"{space.name}: {size_words(space.size())} designs, sampled by {recipe.sampler}; training in {trains}"
    )


def _own_summary(own: OwnNetwork, recipe: Recipe) -> str:
    """What is taken for the person's own network: its weights, its normalisation, what is left out of it."""
    module = own.module
    if module.weights is None:
        weights = f"without weights: trained for {plural(recipe.budget.epochs, 'epoch')} first"
    else:
        weights = "with the weights that it comes with" if module.weights == INCLUDED else f"with {module.weights}"
    if module.mean is None or module.std is None:
        images = "normalised by the training images, as no mean and std are given"
    else:
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (module.mean, module.std))
        images = f"normalised by the given mean {mean} and std {std}"
    dropped = f"\n  left out, as the logits do not need it: {', '.join(own.dropped)}" if own.dropped else ""
    return f"{module.label} {weights}; images {images}{dropped}"
