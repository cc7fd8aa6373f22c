"""The supernet: the weights that all networks of a space share, and the networks that are cut out of them.

A network of the supernet is the family's own network: its forward runs on parts of the shared tensors in place of
parameters of its own, so that gradients reach exactly these parts. Its batch norms take each batch's own statistics,
since those of one network do not fit another (Yu and Huang, Universally Slimmable Networks, ICCV 2019,
arXiv:1903.05134); before it is judged they are computed anew (``nas.supernet.ranking``).
"""

from __future__ import annotations

import functools
import hashlib
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nas.design import Design
from nas.errors import InfeasibleDesignError, UnsupportedError
from nas.families import build, check_space, find_family
from nas.families.layout import laid_out
from nas.families.registry import Architecture
from nas.space import SearchSpace
from nas.supernet import convnet, mobilenet
from nas.supernet.extremes import extreme
from nas.supernet.places import Bounds, Place, Slot, slots_of

# How the layers of a family lie in shared ones, by the family's name.
SHARING: dict[str, Callable[[Architecture, Bounds, int, int], Iterator[Place]]] = {
    "convnet": convnet.places,
    "mobilenet": mobilenet.places,
}
# So many random designs are drawn before it is said that none fits the images.
MOST_DRAWS = 1000
# Networks whose structure is kept at hand, without weights.
_KEPT = 64


@dataclass(frozen=True)
class _Template:
    """A network's structure without weights, and where its parameters lie in the shared tensors."""

    network: nn.Module
    slots: dict[str, Slot]


class Supernet:
    """The shared weights of a space's networks.

    A shared tensor has the largest size that any design of the space takes of it. It is made when a network first needs
    it, from random numbers that follow from the seed and its name alone. Compression has no part in any of this:
    designs of one architecture are one network.

    Args:
        space: What is shared; of family convnet or mobilenet.
        input_shape: (C, H, W) of one image.
        classes: The number of logits.
        seed: Of the random start.

    Raises:
        UnsupportedError: Another family.
        SpaceError: The family cannot build the space's designs.
        InfeasibleDesignError: No design of the space fits the images.
    """

    def __init__(self, space: SearchSpace, input_shape: tuple[int, int, int], classes: int, seed: int = 0) -> None:
        if space.family not in SHARING:
            raise UnsupportedError(
                f"networks of family '{space.family}' cannot share their weights",
                f"a supernet is for {' and '.join(SHARING)}; choose another strategy",
            )
        check_space(space)
        self.space, self.input_shape, self.classes, self.seed = space, input_shape, classes, seed
        self.device = torch.device("cpu")
        self.tensors: dict[str, nn.Parameter] = {}
        self._bounds = Bounds(space)
        self._template = functools.lru_cache(maxsize=_KEPT)(self._make_template)
        self.largest = extreme(space, self.fits, largest=True)
        self.smallest = extreme(space, self.fits, largest=False)

    def fits(self, design: Design) -> bool:
        """Whether a network can be built from the design, for images of this size."""
        try:
            self._template(architecture_of(design))
        except InfeasibleDesignError:
            return False
        return True

    def draw(self, rng: random.Random) -> Design:
        """A random architecture that fits the images: each choice uniform among its values.

        Raises:
            InfeasibleDesignError: Of a thousand none fits.
        """
        for _ in range(MOST_DRAWS):
            design = architecture_of(self.space.sample(rng))
            if self.fits(design):
                return design
        size = "×".join(str(side) for side in self.input_shape[1:])
        raise InfeasibleDesignError(
            f"none of {MOST_DRAWS} random designs of search space '{self.space.name}' fits images of {size}",
            "use fewer stages or strides, less pooling or larger images",
        )

    def to(self, device: torch.device) -> None:
        """Moves the shared tensors."""
        self.device = device
        for tensor in self.tensors.values():
            tensor.data = tensor.data.to(device)

    def slots(self, design: Design) -> dict[str, Slot]:
        """For each parameter of the design's network the shared tensor that it is a part of."""
        return self._template(architecture_of(design)).slots

    def parameters(self, design: Design) -> dict[str, Tensor]:
        """The design's parameters by name: parts of the shared tensors, through which gradients reach these.

        Raises:
            InfeasibleDesignError: The design does not fit the images.
        """
        return {name: slot.parameter(self._tensor) for name, slot in self.slots(design).items()}

    def forward(self, design: Design, images: Tensor) -> Tensor:
        """The logits (N×classes) of normalised images (N×C×H×W), with each batch's own statistics."""
        template = self._template(architecture_of(design))
        parameters = {name: _laid_out(tensor) for name, tensor in self.parameters(design).items()}
        logits: Tensor = functional_call(template.network, parameters, (laid_out(images, template.network),))
        return logits

    @torch.no_grad()
    def subnet(self, design: Design) -> nn.Module:
        """The design's network as its family builds it, with copies of its parts of the shared weights.

        Its batch norms have no statistics yet (mean 0, variance 1), see ``nas.supernet.ranking.recalibrate``. It is in
        training mode, as any that was just built, and on the CPU.

        Raises:
            InfeasibleDesignError: The design does not fit the images.
        """
        network = self._build(design)
        parameters = self.parameters(design)
        for name, parameter in network.named_parameters():
            parameter.copy_(parameters[name])
        return network

    def put(self, name: str, tensor: Tensor) -> None:
        """Puts a shared tensor in place that was kept from an earlier training."""
        self.tensors[name] = nn.Parameter(tensor.to(self.device))

    def _tensor(self, slot: Slot) -> nn.Parameter:
        if slot.name not in self.tensors:
            self.tensors[slot.name] = nn.Parameter(self._random(slot).to(self.device))
        return self.tensors[slot.name]

    def _random(self, slot: Slot) -> Tensor:
        """The start of a shared tensor: He initialisation by the fan-in of its largest network."""
        if slot.gain is None:
            return torch.full(slot.size, slot.fill)
        digest = hashlib.blake2b(f"{self.seed} {slot.name}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
        return torch.randn(slot.size, generator=generator) * (slot.gain / math.sqrt(math.prod(slot.size[1:])))

    def _build(self, design: Design) -> nn.Module:
        """The network on the CPU; not on the meta device, whose every operation takes several times as long."""
        with torch.random.fork_rng(devices=[]):
            return build(design.family, design.architecture, self.input_shape, self.classes)

    def _make_template(self, design: Design) -> _Template:
        network = self._build(design)
        architecture = find_family(design.family).resolve(design.architecture)
        places = SHARING[design.family](architecture, self._bounds, self.input_shape[0], self.classes)
        slots = slots_of(network, places)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = False
                module.running_mean = module.running_var = module.num_batches_tracked = None
        return _Template(network.train().to("meta"), slots)


def architecture_of(design: Design) -> Design:
    """The design without its compression, which weights do not depend on here."""
    return Design(design.family, design.architecture, {}) if design.compression else design


def _laid_out(tensor: Tensor) -> Tensor:
    """A convolution's weights as they run fastest."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
