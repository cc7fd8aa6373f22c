"""What every compression technique owes, whichever it is: a new one is a line in EXAMPLES."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import ARCHITECTURES, ONE_THREAD, digits, make_design, make_recipe

from nas.artifact import open_session, probabilities
from nas.compress.registry import GRAPH_TECHNIQUES, NETWORK_TECHNIQUES
from nas.compress.technique import GraphTechnique, NetworkTechnique, Technique
from nas.compression import CHOICES, IDENTITY, ORDER
from nas.design import Value
from nas.measure.complexity import count
from nas.outcome import Realisation
from nas.pipeline import Pipeline, Product, Teacher
from nas.stages import Trace
from nas.store import Store

TECHNIQUES: dict[str, Technique[Any]] = {t.name: t for t in (*NETWORK_TECHNIQUES, *GRAPH_TECHNIQUES)}
Compression = dict[str, Value]

# What asks for a technique, in several ways.
EXAMPLES: dict[str, list[Compression]] = {
    "prune": [
        {"pruning_ratio": 0.5},
        {"pruning_ratio": 0.5, "pruning_criterion": "taylor", "pruning_steps": 2},
        {"stage1.pruning_ratio": 0.5, "pruning_criterion": "random", "pruning_rounding": 1},
    ],
    "sparsify": [{"sparsity": 0.5}],
    "finetune": [
        {"distillation": True},
        {"distillation": True, "distillation_temperature": 2.0, "distillation_weight": 0.9},
    ],
    "share": [{"weight_sharing": "kmeans"}, {"weight_sharing": "kmeans", "codebook_bits": 3}],
    "quantise": [
        {"weight_bits": 8},
        {"weight_bits": 16, "activation_bits": 16},
        {"weight_bits": 8, "activation_bits": 8, "calibration": "percentile"},
        {"weight_bits": 4, "activation_bits": 8, "quantisation_aware": True},
        {"stage1.weight_bits": 4},
    ],
}
CASES = [
    pytest.param(name, example, id=f"{name}-{'-'.join(f'{key}={value}' for key, value in example.items())}")
    for name, examples in EXAMPLES.items()
    for example in examples
]
TEACHER = Teacher(3, make_design(architecture={"stem.width": 24, "stage1.width": 48, "head.pooling": "average"}))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_pipeline(folder: Path) -> Pipeline:
    return Pipeline(make_recipe(), digits(), Store(folder, 10**9), ONE_THREAD, reduce_range=False)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A pipeline whose cache fills up from test to test."""
    return make_pipeline(tmp_path_factory.mktemp("shared"))


def run(pipeline: Pipeline, compression: Compression, family: str = "convnet") -> tuple[Product, Trace]:
    trace = Trace()
    return pipeline.run(make_design(family, **compression), 0, TEACHER, trace), trace


def stages(trace: Trace) -> list[str]:
    return [stage.stage for stage in trace.stages]


# --- the registry


def test_every_technique_has_examples_and_stands_in_the_legal_order() -> None:
    assert EXAMPLES.keys() == TECHNIQUES.keys()
    assert list(TECHNIQUES) == [name for name in ORDER if name not in ("train", "freeze")]
    assert all(isinstance(technique, NetworkTechnique) for technique in NETWORK_TECHNIQUES)
    assert all(isinstance(technique, GraphTechnique) for technique in GRAPH_TECHNIQUES)


def test_every_choice_is_one_techniques_own() -> None:
    owned = [choice for technique in TECHNIQUES.values() for choice in technique.choices]
    assert sorted(owned) == sorted(CHOICES)


# --- each technique


@pytest.mark.parametrize("name", TECHNIQUES)
def test_none_is_the_identity(name: str, shared: Pipeline) -> None:
    identities = {choice: IDENTITY[choice] for choice in TECHNIQUES[name].choices if CHOICES[choice].refines is None}
    assert TECHNIQUES[name].config(make_design()) is None
    assert TECHNIQUES[name].config(make_design(**identities)) is None
    plain, _ = run(shared, {})
    spelt, trace = run(shared, identities)
    assert spelt.artifact == plain.artifact
    assert name not in stages(trace)
    assert spelt.labels == {}


@pytest.mark.parametrize(("name", "compression"), CASES)
def test_the_config_is_a_value_of_json(name: str, compression: Compression) -> None:
    technique = TECHNIQUES[name]
    config = technique.config(make_design(**compression))
    assert is_dataclass(config)
    assert config == technique.config(make_design(**compression))
    assert json.loads(json.dumps(asdict(config)))
    with pytest.raises(AttributeError):
        config.something = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "compression"), CASES)
def test_classes_stay_and_the_file_loads_in_the_stock_runtime(
    name: str, compression: Compression, shared: Pipeline
) -> None:
    product, trace = run(shared, compression)
    assert name in stages(trace)
    images = digits().validation.images
    result = probabilities(open_session(product.artifact), images)
    assert result.shape == (len(images), 10)
    np.testing.assert_allclose(result.sum(1), 1, rtol=1e-3)
    plain, _ = run(shared, {})
    assert product.artifact != plain.artifact


@pytest.mark.parametrize(("name", "compression"), CASES)
def test_the_same_again_in_another_cache_and_from_the_cache(
    name: str, compression: Compression, shared: Pipeline, tmp_path: Path
) -> None:
    first, _ = run(shared, compression)
    from_cache, trace = run(shared, compression)
    assert all(stage.cached for stage in trace.stages)
    fresh, _ = run(make_pipeline(tmp_path), compression)
    assert from_cache.artifact == first.artifact == fresh.artifact
    for one, other in zip(first.network.parameters(), fresh.network.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("name", "compression"), CASES)
def test_size_and_flops_are_those_of_what_remains(name: str, compression: Compression, shared: Pipeline) -> None:
    plain, _ = run(shared, {})
    product, _ = run(shared, compression)
    before, after = count(plain.network, (1, 8, 8)), count(product.network, (1, 8, 8))
    assert after.params == sum(p.numel() for p in product.network.parameters())
    if name == "prune":
        assert after.macs < before.macs
        assert len(product.artifact) < 0.9 * len(plain.artifact)
    else:
        assert after.macs == before.macs
        smaller = name in ("share", "quantise")
        assert (len(product.artifact) < 0.9 * len(plain.artifact)) is smaller


@pytest.mark.parametrize(("name", "compression"), CASES)
def test_what_it_found_out_can_be_stored_and_what_it_did_is_labelled(
    name: str, compression: Compression, shared: Pipeline
) -> None:
    product, trace = run(shared, compression)
    for stage in trace.stages:
        assert json.loads(json.dumps(stage.detail)) == stage.detail
    asked = {key for key in compression if CHOICES[key.rpartition(".")[2]].refines is None}
    assert asked <= product.labels.keys()
    assert all(isinstance(label, Realisation) for label in product.labels.values())
    assert all(note and "\n" not in note for note in product.notes)


@pytest.mark.parametrize(("name", "compression"), CASES)
def test_what_it_is_given_is_not_changed(name: str, compression: Compression, shared: Pipeline) -> None:
    """By applying the handler itself, outside the pipeline."""
    design = make_design(**compression)
    technique = TECHNIQUES[name]
    config = technique.config(design)
    tools = shared._tools(design, 0, TEACHER, Trace())
    whole = shared.uncompressed(make_design(), 0, Trace())
    if isinstance(technique, NetworkTechnique):
        before = copy.deepcopy(whole.network.state_dict())
        network, detail = technique.apply(whole.network, config, tools)
        assert all(torch.equal(before[key], value) for key, value in whole.network.state_dict().items())
        again = technique.restore(copy.deepcopy(whole.network), json.loads(json.dumps(detail)), tools)
        again.load_state_dict(network.state_dict())
        images = torch.from_numpy(tools.calibration[:8])
        with torch.no_grad():
            assert torch.equal(again.eval()(images), network.eval()(images))


@pytest.mark.parametrize(("name", "compression"), CASES)
def test_what_is_left_of_it_without_training(name: str, compression: Compression, shared: Pipeline) -> None:
    """The same widths or the same form of weights, had without a step of training; or nothing."""
    technique = TECHNIQUES[name]
    config = technique.config(make_design(**compression))
    untrained = technique.untrained(config)
    if untrained is None:
        assert technique.trains(config)
        return
    assert not technique.trains(untrained)
    assert (untrained == config) is not technique.trains(config)
    network, artifact = shared.without_training(make_design(**compression), 0, Trace())
    product, _ = run(shared, compression)
    assert count(network, (1, 8, 8)).macs == count(product.network, (1, 8, 8)).macs
    assert len(artifact) == pytest.approx(len(product.artifact), rel=0.02)


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("name", TECHNIQUES)
def test_every_family_can_be_treated(name: str, family: str, shared: Pipeline) -> None:
    product, trace = run(shared, EXAMPLES[name][0], family)
    assert name in stages(trace)
    result = probabilities(open_session(product.artifact), digits().validation.images[:4])
    assert np.isfinite(result).all()


@pytest.mark.parametrize(
    "compression",
    [
        {"pruning_ratio": 0.5, "sparsity": 0.5, "distillation": True, "weight_sharing": "kmeans"},
        {
            "pruning_ratio": 0.5,
            "sparsity": 0.5,
            "distillation": True,
            "weight_bits": 4,
            "activation_bits": 8,
            "quantisation_aware": True,
        },
    ],
    ids=["shared", "quantised"],
)
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_all_of_them_in_one_design(compression: Compression, family: str, shared: Pipeline) -> None:
    product, trace = run(shared, compression, family)
    done = [stage for stage in stages(trace) if stage in ORDER]
    assert done == sorted(done, key=ORDER.index)
    assert compression.keys() - product.labels.keys() <= {"quantisation_aware"}
    result = probabilities(open_session(product.artifact), digits().validation.images)
    assert np.isfinite(result).all()
