"""The largest and the smallest network of a space, between which all others lie.

Every training step of a supernet has both (the sandwich rule, arXiv:1903.05134): what holds for the two ends holds for
most between. Largest means most weights; feature maps are as large as a network that is trained in every step can
afford: a stage that may pool does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nas.choice import Choice
from nas.design import Design, Value
from nas.errors import InfeasibleDesignError
from nas.space import SearchSpace

# Values that are no numbers, those of the largest network first.
_LARGEST: dict[str, tuple[Value, ...]] = {
    "conv": ("standard", "separable"),
    "pooling": ("max", "average", "stride", "none", "flatten"),
    "activation": ("hardswish", "relu6"),
    "squeeze_excite": (True, False),
}
_SMALLEST: dict[str, tuple[Value, ...]] = {
    "conv": ("separable", "standard"),
    "pooling": ("stride", "max", "average", "none", "flatten"),
    "activation": ("relu6", "hardswish"),
    "squeeze_excite": (False, True),
}
# What decides whether feature maps shrink to nothing.
_SHAPES = ("kernel", "stride", "pooling")


def extreme(space: SearchSpace, fits: Callable[[Design], bool], largest: bool) -> Design:
    """The largest or smallest architecture of a space that fits the images.

    Where the extreme itself does not fit, the choices that shape its feature maps give way, the last stage's first, and
    then the number of stages.

    Args:
        space: Of family convnet or mobilenet.
        fits: Whether a network can be built from a design.
        largest: Whether the largest is wanted.

    Raises:
        InfeasibleDesignError: None fits.
    """
    ranked = {choice.name: _ranked(choice, largest) for choice in space.choices}
    stages = ranked.get("stages", [None])
    yielding = [
        (choice.name, value)
        for choice in reversed(space.choices)
        if choice.group == "architecture" and choice.name.rpartition(".")[2] in _SHAPES
        for value in ranked[choice.name][1:]
    ]
    for count in stages:
        for given in range(len(yielding) + 1):
            chosen = {"stages": count, **dict(yielding[:given])}
            design = _choose(space, ranked, chosen)
            if fits(design):
                return design
    raise InfeasibleDesignError(
        f"no design of search space '{space.name}' fits the images",
        "use fewer stages or strides, less pooling, smaller kernels or larger images",
    )


def _choose(space: SearchSpace, ranked: dict[str, list[Value]], given: dict[str, Value | None]) -> Design:
    """The design of given values, and of those ranked first where none is given."""

    def pick(choice: Choice) -> Value:
        value = given.get(choice.name)
        return ranked[choice.name][0] if value is None else value

    return Design(space.family, space.choose(pick).architecture, {})


def _ranked(choice: Choice, largest: bool) -> list[Value]:
    """A choice's values, those of the extreme first."""
    kind = choice.name.rpartition(".")[2]
    order: Sequence[Value] = (_LARGEST if largest else _SMALLEST).get(kind, ())
    if order:
        return sorted(choice.values, key=lambda value: order.index(value) if value in order else len(order))
    if not all(isinstance(value, int) for value in choice.values):
        return list(choice.values)
    # A stride leaves smaller maps, but no fewer weights. The stem's decides what all layers cost and how much they see:
    # the largest network has none there. A stage's is taken in either network, as pooling is.
    strides = kind == "stride" and (choice.name.startswith("stage") or not largest)
    large_first = strides or (largest and kind != "stride")
    return sorted(choice.values, key=lambda value: int(value), reverse=large_first)
