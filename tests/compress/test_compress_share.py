"""Weight sharing: few values a layer in the finished file, as accurate again after their training, zeros still zero."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from small_networks import ARCHITECTURES, ONE_THREAD, digits, make_design, training_data
from torch import nn

from nas.artifact import open_session, probabilities
from nas.compress import share
from nas.compress.export import BODY_INPUT, attach_front_end, export_body
from nas.compress.graph.network import GraphNetwork
from nas.compress.share import Share, ShareConfig
from nas.compress.technique import Tools
from nas.errors import UnsupportedError
from nas.families import build
from nas.outcome import Realisation
from nas.recipe_sections import TrainingConfig
from nas.train import Distillation, seeded, train

TRAINING = TrainingConfig(batch_size=50, learning_rate=6e-3, finetune_learning_rate=2e-3)
WIDE = {"stem.width": 32, "stage1.width": 64}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_tools(epochs: int = 0, seed: int = 0, **training: Any) -> Tools:
    config = TRAINING.model_copy(update=training)
    return Tools(training_data(digits(600)), (1, 8, 8), config, epochs, ONE_THREAD, seed)


@functools.cache
def trained_network() -> nn.Module:
    with seeded(0, 1) as generator:
        model = build("convnet", ARCHITECTURES["convnet"], (1, 8, 8), 10)
        train(model, training_data(digits(600)), TRAINING, ONE_THREAD, 8, TRAINING.learning_rate, generator)
    return model


@functools.cache
def trained_body() -> bytes:
    return export_body(trained_network(), (1, 8, 8))


@functools.cache
def shared(bits: int, epochs: int = 0) -> tuple[bytes, dict[str, Any]]:
    return Share().apply(trained_body(), ShareConfig(bits), make_tools(epochs))


def finished(body: bytes) -> bytes:
    return attach_front_end(body, digits().input, training_data(digits(600)).normalisation)


def score(body: bytes) -> tuple[float, float]:
    """Accuracy and mean cross-entropy of the finished file on validation digits."""
    images, labels = digits(600).validation.images, digits(600).validation.labels
    result = probabilities(open_session(finished(body)), images)
    return float((result.argmax(1) == labels).mean()), float(-np.log(result[np.arange(len(labels)), labels]).mean())


def initializers(body: bytes) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(body).graph.initializer}


def rebuilt(body: bytes, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight as ONNX Runtime has it."""
    model = onnx.load_from_string(body)
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    session = open_session(model.SerializeToString())
    return np.asarray(session.run([name], {BODY_INPUT: np.zeros((1, 1, 8, 8), np.float32)})[0])


def weight_names(body: bytes) -> dict[str, tuple[int, ...]]:
    arrays = initializers(body)
    return {name: arrays[name].shape for name in GraphNetwork(body).weights}


# --- what it does to the weights


@pytest.mark.parametrize("epochs", [0, 1])
@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_each_layer_has_so_many_values_and_the_file_holds_them(bits: int, epochs: int) -> None:
    body, detail = shared(bits, epochs)
    names = weight_names(trained_body())
    assert len(names) == 3
    for name, shape in names.items():
        weights = rebuilt(body, name, shape)
        assert len(np.unique(weights)) == 2**bits
    assert names.keys().isdisjoint(initializers(body)), "the floats are gone"
    assert [layer["values"] for layer in detail["layers"]] == [2**bits] * 3


def test_without_training_a_value_is_what_kmeans_found() -> None:
    body, _ = shared(4)
    for name, shape in weight_names(trained_body()).items():
        before, after = initializers(trained_body())[name], rebuilt(body, name, shape)
        for value in np.unique(after):
            np.testing.assert_allclose(value, before[after == value].mean(dtype=np.float64), rtol=1e-4, atol=1e-6)


def test_training_moves_values_and_biases_but_no_weight_from_its_group() -> None:
    before, after = shared(3)[0], shared(3, 1)[0]
    first, second = initializers(before), initializers(after)
    assert first.keys() == second.keys()
    moved = [name for name in first if not np.array_equal(first[name], second[name])]
    assert sum(name.endswith("_values") for name in moved) == 3
    assert not [name for name in moved if name.endswith("_packed")]
    assert len(moved) == 6, "the layers' biases too"


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_pruned_weights_are_still_zero(bits: int) -> None:
    model = onnx.load_from_string(trained_body())
    zeros = {}
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor).copy()
        if weights.ndim > 1:
            weights[np.abs(weights) < np.quantile(np.abs(weights), 0.4)] = 0
            zeros[tensor.name] = weights == 0
            tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    body, detail = Share().apply(model.SerializeToString(), ShareConfig(bits), make_tools(1))
    assert len(detail["layers"]) + len(detail["left_float"]) == 3
    left = initializers(body).keys() & zeros.keys()
    for name in zeros.keys() - left:
        assert 0.35 < zeros[name].mean() < 0.45
        assert (rebuilt(body, name, zeros[name].shape)[zeros[name]] == 0).all()


def test_a_weight_that_two_layers_have_in_common_is_stored_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, 16, 3, padding=1)
            self.block = nn.Conv2d(16, 16, 3, padding=1)
            self.head = nn.Linear(16 * 64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.block(torch.relu(self.block(torch.relu(self.stem(x))))))
            return self.head(x.flatten(1))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    body, detail = Share().apply(export_body(Twice(), (1, 8, 8)), ShareConfig(4), make_tools(1))
    assert [layer["layer"] for layer in detail["layers"]] == ["stem", "block", "head"]
    assert sum(name.endswith("_packed") for name in initializers(body)) == 3
    probabilities(open_session(finished(body)), digits().validation.images)


# --- accuracy and size


@pytest.mark.parametrize(("bits", "lost"), [(2, 0.05), (3, 0.02), (4, 0.01), (8, 0.01)])
def test_after_training_the_file_is_nearly_as_accurate_as_the_float_file(bits: int, lost: float) -> None:
    accuracy, _ = score(trained_body())
    assert accuracy > 0.93
    after, loss_after = score(shared(bits, 3)[0])
    _, loss_before = score(shared(bits)[0])
    assert after > accuracy - lost
    assert loss_after < loss_before or bits == 8  # which leaves nothing to regain


def test_the_file_has_as_many_bits_as_it_claims() -> None:
    torch.manual_seed(0)
    body = export_body(build("convnet", ARCHITECTURES["convnet"] | WIDE, (1, 8, 8), 10), (1, 8, 8))
    weights = sum(int(np.prod(shape)) for shape in weight_names(body).values())
    whole = len(finished(body))
    for bits in (2, 3, 4, 5):
        small = len(finished(Share().apply(body, ShareConfig(bits), make_tools())[0]))
        saved = weights * (32 - bits) // 8 - 3 * 4 * 2**bits
        assert 0 < small - (whole - saved) < 3 * 240 + 200
        assert small < (bits / 32 + 0.03) * whole


# --- training


def test_the_same_seed_gives_the_same_bytes_and_another_other_ones() -> None:
    body, detail = shared(3, 1)
    again, detail_again = Share().apply(trained_body(), ShareConfig(3), make_tools(1))
    assert body == again
    for each in (*detail["curve"], *detail_again["curve"]):
        each.pop("seconds", None)
    assert detail == detail_again
    assert Share().apply(trained_body(), ShareConfig(3), make_tools(1, seed=1))[0] != body


def test_weight_decay_is_left_out() -> None:
    body, _ = Share().apply(trained_body(), ShareConfig(3), make_tools(1, weight_decay=50.0))
    assert body == Share().apply(trained_body(), ShareConfig(3), make_tools(1, weight_decay=0.0))[0]


def test_a_teacher_helps_where_there_is_one_and_progress_is_told() -> None:
    tools = make_tools(1)
    logits = torch.zeros(len(tools.data.labels), 10)
    told: list[float] = []
    taught = dataclasses.replace(tools, teach=lambda: Distillation(logits, 4.0, 0.9), progress=told.append)
    body, detail = Share().apply(trained_body(), ShareConfig(3), taught)
    assert body != shared(3, 1)[0]
    assert detail["curve"][0]["loss"] > shared(3, 1)[1]["curve"][0]["loss"], "it knows nothing"
    assert told == [1.0]


# --- what is told of it


@pytest.mark.parametrize("bits", [2, 4])
def test_the_detail_tells_each_layers_values_and_part_of_the_error(bits: int) -> None:
    _, detail = shared(bits, 3)
    assert json.loads(json.dumps(detail)) == detail
    layers = detail["layers"]
    assert [layer["layer"] for layer in layers] == ["features.stem.0", "features.stage1.0", "classifier"]
    assert [layer["weights"] for layer in layers] == [144, 4608, 5120]
    assert sum(layer["share_of_error"] for layer in layers) == pytest.approx(1)
    body = shared(bits)[0]
    for layer, (name, shape) in zip(layers, weight_names(trained_body()).items(), strict=True):
        before, after = initializers(trained_body())[name].astype(np.float64), rebuilt(body, name, shape)
        error = np.square(before - after).sum() / np.square(before).sum()
        assert layer["relative_error"] == pytest.approx(error, rel=1e-3)
        assert 0 < error < 0.2
    assert detail["left_float"] == []
    assert len(detail["curve"]) == 3
    assert {"loss", "train_accuracy"} <= detail["curve"][0].keys()


def test_a_layer_that_would_take_more_room_stays_float_and_is_named() -> None:
    body, detail = shared(8)
    assert detail["left_float"] == ["features.stem.0"]
    [stem] = [name for name, shape in weight_names(trained_body()).items() if shape == (16, 1, 3, 3)]
    assert np.array_equal(initializers(body)[stem], initializers(trained_body())[stem])
    notes = Share().account(ShareConfig(8), detail, finished(body)).notes
    assert "not shared, since indices and values would take no less room than floats: features.stem.0" in notes


@pytest.mark.parametrize("bits", range(2, 9))
def test_it_is_simulated_and_says_that_it_saves_size_alone(bits: int) -> None:
    body, detail = shared(bits)
    account = Share().account(ShareConfig(bits), detail, finished(body))
    assert account.labels == {"weight_sharing": Realisation.SIMULATED, "codebook_bits": Realisation.SIMULATED}
    assert account.notes[0] == (
        f"weights are shared: {2**bits} values a layer, stored in {bits} bits; saves size, not time"
    )
    assert len(account.notes) == (2 if bits > 5 else 1), "the runtime folds them, or it would be said"


def test_weights_that_the_runtime_does_not_fold_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "rebuilt_in_every_run", lambda artifact: ["Gather", "Cast", "Gather"])
    body, detail = shared(4)
    account = Share().account(ShareConfig(4), detail, finished(body))
    assert account.notes[-1] == "ONNX Runtime rebuilds shared weights in every run, which costs time, by Cast, Gather"
    assert set(account.labels.values()) == {Realisation.SIMULATED}


def test_its_settings_are_read_from_the_design() -> None:
    assert Share().config(make_design()) is None
    assert Share().config(make_design(weight_sharing="none")) is None
    assert Share().config(make_design(weight_sharing="kmeans")) == ShareConfig(4)
    assert Share().config(make_design(weight_sharing="kmeans", codebook_bits=2)) == ShareConfig(2)
    assert Share().trains(ShareConfig(4))


# --- what cannot be done


def test_a_network_too_small_to_gain_is_refused() -> None:
    body = export_body(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), (1, 8, 8))
    with pytest.raises(UnsupportedError, match=r"^sharing weights with 8 bits saves nothing .*'1', has 256 weights \("):
        Share().apply(body, ShareConfig(8), make_tools())


def test_a_network_without_weights_is_refused() -> None:
    body = export_body(nn.Flatten(), (1, 8, 8))
    with pytest.raises(UnsupportedError, match=r"its largest layer is none with weights \(leave weight_sharing out"):
        Share().apply(body, ShareConfig(4), make_tools())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_the_layers_name(value: float) -> None:
    model = onnx.load_from_string(trained_body())
    tensor = next(tensor for tensor in model.graph.initializer if tuple(tensor.dims) == (32, 16, 3, 3))
    weights = numpy_helper.to_array(tensor).copy()
    weights[1, 2, 0, 0] = value
    tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    with pytest.raises(UnsupportedError, match=r"'features\.stage1\.0' cannot be shared: one is NaN or infinite"):
        Share().apply(model.SerializeToString(), ShareConfig(4), make_tools())
