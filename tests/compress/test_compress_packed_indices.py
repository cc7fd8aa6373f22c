"""Packed indices: as many bytes as their bits say, the same weights back from any runtime that has the operators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_models import make_model

from nas.artifact import InputSpec, open_session
from nas.compress.codebook import Clusters
from nas.compress.export import BODY_INPUT, attach_front_end
from nas.compress.packed_indices import (
    decoder_bytes,
    group_of,
    pack,
    packed_bytes,
    rebuilt_in_every_run,
    saves_room,
    store,
)
from nas.data.normalise import Normalisation

ALL_BITS = range(2, 9)
NORMALISATION = Normalisation((117.0,), (46.5,))


def unpacked(packed: np.ndarray, bits: int, count: int) -> list[int]:
    """The indices, read bit by bit from one long string of them."""
    stream = "".join(f"{byte:08b}"[::-1] for byte in packed.reshape(-1).tolist())  # lowest bit first
    return [int(stream[at * bits : (at + 1) * bits][::-1], 2) for at in range(count)]


def make_clusters(shape: Sequence[int], bits: int, seed: int = 0) -> Clusters:
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, 2**bits, shape).astype(np.uint8)
    return Clusters(np.sort(rng.normal(0, 0.1, 2**bits)).astype(np.float32), indices)


def conv_body(shapes: Sequence[tuple[int, int, int, int]], size: int = 8) -> bytes:
    """Convolutions one after the other, a linear layer of 5 classes, a softmax; weights w0, w1, … and 'classifier'."""
    rng = np.random.default_rng(0)
    nodes, constants, before = [], {}, BODY_INPUT
    for number, shape in enumerate(shapes):
        constants[f"w{number}"] = rng.normal(0, 0.1, shape).astype(np.float32)
        nodes.append(helper.make_node("Conv", [before, f"w{number}"], [f"c{number}"], f"conv{number}", pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        before = f"r{number}"
    constants["classifier"] = rng.normal(0, 0.1, (5, shapes[-1][0] * size * size)).astype(np.float32)
    nodes += [
        helper.make_node("Flatten", [before], ["flat"]),
        helper.make_node("Gemm", ["flat", "classifier"], ["logits"], "classify", transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    model = onnx.load_from_string(make_model(nodes, constants, ["batch", shapes[0][1], size, size]))
    model.graph.input[0].name = BODY_INPUT
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 5]))
    return bytes(model.SerializeToString())


def finished(body: bytes, size: int = 8) -> bytes:
    return attach_front_end(body, InputSpec("uint8", (size, size, 1)), NORMALISATION)


def optimised(content: bytes, folder: object) -> onnx.GraphProto:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = f"{folder}/optimised.onnx"
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath).graph


def with_floats(body: bytes, shared: dict[str, Clusters]) -> bytes:
    """The body that has the shared weights as plain floats."""
    model = onnx.load_from_string(body)
    for tensor in model.graph.initializer:
        if tensor.name in shared:
            tensor.CopyFrom(numpy_helper.from_array(shared[tensor.name].weights, tensor.name))
    return bytes(model.SerializeToString())


# --- packing


@given(st.data(), st.integers(1, 7))
def test_packing_loses_nothing(data: st.DataObject, bits: int) -> None:
    indices = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=50))
    packed = pack(np.array(indices, np.uint8), bits)
    assert packed.dtype == np.uint8
    assert packed.size == packed_bytes(len(indices), bits)
    assert unpacked(packed, bits, len(indices)) == indices


def test_packing_by_hand() -> None:
    assert pack(np.array([1, 2, 3, 4, 5, 6, 7]), 4).tolist() == [[0x21], [0x43], [0x65], [0x07]]
    assert pack(np.array([[3, 0], [1, 2]]), 2).tolist() == [[0b10_01_00_11]]
    # 1 + 2·8 + 3·64 = 209
    assert pack(np.array([1, 2, 3]), 3).tolist() == [[209, 0, 0]]


@pytest.mark.parametrize(
    ("bits", "group"), [(1, (8, 1)), (2, (4, 1)), (3, (8, 3)), (4, (2, 1)), (5, (8, 5)), (6, (4, 3)), (8, (1, 1))]
)
def test_a_group_is_as_few_indices_as_fill_whole_bytes(bits: int, group: tuple[int, int]) -> None:
    assert group_of(bits) == group


@pytest.mark.parametrize("bits", range(1, 8))
def test_an_index_that_does_not_fit_is_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=f"an index of {bits} bits must be below {2**bits}, but got {2**bits}"):
        pack(np.array([0, 2**bits]), bits)


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (16, 10), (5, 1, 3, 3)])
def test_the_file_holds_exactly_bits_times_weights_and_the_values(shape: tuple[int, ...], bits: int) -> None:
    count = int(np.prod(shape))
    clusters = make_clusters(shape, bits)
    body = make_model([helper.make_node("Identity", ["w"], ["probabilities"])], {"w": np.zeros(shape, np.float32)}, [1])
    graph = onnx.load_from_string(store(body, {"w": clusters}, bits)).graph
    sizes = {tensor.name: len(tensor.raw_data) for tensor in graph.initializer}
    indices = sizes["w_indices" if bits == 8 else "w_packed"]
    assert indices == packed_bytes(count, bits)
    assert bits * count <= indices * 8 < bits * (count + group_of(bits)[0])
    assert shape == (5, 1, 3, 3) or indices * 8 == bits * count
    assert sizes["w_values"] == 4 * 2**bits
    assert "w" not in sizes


# --- rebuilding


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (16, 10), (5, 1, 3, 3), (1, 1), (7,)])
def test_the_runtime_rebuilds_the_weights_bit_for_bit(shape: tuple[int, ...], bits: int) -> None:
    clusters = make_clusters(shape, bits)
    nodes = [helper.make_node("Add", ["w", "images"], ["probabilities"])]
    model = onnx.load_from_string(make_model(nodes, {"w": np.zeros(shape, np.float32)}, [1]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, shape))
    stored = store(model.SerializeToString(), {"w": clusters}, bits)
    onnx.checker.check_model(onnx.load_from_string(stored), full_check=True)
    [result] = open_session(stored).run(None, {"images": np.zeros(1, np.float32)})
    assert result.dtype == np.float32
    assert np.array_equal(result, clusters.weights)


@given(st.data(), st.integers(2, 8))
def test_any_indices_are_rebuilt(data: st.DataObject, bits: int) -> None:
    indices = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=40))
    clusters = Clusters(np.arange(2**bits, dtype=np.float32), np.array(indices, np.uint8))
    nodes = [helper.make_node("Add", ["w", "images"], ["probabilities"])]
    body = make_model(nodes, {"w": np.zeros(len(indices), np.float32)}, [1])
    [result] = open_session(store(body, {"w": clusters}, bits)).run(None, {"images": np.zeros(1, np.float32)})
    assert result.tolist() == indices


@pytest.mark.parametrize("bits", ALL_BITS)
def test_a_finished_file_gives_what_one_with_the_same_floats_gives(bits: int) -> None:
    body = conv_body([(5, 1, 3, 3), (16, 5, 3, 3)])
    shared = {"w0": make_clusters((5, 1, 3, 3), bits), "w1": make_clusters((16, 5, 3, 3), bits, 1)}
    shared["classifier"] = make_clusters((5, 1024), bits, 2)
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    packed, plain = (
        open_session(finished(b)).run(None, {"images": images})[0]
        for b in (store(body, shared, bits), with_floats(body, shared))
    )
    assert np.array_equal(packed, plain)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_the_runtime_is_left_with_the_float_network(bits: int, tmp_path: object) -> None:
    """So it runs at the speed of floats: layers, weights and their bytes are those of the float file."""
    body = conv_body([(5, 1, 3, 3), (16, 5, 3, 3)])
    shared = {"w0": make_clusters((5, 1, 3, 3), bits), "classifier": make_clusters((5, 1024), bits, 2)}
    packed = finished(store(body, shared, bits))
    assert rebuilt_in_every_run(packed) == []
    graphs = [optimised(content, tmp_path) for content in (packed, finished(with_floats(body, shared)))]
    operators, weights = [], []
    for graph in graphs:
        operators.append([node.op_type for node in graph.node])
        tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        layers = [node for node in graph.node if "Conv" in node.op_type or "Gemm" in node.op_type]
        weights.append([tensors[node.input[1]].tobytes() for node in layers])
    assert operators[0] == operators[1]
    assert weights[0] == weights[1]
    assert len(weights[0]) == 3


def test_operators_that_are_not_folded_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = {"w0": make_clusters((16, 1, 3, 3), 3)}
    content = finished(store(conv_body([(16, 1, 3, 3)]), shared, 3))

    class Unoptimised(onnxruntime.SessionOptions):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL

    monkeypatch.setattr(onnxruntime, "SessionOptions", Unoptimised)
    found = rebuilt_in_every_run(content)
    assert found == ["Cast", "MatMul", "Div", "Mod", "Gather", "Reshape"]


# --- the file


@pytest.mark.parametrize("bits", ALL_BITS)
def test_no_newer_operators_than_the_float_file_has(bits: int) -> None:
    body = conv_body([(16, 1, 3, 3)])
    stored = onnx.load_from_string(finished(store(body, {"w0": make_clusters((16, 1, 3, 3), bits)}, bits)))
    assert [(entry.domain, entry.version) for entry in stored.opset_import] == [("", 17)]
    assert stored.ir_version == onnx.load_from_string(body).ir_version


@pytest.mark.parametrize("bits", [3, 4, 7])
def test_layers_share_what_their_decoders_have_in_common(bits: int) -> None:
    shapes = [(16, 1, 3, 3), *[(16, 16, 3, 3)] * 3]
    shared = {f"w{number}": make_clusters(shape, bits) for number, shape in enumerate(shapes)}
    graph = onnx.load_from_string(store(conv_body(shapes), shared, bits)).graph
    names = [tensor.name for tensor in graph.initializer]
    assert len(names) == len(set(names)) == 3 * len(shapes) + (2 if bits == 4 else 3) + 1


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("shape", [(16, 16, 3, 3), (15, 15, 3, 3)])
def test_a_decoder_takes_as_much_room_as_is_said(shape: tuple[int, int, int, int], bits: int) -> None:
    body = conv_body([(shape[0], 1, 3, 3), *[shape] * 10])
    shared = {f"w{number}": make_clusters(shape, bits) for number in range(1, 11)}
    grown = len(finished(store(body, shared, bits))) - len(finished(body))
    count = int(np.prod(shape))
    data = sum(packed_bytes(count, bits) + found.values.nbytes for found in shared.values())
    decoder = (grown + 10 * 4 * count - data) / 10
    assert decoder == pytest.approx(decoder_bytes(count, bits), rel=0.1)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_a_layer_is_shared_where_that_takes_less_room(bits: int) -> None:
    values = np.arange(2**bits, dtype=np.float32)
    verdicts = {count: saves_room(Clusters(values, np.zeros(count, np.uint8)), bits) for count in range(8, 2000, 8)}
    first = min(count for count, verdict in verdicts.items() if verdict)
    assert all(verdict is (count >= first) for count, verdict in verdicts.items())
    assert (4 - bits / 8) * first == pytest.approx(4 * 2**bits + decoder_bytes(first, bits), abs=32)
    fewer = Clusters(values[: 2**bits // 2], np.zeros(first - 8, np.uint8))
    assert saves_room(fewer, bits) or bits == 2, "fewer values take less room"


def test_what_is_not_shared_stays_as_it_is() -> None:
    body = conv_body([(16, 1, 3, 3), (8, 16, 3, 3)])
    stored = onnx.load_from_string(store(body, {"w0": make_clusters((16, 1, 3, 3), 4)}, 4)).graph
    before = {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(body).graph.initializer}
    after = {t.name: numpy_helper.to_array(t) for t in stored.initializer}
    assert before.keys() - after.keys() == {"w0"}
    assert all(np.array_equal(before[name], after[name]) for name in ("w1", "classifier"))
    assert store(body, {}, 4) == onnx.load_from_string(body).SerializeToString(deterministic=True)
