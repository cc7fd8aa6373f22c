"""Networks and single layers of a search space, built and compressed as a trial's would be, but with random weights.

What a network computes decides its latency, not what its weights are; so nothing is trained, and a network is ready in
a tenth of a second. Compression is what is left of it without training, as a sensitivity analysis has it.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from nas.artifact import InputSpec
from nas.compress import export
from nas.compress.bits.pack import pack
from nas.compress.registry import GRAPH_TECHNIQUES, NETWORK_TECHNIQUES
from nas.compress.technique import Tools
from nas.data.normalise import Normalisation, given_normalisation
from nas.design import Design
from nas.families import OwnNetwork, build, load_own
from nas.families.layout import layout_of
from nas.measure.complexity import Complexity, count
from nas.recipe_sections import TrainingConfig
from nas.space import SearchSpace
from nas.train import Numerics, TrainingData, seeded

# Enough to see the range of activations; labels only have to be there.
IMAGES = 32
# Of grey levels that are uniform at random.
MEAN, DEVIATION = 128.0, 74.0

Shape = tuple[int, int, int]
_LAYERS = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class Sample:
    """Something to measure.

    Args:
        label: What it is, in words.
        artifact: The ONNX file.
        images: Inputs as the file takes them, N×….
        complexity: Operations of the network before conversion, after pruning.
    """

    label: str
    artifact: bytes
    images: np.ndarray
    complexity: Complexity


class Sampler:
    """Builds designs of a space.

    Args:
        space: Whose designs.
        image_shape: (H, W, C) of one image.
        classes: Number of classes.
        reduce_range: Whether int8 weights use 7 bits, as trials on this machine do.

    Raises:
        ModuleError: The space's own network cannot be built, or does not fit.
    """

    def __init__(
        self, space: SearchSpace, image_shape: tuple[int, int, int], classes: int, reduce_range: bool = False
    ) -> None:
        self.space = space
        self.classes = classes
        self.input = InputSpec("uint8", image_shape)
        self.reduce_range = reduce_range
        self._own: OwnNetwork | None = None
        module = space.module
        if module is not None:
            self._own = load_own(module, self.input.channels_first, classes)
        given = module is not None and module.mean is not None and module.std is not None
        self.normalisation = (
            given_normalisation(module.mean, module.std, self.input)  # type: ignore[union-attr, arg-type]
            if given
            else Normalisation((MEAN,) * image_shape[2], (DEVIATION,) * image_shape[2])
        )
        generator = np.random.default_rng(0)
        self.images = generator.integers(0, 256, (IMAGES, *image_shape), dtype=np.uint8)

    def designs(self, seed: int) -> Iterator[Design]:
        """Random designs, no two alike; ends where the space seems to have no more."""
        generator, seen, repeats = random.Random(seed), set[str](), 0
        while repeats < 100:
            design = self.space.sample(generator)
            repeats = repeats + 1 if design.digest in seen else 0
            if not repeats:
                seen.add(design.digest)
                yield design

    def network(self, design: Design) -> Sample:
        """A design as a file, compressed.

        Raises:
            InfeasibleDesignError: No network can be built from it.
            UnsupportedError: A step of its compression cannot be carried out.
        """
        network = self._pruned(design)
        spec, normalisation = self.input, self.normalisation
        tools = self._tools(self.images, spec, normalisation)
        body = _converted(export.export_body(network, spec.channels_first), design, tools)
        artifact = export.attach_front_end(body, spec, normalisation)
        return Sample("network", artifact, self.images, count(network, spec.channels_first))

    def layer(self, design: Design, seed: int) -> Sample:
        """One convolution or linear layer of a design by itself, compressed, behind and before little else.

        Its activation and a mean of each channel follow, as the whole map through a softmax would outweigh it.

        Raises:
            As ``network``; also a ValueError where the design has no such layer.
        """
        network = self._pruned(design)
        shapes = _input_shapes(network, self.input.channels_first)
        if not shapes:
            raise ValueError("the network has no convolution or linear layer")
        name = random.Random(seed).choice(sorted(shapes))
        chosen = shapes[name]
        alone = _alone(copy.deepcopy(network.get_submodule(name)))
        inputs = np.random.default_rng(0).standard_normal((IMAGES, *chosen)).astype(np.float32)
        spec = InputSpec("float32", chosen, "NCHW")
        tools = self._tools(inputs, spec, Normalisation((0.0,) * chosen[0], (1.0,) * chosen[0]))
        plain = replace(design, compression={k: v for k, v in design.compression.items() if "." not in k})
        body = pack(_converted(export.export_body(alone, chosen), plain, tools))
        return Sample("layer", body, inputs, count(alone, chosen))

    def _pruned(self, design: Design) -> nn.Module:
        """A design's network with random weights, as compression of the network leaves it."""
        with seeded(0, torch.get_num_threads()):
            network = self._built(design)
        network = network.cpu().to(memory_format=layout_of(network)).eval()  # type: ignore[call-overload]
        tools = self._tools(self.images, self.input, self.normalisation)
        for technique in NETWORK_TECHNIQUES:
            config = technique.config(design)
            if config is not None and (config := technique.untrained(config)) is not None:
                network, _ = technique.apply(network, config, tools)
        return network

    def _built(self, design: Design) -> nn.Module:
        if self._own is None:
            return build(design.family, design.architecture, self.input.channels_first, self.classes)
        return copy.deepcopy(self._own.trained) if self._own.trained is not None else self._own.build()

    def _tools(self, images: np.ndarray, spec: InputSpec, normalisation: Normalisation) -> Tools:
        labels = np.arange(len(images), dtype=np.int64) % self.classes
        data = TrainingData.from_arrays(images, labels, self.classes, spec.layout, normalisation, "cpu")
        is_bytes = spec.dtype == "uint8" and normalisation.is_one_dequantisation
        return Tools(
            data=data,
            input_shape=spec.channels_first,
            training=TrainingConfig(),
            epochs=1,
            numerics=Numerics("cpu", "float32", torch.get_num_threads()),
            seed=0,
            pixels=export.input_quantisation(normalisation) if is_bytes else None,
            reduce_range=self.reduce_range,
        )


def _converted(body: bytes, design: Design, tools: Tools) -> bytes:
    """The body after the techniques that work on it, as far as they need no training."""
    for technique in GRAPH_TECHNIQUES:
        config = technique.config(design)
        if config is not None and (config := technique.untrained(config)) is not None:
            body, _ = technique.apply(body, config, tools)
    return body


def _input_shapes(network: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, Shape]:
    """(C, H, W) of what each convolution of images and each linear layer takes in, by name; of the latter (C, 1, 1)."""
    shapes: dict[str, Shape] = {}
    with _watched(network, shapes), torch.no_grad():
        network(torch.zeros(1, *input_shape))
    return shapes


@contextmanager
def _watched(network: nn.Module, shapes: dict[str, Shape]) -> Iterator[None]:
    def watch(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def note(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            expected = 3 if isinstance(layer, nn.Conv2d) else 1
            if inputs[0].dim() == expected + 1:
                shapes[name] = (*inputs[0].shape[1:], 1, 1)[:3]

        return layer.register_forward_pre_hook(note)

    handles = [watch(name, layer) for name, layer in network.named_modules() if isinstance(layer, _LAYERS)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _alone(layer: nn.Module) -> nn.Module:
    """A network of one layer that gives one number for each of its channels."""
    if isinstance(layer, nn.Linear):
        return nn.Sequential(nn.Flatten(), layer).eval()
    return nn.Sequential(layer, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
