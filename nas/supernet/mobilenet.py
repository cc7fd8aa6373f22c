"""Which shared layer each layer of a mobilenet is a part of (see ``nas.families.mobilenet``).

Expanded channels are those of the first inputs' expansion: a smaller expansion or a narrower input has the first of
them. A block that does not expand filters its input directly, so it has weights of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from nas.families.blocks import SqueezeExcite
from nas.families.registry import Architecture
from nas.supernet.places import Bounds, Place, normalised_convolution


def places(architecture: Architecture, bounds: Bounds, channels: int, classes: int) -> Iterator[Place]:
    """The places of all layers of one network.

    Args:
        architecture: Of the network.
        bounds: Of the space.
        channels: Of the images.
        classes: How many there are.
    """
    before = bounds.most("stem.width")
    yield from normalised_convolution("features.stem", 0, "stem", before, channels, bounds.most("stem.kernel"))
    last = architecture.whole("stages")
    for number in range(1, last + 1):
        stage = f"stage{number}"
        for index in range(architecture.whole(f"{stage}.depth")):
            yield from _block(architecture, bounds, stage, index, before)
            before = bounds.most(f"{stage}.width")
    stage = f"stage{last}"
    width = bounds.most("head.width")
    if architecture.whole("head.width"):
        yield from normalised_convolution("features.last", 0, f"{stage}.last", width, before, 1)
        yield Place("classifier", "classifier.last", classes, width)
    else:
        yield Place("classifier", f"{stage}.classifier", classes, before)


def _block(architecture: Architecture, bounds: Bounds, stage: str, index: int, before: int) -> Iterator[Place]:
    """An inverted residual: expansion, depthwise convolution, gate, projection, as far as it has them."""
    body, shared = f"features.{stage}.{index}.body", f"{stage}.{index}"
    expands = architecture.whole(f"{stage}.expansion") > 1
    expanded = before * bounds.most(f"{stage}.expansion") if expands else before
    shared = f"{shared}.expanded" if expands else f"{shared}.direct"
    at = 0
    if expands:
        yield from normalised_convolution(body, at, f"{shared}.expand", expanded, before, 1)
        at += 3
    kernel = bounds.most(f"{stage}.kernel")
    yield from normalised_convolution(body, at, f"{shared}.depthwise", expanded, 1, kernel)
    at += 3
    if architecture.flag(f"{stage}.squeeze_excite"):
        squeezed = _squeezed(expanded)
        yield Place(f"{body}.{at}.gate.1", f"{shared}.squeeze", squeezed, expanded)
        yield Place(f"{body}.{at}.gate.3", f"{shared}.excite", expanded, squeezed)
        at += 1
    yield from normalised_convolution(body, at, f"{shared}.project", bounds.most(f"{stage}.width"), expanded, 1)


def _squeezed(channels: int) -> int:
    """How many channels the gate of so many has between its two layers."""
    with torch.device("meta"):
        squeeze = SqueezeExcite(channels).gate[1]
    assert isinstance(squeeze, nn.Conv2d)
    return squeeze.out_channels
