"""How noisy the machine is right now: a small network measured several times in a row, as a study would measure it."""

from __future__ import annotations

import itertools
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from nas.doctor.findings import Noise, Verdict
from nas.doctor.network import network_images, small_network
from nas.doctor.runtimes import Measures
from nas.outcome import Quantity
from nas.target import Target
from nas.wording import significant

# So many measurements at least, and more until so long has passed, but no more than so many.
FEWEST, SECONDS, MOST = 5, 3.0, 12

# Two measurements of a quiet machine differ by no more than this, typically and at most ...
QUIET, QUIET_AT_MOST = 0.01, 0.03
# ... and those of a noisy one typically by more than this.
NOISY = 0.03
# A machine is disturbed where something else ran in more than this share of the measurements, to the end.
DISTURBED_SHARE = 1 / 3

OTHERS = (
    "something else runs ({busy}): end it or wait (top shows it); nothing of a study's own trains while it measures"
)
SLOWER = (
    "the machine runs up to {slowdown} times slower than at its best: its clock is lowered, or another virtual machine "
    "shares its processor; wait, or measure on a machine of your own"
)
CLOCK = "the clock changes with the load: sudo cpupower frequency-set -g performance"
SCATTER = (
    "samples scatter or drift with nothing to be seen that runs: power saving, or another virtual machine on the "
    "same processor; set the governor to performance, or measure again at another time"
)
CLOSE = "designs closer together than that may change places: trust intervals, and the finalists, timed in turns"

# What to do about each trouble that ``nas.measure.quiet`` and ``nas.measure.clock`` name.
REMEDIES: Mapping[str, str] = {
    "load": OTHERS,
    "same core": OTHERS,
    "waited": OTHERS,
    "pace": SLOWER,
    "frequency": CLOCK,
    "spread": SCATTER,
    "drift": SCATTER,
}


def measure_noise(
    measurer: Measures,
    target: Target,
    clock: Callable[[], float] = time.monotonic,
    progress: Callable[[float], None] = lambda share: None,
) -> Noise:
    """Measures the small network again and again for about ``SECONDS``.

    Args:
        measurer: Of the target's measuring process.
        target: One that takes an ONNX file.
        clock: Gives seconds, monotonic.
        progress: Told how much of it is done, 0 to 1.

    Raises:
        NasError: The network cannot be measured.
    """
    content, images = small_network(), network_images()
    # The first starts the process and shows how fast the machine is; those of a study come later in its life.
    measurer.measure(content, target, images)
    started, quantities = clock(), list[Quantity]()
    while len(quantities) < FEWEST or (clock() - started < SECONDS and len(quantities) < MOST):
        quantities.append(measurer.measure(content, target, images)[0])
        progress(min(len(quantities) / FEWEST, (clock() - started) / SECONDS, 1.0))
    return judged(quantities)


def judged(quantities: Sequence[Quantity]) -> Noise:
    """What several latencies of one network on one target, two at least, say of the noise."""
    latencies = [quantity.value for quantity in quantities]
    differences = [abs(one - other) / min(one, other) for one, other in itertools.combinations(latencies, 2)]
    troubles = Counter(name for quantity in quantities for name in _troubles(quantity))
    unstable = sum(bool(_troubles(quantity)) for quantity in quantities)
    slowdown = max(float(quantity.detail.get("slowdown", 1.0)) for quantity in quantities)
    busy = _largest(quantities, "busy_cores")
    typical, largest = statistics.median(differences), max(differences)
    words = f"two measurements differ by {_percent(typical)}, {_percent(largest)} at most"
    if typical > NOISY:
        verdict = Verdict.NOISY
    elif unstable > DISTURBED_SHARE * len(quantities):
        verdict = Verdict.DISTURBED
        words += f", but {unstable} of {len(quantities)} would be marked unstable, as something disturbed them"
    elif typical <= QUIET and largest <= QUIET_AT_MOST and not unstable:
        verdict = Verdict.QUIET
    else:
        verdict = Verdict.USABLE
    return Noise(
        target=str(quantities[0].target),
        latencies_ms=tuple(latencies),
        differences=tuple(differences),
        retaken=sum(int(quantity.detail.get("windows", 1)) > 1 for quantity in quantities),
        unstable=unstable,
        troubles=dict(troubles.most_common()),
        slowdown=slowdown,
        busy_cores=busy,
        waited=_largest(quantities, "waited"),
        verdict=verdict,
        words=f"{verdict}: {words}",
        advice=_advice(verdict, troubles, busy, slowdown),
    )


def _troubles(quantity: Quantity) -> list[str]:
    return [name for name in str(quantity.detail.get("why_unstable", "")).split(", ") if name]


def _largest(quantities: Sequence[Quantity], name: str) -> float | None:
    told = [float(quantity.detail[name]) for quantity in quantities if name in quantity.detail]
    return max(told, default=None)


def _advice(verdict: Verdict, troubles: Counter[str], busy: float | None, slowdown: float) -> tuple[str, ...]:
    """What to do, what occurred most often first. That samples scatter says nothing where it is known what ran."""
    if verdict is Verdict.QUIET:
        return ()
    how_busy = "it wanted the same core" if busy is None else f"it kept up to {cores_words(busy)} busy"
    remedies = list(dict.fromkeys(REMEDIES[name] for name, _ in troubles.most_common() if name in REMEDIES))
    if len(remedies) > 1 and SCATTER in remedies:
        remedies.remove(SCATTER)
    if verdict is not Verdict.DISTURBED:
        remedies.append(CLOSE)
    return tuple(text.format(busy=how_busy, slowdown=significant(slowdown, 3)) for text in remedies)


def cores_words(busy: float) -> str:
    """Cores' worth of processor time: ``no core``, ``0.12 cores``, ``1 core``."""
    text = significant(round(busy, 2), 2, zeros=False)
    return "no core" if text == "0" else f"{text} core{'' if text == '1' else 's'}"


def _percent(share: float) -> str:
    return f"{significant(100 * share, 2)} %"
