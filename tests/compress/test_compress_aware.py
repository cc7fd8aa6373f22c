"""Quantisation-aware fine-tuning: what 4 bits lost comes back, in the file and on its grid."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from small_networks import ARCHITECTURES, ONE_THREAD, digits, training_data

from nas.artifact import open_session, probabilities
from nas.compress.bits.aware import masters, train_quantised
from nas.compress.bits.body import Bits, prepare, weighted
from nas.compress.bits.qdq import Calibration, quantise_layers, quantise_weights
from nas.compress.export import attach_front_end, export_body, input_quantisation
from nas.compress.technique import Tools
from nas.families import build
from nas.recipe_sections import TrainingConfig
from nas.train import Distillation, TrainingData, seeded, train

FAMILIES = sorted(ARCHITECTURES)
IMAGES = 600
TRAINING = TrainingConfig(batch_size=50, learning_rate=6e-3, finetune_learning_rate=4e-3, weight_decay=0.05)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@functools.cache
def data() -> TrainingData:
    return training_data(digits(IMAGES))


def tools() -> Tools:
    return Tools(data(), (1, 8, 8), TRAINING, 2, ONE_THREAD, 0, input_quantisation(data().normalisation))


@functools.cache
def float_body(family: str) -> bytes:
    """A trained network, with a name for each node."""
    with seeded(0, 1) as generator:
        model = build(family, ARCHITECTURES[family], (1, 8, 8), 10)
        train(model, data(), TRAINING, ONE_THREAD, 5, TRAINING.learning_rate, generator)
    return prepare(export_body(model, (1, 8, 8)))


@functools.cache
def quantised(family: str, weights: int, activations: int, reduce_range: bool = False) -> bytes:
    body = float_body(family)
    graph = onnx.load_from_string(body).graph
    bits = {node.name: Bits(weights, activations) for node in graph.node}
    if activations == 32:
        return quantise_weights(body, {name: bits[name] for name in weighted(graph)})
    calibration = Calibration(tools().calibration, pixels=tools().pixels)
    return quantise_layers(body, bits, calibration, reduce_range)


@functools.cache
def trained(family: str, weights: int, activations: int) -> bytes:
    return train_quantised(float_body(family), quantised(family, weights, activations), tools(), 3)[0]


def initializers(body: bytes) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(body).graph.initializer}


def loss(body: bytes) -> float:
    """What training lowers: the label-smoothed loss on the training digits, of what the file itself computes."""
    artifact = attach_front_end(body, digits(IMAGES).input, data().normalisation)
    train_split = digits(IMAGES).train
    logs = np.log(probabilities(open_session(artifact), train_split.images) + 1e-9)
    smoothing = TRAINING.label_smoothing
    right = logs[np.arange(len(logs)), train_split.labels].mean()
    return float(-(1 - smoothing) * right - smoothing * logs.mean())


@pytest.mark.parametrize(("weights", "activations"), [(4, 8), (4, 32), (8, 8), (4, 16)])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_file_loses_less_than_without_training(family: str, weights: int, activations: int) -> None:
    before, after = quantised(family, weights, activations), trained(family, weights, activations)
    lost = loss(before) - loss(float_body(family))
    assert loss(after) < loss(before) - max(0, lost) / 2
    if weights == 4:
        assert lost > 0


@pytest.mark.parametrize(("weights", "activations"), [(4, 8), (4, 32), (8, 8)])
def test_only_integers_change_and_stay_in_range(weights: int, activations: int) -> None:
    before = initializers(quantised("mobilenet", weights, activations))
    after = initializers(trained("mobilenet", weights, activations))
    assert before.keys() <= after.keys()
    changed = {name for name, array in before.items() if not np.array_equal(array, after[name])}
    integers = {name for name, array in before.items() if "_quantized" in name and array.dtype == np.int8}
    assert len(integers) > 5
    assert changed > integers - {name for name in integers if before[name].ndim == 1}
    assert not any(name.endswith(("_scale", "_zero_point")) for name in changed)
    for name in integers:
        assert after[name].dtype == np.int8
        assert np.abs(after[name].astype(int)).max() <= (7 if weights == 4 else 127)


def test_seven_bits_stay_seven_bits() -> None:
    before = quantised("convnet", 8, 8, reduce_range=True)
    after, _ = train_quantised(float_body("convnet"), before, tools(), 1)
    for array in initializers(after).values():
        if array.dtype == np.int8 and array.ndim > 1:
            assert np.abs(array.astype(int)).max() <= 64


def test_same_seed_same_bytes_another_seed_others() -> None:
    again = train_quantised(float_body("convnet"), quantised("convnet", 4, 8), tools(), 3)[0]
    assert again == trained("convnet", 4, 8)
    other = dataclasses.replace(tools(), seed=1)
    assert train_quantised(float_body("convnet"), quantised("convnet", 4, 8), other, 3)[0] != again


def test_weights_do_not_decay() -> None:
    without = dataclasses.replace(tools(), training=TRAINING.model_copy(update={"weight_decay": 0.0}))
    assert train_quantised(float_body("mlp"), quantised("mlp", 4, 8), without, 3)[0] == trained("mlp", 4, 8)


def test_a_teacher_is_learned_from_and_progress_is_told() -> None:
    heard: list[float] = []
    logits = torch.nn.functional.one_hot((data().labels + 1) % 10, 10).float() * 12  # a teacher that is off by one
    wrong = dataclasses.replace(tools(), teach=lambda: Distillation(logits, 1.0, 1.0), progress=heard.append)
    body, curve = train_quantised(float_body("mlp"), quantised("mlp", 8, 8), wrong, 8)
    assert len(curve) == 8
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert heard == [epoch / 8 for epoch in range(1, 9)]
    assert loss(body) > 2 * loss(quantised("mlp", 8, 8))


# --- where training starts


def renamed(body: bytes, old: str, new: str) -> bytes:
    model = onnx.load_from_string(body)
    for tensor in model.graph.initializer:
        tensor.name = new if tensor.name == old else tensor.name
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(("weights", "activations"), [(8, 8), (4, 8), (4, 32), (8, 32)])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_is_found_in_the_float_body(family: str, weights: int, activations: int) -> None:
    floats = initializers(float_body(family))
    found = masters(float_body(family), quantised(family, weights, activations))
    assert {array.tobytes() for array in found.values()} == {
        array.tobytes() for array in floats.values() if array.ndim > 1
    }


def test_what_has_another_name_or_shape_starts_from_what_its_integers_stand_for() -> None:
    body, integers = float_body("mobilenet"), quantised("mobilenet", 4, 8)
    name = "model.classifier.weight"
    everything = masters(body, integers)
    other_name = masters(renamed(body, name, "other"), integers)
    assert everything.keys() - other_name.keys() == {f"{name}_quantized_int4"}
    model = onnx.load_from_string(body)
    [tensor] = [tensor for tensor in model.graph.initializer if tensor.name == name]
    tensor.CopyFrom(numpy_helper.from_array(initializers(body)[name].T.copy(), name))
    other_shape = masters(model.SerializeToString(), integers)
    assert other_shape.keys() == other_name.keys()
    after, _ = train_quantised(renamed(body, name, "other"), integers, tools(), 3)
    assert loss(after) < loss(integers)
