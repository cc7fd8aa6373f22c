"""What networks are made of, as cues: of designs, of a sampler's parameters, and of pruned ones."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import make_design, make_recipe, make_record

from nas.design import Design
from nas.families.registry import build
from nas.outcome import Outcome
from nas.own_module import OwnModule
from nas.search.insight import Insight
from nas.search.network_facts import (
    MORE_AS_FLOATS,
    MORE_AS_INTEGERS,
    ROLES,
    TAKING_TIME,
    TELLING,
    NetworkFacts,
    network_facts,
)
from nas.search.optuna_bridge import Bridge
from nas.search.parameters import Parameters
from nas.search.rough import rough_costs
from nas.search.samplers import STARTUP_TRIALS, SamplerHints
from nas.space import SearchSpace, load_space

SHAPE, CLASSES = (1, 28, 28), 10
SPACE = load_space("convnet")


def facts_of(space: SearchSpace = SPACE) -> NetworkFacts:
    found = network_facts(space, SHAPE, CLASSES)
    assert found is not None
    return found


def drawn(space: SearchSpace, count: int) -> list[Design]:
    rng = random.Random(0)
    return [space.sample(rng) for _ in range(count)]


@pytest.mark.parametrize("name", ["convnet", "convnet-small", "mobilenet", "resnet", "mlp"])
def test_designs_given_by_parameter_have_the_cues_of_the_designs(name: str) -> None:
    space = load_space(name)
    facts, parameters, rng = facts_of(space), Parameters(space, flat=False), random.Random(1)
    designs = drawn(space, 40)
    rows = []
    for design in designs:
        # What plays no part has a value as well, which must not matter.
        any_other = {one.name: one.encode(rng.choice(one.choice.values)) for one in parameters.by_choice.values()}
        rows.append(any_other | parameters.params(design))
    given = {name: [row[name] for row in rows] for name in rows[0]}
    expected = facts.of(designs)
    assert expected.shape == (40, len(ROLES))
    np.testing.assert_array_equal(facts.of_parameters(parameters)(given), expected)
    np.testing.assert_array_equal(facts.of(designs[::-1]), expected[::-1])


def compressed(widths: tuple[int, int], **compression: Any) -> Design:
    """A design with a stem and a stage of such widths."""
    design = make_design(**compression)
    stem, stage = widths
    return replace(design, architecture={**design.architecture, "stem.width": stem, "stage1.width": stage})


def test_a_pruned_network_counts_as_the_narrower_one() -> None:
    pruned, whole, narrow = facts_of().of(
        [compressed((16, 32), pruning_ratio=0.5), compressed((16, 32)), compressed((8, 16))]
    )
    assert (pruned < whole).any()
    np.testing.assert_array_equal(pruned, narrow)


def test_files_are_shaped_alike_where_pruning_leaves_the_same_channels() -> None:
    facts = facts_of()

    def shape(widths: tuple[int, int] = (8, 16), **compression: Any) -> Any:
        return facts.shape(compressed(widths, **compression))

    half = shape(pruning_ratio=0.5)
    assert half == shape(pruning_ratio=0.75) == shape(pruning_ratio=0.75, pruning_criterion="taylor")
    assert half != shape(pruning_ratio=0.25)
    assert half != shape(pruning_ratio=0.5, pruning_rounding=1)
    assert half != shape(pruning_ratio=0.5, weight_bits=8, activation_bits=8)
    assert shape((8, 8), pruning_ratio=0.75) == shape((8, 8)), "nothing is left to prune"
    assert shape((8, 8)) != half, "another architecture"


def test_files_are_the_same_where_the_same_channels_are_left_by_the_same_criterion() -> None:
    facts = facts_of()

    def file(widths: tuple[int, int] = (8, 16), **compression: Any) -> Any:
        return facts.files([compressed(widths, **compression)])[0]

    half = file(pruning_ratio=0.5, pruning_criterion="l1")
    assert half == file(pruning_ratio=0.75, pruning_criterion="l1")
    assert half != file(pruning_ratio=0.75, pruning_criterion="taylor")
    assert half != file(pruning_ratio=0.75, pruning_criterion="l1", distillation=True)
    assert half != file(pruning_ratio=0.75, pruning_criterion="l1", pruning_steps=2)
    steps = [file((32, 32), pruning_ratio=ratio, pruning_criterion="l1", pruning_steps=3) for ratio in (0.5, 0.52)]
    assert steps[0] != steps[1], "not as much is left between the steps"
    nothing = file((8, 8), pruning_ratio=0.25, pruning_criterion="l1")
    assert nothing == file((8, 8), pruning_ratio=0.75, pruning_criterion="taylor"), "nothing is left to choose from"
    assert nothing != file((8, 8)), "which is not trained once more"
    whole = {"stage1.pruning_ratio": 0.5}
    stages = [
        file((32, 32), **whole, pruning_rounding=8),
        file((32, 32), **whole, pruning_rounding=1),
        file((32, 32), **whole, pruning_criterion="taylor"),
    ]
    assert len(set(stages)) == 3, "what a stage's own ratio leaves is not known"
    shapes = {facts.shape(compressed((32, 32), **whole, pruning_rounding=rounding)) for rounding in (1, 8)}
    assert len(shapes) == 2


def test_what_is_under_way_is_not_begun_under_another_name() -> None:
    insight = Insight(SPACE, make_recipe(), (), facts=facts_of())
    quarter, rest = (compressed((8, 8), pruning_ratio=ratio, pruning_criterion="l1") for ratio in (0.25, 0.75))
    tally = insight.tally.of([])
    assert insight.are_other_files([quarter, rest], tally) == [True, True]
    assert insight.are_other_files([quarter, compressed((8, 16))], tally, [rest]) == [False, True]
    measured = insight.tally.of([make_record(0, design=rest)])
    assert insight.are_other_files([quarter, compressed((8, 16))], measured) == [False, True]


def test_integers_are_computed_at_other_costs_and_stored_in_fewer_bits() -> None:
    plain, integer, shared = facts_of().of(
        [
            make_design(),
            make_design(weight_bits=8, activation_bits=8),
            make_design(weight_sharing="kmeans", codebook_bits=4),
        ]
    )
    first = len(TELLING)
    alike = slice(first, first + len(TAKING_TIME))
    floats = slice(alike.stop, alike.stop + len(MORE_AS_FLOATS))
    integers = slice(floats.stop, floats.stop + len(MORE_AS_INTEGERS))
    assert (plain[alike] == integer[alike]).all()
    assert (shared[alike] == plain[alike]).all()
    of = dict(zip(TAKING_TIME, plain[alike], strict=True))
    assert plain[floats].tolist() == [of[name] for name in MORE_AS_FLOATS]
    assert plain[integers].tolist() == [0.0] * len(MORE_AS_INTEGERS)
    assert integer[floats].tolist() == [0.0] * len(MORE_AS_FLOATS)
    assert integer[integers].tolist() == [of[name] for name in MORE_AS_INTEGERS]
    assert [row[-1] / plain[-1] for row in (plain, integer, shared)] == [1, 1 / 4, 1 / 8]


def test_costs_are_those_of_the_built_networks_and_infinite_where_none_can_be_built() -> None:
    designs = drawn(SPACE, 30)
    shape = (1, 8, 8)
    facts = network_facts(SPACE, shape, CLASSES)
    assert facts is not None
    built = rough_costs(lambda design: build(design.family, design.architecture, shape, CLASSES), shape)(designs)
    assert 0 < np.isinf(built).sum() < 30
    assert facts.costs(designs) == pytest.approx(built)
    np.testing.assert_array_equal(np.isnan(facts.of(designs)).any(axis=1), np.isinf(built))


def test_what_only_a_built_network_shows_has_no_facts() -> None:
    own = OwnModule("net.py", "make", {}, weights=None)
    assert network_facts(replace(SPACE, module=own), SHAPE, CLASSES) is None


def test_a_search_begins_with_networks_of_few_stages_as_with_deep_ones(tmp_path: Path) -> None:
    """Fast networks are among the shallow ones with a flattened map, which a search that saw none looks for in vain."""
    facts, begun = facts_of(), []
    for seed in range(3):
        recipe = make_recipe(sampler="predictor", seed=seed)
        bridge = Bridge(tmp_path / f"{seed}.sqlite3", recipe, SPACE)
        parameters = bridge.parameters

        def seconds(given: Mapping[str, Sequence[Any]], parameters: Parameters = parameters) -> np.ndarray:
            rows = (dict(zip(given, values, strict=True)) for values in zip(*given.values(), strict=True))
            return facts.costs([SPACE.completed(parameters.decode(row)) for row in rows])

        hints = SamplerHints(seconds=seconds, cues=facts.of_parameters(parameters), cue_roles=facts.cues.roles)
        bridge.hints = lambda hints=hints: hints  # type: ignore[misc]
        own = []
        for _ in range(STARTUP_TRIALS):
            asked = bridge.ask()
            own.append(asked.design.architecture)
            stopped = replace(make_record(asked.number, outcome=Outcome.STOPPED), design=asked.design)
            bridge.tell(stopped)
        assert any(one["stages"] == 1 and one["head.pooling"] == "flatten" for one in own)
        begun += own
    assert 8 <= sum(one["stages"] == 1 for one in begun) <= 22, "of 30"
