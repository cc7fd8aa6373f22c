from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import Dimension, article_network, make_model

from nas.errors import ArtifactError
from nas.measure.complexity import Complexity, LayerComplexity
from nas.profile.graph import count_onnx, fixed_batch, input_shapes, parse_onnx


def counted(content: bytes) -> Complexity:
    result = count_onnx(parse_onnx(content, "a test's model"))
    assert sum(layer.macs for layer in result.layers) == result.macs
    assert sum(layer.params for layer in result.layers) == result.params
    assert result.flops == 2 * result.macs
    return result


def zeros(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


def test_worked_example_of_the_article() -> None:
    result = counted(article_network())
    by_name = {layer.name: layer for layer in result.layers}
    flops = {name: layer.flops for name, layer in by_name.items() if layer.flops}
    assert flops == {"conv1": 60_840, "conv2": 259_200, "dense1": 737_280, "dense2": 2_560}
    assert (result.flops, result.macs, result.conv_macs) == (1_059_880, 529_940, 160_020)
    assert result.params == 50 + 230 + 368_768 + 1_290
    assert by_name["conv2"].output_shape == (1, 5, 24, 24)
    assert by_name["conv2"].kind == "Conv"
    assert result.uncounted == ("Relu: relu1, relu2, relu3",)
    assert result.notes == ()


@pytest.mark.parametrize(("groups", "stride", "kernel"), [(1, 1, 3), (2, 1, 5), (8, 2, 3)])
def test_convolution(groups: int, stride: int, kernel: int) -> None:
    padding = [kernel // 2] * 4
    node = helper.make_node(
        "Conv", ["images", "w"], ["probabilities"], group=groups, strides=[stride] * 2, pads=padding
    )
    result = counted(make_model([node], {"w": zeros(16, 8 // groups, kernel, kernel)}, ["n", 8, 10, 10]))
    assert result.macs == result.conv_macs == (10 // stride) ** 2 * 16 * (8 // groups) * kernel**2
    assert result.params == 16 * (8 // groups) * kernel**2


def test_transposed_convolution() -> None:
    node = helper.make_node("ConvTranspose", ["images", "w"], ["probabilities"], strides=[2, 2])
    assert counted(make_model([node], {"w": zeros(4, 6, 3, 3)}, ["n", 4, 5, 5])).macs == 25 * 4 * 6 * 9


@pytest.mark.parametrize(
    ("transposed_a", "transposed_b", "shape", "weight"),
    [(0, 0, ["n", 12], (12, 5)), (0, 1, ["n", 12], (5, 12)), (1, 0, [12, 1], (12, 5))],
)
def test_gemm(transposed_a: int, transposed_b: int, shape: Sequence[Dimension], weight: tuple[int, ...]) -> None:
    node = helper.make_node("Gemm", ["images", "w"], ["probabilities"], transA=transposed_a, transB=transposed_b)
    result = counted(make_model([node], {"w": zeros(*weight)}, shape))
    assert (result.macs, result.conv_macs, result.params) == (60, 0, 60)


@pytest.mark.parametrize(
    ("shape", "weight", "macs"),
    [(["n", 12], (12, 5), 60), (["n", 3, 4, 12], (12, 5), 720), ([12], (12, 5), 60), (["n", 7, 12], (1, 12, 5), 420)],
)
def test_matmul_of_every_rank(shape: Sequence[Dimension], weight: tuple[int, ...], macs: int) -> None:
    node = helper.make_node("MatMul", ["images", "w"], ["probabilities"])
    assert counted(make_model([node], {"w": zeros(*weight)}, shape)).macs == macs


def test_matrix_product_of_two_activations_has_no_parameters() -> None:
    nodes = [
        helper.make_node("Transpose", ["images"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["images", "turned"], ["probabilities"]),
    ]
    result = counted(make_model(nodes, {}, ["n", 3, 4]))
    assert (result.macs, result.params) == (36, 0)


def quantised_convolution() -> bytes:
    """A convolution in a QDQ graph: int8 weights per channel, int32 bias, uint8 activations."""
    arrays = {
        "w": zeros(4, 1, 3, 3, dtype=np.int8),
        "ws": np.ones(4, np.float32),
        "wz": zeros(4, dtype=np.int8),
        "b": zeros(4, dtype=np.int32),
        "bs": np.ones(4, np.float32),
        "s": np.float32(1).reshape(()),
        "z": zeros(dtype=np.uint8),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["images", "s", "z"], ["x"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0),
        helper.make_node("DequantizeLinear", ["b", "bs"], ["bf"], axis=0),
        helper.make_node("Conv", ["x", "wf", "bf"], ["y"], name="conv"),
        helper.make_node("Relu", ["y"], ["r"], name="relu"),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["probabilities"]),
    ]
    return make_model(nodes, arrays, ["n", 1, 8, 8], TensorProto.UINT8)


def test_convolution_inside_a_qdq_graph() -> None:
    result = counted(quantised_convolution())
    assert [layer.name for layer in result.layers] == ["conv", "relu"]
    assert (result.macs, result.params) == (36 * 4 * 9, 36 + 4)
    assert "Relu: relu" in result.uncounted
    assert any(entry.startswith("QuantizeLinear") for entry in result.uncounted)


def test_integer_operators() -> None:
    scalar, scale = zeros(dtype=np.uint8), np.float32(1).reshape(())
    conv = helper.make_node("QLinearConv", ["images", "s", "z", "w", "s", "wz", "s", "z", "b"], ["probabilities"])
    arrays = {"s": scale, "z": scalar, "wz": zeros(dtype=np.int8), "w": zeros(4, 1, 3, 3, dtype=np.int8)}
    result = counted(make_model([conv], arrays | {"b": zeros(4, dtype=np.int32)}, ["n", 1, 8, 8], TensorProto.UINT8))
    assert (result.macs, result.params) == (36 * 4 * 9, 40)
    product = helper.make_node("MatMulInteger", ["images", "w"], ["probabilities"])
    result = counted(make_model([product], {"w": zeros(12, 5, dtype=np.int8)}, ["n", 12], TensorProto.UINT8))
    assert (result.macs, result.params) == (60, 60)


def test_weights_from_a_codebook_count_as_the_weights_they_stand_for() -> None:
    nodes = [
        helper.make_node("Cast", ["indices"], ["places"], to=TensorProto.INT32),
        helper.make_node("Gather", ["codebook", "places"], ["w"]),
        helper.make_node("MatMul", ["images", "w"], ["probabilities"]),
    ]
    result = counted(make_model(nodes, {"codebook": zeros(4), "indices": zeros(12, 5, dtype=np.uint8)}, ["n", 12]))
    assert [layer.kind for layer in result.layers] == ["MatMul"]
    assert (result.macs, result.params) == (60, 60)


def test_shared_weights_count_once_as_parameters() -> None:
    nodes = [
        helper.make_node("MatMul", ["images", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["probabilities"]),
    ]
    result = counted(make_model(nodes, {"w": zeros(6, 6)}, ["n", 6]))
    assert (result.macs, result.params) == (72, 36)


def test_settings_are_no_parameters_and_batch_norm_has_two() -> None:
    nodes = [
        helper.make_node("BatchNormalization", ["images", "g", "b", "m", "v"], ["a"]),
        helper.make_node("Clip", ["a", "low", "high"], ["c"]),
        helper.make_node("Reshape", ["c", "shape"], ["d"]),
        helper.make_node("Add", ["d", "bias"], ["probabilities"]),
    ]
    arrays = {name: np.ones(4, np.float32) for name in "gbmv"}
    arrays |= {"low": np.float32(0).reshape(()), "high": np.float32(6).reshape(())}
    arrays |= {"shape": np.array([-1, 16], np.int64), "bias": np.ones(16, np.float32)}
    result = counted(make_model(nodes, arrays, ["n", 4, 2, 2]))
    assert {layer.kind: layer.params for layer in result.layers} == {
        "BatchNormalization": 8,
        "Clip": 0,
        "Reshape": 0,
        "Add": 16,
    }
    assert not any(entry.startswith("Reshape") for entry in result.uncounted)


def test_constant_node_and_local_function() -> None:
    constant = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(zeros(12, 5), "w"))
    function = helper.make_function(
        "custom",
        "Dense",
        ["x", "y"],
        ["z"],
        [helper.make_node("MatMul", ["x", "y"], ["z"])],
        [helper.make_opsetid("", 17)],
    )
    call = helper.make_node("Dense", ["images", "w"], ["probabilities"], domain="custom")
    model = onnx.load_from_string(make_model([constant, call], {}, ["n", 12]))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("custom", 1))
    result = counted(model.SerializeToString())
    assert (result.macs, result.params) == (60, 60)


def test_unknown_operators_are_listed_and_those_that_multiply_are_noted() -> None:
    nodes = [
        helper.make_node("Einsum", ["images", "w"], ["a"], name="sum", equation="ij,jk->ik"),
        helper.make_node("Magic", ["a"], ["probabilities"], name="spell", domain="com.example"),
    ]
    model = onnx.load_from_string(make_model(nodes, {"w": zeros(12, 5)}, ["n", 12]))
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    result = counted(model.SerializeToString())
    assert result.macs == 0
    assert result.uncounted == ("Einsum: sum", "Magic: spell")
    assert len(result.notes) == 2
    assert "'Einsum' may do multiply-adds" in result.notes[0]
    assert "the size of probabilities is unknown" in result.notes[1]


def test_operator_after_an_unknown_one_has_no_shape_and_is_listed() -> None:
    nodes = [
        helper.make_node("Magic", ["images"], ["a"], domain="com.example"),
        helper.make_node("MatMul", ["a", "w"], ["probabilities"], name="product"),
    ]
    model = onnx.load_from_string(make_model(nodes, {"w": zeros(12, 5)}, ["n", 12]))
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    result = counted(model.SerializeToString())
    assert "MatMul: product" in result.uncounted
    assert any("'MatMul'" in note for note in result.notes)


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x89PNG\r\n\x1a\n" + bytes(50), b'{"json": 1}'])
def test_not_an_onnx_file_is_one_clear_line(content: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"folder/x\.onnx is no ONNX file") as caught:
        parse_onnx(content, "folder/x.onnx")
    assert "\n" not in str(caught.value)


def test_input_without_a_shape_is_an_error() -> None:
    model = parse_onnx(make_model([helper.make_node("Relu", ["images"], ["probabilities"])], {}, None), "x")
    with pytest.raises(ArtifactError, match="input 'images' has no shape"):
        count_onnx(model)


def test_input_with_an_empty_dimension_is_an_error() -> None:
    model = parse_onnx(make_model([helper.make_node("Relu", ["images"], ["probabilities"])], {}, ["n", 0]), "x")
    with pytest.raises(ArtifactError, match="input 'images' has an empty dimension: 1×0"):
        count_onnx(model)


def test_free_sizes_that_leave_nothing_are_an_error() -> None:
    node = helper.make_node("Conv", ["images", "w"], ["probabilities"])
    model = parse_onnx(make_model([node], {"w": zeros(2, 3, 5, 5)}, ["n", 3, "height", "width"]), "x")
    with pytest.raises(ArtifactError, match=r"free dimensions \(height, width\) set to 1"):
        count_onnx(model)


def test_free_dimensions_become_the_batch_and_ones() -> None:
    node = helper.make_node("Relu", ["images"], ["probabilities"])
    model = parse_onnx(make_model([node], {}, ["n", 3, "time", None]), "x")
    assert input_shapes(model, 8) == {"images": (8, 3, 1, 1)}
    assert fixed_batch(model) is None


def test_fixed_batch_is_found_and_noted() -> None:
    node = helper.make_node("MatMul", ["images", "w"], ["probabilities"])
    model = parse_onnx(make_model([node], {"w": zeros(12, 5)}, [4, 12]), "x")
    assert fixed_batch(model) == 4
    result = count_onnx(model)
    assert result.macs == 240
    assert any("fixes its batch at 4" in note for note in result.notes)


def test_shapes_that_the_file_claims_are_not_trusted() -> None:
    node = helper.make_node("Conv", ["images", "w"], ["a"], name="conv")
    model = onnx.load_from_string(
        make_model([node, helper.make_node("Relu", ["a"], ["probabilities"])], {"w": zeros(2, 1, 3, 3)}, ["n", 1, 5, 5])
    )
    model.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", 2, "h", "w"]))
    assert counted(model.SerializeToString()).macs == 9 * 2 * 9


# --- memory ----------------------------------------------------------------------------------------------------------


def by_name(result: Complexity) -> dict[str, LayerComplexity]:
    return {layer.name: layer for layer in result.layers}


def test_activations_of_the_worked_example() -> None:
    """The peak is at the first ReLU, beside the image; the same as of the eager network."""
    result = counted(article_network())
    first, second = 4 * 5 * 26 * 26, 4 * 5 * 24 * 24
    assert [layer.activation_bytes for layer in result.layers] == [first, first, second, second, second, 512, 512, 40]
    assert result.peak_activation_bytes == 4 * 28 * 28 + 2 * first
    layers = by_name(result)
    assert layers["conv1"].bytes_moved == 4 * (28 * 28 + 50) + first
    assert layers["relu2"].bytes_moved == 2 * second
    assert layers["flatten"].bytes_moved == 0
    assert layers["dense2"].bytes_moved == 512 + 4 * 1290 + 40
    assert result.bytes_moved == sum(layer.bytes_moved for layer in result.layers)


def node(kind: str, given: str, gives: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, given.split(), gives.split(), name=gives.split()[0], **attributes)


@pytest.mark.parametrize(
    ("nodes", "tensors"),
    [
        ([node("Exp", "images", "probabilities")], 2),
        ([node("Exp", "images", "a"), node("Sin", "a", "b"), node("Cos", "b", "probabilities")], 3),
        ([node("Exp", "images", "a"), node("Sin", "images", "b"), node("Add", "a b", "probabilities")], 4),
        # A shortcut lives until it is added.
        ([node("Exp", "images", "a"), *[node("Sin", f"{x}", f"{y}") for x, y in ("ab", "bc", "cd")],
          node("Add", "a d", "probabilities")], 4),
        # A view keeps what it views alive, and takes nothing.
        ([node("Exp", "images", "a"), node("Flatten", "a", "b"), node("Sin", "b", "probabilities")], 3),
        ([node("Exp", "images", "a"), node("Identity", "a", "b"), node("Sin", "a", "c"), node("Cos", "c", "d"),
          node("Add", "b d", "probabilities")], 4),
        # What nobody reads is given all the same.
        ([node("Split", "images", "a b c", axis=1), node("Exp", "a", "probabilities")], 2),
    ],
)  # fmt: skip
def test_peak_is_the_most_that_lives_at_once(nodes: list[onnx.NodeProto], tensors: int) -> None:
    assert counted(make_model(nodes, {}, ["n", 6, 4])).peak_activation_bytes == tensors * 4 * 24


def test_constants_are_no_activations_however_they_are_made() -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(zeros(12, 50), "c")),
        node("Exp", "c", "w"),
        node("MatMul", "images w", "probabilities"),
    ]
    result = counted(make_model(nodes, {}, ["n", 12]))
    assert result.peak_activation_bytes == 4 * (12 + 50)
    assert result.bytes_moved == 4 * (12 + 12 * 50 + 50)


def test_outputs_of_the_model_live_to_the_end() -> None:
    model = onnx.load_from_string(make_model([node("Exp", "images", "a"), node("Sin", "a", "b")], {}, ["n", 10]))
    model.graph.node.append(node("ReduceSum", "b", "probabilities"))
    assert counted(model.SerializeToString()).peak_activation_bytes == 120
    model.graph.output.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, None))
    assert counted(model.SerializeToString()).peak_activation_bytes == 124


def test_what_the_branches_of_an_if_read_stays_alive() -> None:
    branch = helper.make_graph(
        [node("Exp", "a", "inner")], "branch", [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)]
    )
    nodes = [
        node("Sin", "images", "a"),
        node("Cos", "images", "b"),
        node("Tan", "b", "c"),
        node("If", "yes", "probabilities", then_branch=branch, else_branch=branch),
    ]
    result = count_onnx(parse_onnx(make_model(nodes, {"yes": np.array(True)}, ["n", 10]), "x"))
    assert result.peak_activation_bytes == 40 * 4  # images, a, b and c


def test_quantised_activations_take_a_byte_each() -> None:
    """Dequantising is fused into the convolution, and quantising into the ReLU that nothing else reads."""
    result = counted(quantised_convolution())
    layers = by_name(result)
    image, floats, integers = 64, 4 * 4 * 36, 4 * 36
    assert layers["conv"].activation_bytes == floats
    assert layers["relu"].activation_bytes == integers
    assert layers["conv"].bytes_moved == image + 36 + 4 * 4 + floats  # int8 weights and int32 biases as they are stored
    assert layers["relu"].bytes_moved == floats + integers
    assert result.peak_activation_bytes == image + floats + integers


def test_a_tensor_that_is_read_as_floats_too_is_not_quantised_at_once() -> None:
    arrays = {"s": np.float32(1).reshape(()), "z": zeros(dtype=np.uint8)}
    nodes = [
        node("Exp", "images", "a"),
        node("QuantizeLinear", "a s z", "q"),
        node("DequantizeLinear", "q s z", "d"),
        node("Add", "a d", "probabilities"),
    ]
    result = counted(make_model(nodes, arrays, ["n", 10]))
    assert by_name(result)["a"].activation_bytes == 40
    assert result.peak_activation_bytes == 40 + 40 + 10 + 40
    given = [node("QuantizeLinear", "images s z", "q"), node("DequantizeLinear", "q s z", "probabilities")]
    assert counted(make_model(given, arrays, ["n", 10])).peak_activation_bytes == 40 + 10  # the caller gives floats


@pytest.mark.parametrize(("kind", "bits"), [(TensorProto.UINT4, 4), (TensorProto.FLOAT16, 16), (TensorProto.BOOL, 8)])
def test_bytes_of_every_type(kind: int, bits: int) -> None:
    cast = node("Cast", "images", "probabilities", to=kind)
    result = counted(make_model([cast], {}, ["n", 15], opset=21))
    assert by_name(result)["probabilities"].activation_bytes == -(-15 * bits // 8)


def test_activations_of_unknown_size_are_noted() -> None:
    model = onnx.load_from_string(
        make_model(
            [node("Magic", "images", "a", domain="com.example"), node("Exp", "a", "probabilities")], {}, ["n", 4]
        )
    )
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    result = counted(model.SerializeToString())
    assert result.notes == ("the size of a, probabilities is unknown; activations take more than was counted",)
    assert result.peak_activation_bytes == 16
