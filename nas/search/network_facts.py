"""What designs' networks compute, write and hold, as cues for surrogates: known of every design before any trial.

Latency, size and accuracy are nearly linear in the logarithms of these facts: of 186 convnets on Fashion-MNIST a line
explains nine tenths of what their latencies and errors differ by, where regressions on choices alone need dozens of
trials to tell that a flattened map makes a wide classifier. A pruned network counts as the narrower one that it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nas.compression import split_name
from nas.design import Design, Value
from nas.families.outline import Outlines
from nas.families.registry import find_family
from nas.search.parameters import Parameters
from nas.search.rough import MACS_PER_VALUE
from nas.space import SearchSpace

Column = Sequence[Value | None]
# Of each fact by which power of the widths it grows, as pruning makes all of them narrower.
FACTS = {
    "macs": 2,
    "weights": 2,
    "written": 1,
    "features": 1,
    "last_channels": 1,
    "last_positions": 0,
    "layers": 0,
}


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

    def cues(self, designs: Sequence[Design]) -> np.ndarray:
        """Logarithms of N designs' facts, N×7; NaN where the network cannot be built."""
        names = self._names
        rows = [{**design.architecture, **design.compression} for design in designs]
        return self._cues({name: [row.get(name) for row in rows] for name in names}, len(designs))

    def costs(self, designs: Sequence[Design]) -> np.ndarray:
        """What N designs cost to train against each other (see ``nas.search.rough``); infinite where it can't be."""
        names = [choice.name for choice in self.space.choices if choice.group == "architecture"]
        outlines = self._outlines({name: [design.architecture.get(name) for design in designs] for name in names})
        return np.where(outlines.possible, outlines.written + outlines.macs / MACS_PER_VALUE, np.inf)

    def of_parameters(self, parameters: Parameters) -> Callable[[Mapping[str, Sequence[Any]]], np.ndarray]:
        """``cues`` of designs that are given by parameter, whether it plays a part in them or not."""

        def cues(given: Mapping[str, Sequence[Any]]) -> np.ndarray:
            count = len(next(iter(given.values())))
            columns: dict[str, Column] = {}
            for choice in self.space.choices:
                one = parameters.by_choice.get(choice.name)
                if one is None:
                    column: Column = [choice.values[0]] * count
                elif one.name in given:
                    stored = [(value.__class__, value) for value in given[one.name]]
                    values = {kind: one.decode(kind[1]) for kind in set(stored)}
                    column = [values[kind] for kind in stored]
                else:
                    column = [None] * count  # no trial had it yet
                for gate, allowed in choice.when.items():
                    known = set(allowed)
                    column = [v if g in known else None for v, g in zip(column, columns[gate], strict=True)]
                columns[choice.name] = column
            return self._cues(columns, count)

        return cues

    @property
    def _names(self) -> list[str]:
        pruning = (c.name for c in self.space.choices if split_name(c.name)[1] == "pruning_ratio")
        return [*(c.name for c in self.space.choices if c.group == "architecture"), *pruning]

    def _outlines(self, columns: Mapping[str, Column]) -> Outlines:
        return self.family.outlines(columns, self.input_shape, self.classes)

    def _cues(self, columns: Mapping[str, Column], count: int) -> np.ndarray:
        outlines = self._outlines({name: columns[name] for name in self.family.rules if name in columns})
        kept = np.ones(count)
        for name, column in columns.items():
            if name == "pruning_ratio":
                kept = 1 - np.array([0.0 if value is None else float(value) for value in column])
        facts = np.stack([np.log(np.maximum(getattr(outlines, fact), 1.0)) for fact in FACTS], axis=1)
        facts += np.log(kept)[:, None] * np.array(list(FACTS.values()))
        return np.where(outlines.possible[:, None], facts, np.nan)


def network_facts(space: SearchSpace, input_shape: tuple[int, int, int], classes: int) -> NetworkFacts | None:
    """The facts of a space's designs; None where only a built network shows them."""
    if space.module is not None or find_family(space.family).outline is None:
        return None
    return NetworkFacts(space, input_shape, classes)
