"""Which strategy a search goes by, and why.

``strategy: auto`` is a rule on three numbers: how many designs the space has, how many trials the budget holds, and
what a shared network would cost against a single training.

- A space that the budget can evaluate whole needs no model: ``plain``.
- A **supernet** is taken where training is most of a trial, where it costs no more than ``SUPERNET_TRIALS`` trials, and
  where the budget holds ``SUPERNET_TIMES`` of it. So it is for designs that train long: how long the supernet must
  train until it ranks (``SUPERNET_STEPS``) does not depend on how long they do.
- A model that guides needs trials beyond those that start it: where the budget is of trials, and less than
  ``WORTH_A_MODEL`` times as many, ``plain``. In a budget of time a guided search begins with cheap designs, stops what
  falls behind and takes other bits of a trained network for nothing, so that more trials fit in it than of the mean.
- Else ``guided``.
"""

from __future__ import annotations

import math

from nas.errors import RecipeError
from nas.recipe import Recipe
from nas.search.costs import Costs, duration
from nas.search.samplers import STARTUP_TRIALS
from nas.space import SearchSpace, size_words
from nas.wording import plural

# Families whose designs can share one network.
ELASTIC = ("convnet", "mobilenet")
# A supernet that had trained for about so many steps (480 s of Fashion-MNIST, four networks a step, as reckoned by
# ``supernet_seconds``) ranked its members well: Kendall's τ was 0.81 between inherited accuracy and that of a training
# of their own.
SUPERNET_STEPS = 2000
# It must cost no more than so many trials. In the trial it cost 24 (480 s, where seven members retrained in 140 s) and
# was level with a guided search at best, so it is left alone unless it is cheaper by an order of magnitude.
SUPERNET_TRIALS = 3
# It saves trainings and nothing else, so these must be this share of what a trial costs.
SUPERNET_SHARE = 0.5
# The budget must hold so many trainings of the supernet: its front is worth nothing until its members are trained
# themselves. With 480 s for the supernet the search was behind a guided one at 900 s and level at 1,050 s.
SUPERNET_TIMES = 3
# A model that has seen only what it was started with has changed nothing yet. By half as many again it has.
WORTH_A_MODEL = 1.5
ENOUGH_TRIALS = math.ceil(WORTH_A_MODEL * STARTUP_TRIALS)


def asked(recipe: Recipe, space: SearchSpace) -> tuple[str, str] | None:
    """The strategy that the recipe asks for, and why it is this one; None where it leaves that open."""
    if recipe.strategy == "auto":
        return None
    if recipe.strategy == "supernet" and space.family not in ELASTIC:
        raise RecipeError(
            f"strategy 'supernet' is for families {' and '.join(ELASTIC)}, but search space '{space.name}' is of "
            f"family '{space.family}'",
            "take strategy 'guided', or leave it to 'auto'",
        )
    return recipe.strategy, "the recipe asks for it"


def chosen_by(recipe: Recipe, space: SearchSpace, trials: int, costs: Costs | None) -> tuple[str, str]:
    """The strategy that space and budget call for, and why it is this one.

    Args:
        trials: How many the whole budget holds, if all are trained to the end.
        costs: None where no supernet may pay.
    """
    if space.size() == 1:
        return "plain", "the space has one design"
    if space.size() <= trials:
        return "plain", f"the budget holds all {plural(space.size(), 'design')} of the space, so each is evaluated"
    if costs is not None and _pays(recipe, space, trials, costs):
        shared = supernet_seconds(recipe, costs)
        return "supernet", (
            f"a network that all designs share takes about {duration(shared)}, as long as "
            f"{shared / costs.mean_trial:.1f} of the {plural(trials, 'trial')} that the budget holds, and ranks the "
            "designs before one is trained"
        )
    if trials < ENOUGH_TRIALS and recipe.budget.minutes is None:
        return "plain", (
            f"the budget holds about {plural(trials, 'trial')}, and a model that is to guide has little to say before "
            f"trial {ENOUGH_TRIALS}"
        )
    if trials < ENOUGH_TRIALS:
        return "guided", (
            f"the budget holds about {plural(trials, 'trial')} of the mean cost: cheap designs come first, and what "
            "falls behind is stopped"
        )
    return "guided", (
        f"the budget holds about {plural(trials, 'trial')} of {size_words(space.size())} designs: enough to learn "
        "which are worth a training"
    )


def _pays(recipe: Recipe, space: SearchSpace, trials: int, costs: Costs) -> bool:
    """Whether a supernet pays; see the top of this file."""
    shared, mean = supernet_seconds(recipe, costs), costs.mean_trial
    dear = costs.mean("train") >= SUPERNET_SHARE * mean
    few = shared <= SUPERNET_TRIALS * mean and SUPERNET_TIMES * shared <= trials * mean
    return space.family in ELASTIC and dear and few


def may_pay(recipe: Recipe, trials: int, steps: int) -> bool:
    """Whether a supernet might pay, whatever designs cost.

    It trains ``subnets`` networks a step: the largest, which costs no less than the mean, the smallest, and others that
    cost the mean. So it takes at least ``subnets - 1`` trainings of the mean design, step by step; and where training
    is ``SUPERNET_SHARE`` of a trial, a trial is no more than that many times its training.
    """
    trainings = SUPERNET_STEPS * (recipe.supernet.subnets - 1) / (steps * recipe.budget.epochs)
    return trainings <= min(SUPERNET_TRIALS, trials / SUPERNET_TIMES) / SUPERNET_SHARE


def supernet_seconds(recipe: Recipe, costs: Costs) -> float:
    """How long a supernet trains until it ranks well; each step trains the largest network, the smallest and others."""
    low, _, high = costs.epoch
    mean = costs.mean("train") / costs.epochs
    return SUPERNET_STEPS / costs.steps * (low + high + (recipe.supernet.subnets - 2) * mean)
