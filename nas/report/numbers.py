"""Numbers and names as a person reads them: human units, three significant digits, targets in words."""

from __future__ import annotations

import math

from nas.measure.target import Target
from nas.objectives import KINDS, Constraint
from nas.outcome import Quantity
from nas.study import Study

RUNTIME_WORDS = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "tensorrt": "TensorRT"}
SI_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def significant(value: float, digits: int = 3) -> str:
    """A number in plain notation with so many significant digits: ``0.0312``, ``3.12``, ``312``, ``31200``."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    rounded = round(value, digits - 1 - exponent)
    return f"{rounded:.{max(0, digits - 1 - exponent)}f}"


def human(value: float, unit: str = "") -> str:
    """A count or size with three significant digits and a decimal prefix: ``1.06 M``, ``45.1 kB``, ``820 B``."""
    unit = "B" if unit == "bytes" else unit
    for factor, prefix in SI_PREFIXES:
        if abs(value) >= factor * 0.9995:  # 999.5 k and more would read 1000 k
            return f"{significant(value / factor)} {prefix}{unit}"
    number = f"{value:.0f}" if float(value).is_integer() else significant(value)
    return f"{number} {unit}".rstrip()


def percent(value: float) -> str:
    """A share in per cent with two decimals, without the sign: ``98.33``."""
    return f"{100 * value:.2f}"


def display(name: str, value: float) -> str:
    """The value of the quantity of that name, with its unit: ``98.33 %``, ``0.0312 ms``, ``1.06 M``, ``45.1 kB``."""
    kind = KINDS.get(name.removeprefix("test_"))
    if kind is None:
        return significant(value)
    if kind.maximise:
        return f"{percent(value)} %"
    if kind.unit == "ms":
        return f"{significant(value)} ms"
    return human(value, "bytes" if kind.unit == "bytes" else "")


def target_words(name: str) -> str:
    """A target in words: ``ONNX Runtime, CPU, 1 thread, batch 1``."""
    target = Target.parse(name)
    threads = f"{target.threads} thread{'s' if target.threads > 1 else ''}"
    return (
        f"{RUNTIME_WORDS.get(target.runtime, target.runtime)}, {target.device.upper()}, {threads}, batch {target.batch}"
    )


def title(key: str) -> str:
    """What the quantity of that key is called, with its unit: ``latency (ms)``, ``test accuracy``."""
    name = key.partition("@")[0]
    if name.startswith("test_"):
        return name.replace("_", " ")
    return KINDS[name].title if name in KINDS else name.replace("_", " ")


def constraint_words(constraint: Constraint) -> str:
    """A constraint as a person writes it: ``latency at most 0.5 ms``, ``file size at most 100 kB``."""
    name = title(constraint.quantity.key).partition(" (")[0]
    bound = "at most" if constraint.at_most else "at least"
    return f"{name} {bound} {display(constraint.quantity.name, constraint.limit)}"


def frames_per_second(latency: Quantity) -> float:
    """Throughput of a latency: 1000 · batch / latency_ms, the batch being that of its target.

    Raises:
        ValueError: The quantity is no latency on a target.
    """
    if latency.name != "latency_ms" or latency.target is None:
        raise ValueError(f"frames per second need a latency on a target, but got {latency.key}")
    return 1000 * Target.parse(latency.target).batch / latency.value


def latency_targets(study: Study) -> list[str]:
    """The targets of a study, those that an objective names first."""
    named = [o.target for o in study.recipe.parsed_objectives if o.target]
    return list(dict.fromkeys([*named, *study.recipe.all_targets]))


def plural(count: int, noun: str) -> str:
    """``1 trial``, ``2 trials``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
