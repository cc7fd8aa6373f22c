"""Which shared layer each layer of a convnet is a part of (see ``nas.families.convnet``).

Standard and separable convolutions are parallel weights; a stage's pooling, which has no weights, shares them all.
"""

from __future__ import annotations

from collections.abc import Iterator

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
        yield from _stage(architecture, bounds, f"stage{number}", before)
        before = bounds.most(f"stage{number}.width")
    yield from _head(architecture, bounds, f"stage{last}", classes)


def _stage(architecture: Architecture, bounds: Bounds, stage: str, before: int) -> Iterator[Place]:
    width, kernel = bounds.most(f"{stage}.width"), bounds.most(f"{stage}.kernel")
    separable = architecture.text(f"{stage}.conv") == "separable"
    layer = f"features.{stage}"
    for index in range(architecture.whole(f"{stage}.depth")):
        shared = f"{stage}.{index}"
        if separable:
            yield from normalised_convolution(layer, 6 * index, f"{shared}.depthwise", before, 1, kernel)
            yield from normalised_convolution(layer, 6 * index + 3, f"{shared}.pointwise", width, before, 1)
        else:
            yield from normalised_convolution(layer, 3 * index, f"{shared}.standard", width, before, kernel)
        before = width


def _head(architecture: Architecture, bounds: Bounds, stage: str, classes: int) -> Iterator[Place]:
    """Hidden layer and classifier: what the features of one stage mean is not what those of another mean, so the layer
    that takes them is each stage's own."""
    width, hidden = bounds.most(f"{stage}.width"), bounds.most("head.hidden")
    flattens = architecture.text("head.pooling") == "flatten"
    channels = architecture.whole(f"{stage}.width") if flattens else 0
    if architecture.whole("head.hidden"):
        yield Place("head.1" if flattens else "head.2", f"{stage}.hidden", hidden, width, channels=channels)
        yield Place("classifier", "classifier.hidden", classes, hidden)
    else:
        yield Place("classifier", f"{stage}.classifier", classes, width, channels=channels)
