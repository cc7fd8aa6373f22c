"""All that a search is checked for and loads before anything is spent; the dry run asks for the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nas.data.dataset import Dataset
from nas.errors import RecipeError
from nas.families import OwnNetwork
from nas.measure.measurer import Measurer
from nas.own_module import INCLUDED
from nas.recipe import Recipe
from nas.search.on_ray import OnRay
from nas.search.prepared import Prepared, load
from nas.search.rule import asked
from nas.search.warm import load_warm
from nas.sensitivity.prior import first_designs
from nas.sensitivity.result import Sensitivity, load_sensitivity
from nas.space import load_space, size_words
from nas.stages import Progress
from nas.study import StudyFolder
from nas.target import usable_cores
from nas.teacher.given import GivenTeacher
from nas.train import Numerics
from nas.wording import display, plural


def prepare(
    recipe: Recipe,
    measurer: Measurer,
    progress: Progress,
    folder: StudyFolder,
    fresh: bool,
    on_ray: OnRay | None = None,
) -> Prepared:
    """Loads and checks all that a recipe names.

    Args:
        recipe: What to search.
        measurer: Says what this machine can measure.
        progress: Hears how far the scoring of a teacher has come.
        folder: Where the search will be.
        fresh: Whether what the folder holds will be deleted.
        on_ray: The cluster that evaluates; None for this machine.

    Raises:
        NasError: The recipe, space or data cannot be used.
    """
    asked(recipe, load_space(recipe.space))  # refuses a strategy that the space has not
    prepared = load(recipe, measurer, on_ray.threads(recipe) if on_ray is not None else _threads(recipe))
    if on_ray is None:
        notes = [_summary(prepared)]
    else:
        prepared = on_ray.planned(prepared)
        notes = [_summary(prepared), on_ray.words(prepared, measurer)]
    if prepared.own is not None:
        notes.append(_own_summary(prepared.own, recipe))
    if prepared.given is not None:
        notes.append(_teacher_words(prepared.given, prepared.dataset, prepared.numerics, progress))
    prior = _prior(recipe, folder, fresh)
    if prior:
        first = len(first_designs(prepared.space, prior))
        notes.append(f"prior: trial {prior.trial} of {prior.study}; begins with {plural(first, 'design')} of it")
    warm = load_warm(_others(recipe, folder), prepared.space, recipe) if recipe.warm_start else None
    notes += warm.notes if warm else ()
    return replace(prepared, prior=prior, warm=warm, notes=tuple(notes))


def _threads(recipe: Recipe) -> int:
    """Threads of each training on this machine, where the recipe names no number."""
    return max(1, usable_cores() // (recipe.workers.count or 1))


def _others(recipe: Recipe, folder: StudyFolder) -> Sequence[Path]:
    """The earlier studies to learn from.

    Raises:
        RecipeError: The study itself is among them.
    """
    for path in recipe.warm_start:
        if path.resolve() == folder.path.resolve():
            raise RecipeError(f"{path} is this study itself, which it cannot start from", "name another one")
    return recipe.warm_start


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


def _teacher_words(given: GivenTeacher, dataset: Dataset, numerics: Numerics, progress: Progress) -> str:
    """How good a given teacher is, and what it gets."""
    labels = dataset.validation.labels
    accuracy = given.accuracy(
        dataset.validation.images, labels, numerics, lambda share: progress("teacher", share)
    ).value
    note = f"teacher {given.name}: validation accuracy {display('accuracy', accuracy)}; it gets {given.input_words}"
    if accuracy <= float(np.bincount(labels).max()) / len(labels):
        names = dataset.class_names
        order = ", ".join(names if len(names) <= 4 else (*names[:3], "…", names[-1]))
        note += f"\n  no better than a guess: are its classes in this order ({order}), and its images normalised so?"
    return note


def _summary(prepared: Prepared) -> str:
    """What is about to be searched, in two lines."""
    recipe, space, dataset, numerics = prepared.recipe, prepared.space, prepared.dataset, prepared.numerics
    counts = ", ".join(
        f"{len(split.labels):,} {name}"
        for name, split in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test))
    )
    shape = "×".join(str(size) for size in dataset.input.shape)
    trains = f"{numerics.precision} on {numerics.device}, {plural(numerics.threads, 'thread')}"
    if recipe.workers.count:
        trains = f"{plural(recipe.workers.count, 'worker')}, each {trains}"
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
