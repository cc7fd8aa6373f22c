"""Samplers of several packages behind one ask and tell, for spaces of choices with one quality and one cost."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from nas.search.predictor_sampler import PredictorSampler

Choices = Sequence[tuple[str, Sequence[str]]]


class Searcher(Protocol):
    """What a search asks for the next design, and tells how good it was, in turns."""

    def ask(self) -> list[int]:
        """For each choice the place of its value."""

    def tell(self, quality: float, cost: float) -> None:
        """The quality (more is better) and the cost (less is) of what was asked last."""


class FromOptuna:
    """Any of Optuna's samplers."""

    def __init__(self, choices: Choices, sampler: BaseSampler) -> None:
        self.choices = choices
        self.study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)

    def ask(self) -> list[int]:
        self.trial = self.study.ask()
        return [values.index(self.trial.suggest_categorical(name, values)) for name, values in self.choices]

    def tell(self, quality: float, cost: float) -> None:
        self.study.tell(self.trial, [quality, cost])


class FromPymoo:
    """NSGA-II of pymoo for choices; designs of a generation are handed out one by one."""

    def __init__(self, choices: Choices, seed: int, population: int) -> None:
        from pymoo.algorithms.moo.nsga2 import RankAndCrowding
        from pymoo.core.mixed import MixedVariableGA
        from pymoo.core.problem import Problem
        from pymoo.core.variable import Choice

        self.names = [name for name, _ in choices]
        variables = {name: Choice(options=list(range(len(values)))) for name, values in choices}
        self.algorithm = MixedVariableGA(pop_size=population, survival=RankAndCrowding())
        self.algorithm.setup(Problem(vars=variables, n_obj=2), termination=("n_gen", 10**9), seed=seed, verbose=False)
        self.generation: Any = None
        self.values: list[list[float]] = []

    def ask(self) -> list[int]:
        if self.generation is None:
            self.generation, self.values = self.algorithm.ask(), []
        design = self.generation[len(self.values)].X
        return [int(design[name]) for name in self.names]

    def tell(self, quality: float, cost: float) -> None:
        self.values.append([-quality, cost])
        if len(self.values) == len(self.generation):
            self.generation.set("F", np.array(self.values))
            for individual in self.generation:
                individual.evaluated.add("F")
            self.algorithm.tell(infills=self.generation)
            self.generation = None


class FromSyneTune:
    """Multi-objective regularised evolution of Syne Tune; both measures are minimised."""

    def __init__(self, choices: Choices, seed: int, population: int) -> None:
        from syne_tune.config_space import choice
        from syne_tune.optimizer.schedulers.ask_tell_scheduler import AskTellScheduler
        from syne_tune.optimizer.schedulers.multiobjective import MultiObjectiveRegularizedEvolution
        from syne_tune.optimizer.schedulers.single_fidelity_scheduler import SingleFidelityScheduler

        self.names = [name for name, _ in choices]
        space = {name: choice(list(range(len(values)))) for name, values in choices}
        searcher = MultiObjectiveRegularizedEvolution(space, population_size=population, random_seed=seed)
        self.asking = AskTellScheduler(
            SingleFidelityScheduler(space, metrics=["error", "cost"], searcher=searcher, random_seed=seed)
        )

    def ask(self) -> list[int]:
        self.trial = self.asking.ask()
        return [int(self.trial.config[name]) for name in self.names]

    def tell(self, quality: float, cost: float) -> None:
        self.asking.tell(self.trial, {"error": -quality, "cost": cost})


Make = Callable[[Choices, int], Searcher]


def searchers(reference: Sequence[float] | None = None) -> dict[str, Make]:
    """All by name, each made of the choices and a seed.

    Args:
        reference: What our sampler is told; the others cannot be told one.
    """

    def optunas(make: Callable[[int], BaseSampler]) -> Make:
        return lambda choices, seed: FromOptuna(choices, make(seed))

    return {
        "predictor": optunas(lambda seed: PredictorSampler(seed=seed, reference=reference)),
        "tpe": optunas(lambda seed: TPESampler(seed=seed)),
        "tpe-multivariate": optunas(lambda seed: TPESampler(seed=seed, multivariate=True)),
        "nsga2-20": optunas(lambda seed: NSGAIISampler(seed=seed, population_size=20)),
        "nsga2-50": optunas(lambda seed: NSGAIISampler(seed=seed, population_size=50)),
        "gp": optunas(lambda seed: GPSampler(seed=seed)),
        "random": optunas(lambda seed: RandomSampler(seed=seed)),
        "pymoo-nsga2-20": lambda choices, seed: FromPymoo(choices, seed, 20),
        "syne-tune-evolution-20": lambda choices, seed: FromSyneTune(choices, seed, 20),
    }


# The packages that some need, which this project does not.
PACKAGES = {"pymoo-nsga2-20": "pymoo", "syne-tune-evolution-20": "syne_tune"}


def installed(name: str) -> bool:
    """Whether the package that a searcher needs is there."""
    return name not in PACKAGES or importlib.util.find_spec(PACKAGES[name]) is not None
