"""The predictor-guided sampler in Optuna's studies: what any sampler owes, and what this one is for."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import moocore
import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import Trial, TrialState, create_trial

from nas.search.optuna_domain import column_of, domain_of, value_of
from nas.search.predictor_sampler import START_DRAWS, Observation, PredictorSampler

Objective = Callable[[Trial], Sequence[float]]

optuna.logging.set_verbosity(optuna.logging.ERROR)


# The parameters of ``cell``.
EDGES = {f"op{edge}": optuna.distributions.CategoricalDistribution(["none", "skip", "conv"]) for edge in range(4)}


def cell(trial: Trial) -> tuple[float, float]:
    """Four edges of three operations: what is accurate tends to cost."""
    picked = [trial.suggest_categorical(f"op{edge}", ["none", "skip", "conv"]) for edge in range(4)]
    skill = sum({"none": 0.0, "skip": 0.4, "conv": 1.0}[op] * (1 + edge) for edge, op in enumerate(picked))
    cost = sum({"none": 0.1, "skip": 0.2, "conv": 1.0}[op] * (4 - edge) for edge, op in enumerate(picked))
    return 1 - 0.5 * float(np.exp(-0.4 * skill)), cost


def mixed(trial: Trial) -> tuple[float, float]:
    """All kinds of parameters."""
    depth = trial.suggest_int("depth", 1, 9, step=2)
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    ratio = trial.suggest_float("ratio", 0.0, 0.9, step=0.1)
    width = trial.suggest_int("width", 8, 64, log=True)
    kind = trial.suggest_categorical("kind", ["a", "b"])
    quality = 1 - 0.3 * (np.log10(rate) + 2.5) ** 2 - 0.2 * ratio**2 + 0.05 * depth + 0.1 * np.log(width)
    return float(quality) + (0.1 if kind == "b" else 0.0), depth * width * (1 - ratio) + 0.5


def conditional(trial: Trial) -> tuple[float, float]:
    """A choice that brings others with it."""
    if trial.suggest_categorical("family", ["plain", "mobile"]) == "plain":
        kernel = trial.suggest_int("kernel", 1, 7, step=2)
        return 0.5 + 0.05 * kernel, float(kernel)
    expand = trial.suggest_int("expand", 1, 6)
    gate = trial.suggest_categorical("gate", [False, True])
    return 0.6 + 0.04 * expand + 0.02 * gate, 0.8 * expand + gate


def study_of(sampler: BaseSampler, objectives: int = 2) -> Study:
    return optuna.create_study(directions=(["maximize", "minimize"] * 2)[:objectives], sampler=sampler)


def quick(**options: Any) -> PredictorSampler:
    """One whose inner evolution is short."""
    return PredictorSampler(population=60, generations=3, **options)


def run(study: Study, objective: Objective, trials: int) -> list[dict[str, Any]]:
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, list(objective(trial)))
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("objective", [cell, mixed, conditional])
def test_a_new_sampler_for_every_trial_proposes_the_same(objective: Objective) -> None:
    kept = run(study_of(quick(seed=3, startup_trials=4)), objective, 12)
    study = study_of(quick(seed=3, startup_trials=4))
    for _ in range(12):
        study.sampler = quick(seed=3, startup_trials=4)
        run(study, objective, 1)
    assert [trial.params for trial in study.trials] == kept
    other = run(study_of(quick(seed=4, startup_trials=4)), objective, 12)
    assert other != kept


def test_a_study_that_was_read_again_goes_on_as_before() -> None:
    whole = run(study_of(quick(seed=1, startup_trials=4)), mixed, 11)
    first = study_of(quick(seed=1, startup_trials=4))
    run(first, mixed, 7)
    again = study_of(quick(seed=1, startup_trials=4))
    again.add_trials(first.trials)
    assert run(again, mixed, 4) == whole


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_any_number_of_objectives(objectives: int) -> None:
    def objective(trial: Trial) -> list[float]:
        quality, cost = cell(trial)
        return [quality, cost, quality**2 - 0.1 * cost, cost + 0.3 * quality][:objectives]

    study = study_of(PredictorSampler(seed=0, startup_trials=6), objectives)
    params = run(study, objective, 14)
    assert len({tuple(sorted(row.items())) for row in params}) == 14


def test_too_many_objectives_are_refused() -> None:
    study = optuna.create_study(directions=["minimize"] * 5, sampler=PredictorSampler(seed=0))
    with pytest.raises(ValueError, match="1 to 4 objectives, but the study has 5"):
        run(study, lambda trial: [trial.suggest_float("x", 0, 1)] * 5, 1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"startup_trials": 0}, "startup_trials must be at least 1, but is 0"),
        ({"population": 0}, "population must be at least 1, but is 0"),
        ({"generations": -1}, "generations must be at least 0, but is -1"),
        ({"scales": ["linear", "cubic"]}, "one of linear, log, warped, but one is 'cubic'"),
    ],
)
def test_bad_options_are_refused(options: Mapping[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PredictorSampler(**options)


def test_a_reference_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="reference must have one entry an objective, 2, but has 3"):
        run(study_of(PredictorSampler(seed=0, reference=[0, 1, 2])), cell, 1)


def reached(sampler: BaseSampler, share: float, limit: int) -> int:
    """Evaluations until so much of the cells' hypervolume was found."""
    fixed = optuna.trial.FixedTrial
    choices = itertools.product(["none", "skip", "conv"], repeat=4)
    every = np.array([cell(fixed({f"op{e}": op for e, op in enumerate(ops)})) for ops in choices])  # type: ignore[arg-type]
    measure = moocore.Hypervolume(ref=[0.5, 11.0], maximise=[True, False])
    study, found = study_of(sampler), []
    for count in range(1, limit + 1):
        trial = study.ask()
        found.append(cell(trial))
        study.tell(trial, found[-1])
        if measure(np.array(found)) >= share * measure(every):
            return count
    return limit + 1


def test_it_finds_a_front_in_far_fewer_evaluations_than_chance() -> None:
    ours = [reached(PredictorSampler(seed=seed, startup_trials=6), 0.97, 60) for seed in range(2)]
    chance = [reached(RandomSampler(seed=seed), 0.97, 60) for seed in range(3)]
    assert 2 * np.median(ours) < np.median(chance)


def test_one_objective_is_optimised() -> None:
    def objective(trial: Trial) -> list[float]:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        return [-((x - 0.3) ** 2) - (y - 0.8) ** 2]

    study = study_of(quick(seed=0, startup_trials=5), 1)
    run(study, objective, 20)
    assert study.best_value > -0.003


def test_no_design_is_proposed_twice_while_others_remain() -> None:
    def small(trial: Trial) -> tuple[float, float]:
        a = trial.suggest_categorical("a", [0, 1, 2])
        b = trial.suggest_int("b", 0, 2)
        return a + 0.1 * b, float(a * b + b)

    study = study_of(PredictorSampler(seed=0, startup_trials=3))
    params = run(study, small, 9)
    assert len({tuple(sorted(row.items())) for row in params}) == 9
    run(study, small, 2)  # nothing is left, and it goes on


def test_inactive_parameters_make_no_new_design() -> None:
    study = study_of(PredictorSampler(seed=0, startup_trials=5))
    params = run(study, conditional, 16)  # 4 + 6 · 2 designs
    # The first trials draw parameters that none has had, and may repeat; the rest of the space is then gone through.
    assert len({tuple(sorted(row.items())) for row in params}) >= 15


def test_who_knows_what_is_active_is_asked() -> None:
    def active(params: Mapping[str, Any]) -> list[str]:
        return ["family", "kernel"] if params["family"] == "plain" else ["family", "expand", "gate"]

    study = study_of(PredictorSampler(seed=0, startup_trials=5, active=active))
    params = run(study, conditional, 16)
    assert len({tuple(sorted(row.items())) for row in params}) >= 15


def test_running_trials_are_not_proposed_again_and_spread_the_next() -> None:
    study = study_of(PredictorSampler(seed=0, startup_trials=6))
    run(study, cell, 10)
    waiting = [study.ask() for _ in range(5)]
    for trial in waiting:
        cell(trial)
    assert len({tuple(trial.params.items()) for trial in study.trials}) == 15


def test_failed_and_pruned_trials_teach_nothing_but_are_not_repeated() -> None:
    study = study_of(PredictorSampler(seed=0, startup_trials=6))
    run(study, cell, 8)
    copy = study_of(PredictorSampler(seed=0, startup_trials=6))
    copy.add_trials(study.trials)
    trial = study.ask()
    cell(trial)
    study.tell(trial, state=TrialState.PRUNED)
    failed = study.ask()
    cell(failed)
    study.tell(failed, state=TrialState.FAIL)
    third = study.ask()
    cell(third)
    seen = [tuple(sorted(one.params.items())) for one in study.trials]
    assert len(set(seen)) == len(seen)


def test_what_is_known_from_elsewhere_guides() -> None:
    distributions = {
        f"op{edge}": optuna.distributions.CategoricalDistribution(["none", "skip", "conv"]) for edge in range(4)
    }
    known = []
    for ops in itertools.product(["none", "skip", "conv"], repeat=4):
        params = {f"op{edge}": op for edge, op in enumerate(ops)}
        quality, _ = cell(optuna.trial.FixedTrial(params))  # type: ignore[arg-type]
        known.append(Observation({**params, "unheard of": 3}, (quality, float("nan")), (0.01, 0.0)))
    best = []
    for told in ((), known):
        study = optuna.create_study(
            directions=["maximize", "minimize"],
            sampler=PredictorSampler(seed=0, startup_trials=2, known=told, reference=[0.0, 1000.0]),
        )
        for ops in (("none",) * 4, ("skip", "none", "none", "none"), ("none", "none", "skip", "none")):
            params = {f"op{edge}": op for edge, op in enumerate(ops)}
            values = list(cell(optuna.trial.FixedTrial(params)))  # type: ignore[arg-type]
            study.add_trial(create_trial(params=params, distributions=distributions, values=values))
        trial = study.ask()
        best.append(cell(trial)[0])
    assert best[1] > 0.95  # with so lenient a limit of the cost the most accurate adds most, and only they know it
    assert best[1] >= best[0]


@pytest.mark.parametrize("missing", [False, True])
def test_whole_observations_from_elsewhere_count_as_trials_to_start_with(missing: bool) -> None:
    ends = (0.9, float("nan") if missing else 3.0)
    known = [Observation({f"op{edge}": op for edge in range(4)}, ends) for op in ("none", "skip", "conv")]
    asked: list[int] = []

    def seconds(given: Mapping[str, Sequence[Any]]) -> np.ndarray:
        asked.append(len(given["op0"]))
        return np.ones(asked[-1])

    sampler = quick(seed=0, startup_trials=5, known=known, seconds=seconds)
    study = study_of(sampler)
    run(study, cell, 2)
    asked.clear()
    study.ask(EDGES)
    # While it starts it only asks what a few random draws cost; whoever evolves asks about many more.
    assert (max(asked) > START_DRAWS) == (not missing)


def test_what_it_starts_with_is_of_the_cheaper_half() -> None:
    def seconds(given: Mapping[str, Sequence[Any]]) -> np.ndarray:
        return np.array([100.0 if op == "conv" else 1.0 for op in given["op0"]])

    for seed in range(8):
        study = study_of(PredictorSampler(seed=seed, startup_trials=4, seconds=seconds))
        study.ask(EDGES)
        assert study.ask(EDGES).params["op0"] != "conv"


def test_it_begins_with_designs_that_cues_tell_apart() -> None:
    def one(rows: Mapping[str, Sequence[Any]]) -> np.ndarray:
        """One in nine of the designs is unlike all others."""
        return np.array([[float(a == b == "conv")] for a, b in zip(rows["op0"], rows["op1"], strict=True)])

    def found(seed: int, **options: Any) -> bool:
        own = run(study_of(PredictorSampler(seed=seed, startup_trials=5, **options)), cell, 5)
        return any(params["op0"] == params["op1"] == "conv" for params in own)

    assert all(found(seed, cues=one) for seed in range(12))
    assert sum(found(seed) for seed in range(12)) < 12


def test_constraints_are_respected() -> None:
    def objective(trial: Trial) -> tuple[float, float]:
        quality, cost = cell(trial)
        trial.set_constraint("cost", cost - 3.0)
        trial.set_constraint("always met", -1.0)
        return quality, cost

    study = study_of(PredictorSampler(seed=0, startup_trials=8))
    run(study, objective, 20)
    met = [trial.values[1] <= 3 for trial in study.trials]
    assert sum(met[:8]) <= 3
    assert sum(met[10:]) >= 7
    best = max(trial.values[0] for trial in study.trials if trial.values[1] <= 3)
    assert best > 0.93  # what 3 allows at most is 0.944


def test_while_nothing_is_feasible_it_seeks_what_is() -> None:
    def objective(trial: Trial) -> tuple[float, float]:
        quality, cost = cell(trial)
        trial.set_constraint("tight", 9.5 - cost)
        return quality, cost

    study = study_of(PredictorSampler(seed=2, startup_trials=6))
    run(study, objective, 18)
    assert any(trial.values[1] >= 9.5 for trial in study.trials)


def test_cost_draws_to_what_is_cheap() -> None:
    def seconds(given: Mapping[str, Sequence[Any]]) -> np.ndarray:
        return np.array([100.0 if op == "conv" else 1.0 for op in given["op0"]])

    counts = []
    for cost in (seconds, None):
        study = study_of(PredictorSampler(seed=0, startup_trials=6, seconds=cost))
        counts.append(sum(row["op0"] == "conv" for row in run(study, cell, 20)[6:]))
    assert counts[0] < counts[1]
    assert counts[0] <= 2


def test_constant_objectives_fall_back_and_say_so_once() -> None:
    study = study_of(PredictorSampler(seed=0, startup_trials=3))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        params = run(study, lambda trial: (cell(trial)[0] * 0, 1.0), 8)
    assert [str(one.message) for one in caught] == [
        "a surrogate needs values that differ, but all 3 are 0; designs are drawn by the plain sampler"
    ]
    assert len({tuple(sorted(row.items())) for row in params}) == 8


def test_the_fallback_that_is_given_proposes_then() -> None:
    class Stubborn(RandomSampler):
        def sample_relative(self, study: Study, trial: Any, search_space: Any) -> dict[str, Any]:
            return {f"op{edge}": "skip" for edge in range(4)}

    study = study_of(PredictorSampler(seed=0, startup_trials=3, fallback=Stubborn(seed=0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        params = run(study, lambda trial: (cell(trial)[0] * 0, 1.0), 5)
    assert set(params[4].values()) == {"skip"}


def test_infinite_values_do_no_harm() -> None:
    def objective(trial: Trial) -> tuple[float, float]:
        quality, cost = cell(trial)
        return quality, float("inf") if trial.number % 3 == 1 else cost

    run(study_of(PredictorSampler(seed=0, startup_trials=4)), objective, 12)


def test_a_space_of_one_design_and_an_empty_one() -> None:
    run(study_of(PredictorSampler(seed=0, startup_trials=1)), lambda trial: (0.5, 1.0), 3)

    def single(trial: Trial) -> tuple[float, float]:
        return float(trial.suggest_categorical("only", [7])), 1.0

    run(study_of(PredictorSampler(seed=0, startup_trials=1)), single, 3)


def test_a_range_that_grew_is_followed() -> None:
    def growing(trial: Trial) -> tuple[float, float]:
        high = 4 if trial.number < 5 else 9
        width = trial.suggest_int("width", 1, high)
        depth = trial.suggest_float("depth", 0, 1)
        return width + depth, width * 1.5 + depth

    study = study_of(quick(seed=0, startup_trials=3, reference=[0.0, 20.0]))
    params = run(study, growing, 10)
    assert max(row["width"] for row in params) > 4


@pytest.mark.parametrize(
    "distribution",
    [
        optuna.distributions.IntDistribution(3, 27, step=4),
        optuna.distributions.IntDistribution(1, 100, log=True),
        optuna.distributions.FloatDistribution(0.1, 0.9, step=0.2),
        optuna.distributions.FloatDistribution(1e-5, 1.0, log=True),
        optuna.distributions.CategoricalDistribution([True, None, 3, "x"]),
    ],
    ids=str,
)
def test_every_design_of_a_domain_is_a_parameter(distribution: optuna.distributions.BaseDistribution) -> None:
    domain = domain_of({"p": distribution}, np.zeros((0, 1)), None)
    rng = np.random.default_rng(0)
    rows = domain.mutate(domain.sample(50, rng), rng)
    for row in rows:
        value = value_of(distribution, domain.values(row)["p"])
        internal = distribution.to_internal_repr(value)
        assert distribution._contains(internal)
        assert distribution.to_external_repr(internal) == value
    assert column_of("p", distribution).name == "p"


@pytest.mark.parametrize("startup", [4, 100])
def test_what_is_impossible_is_never_proposed(startup: int) -> None:
    study = optuna.create_study(
        directions=["maximize", "minimize"],
        sampler=PredictorSampler(seed=0, startup_trials=startup, possible=lambda params: params["x"] != 3),
    )

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        x, y = trial.suggest_int("x", 0, 5), trial.suggest_categorical("y", ["a", "b", "c"])
        return float(10 - abs(x - 3)), float(len(y) + x)  # what is impossible looks best

    study.optimize(objective, n_trials=14)
    assert [trial.params["x"] for trial in study.trials[1:]].count(3) == 0
    assert len({tuple(trial.params.items()) for trial in study.trials[1:]}) == 13
