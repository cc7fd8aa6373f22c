"""What runs, read off real files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import article_network, make_model, tiny_artifact

from nas.errors import ArtifactError
from nas.estimate.kernels import Kernel, kernels_of


def named(content: bytes, operator: str, batch: int = 1) -> list[Kernel]:
    return [kernel for kernel in kernels_of(content, batch) if kernel.operator.endswith(operator)]


@pytest.mark.parametrize("batch", [1, 5])
def test_a_product_is_rows_by_depth_by_columns(batch: int) -> None:
    (product,) = named(tiny_artifact(classes=3), "Gemm", batch)
    assert (product.form, product.dtype) == ("product", "float")
    assert (product.rows, product.depth, product.channels) == (batch, 16, 3)
    assert product.macs == batch * 16 * 3
    assert (product.inputs, product.outputs, product.weights) == (16 * batch, 3 * batch, 48)
    assert product.moved_bytes == 4 * (16 * batch + 48 + 3 * batch)


def test_what_does_no_products_has_no_depth() -> None:
    (softmax,) = named(tiny_artifact(), "Softmax", 2)
    assert (softmax.form, softmax.depth, softmax.macs) == ("", 0, 0)
    assert (softmax.inputs, softmax.outputs, softmax.moved_bytes) == (6, 6, 48)


def test_kernels_do_at_least_the_counted_work() -> None:
    """The runtime pads channels to blocks as the processor likes, so it may do more."""
    kernels = kernels_of(article_network())
    convolutions = [kernel for kernel in kernels if kernel.taps == 9]
    assert [kernel.rows for kernel in convolutions] == [26 * 26, 24 * 24]
    assert [kernel.width for kernel in convolutions] == [26, 24]
    assert all(kernel.form == "narrow" for kernel in convolutions)
    assert 2 * sum(kernel.macs for kernel in kernels) >= 1_059_880
    products = [kernel for kernel in kernels if kernel.form == "product"]
    assert 2 * sum(kernel.macs for kernel in products) == 737_280 + 2_560


@pytest.mark.parametrize(
    ("weight", "groups", "form", "depth"),
    [
        ((16, 16, 3, 3), 1, "dense", 144),
        ((16, 16, 1, 1), 1, "pointwise", 16),
        ((16, 1, 3, 3), 16, "depthwise", 9),
        ((16, 4, 3, 3), 4, "grouped", 36),
    ],
)
def test_forms_of_convolutions(weight: tuple[int, ...], groups: int, form: str, depth: int) -> None:
    node = helper.make_node("Conv", ["images", "w"], ["probabilities"], group=groups, strides=[2, 2])
    content = make_model([node], {"w": np.ones(weight, np.float32)}, [1, 16, 9, 9])
    (kernel,) = [kernel for kernel in kernels_of(content) if kernel.depth]
    assert (kernel.form, kernel.depth, kernel.stride, kernel.taps) == (form, depth, 4, weight[2] * weight[3])
    assert kernel.macs == kernel.outputs * depth


def test_integers_are_told_from_floats() -> None:
    weight = np.ones((16, 16), np.int8)
    nodes = [
        helper.make_node("MatMulInteger", ["images", "w"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["probabilities"], to=TensorProto.FLOAT),
    ]
    (product,) = named(make_model(nodes, {"w": weight}, ["batch", 16], TensorProto.UINT8), "MatMulInteger", 3)
    assert product.is_integer
    assert product.moved_bytes == 3 * 16 + 16 * 16 + 4 * 3 * 16
    assert not named(tiny_artifact(), "Gemm")[0].is_integer


def test_kernels_without_their_own_constants_are_described_too() -> None:
    nodes = [
        helper.make_node("Transpose", ["images"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["images", "turned"], ["probabilities"]),
    ]
    (product,) = [kernel for kernel in kernels_of(make_model(nodes, {}, [6, 7])) if kernel.depth]
    assert product.macs == 6 * 7 * 6


def test_the_same_file_has_the_same_kernels() -> None:
    assert kernels_of(article_network()) == kernels_of(article_network())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a model", "the model is no ONNX file"),
        (
            make_model([helper.make_node("Nonsense", ["images"], ["probabilities"])], {}, [1, 2]),
            "ONNX Runtime cannot run the model",
        ),
        (
            make_model([helper.make_node("Cast", ["images"], ["probabilities"], to=1)], {}, [1], TensorProto.BFLOAT16),
            "an input of type tensor",
        ),
    ],
    ids=["no model", "unknown operator", "unknown type"],
)
def test_what_cannot_be_read_is_said(content: bytes, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        kernels_of(content)


def test_json_gives_the_kernel_back() -> None:
    for kernel in kernels_of(article_network()):
        assert Kernel.from_json(kernel.to_json()) == kernel


@pytest.mark.parametrize("change", [{"rows": "4"}, {"rows": True}, {"form": 3}, {"more": 1}])
def test_json_of_another_kind_is_refused(change: dict[str, object]) -> None:
    data = kernels_of(tiny_artifact())[0].to_json() | change
    with pytest.raises(TypeError):
        Kernel.from_json(data)


def test_kernels_of_one_kind_share_operator_form_and_type() -> None:
    kernel = kernels_of(tiny_artifact())[-1]
    assert replace(kernel, outputs=99).kind == kernel.kind
    assert replace(kernel, dtype="uint8").kind != kernel.kind
    assert replace(kernel, form="dense").kind != kernel.kind
