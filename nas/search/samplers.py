"""Samplers by name, made anew for each proposal, seeded by (study seed, trial number, attempt).

A storage does not hold a sampler's random state. With a sampler made anew for each proposal, a study that was continued
samples as one that was never interrupted, given the same results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from nas.search.parameters import Parameters
from nas.search.quiet import quiet

# Trials drawn at random before the model-based samplers begin to model.
STARTUP_TRIALS = 10
# Optuna's default of 50 leaves a study of 40 trials purely random; 20 did better on the complete tables tried.
POPULATION = 20

# Samplers that model only parameters which every trial has; they get all parameters, active or not.
FLAT = frozenset({"nsga2", "gp"})


@dataclass(frozen=True)
class SamplerHints:
    """What a search knows besides what Optuna is told, for samplers that can use it.

    Args:
        known: See ``PredictorSampler``.
        seconds: See ``PredictorSampler``.
    """

    known: Any = ()
    seconds: Any = None


def make_sampler(
    name: str,
    seed: int,
    number: int,
    attempt: int = 0,
    parameters: Parameters | None = None,
    hints: SamplerHints | None = None,
) -> BaseSampler:
    """The sampler for one proposal.

    Args:
        name: One of ``nas.recipe.SAMPLERS``.
        seed: The study's seed.
        number: The trial's number.
        attempt: Which proposal for that trial it is, from 0.
        parameters: What is sampled; the predictor asks it which are active.
        hints: For the predictor.
    """
    own_seed = _seed(seed, number, attempt)
    with quiet():
        if name == "predictor":
            return _predictor(own_seed, parameters, hints or SamplerHints())
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


def _seed(seed: int, number: int, attempt: int) -> int:
    entropy = [seed, number, attempt] if attempt else [seed, number]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def _predictor(seed: int, parameters: Parameters | None, hints: SamplerHints) -> BaseSampler:
    from nas.search.predictor_sampler import PredictorSampler

    return PredictorSampler(
        seed=seed,
        startup_trials=STARTUP_TRIALS,
        known=hints.known,
        seconds=hints.seconds,
        active=None if parameters is None else parameters.active,
        fallback=TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS),
    )
