"""Hand-made sensitivities: every number chosen by the test."""

from __future__ import annotations

from collections.abc import Mapping

from nas.design import Design, Value
from nas.sensitivity.result import Effect, Sensitivity, Setting, Stage

MACS, PARAMS, SIZE, IMAGES = 1000, 2000, 8000, 1000

# What pruning a stage by a ratio leads to: accuracy lost, shares of the network's MACs and parameters that are left.
Pruned = tuple[float, float, float]


def make_stage(
    name: str,
    macs: int,
    params: int,
    pruned: Mapping[float, Pruned] | None = None,
    bits: Mapping[tuple[int, int], float] | None = None,
    path: str | None = None,
    error: float = 0.001,
) -> Stage:
    """A stage with the effects of pruning by ratio, and the losses by (weight bits, activation bits)."""
    effects = [
        Effect(Setting(ratio), lost, error, round(MACS * left), round(PARAMS * kept), SIZE)
        for ratio, (lost, left, kept) in (pruned or {}).items()
    ]
    for (weights, activations), lost in (bits or {}).items():
        setting = Setting(weight_bits=weights, activation_bits=activations)
        size = round(SIZE * (1 - params / PARAMS * (1 - weights / 32)))
        effects.append(Effect(setting, lost, error, MACS, PARAMS, size))
    return Stage(name, path or name, macs, params, tuple(effects))


def make_sensitivity(*stages: Stage, architecture: Mapping[str, Value] | None = None) -> Sensitivity:
    """A sensitivity of a convnet of 1,000 MACs and 2,000 parameters, on 1,000 images."""
    design = Design("convnet", architecture or {"stem.width": 16, "stages": 1}, {})
    return Sensitivity("digits", 12, design, IMAGES, 0.98, MACS, PARAMS, SIZE, stages)


def two_stages() -> Sensitivity:
    """``a`` has most of the work and gives way easily; ``b`` has most of the parameters and does not."""
    return make_sensitivity(
        make_stage("a", 600, 600, {0.5: (0.01, 0.8, 0.9)}, {(8, 8): 0.002}),
        make_stage("b", 400, 1400, {0.5: (0.03, 0.7, 0.6)}, {(8, 8): 0.004, (4, 32): 0.02}),
    )
