"""ONNX models that are made to do harm, and a small valid one to damage."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_models import tiny_artifact
from safety_inputs import damaged_bytes

TINY = tiny_artifact()
_OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]


def _model(nodes: Sequence[onnx.NodeProto], functions: Sequence[onnx.FunctionProto] = ()) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 4])],
    )
    model = helper.make_model(graph, functions=list(functions), opset_imports=_OPSETS, ir_version=8)
    return bytes(model.SerializeToString())


def _function(name: str, callee: str, times: int) -> onnx.FunctionProto:
    """Calls another one so many times, one after the other."""
    names = ["a", *(f"t{number}" for number in range(1, times)), "b"]
    domain = "" if callee == "Relu" else "f"
    nodes = [helper.make_node(callee, [x], [y], domain=domain) for x, y in itertools.pairwise(names)]
    return helper.make_function("f", name, ["a"], ["b"], nodes, _OPSETS)


def function_bomb(levels: int, times: int) -> bytes:
    """Functions that stand for ``times`` to the power of ``levels`` nodes."""
    functions = [
        _function(f"f{level}", f"f{level + 1}" if level < levels - 1 else "Relu", times) for level in range(levels)
    ]
    return _model([helper.make_node("f0", ["images"], ["out"], domain="f")], functions)


def function_circle() -> bytes:
    """Two functions that call one another."""
    functions = [_function("f0", "f1", 1), _function("f1", "f0", 1)]
    return _model([helper.make_node("f0", ["images"], ["out"], domain="f")], functions)


def nested_ifs(depth: int) -> bytes:
    """If in If in If."""
    inner = [helper.make_node("Relu", ["images"], ["out"])]
    for _ in range(depth):
        value = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
        branch = helper.make_graph(inner, "branch", [], [value])
        other = helper.make_graph([helper.make_node("Relu", ["images"], ["out"])], "other", [], [value])
        condition = helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)))
        inner = [condition, helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=other)]
    return _model(inner)


def cycle() -> bytes:
    """Two nodes that wait for each other."""
    return _model([helper.make_node("Add", ["images", "b"], ["out"]), helper.make_node("Relu", ["out"], ["b"])])


def changed(change: Callable[[onnx.ModelProto], object]) -> bytes:
    """The small model after a change."""
    model = onnx.load_from_string(TINY)
    change(model)
    return bytes(model.SerializeToString())


def external(location: str, **entries: object) -> bytes:
    """The small model with its weights in another file."""

    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)

    return changed(change)


def with_dims(dims: Sequence[int]) -> bytes:
    """The small model with weights of a stated shape that they have not."""

    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return changed(change)


def with_input(dims: Sequence[int], kind: int = TensorProto.UINT8) -> bytes:
    """The small model with an input of a stated shape and type."""

    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.input[0].type.tensor_type
        tensor.elem_type = kind
        del tensor.shape.dim[:]
        for size in dims:
            tensor.shape.dim.add().dim_value = size

    return changed(change)


def _random_change(draw: st.DrawFn) -> Callable[[onnx.ModelProto], object]:
    """Something of the graph left out, doubled, renamed or put elsewhere."""
    number, other = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    operator = draw(st.sampled_from(["Conv", "Gemm", "If", "Loop", "Scan", "MatMul", "Reshape", "Nope", "", "Einsum"]))
    changes: list[Callable[[onnx.ModelProto], object]] = [
        lambda model: model.graph.node.pop(number),
        lambda model: model.graph.node.add().CopyFrom(model.graph.node[number]),
        lambda model: model.graph.node[number].ClearField("output"),
        lambda model: model.graph.node[number].ClearField("input"),
        lambda model: model.graph.node[number].ClearField("attribute"),
        lambda model: setattr(model.graph.node[number], "op_type", operator),
        lambda model: model.graph.node[number].input.__setitem__(0, model.graph.node[other].output[0]),
        lambda model: model.graph.node[number].output.__setitem__(0, model.graph.node[other].output[0]),
        lambda model: model.graph.ClearField("initializer"),
        lambda model: model.graph.ClearField("input"),
        lambda model: model.graph.ClearField("output"),
        lambda model: model.ClearField("opset_import"),
        lambda model: model.graph.initializer[0].ClearField("raw_data"),
        lambda model: setattr(model.graph.initializer[0], "data_type", draw(st.integers(0, 30))),
        lambda model: setattr(model, "ir_version", draw(st.sampled_from([0, 3, 99, 2**62]))),
        lambda model: setattr(model.opset_import[0], "version", draw(st.sampled_from([0, 1, 6, 99, 2**62]))),
        lambda model: model.graph.input.add().CopyFrom(model.graph.input[0]),
    ]
    return draw(st.sampled_from(changes))


@st.composite
def _changed_graphs(draw: st.DrawFn) -> bytes:
    return changed(_random_change(draw))


_SIZES = st.sampled_from([-1, 0, 1, 3, 4, 16, 2**20, 2**31, 2**40, 2**62, -(2**63)])
_LOCATIONS = [
    "w.bin",
    "../canary.bin",
    "/etc/passwd",
    "",
    ".",
    "link",
    "a/../../canary.bin",
    "*/_ORT_MEM_ADDR_/*",
    "\0",
]


def onnx_files() -> st.SearchStrategy[bytes]:
    """The small model with bytes, the graph, shapes or the place of its weights changed, and bombs."""
    return st.one_of(
        damaged_bytes(TINY),
        _changed_graphs(),
        st.lists(_SIZES, max_size=4).map(with_dims),
        st.builds(with_input, st.lists(_SIZES, max_size=5), st.integers(0, 25)),
        st.builds(
            external,
            st.sampled_from(_LOCATIONS),
            offset=st.sampled_from([0, -1, "x", 2**62]),
            length=st.sampled_from([16, -1, "y", 2**62, 0]),
        ),
        st.builds(nested_ifs, st.integers(1, 24)),
        st.sampled_from([(1, 9), (3, 10), (5, 3), (9, 10), (40, 2), (60, 1), (80, 1)]).map(
            lambda sizes: function_bomb(*sizes)
        ),
        st.sampled_from([cycle(), function_circle(), b"", b"ORTMORTM", b"\0" * 100]),
    )
