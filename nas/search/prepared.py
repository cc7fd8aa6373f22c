"""What a recipe names, loaded and checked: all that evaluations need, here and in workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from nas import data, families
from nas.data.dataset import Dataset
from nas.design import Design
from nas.errors import RecipeError, SpaceError
from nas.families import OwnNetwork
from nas.measure.environment import has_fast_bfloat16
from nas.measure.measurer import Measurer, saturates
from nas.pipeline import Pipeline, normalisation_for, own_network
from nas.recipe import Recipe
from nas.sensitivity.prior import first_designs
from nas.sensitivity.result import Sensitivity
from nas.space import SearchSpace, load_space
from nas.store import Store
from nas.target import Target
from nas.teacher.given import GivenTeacher, load_teacher
from nas.train import Numerics, numerics_for

if TYPE_CHECKING:
    from nas.search.warm import Warm


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
        reduce_range: Whether int8 weights use 7 bits, for processors whose int8 products saturate.
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
    reduce_range: bool
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
        return Pipeline(self.recipe, self.dataset, store, self.numerics, self.reduce_range, own=self.own)


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
    targets = tuple(Target.parse(name) for name in recipe.all_targets)
    here = {target.name: measurer.environment_id(target) for target in targets}  # refuses what cannot be measured
    dataset = data.load(recipe.data)
    numerics = numerics_for(recipe.training, has_fast_bfloat16(), threads)
    own = own_network(space.module, dataset)
    given = None
    if recipe.teacher is not None:
        given = load_teacher(recipe.teacher, dataset, normalisation_for(own, dataset), numerics)
    return Prepared(recipe, space, targets, here, dataset, numerics, own, given, saturates(measurer))


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
