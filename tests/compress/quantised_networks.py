"""Networks, images and bodies that the tests of quantisation share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from small_networks import normalised, with_statistics
from torch import Tensor, nn

from nas.artifact import InputSpec, open_session, probabilities
from nas.compress.bits.body import Bits, prepare
from nas.compress.bits.half import compute_in_half, halve_weights
from nas.compress.bits.qdq import Calibration, quantise_layers, quantise_weights
from nas.compress.export import attach_front_end, export_body, input_quantisation
from nas.data.normalise import Normalisation

SHAPE = (3, 16, 12)
PIXELS = InputSpec("uint8", (16, 12, 3))
GREY = Normalisation((119.0,) * 3, (71.3,) * 3)


class Staged(nn.Module):
    """A stem, two stages and a classifier; one branch around the second stage, average pooling between the two."""

    def __init__(self, width: int = 16, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.stage1 = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.AvgPool2d(2)
        )
        self.stage2 = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage1(self.stem(x))
        return self.classifier(self.pool(torch.relu(x + self.stage2(x))).flatten(1))


@functools.cache
def staged_body(seed: int = 0) -> bytes:
    torch.manual_seed(seed)
    return export_body(with_statistics(Staged()), SHAPE)


def make_pixels(count: int = 32, spec: InputSpec = PIXELS, highest: int = 255) -> np.ndarray:
    """Smooth random images: quantisation must not look better, nor worse, than on real ones."""
    rng = np.random.default_rng(0)
    height, width, channels = spec.shape
    coarse = rng.integers(0, highest + 1, (count, 4, 3, channels)).astype(np.uint8)
    return coarse.repeat(-(-height // 4), 1).repeat(-(-width // 3), 2)[:, :height, :width]


def calibration_images(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(normalised(pixels, GREY.mean[0], GREY.std[0], "NHWC"))


def node_names(body: bytes) -> list[str]:
    return [node.name for node in onnx.load_from_string(body).graph.node]


def quantise(
    body: bytes,
    bits: tuple[int, int] | Mapping[str, tuple[int, int]],
    method: str = "minmax",
    reduce_range: bool = False,
    highest: int = 255,
) -> bytes:
    """A body in its canonical form: the same bits everywhere, or by what a node's name contains (``""`` for the rest).

    Calibrated on ``make_pixels``; for bodies on ``SHAPE`` whose input is pixels.
    """
    choice = {"": bits} if isinstance(bits, tuple) else dict(bits)
    in_integers = any(Bits(*each).in_integers for each in choice.values())
    body = prepare(body) if in_integers else body
    each = {
        name: Bits(*next((choice[part] for part in choice if part and part in name), choice.get("", (32, 32))))
        for name in node_names(body)
    }
    quantised = quantise_weights(body, each, reduce_range)
    if in_integers:
        images = calibration_images(make_pixels(highest=highest))
        quantised = quantise_layers(
            quantised, each, Calibration(images, method, input_quantisation(GREY)), reduce_range
        )
    quantised = halve_weights(quantised, [name for name in each if each[name] == (16, 32)])
    return compute_in_half(quantised, [name for name in each if each[name] == (16, 16)])


def artifact_of(body: bytes) -> bytes:
    return attach_front_end(body, PIXELS, GREY)


def outputs(artifact: bytes) -> np.ndarray:
    """Probabilities of ``make_pixels``."""
    return probabilities(open_session(artifact), make_pixels())


def initializers(content: bytes) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(content).graph.initializer}


def edited(content: bytes, change: Callable[[onnx.GraphProto], None]) -> bytes:
    model = onnx.load_from_string(content)
    change(model.graph)
    return bytes(model.SerializeToString(deterministic=True))
