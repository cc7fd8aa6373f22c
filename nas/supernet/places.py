"""Where a network's tensors lie in the shared ones, and how they are cut out of them.

A family that shares its weights says for each layer of a network which shared layer it is a part of (``Place``); all
else follows from shapes. A tensor's part are its first outputs and its first inputs, so that the widths of one layer
contain each other, and of a kernel the centre, so that a 3×3 kernel is the middle of a 5×5 one (Cai et al.,
Once-for-All, ICLR 2020, arXiv:1908.09791). Layers that mean different things, such as a standard and a separable
convolution, have different shared layers.

A layer that takes a flattened map begins as the one that takes each channel's average: every position has the same
share of its weights, and to these are added weights of the position's own, which start at zero. Those are shared by
maps of one size alone, since positions of different sizes do not correspond.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from nas.design import Value
from nas.families import find_family
from nas.space import SearchSpace


@dataclass(frozen=True)
class Place:
    """The shared layer that one layer of a network is a part of.

    Args:
        layer: The layer's path in the network, such as ``features.stage1.0``.
        shared: The shared layer's name.
        outputs: The most outputs that it has in any design of the space.
        inputs: The most inputs of one output; 1 where each output has its own (depthwise).
        kernel: The largest side of a convolution's kernel.
        channels: Where the layer takes a flattened feature map: the channels of that map in this network.
    """

    layer: str
    shared: str
    outputs: int
    inputs: int = 1
    kernel: int = 1
    channels: int = 0


@dataclass(frozen=True)
class Slot:
    """One shared tensor, and what of it a network takes.

    Args:
        name: The shared tensor's name, such as ``stage1.0.standard.weight``.
        size: Its shape.
        shape: The shape of what the network takes.
        gain: What a random start is scaled by, see ``nas.families.blocks.initialise``; None where all numbers start at
            ``fill``, as those of a batch norm and biases do.
        fill: The start of all numbers where ``gain`` is None.
        each: For a layer on a flattened map: what is added for each position, outputs × channels × positions.
    """

    name: str
    size: tuple[int, ...]
    shape: tuple[int, ...]
    gain: float | None
    fill: float = 0.0
    each: Slot | None = None

    def cut(self, shared: Tensor) -> Tensor:
        """The network's part of the shared tensor: a view of it."""
        for axis, (whole, wanted) in enumerate(zip(self.size, self.shape, strict=True)):
            if wanted < whole:
                # Dimensions 2 and 3 are a kernel's sides.
                shared = shared.narrow(axis, (whole - wanted) // 2 if axis > 1 else 0, wanted)
        return shared

    def parameter(self, shared: Callable[[Slot], Tensor]) -> Tensor:
        """The network's parameter.

        Args:
            shared: Gives the shared tensor of a slot.
        """
        part = self.cut(shared(self))
        if self.each is None:
            return part
        own = self.each.cut(shared(self.each))
        return (part.unsqueeze(2) / own.shape[2] + own).flatten(1)


def slots_of(network: nn.Module, places: Iterator[Place]) -> dict[str, Slot]:
    """For each parameter of a network, by name, the shared tensor that it is a part of.

    Args:
        network: As its family built it; may lie on the meta device.
        places: One for each layer with parameters.
    """
    slots = {}
    for place in places:
        module = network.get_submodule(place.layer)
        for kind, parameter in module.named_parameters(recurse=False):
            slots[f"{place.layer}.{kind}"] = _slot(place, kind, module, tuple(parameter.shape))
    missing = {name for name, _ in network.named_parameters()} - slots.keys()
    assert not missing, f"no place for {', '.join(sorted(missing))}"
    return slots


def _slot(place: Place, kind: str, module: nn.Module, shape: tuple[int, ...]) -> Slot:
    name = f"{place.shared}.{kind}"
    if len(shape) == 1:
        scale = kind == "weight"  # of a batch norm; other vectors are biases and offsets
        return Slot(name, (place.outputs,), shape, None, 1.0 if scale else 0.0)
    gain = 1.0 if place.layer == "classifier" else math.sqrt(2.0)
    if isinstance(module, nn.Conv2d):
        return Slot(name, (place.outputs, place.inputs, place.kernel, place.kernel), shape, gain)
    if not place.channels:
        return Slot(name, (place.outputs, place.inputs), shape, gain)
    positions = shape[1] // place.channels
    each = Slot(
        f"{place.shared}.{positions}.{kind}",
        (place.outputs, place.inputs, positions),
        (shape[0], place.channels, positions),
        gain=None,
    )
    return Slot(name, (place.outputs, place.inputs), (shape[0], place.channels), gain, each=each)


def normalised_convolution(
    layer: str, index: int, shared: str, outputs: int, inputs: int, kernel: int
) -> Iterator[Place]:
    """The places of a convolution and its batch norm, as ``nas.families.blocks.convolution`` puts them.

    Args:
        layer: The path of the ``nn.Sequential`` that they stand in.
        index: The convolution's place there.
        shared: The shared layer's name.
        outputs: See ``Place``, as the other two.
    """
    yield Place(f"{layer}.{index}", shared, outputs, inputs, kernel)
    yield Place(f"{layer}.{index + 1}", f"{shared}.norm", outputs)


class Bounds:
    """The largest value of each numeric choice among all designs of a space."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._rules = find_family(space.family).rules

    def most(self, name: str) -> int:
        """The largest value that the space offers for a choice, or the family's default where it offers none."""
        choice = self._space.by_name.get(name)
        offered: tuple[Value | None, ...] = choice.values if choice is not None else ()
        if choice is None or choice.when:
            offered = (*offered, self._rules[name].default)  # what designs without the choice have
        return max(value for value in offered if isinstance(value, int))
