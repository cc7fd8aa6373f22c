"""A deployment's latency held to its promise: on the machine that it was promised for, or on another if asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nas.deploy.deployment import Deployment
from nas.errors import UnsupportedError
from nas.measure.environment import LATENCY_DEPENDS_ON
from nas.outcome import Quantity
from nas.wording import display, interval, listing, target_words

if TYPE_CHECKING:
    from nas.measure.measurer import Measurer
    from nas.target import Target

# A small network is some per cent faster or slower from process to process: so much may the intervals of promise and
# measurement lie apart, and so many fresh processes may try.
PROCESS_SLACK = 0.05
PROCESSES = 3


class Speed(NamedTuple):
    """A latency as ``nas.deploy.recheck.Finding`` tells it."""

    what: str
    promised: str
    found: str
    holds: bool | None
    why: str


def recheck_latency(
    deployment: Deployment, content: bytes, images: np.ndarray, measurer: Measurer, forced: bool
) -> Speed:
    """Measures a latency again, in up to ``PROCESSES`` fresh processes until one keeps the promise.

    Args:
        deployment: What promises.
        content: Its model.
        images: Inputs, as the model takes them.
        measurer: Times it.
        forced: Judge it also where the promise is of another machine.

    Raises:
        UnsupportedError: The target cannot be measured here, and ``forced`` asks for it.
    """
    serving = deployment.serving
    stated = None if serving.target is None else deployment.quantity(f"latency_ms@{serving.target}")
    if stated is None:
        return Speed("latency", "", "", None, "none was promised")
    what, target = f"latency, {target_words(serving.as_target.name)}", serving.as_target
    try:
        elsewhere = stated.environment_id != measurer.environment_id(target)
    except UnsupportedError as error:
        if forced:
            raise
        return Speed(what, interval(stated), "", None, error.message)
    if elsewhere and not forced:
        differs = listing(_differences(deployment, target, measurer)) or "the environment is another"
        return Speed(what, interval(stated), "", None, f"promised for another machine: {differs}; --latency judges it")
    best, tried = measurer.measure(content, target, images)[0], 1
    while not _is_kept(stated, best) and tried < PROCESSES:
        measurer.start_anew(target)
        other, tried = measurer.measure(content, target, images)[0], tried + 1
        best = min(best, other, key=lambda quantity: quantity.value)
    why = "" if _is_kept(stated, best) else _slower(stated, best, tried)
    return Speed(what, interval(stated), interval(best), not why, why)


def random_images(deployment: Deployment) -> np.ndarray:
    """A batch of what the model takes; how long it takes hardly depends on the values."""
    rng, shape = np.random.default_rng(0), (deployment.serving.batch or 1, *deployment.input.shape)
    if deployment.input.dtype == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.normal(size=shape).astype(np.float32)


def _is_kept(stated: Quantity, found: Quantity) -> bool:
    """Whether it may be as fast as was stated, given the intervals of both and what processes differ by."""
    least = found.low if found.low is not None else found.value
    most = stated.high if stated.high is not None else stated.value
    return least <= most * (1 + PROCESS_SLACK)


def _slower(stated: Quantity, found: Quantity, tried: int) -> str:
    disturbed = found.detail.get("why_unstable")
    told = f"; the machine was disturbed meanwhile ({disturbed})" if disturbed else ""
    return (
        f"it takes {found.value / stated.value:.2f} times what was promised, {display('latency_ms', found.value)} at "
        f"best in {tried} processes{told}"
    )


def _differences(deployment: Deployment, target: Target, measurer: Measurer) -> list[str]:
    """Of what a latency depends on, that which is another here: ``cores 2, there 4``."""
    there, here = deployment.environment, measurer.machine
    pairs = [(name, here.get(name), there.get(name)) for name in LATENCY_DEPENDS_ON]
    runtimes = there.get("runtimes", {})
    stated = runtimes.get(target.name, {}) if isinstance(runtimes, Mapping) else {}
    pairs += [(name, value, stated.get(name)) for name, value in measurer.environment(target).items()]
    return [f"{name} {_short(mine)}, there {_short(other)}" for name, mine, other in pairs if mine != other][:3]


def _short(value: object) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
