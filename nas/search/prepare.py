"""All that a search is checked for and loads before anything is spent; the dry run asks for the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from nas import data, families
from nas.data.dataset import Dataset
from nas.design import Design
from nas.errors import RecipeError, SpaceError
from nas.families import OwnNetwork
from nas.measure.environment import has_fast_bfloat16, has_vnni
from nas.measure.measurer import Measurer
from nas.own_module import INCLUDED
from nas.pipeline import Pipeline, normalisation_for, own_network
from nas.recipe import Recipe
from nas.search.rule import asked
from nas.search.warm import Warm, load_warm
from nas.sensitivity.prior import first_designs
from nas.sensitivity.result import Sensitivity, load_sensitivity
from nas.space import SearchSpace, load_space, size_words
from nas.stages import Progress
from nas.store import Store
from nas.study import StudyFolder
from nas.target import Target, usable_cores
from nas.teacher.given import GivenTeacher, load_teacher
from nas.train import Numerics, numerics_for
from nas.wording import display, plural


@dataclass(frozen=True)
class Prepared:
    """What a recipe names, loaded and checked.

    Args:
        recipe: The recipe.
        space: Its search space.
        targets: What latencies are measured on.
        here: Fingerprint of this machine and the runtime, by target.
        dataset: The data.
        numerics: On what and in which precision networks train.
        own: The person's own network, for a space of one.
        given: The teacher that the recipe names.
        prior: The sensitivity that it names.
        warm: What is taken from earlier studies.
        notes: What a person should know of all this, in words.
    """

    recipe: Recipe
    space: SearchSpace
    targets: tuple[Target, ...]
    here: Mapping[str, str]
    dataset: Dataset
    numerics: Numerics
    own: OwnNetwork | None
    given: GivenTeacher | None
    prior: Sensitivity | None = None
    warm: Warm | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def starts(self) -> list[tuple[Design, str]]:
        """Designs to try first, after the space's own, with their origins."""
        priors = first_designs(self.space, self.prior) if self.prior else []
        warm = self.warm.first if self.warm else ()
        return [*((design, "prior") for design in priors), *((design, "warm") for design in warm)]

    @property
    def inputs(self) -> dict[str, str]:
        """Digests of what the recipe only names."""
        optional = {
            "teacher": self.given and self.given.sha256,
            "module": self.own and self.own.digest,
            "prior": self.prior and self.prior.digest,
            "warm_start": self.warm and self.warm.digest,
        }
        named = {name: digest for name, digest in optional.items() if digest}
        return {"space": self.space.digest, "data": self.dataset.digest} | named

    def pipeline(self, store: Store) -> Pipeline:
        """What makes artifacts, with a cache."""
        return Pipeline(self.recipe, self.dataset, store, self.numerics, reduce_range=not has_vnni(), own=self.own)


def prepare(recipe: Recipe, measurer: Measurer, progress: Progress, folder: StudyFolder, fresh: bool) -> Prepared:
    """Loads and checks all that a recipe names.

    Args:
        recipe: What to search.
        measurer: Says what this machine can measure.
        progress: Hears how far the scoring of a teacher has come.
        folder: Where the search will be.
        fresh: Whether what the folder holds will be deleted.

    Raises:
        NasError: The recipe, space or data cannot be used.
    """
    count = recipe.workers.count
    prepared = load(recipe, measurer, max(1, usable_cores() // count) if count else usable_cores())
    notes = [_summary(prepared)]
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


def load(recipe: Recipe, measurer: Measurer, threads: int) -> Prepared:
    """Loads and checks what evaluations need of all that a recipe names.

    Args:
        recipe: What to search.
        measurer: Says what this machine can measure.
        threads: That training may use where the recipe names no number.

    Raises:
        NasError: The recipe, space or data cannot be used.
    """
    space = load_space(recipe.space)
    families.check_space(space)
    check_teaching(space, recipe)
    asked(recipe, space)  # refuses a strategy that the space has not
    targets = tuple(Target.parse(name) for name in recipe.all_targets)
    here = {target.name: measurer.environment_id(target) for target in targets}  # refuses what cannot be measured
    dataset = data.load(recipe.data)
    numerics = numerics_for(recipe.training, has_fast_bfloat16(), threads)
    own = own_network(space.module, dataset)
    given = None
    if recipe.teacher is not None:
        given = load_teacher(recipe.teacher, dataset, normalisation_for(own, dataset), numerics)
    return Prepared(recipe, space, targets, here, dataset, numerics, own, given)


def _others(recipe: Recipe, folder: StudyFolder) -> Sequence[Path]:
    """The earlier studies to learn from.

    Raises:
        RecipeError: The study itself is among them.
    """
    for path in recipe.warm_start:
        if path.resolve() == folder.path.resolve():
            raise RecipeError(f"{path} is this study itself, which it cannot start from", "name another one")
    return recipe.warm_start


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
