"""What the contract suite of runtimes is run for: a new runtime is a line in ``CASES``."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper
from onnx_models import tiny_artifact

# What ``Case.model`` takes.
SHAPE, CLASSES = (4, 4, 1), 3


@dataclass(frozen=True)
class Case:
    """A runtime on a target, and models in the form that it wants there.

    Args:
        target: The target's name; batches of more than one, so that filling up shows.
        model: 4×4×1 uint8 images, batch free, to the probabilities of 3 classes, which differ from image to image.
        two_inputs: A model of two inputs; None where the form has one always.
        package: What has to be installed for it: the suite is skipped without. None for what this package needs itself.
        tolerance: Largest difference between two ways to run one model.
    """

    target: str
    model: Callable[[], bytes]
    two_inputs: Callable[[], bytes] | None = None
    package: str | None = None
    tolerance: float = 1e-6


def make_images(count: int, seed: int = 0) -> np.ndarray:
    """Images as ``Case.model`` takes them."""
    return np.random.default_rng(seed).integers(0, 12, (count, *SHAPE)).astype(np.uint8)


def two_inputs_onnx() -> bytes:
    """The sum of two arrays."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("left", "right")]
    output = helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph([helper.make_node("Add", ["left", "right"], ["sum"])], "test", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@functools.cache
def torch_program(inputs: int = 1) -> bytes:
    """The model of ``Case.model`` as a torch program, or one that takes so many times its input."""
    import torch

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.linspace(-1, 1, 16 * CLASSES).reshape(16, CLASSES))

        def forward(self, *images: torch.Tensor) -> torch.Tensor:
            return torch.softmax(sum(part.float().flatten(1) for part in images) @ self.weight, 1)

    example = tuple(torch.zeros((2, *SHAPE), dtype=torch.uint8) for _ in range(inputs))
    batch = torch.export.Dim("batch", min=1)
    free = (tuple({0: batch} for _ in example),)
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(Classifier(), example, dynamic_shapes=free, strict=False), buffer)
    return buffer.getvalue()


def on_onnx(target: str, package: str | None = None, tolerance: float = 1e-6) -> Case:
    """A case of a runtime that takes ONNX files."""
    return Case(target, tiny_artifact, two_inputs_onnx, package, tolerance)


def on_torch(target: str, tolerance: float = 1e-6) -> Case:
    """A case of a runtime that takes torch programs."""
    return Case(target, torch_program, lambda: torch_program(2), None, tolerance)


CASES = (
    on_onnx("onnxruntime-cpu-1t-b3"),
    on_onnx("onnxruntime-cpu-2t-b1"),
    on_onnx("openvino-cpu-1t-b3", "openvino"),
    on_onnx("openvino-cpu-2t-b1", "openvino"),
    on_torch("torch-cpu-1t-b3"),
)
