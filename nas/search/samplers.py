"""Optuna's samplers by name, made anew for each trial, seeded by (study seed, trial number).

A storage does not hold a sampler's random state. With a sampler made anew for each trial, a study that was continued
samples as one that was never interrupted, given the same results.
"""

from __future__ import annotations

import warnings

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

# Trials drawn at random before the model-based samplers begin to model.
STARTUP_TRIALS = 10
# Optuna's default of 50 leaves a study of 40 trials purely random; 20 did better on the complete tables tried.
POPULATION = 20

# Samplers that model only parameters which every trial has; they get all parameters, active or not.
FLAT = frozenset({"nsga2", "gp"})


def make_sampler(name: str, seed: int, number: int) -> BaseSampler:
    """The sampler for one trial.

    Args:
        name: One of ``nas.recipe.SAMPLERS``.
        seed: The study's seed.
        number: The trial's number.
    """
    own_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "tpe":
            return TPESampler(seed=own_seed, n_startup_trials=STARTUP_TRIALS)
        if name == "nsga2":
            return NSGAIISampler(seed=own_seed, population_size=POPULATION)
        if name == "gp":
            return GPSampler(
                seed=own_seed, n_startup_trials=STARTUP_TRIALS, independent_sampler=RandomSampler(seed=own_seed)
            )
        assert name == "random", f"the recipe lets no sampler '{name}' through"
        return RandomSampler(seed=own_seed)
