"""A sensitivity as a prior: the designs that a search tries first, chosen by what compressing each stage cost.

What it does, in full. A design's compression is *predicted* from the effects of single stages:

- **points lost**: the sum of the losses of the stages that have a value of their own. Stages that follow a choice for
  the whole network count once, by the worst of them. A loss below zero counts as none. Between two analysed pruning
  ratios (and between none and the smallest) a loss is interpolated linearly; beyond the largest nothing is predicted.
  Bits that were not analysed get the smallest loss of those with no more bits, neither of weights nor of activations.
- **compute left**: the product of the shares of the network's MACs that pruning of each stage left, times the sum of
  all stages' shares of MACs, each times a quarter where its activations have 8 bits (which run as integers).
- **storage left**: the same product of parameters, times the sum of the stages' shares of parameters, each times its
  weights' bits / 32.

The cost of a design is the mean of compute and storage left. Starting from the analysed architecture with as little
compression as the space allows, one choice is changed at a time: the one that saves most cost for each point that it
loses (a loss below one image counts as one image), as long as the predicted loss stays within a budget. Where nothing
more fits, the design is kept, and the next budget goes on from there. So a handful of designs results, from careful
to bold, see ``BUDGETS``; losses are those without fine-tuning, which a trial does, hence the large ones.

Channels that stages share go only where all of these are pruned, which an analysis of single stages does not see; what
that costs and saves is not predicted.

A prediction ranks designs and is never reported: each of them becomes a trial (origin ``prior``) and is measured.
Nothing later is bent: the sampler learns of these trials as of any others.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nas.choice import Choice, same_value
from nas.compression import IDENTITY, Value, split_name, value_of
from nas.design import Design
from nas.errors import RecipeError
from nas.sensitivity.result import Sensitivity, Stage
from nas.space import SearchSpace

# Largest predicted losses of the designs, as shares of all images.
BUDGETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
# The choices that a prior decides; of any other it takes the value that leaves it out, or the first.
DECIDED = ("pruning_ratio", "weight_bits", "activation_bits")
# What a multiply-add counts where activations have 8 bits; with more it is computed as floats, and counts 1.
INTEGER_MAC = 0.25


@dataclass(frozen=True)
class Prediction:
    """What is expected of a design: accuracy lost, and the shares of compute and storage left, each 0 to 1."""

    lost: float
    compute: float
    storage: float

    @property
    def cost(self) -> float:
        return (self.compute + self.storage) / 2


def first_designs(space: SearchSpace, sensitivity: Sensitivity, budgets: Sequence[float] = BUDGETS) -> list[Design]:
    """The designs of a space that a search should try first, from careful to bold; see the top of this file.

    The architecture is the analysed one. Where the space does not have one of its values it takes the closest number,
    else the first value.

    Returns:
        At most one design for each budget, all different. None where the space has nothing to decide, or where all that
        it offers loses more than the largest budget.

    Raises:
        RecipeError: The space is of another family.
    """
    family = sensitivity.design.family
    if space.family != family:
        raise RecipeError(
            f"the prior is of family '{family}', but search space '{space.name}' of '{space.family}'",
            f"name a sensitivity of a '{space.family}' network, or drop 'prior'",
        )
    start = current = _completed(space, sensitivity.design, {})
    found: list[Design] = []
    for budget in budgets:
        while (better := _best_change(space, sensitivity, current, budget)) is not None:
            current = better
        prediction = predict(sensitivity, current.compression)
        if prediction is not None and prediction.lost <= budget and current not in (start, *found):
            found.append(current)
    return found


def predict(sensitivity: Sensitivity, compression: Mapping[str, Value]) -> Prediction | None:
    """What a compression is expected to cost and save; see the top of this file.

    Returns:
        None where a stage would be compressed in a way that was refused, or that lies outside what was analysed.
    """
    own_losses, worst = 0.0, {"pruning": 0.0, "bits": 0.0}
    pruned_macs = pruned_params = compute = storage = 1.0
    for stage in sensitivity.stages:
        followed = {choice: _followed(stage.path, choice, compression) for choice in DECIDED}
        ratio, weights, activations = (value_of(compression, choice, followed[choice]) for choice in DECIDED)
        pruned = _pruned(sensitivity, stage, float(ratio))
        bits_lost = _bits_lost(stage, int(weights), int(activations))
        if pruned is None or bits_lost is None:
            return None
        pruned_macs, pruned_params = pruned_macs * pruned.compute, pruned_params * pruned.storage
        if activations == 8:
            compute -= stage.macs / sensitivity.macs * (1 - INTEGER_MAC)
        storage -= stage.params / sensitivity.params * (1 - int(weights) / 32)
        own_bits = followed["weight_bits"] is not None or followed["activation_bits"] is not None
        for kind, lost, own in (
            ("pruning", pruned.lost, followed["pruning_ratio"] is not None),
            ("bits", bits_lost, own_bits),
        ):
            if own:
                own_losses += lost
            else:
                worst[kind] = max(worst[kind], lost)
    return Prediction(own_losses + sum(worst.values()), pruned_macs * compute, pruned_params * storage)


def _followed(path: str, choice: str, compression: Mapping[str, Value]) -> str | None:
    """Whose value of a choice the stage at a path follows: that of the most specific stage which it is or lies in.

    None where it follows the network's. As in ``nas.compress.stages``, a stage's name may stand anywhere in the path,
    but one that begins with a number only at its start.
    """
    return next((stage for stage in _stages_around(path) if f"{stage}.{choice}" in compression), None)


@functools.cache
def _stages_around(path: str) -> tuple[str, ...]:
    """Every name of a stage that the part at a path is or lies in, most components first, of equals the deepest."""
    parts = path.split(".")
    spans = [(start, end) for start in range(len(parts)) for end in range(start + 1, len(parts) + 1)]
    spans.sort(key=lambda span: (span[1] - span[0], span[1]), reverse=True)
    return tuple(".".join(parts[start:end]) for start, end in spans if start == 0 or not parts[start].isdigit())


def _pruned(sensitivity: Sensitivity, stage: Stage, ratio: float) -> Prediction | None:
    """What pruning one stage is expected to cost and to leave of the network; None where that is not known."""
    if ratio == 0:
        return Prediction(0.0, 1.0, 1.0)
    effects = [effect for effect in stage.effects if effect.setting.prunes]
    if any(effect.refused for effect in effects):
        return None
    known = {0.0: (0.0, 1.0, 1.0)}
    for effect in effects:
        if effect.lost is None or effect.macs is None or effect.params is None:  # it changes nothing
            numbers = (0.0, 1.0, 1.0)
        else:
            numbers = (max(0.0, effect.lost), effect.macs / sensitivity.macs, effect.params / sensitivity.params)
        known[effect.setting.pruning_ratio] = numbers
    if ratio > max(known):
        return None
    below, above = max(r for r in known if r <= ratio), min(r for r in known if r >= ratio)
    way = (ratio - below) / (above - below) if above > below else 0.0
    return Prediction(*((1 - way) * a + way * b for a, b in zip(known[below], known[above], strict=True)))


def _bits_lost(stage: Stage, weights: int, activations: int) -> float | None:
    """What so many bits in one stage are expected to cost; None where no fewer were analysed."""
    if (weights, activations) == (32, 32):
        return 0.0
    losses = [
        max(0.0, effect.lost or 0.0)
        for effect in stage.effects
        if not effect.setting.prunes
        and not effect.refused
        and effect.setting.weight_bits <= weights
        and effect.setting.activation_bits <= activations
    ]
    return min(losses, default=None)


def _best_change(space: SearchSpace, sensitivity: Sensitivity, current: Design, budget: float) -> Design | None:
    """The design with one choice changed that saves most cost for the accuracy that it loses; None where none fits.

    Of equals the first, in the order of choices and values.
    """
    before = predict(sensitivity, current.compression)
    if before is None:
        return None
    best: tuple[float, Design] | None = None
    for changed in _changes(space, current):
        after = predict(sensitivity, changed.compression)
        if after is None or after.lost > budget or not after.cost < before.cost:
            continue
        gain = (before.cost - after.cost) / max(after.lost - before.lost, 1 / sensitivity.images)
        if best is None or gain > best[0]:
            best = (gain, changed)
    return best[1] if best else None


def _changes(space: SearchSpace, current: Design) -> Iterator[Design]:
    """All designs that differ from one in a single choice of what a prior decides."""
    for choice in space.choices:
        if choice.name in current.compression and split_name(choice.name)[1] in DECIDED:
            for value in choice.values:
                if value != current.compression[choice.name]:
                    yield _completed(space, current, {**current.compression, choice.name: value})


def _completed(space: SearchSpace, like: Design, compression: Mapping[str, Value]) -> Design:
    """The design of a space that has the architecture of another, or the nearest, and a compression.

    Of a compression choice that is not given it takes what compresses least.
    """

    def pick(choice: Choice) -> Value:
        if choice.group == "architecture":
            return _nearest(choice, like.architecture.get(choice.name))
        return compression[choice.name] if choice.name in compression else _mildest(choice)

    return space.choose(pick)


def _nearest(choice: Choice, wanted: Value | None) -> Value:
    """The value that a choice has, else the number closest to it, else the choice's first value."""
    if any(same_value(value, wanted) for value in choice.values):
        return choice.find(wanted)
    if not choice.ordered or isinstance(wanted, bool | str | None):
        return choice.values[0]
    return min(choice.values, key=lambda value: abs(float(value) - float(wanted)))


def _mildest(choice: Choice) -> Value:
    """The value of a compression choice that leaves it out, else the one that compresses least."""
    name = split_name(choice.name)[1]
    if IDENTITY[name] in choice.values:
        return IDENTITY[name]
    if name not in DECIDED:
        return choice.values[0]
    return (min if name == "pruning_ratio" else max)(choice.values, key=float)
