"""A design's artifact before any training: of the shapes and the graph that it will have, but not of its values.

It tells what arithmetic there will be, how large the file and, run by the real runtime, about how fast it will be. All
criteria of pruning leave the same widths (``nas.compress.prune``), so that the least data will do for them, as for the
ranges of activations.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import nn

from nas.artifact import InputSpec
from nas.compress import export, forms
from nas.compress.program import export_program
from nas.compress.quantise import Quantise
from nas.compress.registry import GRAPH_TECHNIQUES, NETWORK_TECHNIQUES
from nas.compress.technique import Tools
from nas.design import Design
from nas.target import ONNX, TORCH_PROGRAM

# On how many images what needs some is tried.
IMAGES = 16


@dataclass(frozen=True)
class Sketch:
    """What a design's compression makes of a network where every step that trains is left out.

    Args:
        network: After pruning.
        float_body: The exported network before its weights and activations got fewer bits.
        artifact: The finished ONNX file.
    """

    network: nn.Module
    float_body: bytes = field(repr=False)
    artifact: bytes = field(repr=False)


def cut(network: nn.Module, design: Design, tools: Tools) -> nn.Module:
    """The network after those of the design's techniques that do without training; itself where there is none."""
    for technique in NETWORK_TECHNIQUES:
        config = technique.config(design)
        if config is not None and (config := technique.untrained(config)) is not None:
            network, _ = technique.apply(network, config, tools)
    return network


def sketch(network: nn.Module, design: Design, tools: Tools, spec: InputSpec) -> Sketch:
    """Sketches a design's artifact.

    Args:
        network: Before or after its training; not changed.
        design: Its compression.
        tools: As for the techniques; little of the data is looked at.
        spec: What the artifact takes.

    Raises:
        UnsupportedError: A step cannot be carried out on this network.
    """
    few = _few(tools)
    network = cut(network, design, few)
    body = float_body = export.export_body(network, tools.input_shape)
    for technique in GRAPH_TECHNIQUES:
        if (config := technique.config(design)) is not None:
            # Codebooks are nothing without training, but their form is that after no epoch of it.
            body, _ = technique.apply(body, technique.untrained(config) or config, few)
            if technique.name != Quantise.name:
                float_body = body
    return Sketch(network, float_body, export.attach_front_end(body, spec, tools.data.normalisation))


def sketch_in_form(form: str, made: Sketch, design: Design, tools: Tools, spec: InputSpec) -> bytes:
    """A sketch in the form that some targets want (see ``nas.target``); the arguments are those of ``sketch``."""
    if form == TORCH_PROGRAM:
        return export_program(made.network, spec, tools.data.normalisation)
    if form == ONNX:
        return made.artifact
    untrained = {name: value for name, value in design.compression.items() if name != "quantisation_aware"}
    plain = Design(design.family, design.architecture, untrained)
    return forms.symmetric(made.float_body, plain, _few(tools), spec).artifact


@torch.no_grad()
def with_own_values(network: nn.Module) -> nn.Module:
    """The network, in place, with noise on every tensor that was set to one value, such as a bias of zeros.

    After a training no two tensors are the same. Before it many are, and the exporter stores those once: the file would
    lack constants that the artifact has, and have nodes that it has not.
    """
    generator = torch.Generator().manual_seed(0)
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point() and bool((tensor == tensor.flatten()[:1]).all()):
            tensor += 0.1 * torch.rand(tensor.shape, generator=generator)  # upwards: a variance stays positive
    return network


def _few(tools: Tools) -> Tools:
    """What techniques work with where values do not matter: few images, no epoch."""
    data = replace(tools.data, images=tools.data.images[:IMAGES], labels=tools.data.labels[:IMAGES])
    return replace(tools, data=data, epochs=0)
