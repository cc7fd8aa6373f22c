"""What networks compute, write and hold, of thousands of architectures at once and without building any of them.

A family says beside its builder which layers its networks have, in their order; here they are gone through for N
architectures at a time, one array for each fact. What is counted is what a forward of one image would show: of every
layer's output each value that it writes, of convolutions and linear layers multiply-adds and weights (biases aside).

Networks may be gone through as pruned ones: families speak of the channels that they built, what is counted are those
that pruning leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

# The choices of N architectures, by name; where one has no meaning, what stands there has no effect.
Columns = Mapping[str, np.ndarray]


class Outlines:
    """N networks, as far as they were gone through.

    Args:
        count: How many there are.
        input_shape: (C, H, W) of one image.
        left: How many channels are left of layers that were built with so many, N of N; all where not given.

    Attributes:
        channels: Of the feature map that was reached as it was built, N float64; the numbers of a vector.
        kept: Those of them that are left.
        height: Of that map; 1 of a vector.
        width: Of that map; 1 of a vector.
        macs: Multiply-adds so far.
        vector_macs: Those of them whose weights are used once, as on a vector: memory feeds these, not the cache.
        written: Values that layers wrote so far.
        weights: Weights so far.
        layers: Convolutions and linear layers so far.
        poolings: Layers so far that pool, by windows or each channel whole.
        last_channels: Channels of the last convolution's map; 1 without one.
        last_positions: Places of that map; 1 without one.
        features: Numbers that the first linear layer is given; 0 before it.
        possible: Whether no map shrank to nothing, and no kernel reached past it.
        everywhere: All of them, as a mask.
    """

    def __init__(
        self, count: int, input_shape: tuple[int, int, int], left: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> None:
        self.left: Callable[[np.ndarray], np.ndarray] = np.asarray if left is None else left
        self.channels, self.height, self.width = (np.full(count, float(side)) for side in input_shape)
        self.kept = self.channels
        self.macs, self.vector_macs, self.written, self.weights = (np.zeros(count) for _ in range(4))
        self.layers, self.poolings, self.features = (np.zeros(count) for _ in range(3))
        self.last_channels, self.last_positions = np.ones(count), np.ones(count)
        self.possible = np.ones(count, dtype=bool)
        self.everywhere = np.ones(count, dtype=bool)

    @property
    def map_macs(self) -> np.ndarray:
        """Multiply-adds so far whose weights are used at many places of a map."""
        return np.asarray(self.macs - self.vector_macs)

    @property
    def steps(self) -> np.ndarray:
        """Layers so far that a call goes through one after the other, activations and normalisations aside."""
        return np.asarray(self.layers + self.poolings)

    def stem(self, choices: Columns) -> None:
        """Adds the convolution that networks of images begin with."""
        self.convolve(self.everywhere, choices["stem.width"], choices["stem.kernel"], choices["stem.stride"])

    def convolve(
        self,
        where: np.ndarray,
        after: np.ndarray,
        kernel: np.ndarray | int,
        stride: np.ndarray | int = 1,
        depthwise: bool = False,
        writes: int = 3,
    ) -> None:
        """Adds a padded convolution.

        Args:
            where: Which of the networks have it.
            after: Channels after it, as it was built.
            kernel: Side of its kernel.
            stride: 1 or 2.
            depthwise: Whether each channel is filtered by itself.
            writes: How often its map is written: by itself, by the normalisation, by the activation.
        """
        if not where.any():  # families go deeper than most spaces
            return
        kernel, stride = np.asarray(kernel), np.asarray(stride)
        longer, shorter = np.maximum(self.height, self.width), np.minimum(self.height, self.width)
        fits = (kernel // 2 < longer) & ((stride == 1) | (shorter >= stride))
        self.possible &= fits | ~where
        self.height = np.where(where, np.ceil(self.height / stride), self.height)
        self.width = np.where(where, np.ceil(self.width / stride), self.width)
        positions = self.height * self.width
        kept = self.kept if depthwise else self.left(after)
        self.compute(where, kept * (1.0 if depthwise else self.kept) * kernel**2, positions)
        self._reach(where, after, kept)
        self.write(where, writes)
        self.last_channels = np.where(where, kept, self.last_channels)
        self.last_positions = np.where(where, positions, self.last_positions)

    def compute(self, where: np.ndarray, weights: np.ndarray, positions: np.ndarray | float = 1.0) -> None:
        """Adds a layer of so many weights, each of which is used once for each of so many places."""
        held = np.where(where, weights, 0.0)
        self.weights += held
        self.macs += held * positions
        self.vector_macs += np.where(np.equal(positions, 1.0), held, 0.0)
        self.layers += where

    def write(self, where: np.ndarray, times: int = 1) -> None:
        """Adds layers that write the whole map, of the same shape."""
        self.written += np.where(where, times * self.kept * self.height * self.width, 0.0)

    def gate(self, where: np.ndarray) -> None:
        """Adds a gate of all channels by their averages (``blocks.SqueezeExcite``)."""
        if not where.any():
            return
        squeezed = self.left(np.maximum(8, self.channels // 4 // 8 * 8))
        self.poolings += where
        for _ in range(2):
            self.compute(where, self.kept * squeezed)
        self.written += np.where(where, 3 * self.kept + 2 * squeezed, 0.0)

    def pool(self, where: np.ndarray, window: np.ndarray | int = 2) -> None:
        """Adds pooling by windows that do not overlap."""
        if not where.any():
            return
        self.possible &= (np.minimum(self.height, self.width) >= window) | ~where
        self.height = np.where(where, self.height // window, self.height)
        self.width = np.where(where, self.width // window, self.width)
        self.poolings += where
        self.write(where)

    def average(self, where: np.ndarray) -> None:
        """Averages each channel over its whole map."""
        self.height, self.width = (np.where(where, 1.0, side) for side in (self.height, self.width))
        self.poolings += where
        self.write(where)

    def flatten(self) -> None:
        """Makes a vector of the map."""
        self.write(self.everywhere)
        self.channels, self.kept = (part * self.height * self.width for part in (self.channels, self.kept))
        self.height, self.width = np.ones_like(self.height), np.ones_like(self.width)

    def linear(self, where: np.ndarray, after: np.ndarray) -> None:
        """Adds a linear layer on a vector, and the activation after it."""
        self._linear(where, after, self.left(after), writes=2)

    def classifier(self, classes: int) -> None:
        """Adds the linear layer that gives the logits, all of which are left."""
        logits = np.full(len(self.everywhere), float(classes))
        self._linear(self.everywhere, logits, logits, writes=1)

    def _linear(self, where: np.ndarray, after: np.ndarray, kept: np.ndarray, writes: int) -> None:
        self.features = np.where(where & (self.features == 0), self.kept, self.features)
        self.compute(where, kept * self.kept)
        self._reach(where, after, kept)
        self.write(where, writes)

    def _reach(self, where: np.ndarray, channels: np.ndarray, kept: np.ndarray) -> None:
        """Goes on to maps of so many channels, of which so many are left."""
        self.channels, self.kept = np.where(where, channels, self.channels), np.where(where, kept, self.kept)


# Goes through the networks of a family: their choices, and what they begin with, up to the last hidden layer. The
# classifier is added to all alike.
Outline = Callable[[Columns, Outlines], None]
