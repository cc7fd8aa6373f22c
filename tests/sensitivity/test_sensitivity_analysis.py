"""The analysis of a tiny trained network, held against pruning and scoring by other ways."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import ONE_THREAD, digits, make_design, make_recipe

from nas.artifact import open_session, probabilities
from nas.compress.prune import prune
from nas.design import Design
from nas.errors import UnsupportedError
from nas.measure.complexity import count
from nas.outcome import Outcome
from nas.own_module import parse_module
from nas.pipeline import Pipeline, own_network
from nas.record import TrialRecord
from nas.sensitivity.analysis import NOTHING_TO_PRUNE, analyse, difference
from nas.sensitivity.result import SETTINGS, Sensitivity, Setting, Stage
from nas.stages import Trace
from nas.store import Store

IMAGES = 150
HALF = Setting(0.5)
INT8 = Setting(weight_bits=8, activation_bits=8)

# --- the difference of two files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "lost", "error"),
    [
        ([1, 1, 1, 0], [1, 1, 1, 0], 0.0, 0.0),
        ([1, 1, 1, 1], [0, 0, 0, 0], 1.0, 0.0),
        ([1, 1, 1, 1], [1, 1, 1, 0], 0.25, math.sqrt((1 / 4 - 1 / 16) / 4)),
        ([1, 1, 0, 0], [0, 1, 1, 0], 0.0, math.sqrt((2 / 4) / 4)),
        ([0, 0, 0, 0], [1, 0, 0, 0], -0.25, math.sqrt((1 / 4 - 1 / 16) / 4)),
    ],
)
def test_the_loss_is_paired(before: list[int], after: list[int], lost: float, error: float) -> None:
    assert difference(np.array(before, bool), np.array(after, bool)) == pytest.approx((lost, error))


def test_its_error_is_that_of_repeated_samples() -> None:
    """The mean standard error of many samples is the spread of their losses."""
    rng = np.random.default_rng(0)
    fate = rng.choice(4, p=(0.85, 0.07, 0.03, 0.05), size=(2000, 400))  # both right, only before, only after, neither
    found = np.array([difference(row < 2, (row == 0) | (row == 2)) for row in fate])
    assert found[:, 0].mean() == pytest.approx(0.04, abs=0.001)
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.05)


# --- a network -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    store = Store(tmp_path_factory.mktemp("cache"), 10**9)
    return Pipeline(make_recipe(epochs=8), digits(), store, ONE_THREAD, reduce_range=False)


def record_of(design: Design) -> TrialRecord:
    return TrialRecord(7, "asked", design, Outcome.MEASURED, seed=0)


class Heard:
    """What the analysis told of its progress."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float, int]] = []

    def __call__(self, what: str, done: float, of: int) -> None:
        self.steps.append((what, done, of))


@pytest.fixture(scope="module")
def heard() -> Heard:
    return Heard()


@pytest.fixture(scope="module")
def found(pipeline: Pipeline, heard: Heard) -> Sensitivity:
    compressed = make_design("convnet", {"head.hidden": 16}, pruning_ratio=0.25, weight_bits=8)
    return analyse("tiny", record_of(compressed), pipeline, IMAGES, False, heard)


def stage(found: Sensitivity, name: str) -> Stage:
    return next(stage for stage in found.stages if stage.name == name)


def accuracy(pipeline: Pipeline, artifact: bytes) -> float:
    validation = pipeline.dataset.validation
    right = probabilities(open_session(artifact), validation.images[:IMAGES]).argmax(1) == validation.labels[:IMAGES]
    return float(right.mean())


def test_it_is_of_the_uncompressed_network(found: Sensitivity, pipeline: Pipeline) -> None:
    assert found.design == make_design("convnet", {"head.hidden": 16})
    assert (found.study, found.trial, found.images) == ("tiny", 7, IMAGES)
    float_network = pipeline.uncompressed(found.design, 0, Trace())
    complexity = count(float_network.network, pipeline.input_shape)
    assert (found.macs, found.params) == (complexity.macs, complexity.params)
    assert found.size_bytes == len(float_network.artifact)
    assert found.accuracy == accuracy(pipeline, float_network.artifact) > 0.8


def test_every_stage_went_through_every_setting(found: Sensitivity) -> None:
    assert [stage.name for stage in found.stages] == ["stem", "stage1", "head", "classifier"]
    assert all(tuple(effect.setting for effect in stage.effects) == SETTINGS for stage in found.stages)
    assert sum(stage.macs for stage in found.stages) == found.macs
    assert sum(stage.params for stage in found.stages) == found.params


@pytest.mark.parametrize("name", ["stage1", "head"])
def test_pruning_a_stage_alone_costs_what_the_pruned_network_says(
    name: str, found: Sensitivity, pipeline: Pipeline
) -> None:
    """Pruned by hand and scored by torch on the same images, instead of exported and run by ONNX Runtime."""
    float_network = pipeline.uncompressed(found.design, 0, Trace()).network
    pruned = prune(float_network, 0.0, pipeline.input_shape, stages={name: 0.5}).model
    validation = pipeline.dataset.validation
    images = torch.from_numpy(validation.images[:IMAGES]).permute(0, 3, 1, 2)
    with torch.no_grad():
        right = pruned(pipeline.data.normalise(images)).argmax(1).numpy() == validation.labels[:IMAGES]
    effect = stage(found, name).effect(HALF)
    assert effect is not None
    assert effect.lost == pytest.approx(found.accuracy - right.mean())
    assert effect.macs == count(pruned, pipeline.input_shape).macs < found.macs
    assert effect.params is not None
    assert effect.params < found.params
    assert effect.size_bytes is not None
    assert effect.size_bytes < found.size_bytes


def test_more_pruning_leaves_less(found: Sensitivity) -> None:
    for name in ("stage1", "head"):
        left = [effect.macs for effect in stage(found, name).effects if effect.setting.prunes]
        assert all(macs is not None for macs in left)
        assert sorted(left, reverse=True) == left  # type: ignore[type-var]


def test_where_nothing_can_be_pruned_no_loss_is_stated(found: Sensitivity) -> None:
    """The classes stay."""
    for effect in stage(found, "classifier").effects:
        if effect.setting.prunes:
            assert (effect.lost, effect.error, effect.refused) == (None, None, False)
            assert effect.reason == NOTHING_TO_PRUNE


@pytest.mark.parametrize("name", ["stem", "stage1", "head", "classifier"])
def test_eight_bits_in_one_stage_save_bytes_and_little_accuracy(name: str, found: Sensitivity) -> None:
    effect = stage(found, name).effect(INT8)
    assert effect is not None
    assert effect.lost is not None, effect.reason
    assert abs(effect.lost) < 0.1
    assert (effect.macs, effect.params) == (found.macs, found.params)
    assert effect.size_bytes != found.size_bytes


def test_fewer_bits_take_less_room(found: Sensitivity) -> None:
    four, eight = (stage(found, "head").effect(Setting(weight_bits=bits, activation_bits=8)) for bits in (4, 8))
    assert four is not None
    assert eight is not None
    assert four.size_bytes is not None
    assert eight.size_bytes is not None
    assert four.size_bytes < eight.size_bytes < found.size_bytes


def test_progress_is_told_step_by_step(found: Sensitivity, heard: Heard) -> None:
    steps = [(what, done) for what, done, of in heard.steps if of == len(found.stages) * len(SETTINGS)]
    assert [done for _, done in steps] == list(range(24))
    assert steps[0][0] == "stem −25 %"
    assert any(what.startswith("train trial 7") for what, _, _ in heard.steps)


def test_single_layers(pipeline: Pipeline, found: Sensitivity) -> None:
    layers = analyse("tiny", record_of(found.design), pipeline, IMAGES, True, Heard(), settings=(HALF,))
    assert [layer.name for layer in layers.stages] == ["stem.0", "stage1.0", "head.1", "classifier"]
    # A stage of one layer is that layer.
    for by_layer, by_stage in zip(layers.stages, found.stages, strict=True):
        ours, theirs = by_layer.effect(HALF), by_stage.effect(HALF)
        assert ours is not None
        assert theirs is not None
        assert (ours.lost, ours.macs) == (theirs.lost, theirs.macs)


def test_fewer_images_than_asked_for_are_said(pipeline: Pipeline, found: Sensitivity) -> None:
    more = analyse("tiny", record_of(found.design), pipeline, 10**6, False, Heard(), settings=())
    assert more.images == len(pipeline.dataset.validation.labels)
    assert more.stages[0].effects == ()


def test_the_same_again(pipeline: Pipeline, found: Sensitivity) -> None:
    again = analyse("tiny", record_of(found.design), pipeline, IMAGES, False, Heard(), settings=(HALF, INT8))
    kept = tuple(
        replace(stage, effects=tuple(effect for effect in stage.effects if effect.setting in (HALF, INT8)))
        for stage in found.stages
    )
    assert again.stages == kept


def test_a_refusal_is_a_value(pipeline: Pipeline, found: Sensitivity, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Pipeline.without_training

    def refuse(self, design: Design, seed: int, trace: Trace, inherits: object):  # type: ignore[no-untyped-def]
        if "stage1.pruning_ratio" in design.compression:
            raise UnsupportedError("layer 'stage1.0' cannot be pruned", "set it to 0")
        return real(self, design, seed, trace, inherits)

    monkeypatch.setattr(Pipeline, "without_training", refuse)
    again = analyse("tiny", record_of(found.design), pipeline, IMAGES, False, Heard(), settings=(HALF,))
    (effect,) = stage(again, "stage1").effects
    assert (effect.refused, effect.reason, effect.lost) == (True, "layer 'stage1.0' cannot be pruned", None)
    (other,) = stage(again, "head").effects
    assert other.lost is not None


def test_nothing_but_the_float_network_is_cached(pipeline: Pipeline, found: Sensitivity, tmp_path: Path) -> None:
    names = {path.name for path in (pipeline.store.folder / "keys").iterdir()}
    analyse("tiny", record_of(found.design), pipeline, IMAGES, False, Heard(), settings=(HALF, INT8))
    assert {path.name for path in (pipeline.store.folder / "keys").iterdir()} == names
    assert len(names) == 2  # the trained network and its export


def test_a_persons_own_network(tmp_path: Path) -> None:
    """Its stem shares channels with the block after it, so that alone it loses none; inside a block they can go."""
    source = Path(__file__).parent.parent / "foreign_networks.py"
    module = parse_module({"source": f"{source}:tiny_resnet", "arguments": {"width": 16}}, tmp_path)
    own = own_network(module, digits())
    pipeline = Pipeline(make_recipe(), digits(), Store(tmp_path / "cache", 10**9), ONE_THREAD, False, own=own)
    record = record_of(Design("module", {"module": "tiny_resnet"}, {"pruning_ratio": 0.5}))
    found = analyse("own", record, pipeline, IMAGES, False, Heard(), settings=(HALF,))
    assert [stage.name for stage in found.stages] == ["conv1", "layer1", "layer2", "fc"]
    macs = [effect.macs for stage in found.stages for effect in stage.effects]
    assert [left is None for left in macs] == [True, False, False, True]
    assert found.design == Design("module", {"module": "tiny_resnet"}, {})
