"""Samplers by name, made anew for each proposal, seeded by (study seed, trial number, attempt).

A storage does not hold a sampler's random state. With a sampler made anew for each proposal, a study that was continued
samples as one that was never interrupted, given the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from nas.search.encoder import is_costless
from nas.search.parameters import Parameter, Parameters
from nas.search.predictor_sampler import Observation, PredictorSampler
from nas.search.quiet import quiet
from nas.surrogate.cues import Cost, Role

# Trials drawn at random before the model-based samplers begin to model.
STARTUP_TRIALS = 10
# Optuna's default of 50 leaves a study of 40 trials purely random; 20 did better on the complete tables tried.
POPULATION = 20

# Samplers that model only parameters which every trial has; they get all parameters, active or not.
FLAT = frozenset({"nsga2", "gp"})


@dataclass(frozen=True)
class SamplerHints:
    """What a search knows besides what Optuna is told, in its terms (see ``Parameters``), for the predictor.

    Args:
        known: What is known of designs that were not measured: of stopped trials, say.
        noise: Of a finished trial the standard deviations of its values.
        seconds: The expected cost of N designs, given by parameter, as N float64; None where all cost the same.
        reference: Of the hypervolume, in the objectives' units.
        scales: Of its axes: ``linear`` or ``log``.
        possible: Whether a design's network can be built, and its file would be another than those that were measured;
            None where that is not known.
        cues: Of designs, given by parameter, cheap measures that help surrogates.
        cue_roles: What each cue is to objectives.
        costs: For each objective what it is a cost of; None of one that is none.
    """

    known: Sequence[Observation] = ()
    noise: Callable[[FrozenTrial], Sequence[float]] | None = None
    seconds: Callable[[Mapping[str, Sequence[Any]]], np.ndarray] | None = None
    reference: Sequence[float] | None = None
    scales: Sequence[str] | None = None
    possible: Callable[[Mapping[str, Any]], bool] | None = None
    cues: Callable[[Mapping[str, Sequence[Any]]], np.ndarray] | None = None
    cue_roles: Sequence[Role] | None = None
    costs: Sequence[Cost | None] | None = None


def make_sampler(
    name: str,
    seed: int,
    number: int,
    attempt: int = 0,
    *,
    parameters: Parameters,
    hints: SamplerHints | None = None,
) -> BaseSampler:
    """The sampler for one proposal.

    Args:
        name: One of ``nas.recipe.SAMPLERS``.
        seed: The study's seed.
        number: The trial's number.
        attempt: Which proposal for that trial it is, from 0.
        parameters: What is sampled.
        hints: What the predictor is told besides.
    """
    entropy = [seed, number, attempt] if attempt else [seed, number]
    own_seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    with quiet():
        if name == "predictor":
            hints = hints or SamplerHints()
            return PredictorSampler(
                seed=own_seed,
                startup_trials=STARTUP_TRIALS,
                known=hints.known,
                noise=hints.noise,
                seconds=hints.seconds,
                active=parameters.active,
                reference=hints.reference,
                scales=hints.scales,
                possible=hints.possible,
                cues=hints.cues,
                cue_roles=hints.cue_roles,
                costs=hints.costs,
                costless=[one.name for one in parameters.by_choice.values() if is_costless(one.choice)],
                fallback=TPESampler(seed=own_seed, n_startup_trials=STARTUP_TRIALS),
            )
        if name == "tpe":
            return TPESampler(seed=own_seed, n_startup_trials=STARTUP_TRIALS, multivariate=True)
        if name == "nsga2":
            return NSGAIISampler(seed=own_seed, population_size=POPULATION)
        if name == "gp":
            return GPSampler(
                seed=own_seed, n_startup_trials=STARTUP_TRIALS, independent_sampler=RandomSampler(seed=own_seed)
            )
        assert name == "random", f"the recipe lets no sampler '{name}' through"
        return RandomSampler(seed=own_seed)


def sampled_with(name: str, parameters: Parameters, one: Parameter) -> dict[str, BaseDistribution]:
    """The parameters that a sampler decides together with one of them.

    TPE draws those together that are always active together: it then ranks all trials once for each group instead of
    once for each parameter. With 20 parameters in 3 groups that takes a seventh of the time at 1,000 trials. In a
    complete table and a conditional space it found fronts as good or better, and repeated itself less.
    """
    if name == "random":
        return {}
    return parameters.peers[one.name] if name == "tpe" else parameters.distributions
