"""What a design or an ONNX file costs: counted, estimated from the count, and measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import nn

from nas.design import IDENTITY, Design
from nas.errors import ArtifactError, UnsupportedError
from nas.families import build
from nas.measure.complexity import Complexity, count
from nas.measure.measurer import Measurer
from nas.measure.platform import Platform, calibrate, estimated_ms
from nas.outcome import How, Quantity
from nas.profile.graph import count_onnx, fixed_batch, input_shapes, parse_onnx
from nas.target import TORCH_PROGRAM, Target

CalibratePlatform = Callable[[int], Platform]

# What random inputs there are, by the element type that the file asks for.
_DTYPES: dict[int, Any] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.DOUBLE: np.float64,
    TensorProto.UINT8: np.uint8,
    TensorProto.INT8: np.int8,
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
    TensorProto.BOOL: np.bool_,
}


@dataclass(frozen=True)
class Profile:
    """A model's operations, the time that they should take on this machine, and the time that they take.

    Args:
        title: The file, the trial with its design in words, or the design's family and images.
        target: What the time was measured on.
        complexity: Operations and parameters, per layer and in total.
        counted_images: How many images the operations are for: 1, or the batch that a file fixes.
        platform: The machine's measured arithmetic, at the target's threads.
        latency: ``latency_ms`` of the file; ``how`` is proxy where its weights are untrained.
        size_bytes: Size of the file that was measured.
        notes: What a reader should know.
    """

    title: str
    target: Target
    complexity: Complexity
    counted_images: int
    platform: Platform
    latency: Quantity
    size_bytes: int
    notes: tuple[str, ...] = ()

    @property
    def calibration(self) -> str:
        """Which calibration the estimate divides by: the convolution's wherever there are convolutions."""
        return "convolution" if self.complexity.conv_macs else "matrix product"

    @property
    def flops_per_second(self) -> float:
        """The divisor of the estimate."""
        platform = self.platform
        return platform.flops_per_second_conv if self.complexity.conv_macs else platform.flops_per_second_matmul

    @property
    def estimate_ms(self) -> float:
        """The textbook estimate for one call, with the target's batch: FLOPs / FLOP/s."""
        return estimated_ms(self.complexity.flops * self.target.batch / self.counted_images, self.flops_per_second)

    @property
    def estimated_fps(self) -> float:
        """Images per second by the estimate; infinite where there is nothing to count."""
        return 1000 * self.target.batch / self.estimate_ms if self.estimate_ms else float("inf")

    @property
    def measured_fps(self) -> float:
        """Images per second, measured: 1000 · batch / latency_ms."""
        return 1000 * self.target.batch / self.latency.value

    @property
    def measured_over_estimated(self) -> float:
        """How many times longer the call takes than the estimate says; infinite where there is nothing to count."""
        return self.latency.value / self.estimate_ms if self.estimate_ms else float("inf")


def profile_design(
    design: Design,
    input_shape: tuple[int, int, int],
    classes: int,
    target: Target,
    export: Callable[[nn.Module], bytes],
    measurer: Measurer | None = None,
    calibrate_platform: CalibratePlatform = calibrate,
) -> Profile:
    """Profiles a design's network, with random weights and before compression.

    Args:
        design: Its architecture is built; its compression needs a trained network and is not applied.
        input_shape: (C, H, W) of one image.
        classes: Number of classes.
        target: What to measure on.
        export: Turns the network into the file that would be deployed, in the target's form.
        measurer: Measures the file; one of our own where None, which is closed afterwards.
        calibrate_platform: Measures the machine's arithmetic at so many threads.

    Raises:
        SpaceError: The family or a choice is unknown.
        InfeasibleDesignError: No network can be built from the design for such images.
        UnsupportedError: The target cannot be measured here, or is no CPU.
        MeasureError: The measuring process died or hung.
    """
    threads = _threads(target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(design.family, design.architecture, input_shape, classes)
    complexity = count(network, input_shape)
    content = export(network)
    notes = ["time measured on the exported file with random weights"]
    if steps := [name for name, value in design.compression.items() if value != IDENTITY.get(name)]:
        notes.append(f"{', '.join(steps)}: not applied, as that needs a trained network; profile a trial's file for it")
    channels, height, width = input_shape
    if target.form == TORCH_PROGRAM:  # it takes images as the artifact does
        images = _random(np.dtype(np.uint8), (target.batch, height, width, channels))
    else:
        images = _random_input(parse_onnx(content, "the exported network"), target)
    latency = replace(_time(content, images, target, measurer), how=How.PROXY)
    title = f"{design.family} on {height}×{width}×{channels} (H×W×C), {classes} classes"
    platform = calibrate_platform(threads)
    return Profile(title, target, complexity, 1, platform, latency, len(content), (*complexity.notes, *notes))


def profile_onnx(
    path: Path,
    target: Target,
    measurer: Measurer | None = None,
    calibrate_platform: CalibratePlatform = calibrate,
    title: str = "",
) -> Profile:
    """Profiles an ONNX file of one input, this package's or another's, on random ones.

    Args:
        path: The file.
        target: What to measure on.
        measurer: Measures the file; one of our own where None, which is closed afterwards.
        calibrate_platform: Measures the machine's arithmetic at so many threads.
        title: What to call the model; the file's name where empty.

    Raises:
        ArtifactError: The file is missing or no ONNX model, its inputs cannot be given a concrete shape, it fixes
            another batch than the target's, or the runtime cannot run it or takes no ONNX files.
        UnsupportedError: The target cannot be measured here, or is no CPU.
        MeasureError: The measuring process died or hung.
    """
    threads = _threads(target)
    if target.form == TORCH_PROGRAM:
        raise ArtifactError(
            f"{target.kind.title} ({target.name}) takes torch programs, but {path} is profiled as an ONNX file",
            "name a target of ONNX Runtime or OpenVINO, or a design, which is exported as the target takes it",
        )
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(f"there is no model file {path}") from None
    except OSError as error:
        raise ArtifactError(f"the model file {path} cannot be read: {error.strerror}") from None
    model = parse_onnx(content, str(path))
    batch = fixed_batch(model)
    if batch not in (None, target.batch):
        fitting = replace(target, batch=batch or 1)
        raise ArtifactError(
            f"{path} takes batches of {batch} only, but target '{target.name}' wants {target.batch}",
            f"profile it on '{fitting.name}'",
        )
    complexity = count_onnx(model)
    latency = _time(content, _random_input(model, target), target, measurer)
    platform = calibrate_platform(threads)
    notes = (*complexity.notes, "random inputs")
    return Profile(title or path.name, target, complexity, batch or 1, platform, latency, len(content), notes)


def _threads(target: Target) -> int:
    """The target's threads, where this machine has the cores.

    Raises:
        UnsupportedError: It has not, or the target is no CPU, whose arithmetic alone is calibrated.
    """
    target.check_cores()
    if target.threads is None:
        raise UnsupportedError(
            f"a profile holds measured against estimated time, and the estimate is for a CPU, not for '{target.name}'",
            f"profile on a CPU's target, and measure a file by: nas measure FILE --target {target.name}",
        )
    return target.threads


def _time(content: bytes, images: np.ndarray, target: Target, measurer: Measurer | None) -> Quantity:
    if measurer is not None:
        return measurer.measure(content, target, images)[0]
    with Measurer() as own:
        return own.measure(content, target, images)[0]


def _random_input(model: Any, target: Target) -> np.ndarray:
    """A random batch of the shape and type that the model asks for."""
    shapes = input_shapes(model, target.batch)
    if len(shapes) != 1:
        raise ArtifactError(f"the model must have one input, but has {', '.join(shapes) or 'none'}")
    name, shape = next(iter(shapes.items()))
    kind = next(item.type.tensor_type.elem_type for item in model.graph.input if item.name == name)
    if kind not in _DTYPES:
        written = TensorProto.DataType.Name(kind).lower()
        raise ArtifactError(f"input '{name}' is of type tensor({written}), for which there are no random inputs")
    return _random(np.dtype(_DTYPES[kind]), shape)


def _random(dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.default_rng(0)
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    if dtype == np.uint8:
        return generator.integers(0, 256, shape, dtype=np.uint8)
    return np.zeros(shape, dtype)  # integers may be indices into a table of unknown length
