"""What designs' networks compute, write and hold, as cues for surrogates: known of every design before any trial.

Of 186 random convnets on Fashion-MNIST a line in the logarithms of some facts explains 86 % of what the logarithms of
their errors differ by. Their latencies, and those of pruned ones, add up from a call's overhead, layers, written values
and multiply-adds, but for 15 %, as soon as a dozen were measured. Regressions on choices alone need many times as many
trials to tell that a flattened map makes a wide classifier. A pruned network counts as the narrower one that it is,
which of narrow layers is no narrower: then what it costs is known, however much was to be pruned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nas.compress.widths import channels_left
from nas.compression import IDENTITY, choices_made, leaves_out, split_name
from nas.design import Design, Value
from nas.families.outline import Outlines
from nas.families.registry import find_family
from nas.search.cues import Cues
from nas.search.fans import Shape, files, shape
from nas.search.parameters import Parameters
from nas.search.rough import MACS_PER_VALUE
from nas.space import SearchSpace
from nas.surrogate.coded import Coded
from nas.surrogate.cues import Amount, Role

Column = Sequence[Value | None]
# The compression that costs depend on, beside the architecture.
PRUNING = ("pruning_ratio", "pruning_rounding")
COMPRESSION = (*PRUNING, "weight_bits", "activation_bits", "weight_sharing", "codebook_bits")
# Facts whose logarithms tell of accuracies, those that times add up from, and of what takes space. Of times there is
# besides what floats cost more than integers, which are multiplied faster, and what integers do: they are converted.
# So few integers must be seen until it is known what they take, and none is thought to be absurdly slow or fast.
TELLING = ("weights", "written", "features", "last_channels", "last_positions")
# What a unit costs is told as a share of the fastest network's time: on two machines, of which one took twice as long,
# such shares were the same within a factor of four, and these are within three of both but for that of vector_macs.
TAKING_TIME = {"steps": 0.05, "written": 1e-5, "map_macs": 3e-7, "vector_macs": 3e-7}
MORE_AS_FLOATS = {"map_macs": 6e-7, "vector_macs": 2e-6}
MORE_AS_INTEGERS = {"steps": 0.03, "written": 1e-5}
TAKING_SPACE = ("layers", "written", "weights")
QUALITY: Role = "quality"
SPACE: Role = "space"
TIMES = (*TAKING_TIME.values(), *MORE_AS_FLOATS.values(), *MORE_AS_INTEGERS.values())
ROLES: tuple[Role, ...] = (
    *((QUALITY,) * len(TELLING)),
    *(Amount("time", expected) for expected in TIMES),
    *((SPACE,) * (len(TAKING_SPACE) + 1)),
)
# So many designs are remembered at most.
REMEMBERED = 40_000
FLOAT_BITS = 32


class NetworkFacts:
    """The facts of one space's designs.

    Args:
        space: Of a family that has an outline.
        input_shape: (C, H, W) of one image.
        classes: How many there are.
    """

    def __init__(self, space: SearchSpace, input_shape: tuple[int, int, int], classes: int) -> None:
        self.space = space
        self.family = find_family(space.family)
        self.input_shape = input_shape
        self.classes = classes
        self._known: dict[str, np.ndarray] = {}
        self._alike: dict[str, tuple[Shape, Shape]] = {}

    @property
    def cues(self) -> Cues:
        """The facts as cues of designs."""
        return Cues(self.of, ROLES)

    def of(self, designs: Sequence[Design]) -> np.ndarray:
        """The cues of N designs, N×K; NaN where the network cannot be built."""
        new = {design.digest: design for design in designs if design.digest not in self._known}
        if new:
            if len(self._known) + len(new) > REMEMBERED:
                self._known.clear()
                new = {design.digest: design for design in designs}
            rows = [{**d.architecture, **{name: d.step(name) for name in COMPRESSION}} for d in new.values()]
            found = self._cues({name: [row.get(name) for row in rows] for name in (*self.family.rules, *COMPRESSION)})
            self._known |= dict(zip(new, found, strict=True))
        return np.array([self._known[design.digest] for design in designs]).reshape(len(designs), len(ROLES))

    def shape(self, design: Design) -> Shape:
        """``fans.shape``, by the channels that are left instead of the ratio that leaves them."""
        return self._likenesses([design])[0][0]

    def files(self, designs: Sequence[Design]) -> list[Shape]:
        """What the files of N designs depend on: two of the same are one network, trained in the same way.

        They are where two ratios leave the same channels at once and by the same criterion; and by any, where all are
        left.
        """
        return [file for _, file in self._likenesses(designs)]

    def _likenesses(self, designs: Sequence[Design]) -> list[tuple[Shape, Shape]]:
        """Shapes and what files depend on."""
        new = {design.digest: design for design in designs if design.digest not in self._alike}
        if new:
            if len(self._alike) + len(new) > REMEMBERED:
                self._alike.clear()
                new = {design.digest: design for design in designs}
            unpruned = [
                replace(design, compression={**design.compression, "pruning_ratio": IDENTITY["pruning_ratio"]})
                for design in new.values()
            ]
            # Whole numbers, so that equal ones are equal in every bit.
            amounts = self.of([*new.values(), *unpruned])[:, len(TELLING) :]
            for own, left, all_left in zip(new.values(), amounts, amounts[len(new) :], strict=False):
                self._alike[own.digest] = _likeness(own, left.tobytes(), all_left.tobytes())
        return [self._alike[design.digest] for design in designs]

    def costs(self, designs: Sequence[Design]) -> np.ndarray:
        """What N designs cost to train against each other (see ``nas.search.rough``); infinite where it can't be."""
        names = [choice.name for choice in self.space.choices if choice.group == "architecture"]
        outlines = self._outlines({name: [design.architecture.get(name) for design in designs] for name in names})
        return np.where(outlines.possible, outlines.written + outlines.macs / MACS_PER_VALUE, np.inf)

    def of_parameters(self, parameters: Parameters) -> Callable[[Mapping[str, Sequence[Any]]], np.ndarray]:
        """``of`` designs that are given by parameter, whether it plays a part in them or not."""
        return lambda given: self._cues(parameters.columns(given))

    def _outlines(
        self, columns: Mapping[str, Column], left: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> Outlines:
        return self.family.outlines(columns, self.input_shape, self.classes, left)

    def _cues(self, columns: Mapping[str, Column]) -> np.ndarray:
        none = Coded.absent(len(next(iter(columns.values()))))

        def numbers(name: str) -> np.ndarray:
            return Coded.of(columns.get(name, none)).filled(IDENTITY[name])

        ratio, rounding = (numbers(name) for name in PRUNING)
        outlines = self._outlines(
            {name: columns[name] for name in self.family.rules if name in columns},
            (lambda widths: channels_left(widths, ratio, rounding)) if ratio.any() else None,
        )

        def facts(names: Iterable[str]) -> np.ndarray:
            return np.stack([getattr(outlines, name) for name in names], axis=1)

        integer = (numbers("activation_bits") < FLOAT_BITS)[:, None]
        bits = np.where(numbers("weight_sharing") == "none", numbers("weight_bits"), numbers("codebook_bits"))
        time = [facts(TAKING_TIME), facts(MORE_AS_FLOATS) * ~integer, facts(MORE_AS_INTEGERS) * integer]
        space = facts(TAKING_SPACE)
        stored = space[:, -1] * bits / FLOAT_BITS
        parts = [np.log(np.maximum(facts(TELLING), 1.0)), *time, space, stored[:, None]]
        return np.where(outlines.possible[:, None], np.hstack(parts), np.nan)


def network_facts(space: SearchSpace, input_shape: tuple[int, int, int], classes: int) -> NetworkFacts | None:
    """The facts of a space's designs; None where only a built network shows them."""
    if space.module is not None or find_family(space.family).outline is None:
        return None
    return NetworkFacts(space, input_shape, classes)


def _likeness(design: Design, left: bytes, all_left: bytes) -> tuple[Shape, Shape]:
    """What a design's costs and its file depend on, by the channels that are left and by those without pruning."""
    if any(split_name(name)[1] == "pruning_ratio" for name in design.compression if name not in PRUNING):
        return shape(design), files([design])[0]  # what a stage's own ratio leaves is not reckoned
    architecture, costly = shape(design)
    by_ratio = set(PRUNING)
    if left == all_left:
        by_ratio.add("pruning_criterion")
    elif design.step("pruning_steps") != IDENTITY["pruning_steps"]:
        by_ratio.clear()  # what is left between the steps differs
    made: set[tuple[str, Value | bytes]] = {
        (name, value) for name, value in choices_made(design.compression) if name not in by_ratio
    }
    # What is pruned is trained once more, if ever so little of it.
    made |= {("left", left), ("pruned", not leaves_out("pruning_ratio", design.step("pruning_ratio")))}
    shaped = frozenset((name, value) for name, value in costly if name not in PRUNING) | {("left", left)}
    return (architecture, shaped), (architecture, frozenset(made))
