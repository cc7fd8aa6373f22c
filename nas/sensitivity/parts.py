"""The stages of a network: which parts a sensitivity analysis takes one at a time, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from nas.compress.layers import weighted_layers
from nas.compress.stages import short_name
from nas.compression import Value
from nas.measure.complexity import Complexity
from nas.sensitivity.result import Setting


@dataclass(frozen=True)
class Part:
    """A part of a network that holds convolutions or linear layers.

    Args:
        name: What compression choices call it: its path, ``stage2`` for ``features.stage2``.
        path: Where it lies, such as ``features.stage2``.
        layers: Paths of its convolutions and linear layers.
    """

    name: str
    path: str
    layers: tuple[str, ...]


def stages(model: nn.Module) -> list[Part]:
    """The network's stages, from input to output as it declares them.

    They are the modules that it is made of, as far as they hold convolutions or linear layers. A module around all of
    these is looked into; so is, once, one that holds at least half of the layers (the trunk: ``features`` of the
    families here and of most networks for images).
    """
    layers = tuple(weighted_layers(model))
    root = ""
    while len(inside := _children(root, layers)) == 1 and inside[0] not in layers:
        root = inside[0]
    found: list[str] = []
    opened = False
    for path in _children(root, layers):
        held = [layer for layer in layers if _holds(path, layer)]
        if not opened and 2 * len(held) >= len(layers) and len(_children(path, layers)) > 1:
            opened = True
            found += _children(path, layers)
        else:
            found.append(path)
    return [Part(short_name(path), path, tuple(layer for layer in layers if _holds(path, layer))) for path in found]


def single_layers(model: nn.Module) -> list[Part]:
    """Every convolution and linear layer by itself, named within its stage: ``stage2.0``, ``layer1.0.conv1``."""
    return [
        Part(f"{stage.name}{layer.removeprefix(stage.path)}", layer, (layer,))
        for stage in stages(model)
        for layer in stage.layers
    ]


def compression_of(part: Part, setting: Setting) -> dict[str, Value]:
    """The compression choices that do this to a part and nothing to the rest of the network."""
    return setting.compression(part.name)


def own_counts(part: Part, complexity: Complexity) -> tuple[int, int]:
    """A part's own multiply-adds and parameters, batch normalisation and the like included."""
    rows = [row for row in complexity.layers if _holds(part.path, row.name)]
    return sum(row.macs for row in rows), sum(row.params for row in rows)


def _holds(path: str, layer: str) -> bool:
    return not path or layer == path or layer.startswith(f"{path}.")


def _children(path: str, layers: tuple[str, ...]) -> list[str]:
    """The paths one below a path, of those that lead to layers; none below a layer."""
    depth = len(path.split(".")) if path else 0
    below = [layer.split(".") for layer in layers if _holds(path, layer) and layer != path]
    return list(dict.fromkeys(".".join(parts[: depth + 1]) for parts in below))
