"""Numbers, names and limits as a person reads them: one spelling for the terminal, the report and a deployment.

A measured number has three significant digits, zeros at its end included, as they say how precise it is. A share has
two decimals of a per cent. A limit, which a person set, is written to its last digit and without such zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas.compression import split_name
from nas.objectives import KINDS, Constraint, QuantityKind
from nas.outcome import Quantity, Realisation
from nas.target import Place, Target

# What a label means to whoever reads a trial's numbers.
LABEL_WORDS = {
    Realisation.REALISED: "realised",
    Realisation.SIMULATED: "simulated (saves size, not time)",
    Realisation.UNSUPPORTED: "unsupported (without effect on this network and target)",
}
# Latencies that are told without measuring (see nas.estimate). None of them can be an objective, so they are no KINDS.
ESTIMATES = {
    kind.name: kind
    for kind in (
        QuantityKind("textbook_ms", "ms", False, True, "textbook estimate (ms)", log_axis=True),
        QuantityKind("roofline_ms", "ms", False, True, "roofline estimate (ms)", log_axis=True),
        QuantityKind("predicted_ms", "ms", False, True, "predicted latency (ms)", log_axis=True),
    )
}
# What each is made from.
ESTIMATE_WORDS = {
    "textbook_ms": "textbook: FLOPs over FLOP/s",
    "roofline_ms": "roofline: FLOPs and bytes moved",
    "predicted_ms": "learned predictor",
}
# A quantity of the network that a design was compressed from, rather than of the design.
UNCOMPRESSED = "uncompressed_"
SI_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
DIGITS, MOST_DIGITS = 3, 5  # of a number, and where so many are needed to tell it from another
LIMIT_DIGITS = 10  # more than anybody writes, and few enough to hide that 0.57 · 100 is 56.999…


def significant(value: float, digits: int = DIGITS, zeros: bool = True) -> str:
    """A number in plain notation with so many significant digits: ``0.0312``, ``3.12``, ``312``, ``31200``.

    Args:
        value: A finite number.
        digits: How many digits, at least 1.
        zeros: Keep zeros at the end of the decimals: ``0.500``, not ``0.5``.
    """
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    rounded = round(value, digits - 1 - exponent)
    return _ended(f"{rounded:.{max(0, digits - 1 - exponent)}f}", zeros)


def human(value: float, unit: str = "", digits: int = DIGITS, zeros: bool = True) -> str:
    """A count or size with a decimal prefix: ``1.06 M``, ``45.1 kB``; whole below 1000: ``820 B``."""
    unit = "B" if unit == "bytes" else unit
    for factor, prefix in SI_PREFIXES:
        if abs(value) >= factor * (1 - 0.5 * 10.0**-digits):  # with three digits 999.5 k and more would read 1000 k
            return f"{significant(value / factor, digits, zeros)} {prefix}{unit}"
    number = f"{value:.0f}" if float(value).is_integer() else significant(value, digits, zeros)
    return f"{number} {unit}".rstrip()


def percent(value: float, decimals: int = 2, zeros: bool = True) -> str:
    """A share in per cent, without the sign: ``98.33``."""
    return _ended(f"{100 * value:.{decimals}f}", zeros)


def _ended(text: str, zeros: bool) -> str:
    """A number's text with or without the zeros at the end of its decimals."""
    return text if zeros or "." not in text else text.rstrip("0").rstrip(".")


def plural(count: int, noun: str) -> str:
    """``1 trial``, ``2 trials``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def epochs_words(epochs: float) -> str:
    """``1 epoch``, ``3 epochs``, ``0.333 epochs``."""
    return plural(int(epochs), "epoch") if epochs == int(epochs) else f"{epochs:g} epochs"


def listing(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def kind_of(name: str) -> QuantityKind | None:
    """What is known of the quantity of that name; of a test score or of the uncompressed network's as of the design's.

    Of estimates as of what can be an objective.
    """
    plain = name.removeprefix("test_").removeprefix(UNCOMPRESSED)
    return KINDS.get(plain) or ESTIMATES.get(plain)


def display(name: str, value: float, digits: int = DIGITS, zeros: bool = True) -> str:
    """The value of the quantity of that name, with its unit: ``98.33 %``, ``0.0312 ms``, ``1.06 M``, ``45.1 kB``.

    Args:
        name: Of any quantity, without target; one that is not known has no unit.
        value: A finite number.
        digits: How many significant digits. A share has two decimals whatever they are, and one more from 5 digits on.
        zeros: Keep zeros at the end of the decimals.
    """
    kind = kind_of(name)
    if kind is None:
        return significant(value, digits, zeros)
    if kind.maximise:
        return f"{percent(value, max(2, digits - 2), zeros)} %"
    if kind.unit == "ms" or (kind.own and kind.unit not in ("1", "bytes")):
        return f"{significant(value, digits, zeros)} {kind.unit}"
    return human(value, "bytes" if kind.unit == "bytes" else "", digits, zeros)


def digits_apart(name: str, value: float, *others: float) -> int:
    """With how many digits, from 3 to 5, ``display`` tells a value from those of the others that differ from it."""
    different = [other for other in others if other != value]
    for digits in range(DIGITS, MOST_DIGITS):
        shown = display(name, value, digits)
        if all(display(name, other, digits) != shown for other in different):
            return digits
    return MOST_DIGITS


def interval(quantity: Quantity) -> str:
    """The value of a quantity, with its 95 % interval where it has one: ``0.0116 ms (0.01158 to 0.01163)``.

    The ends have as many digits as it takes for them to differ from the value. So has the value, where with fewer it
    would seem to lie outside.
    """
    name, text = quantity.name, display(quantity.name, quantity.value)
    if quantity.low is None or quantity.high is None:
        return text
    digits = digits_apart(name, quantity.value, quantity.low, quantity.high)
    ends = [display(name, end, digits) for end in (quantity.low, quantity.high)]
    number, _, unit = text.partition(" ")
    numbers, units = zip(*(end.partition(" ")[::2] for end in ends), strict=True)
    if set(units) != {unit}:  # such as 998 kB to 1.01 MB, each with its own
        return f"{display(name, quantity.value, digits)} ({ends[0]} to {ends[1]})"
    if not float(numbers[0]) <= float(number) <= float(numbers[1]):
        text = display(name, quantity.value, digits)
    return f"{text} ({numbers[0]} to {numbers[1]})"


def title(key: str) -> str:
    """What the quantity of that key is called, with its unit: ``latency (ms)``, ``test accuracy``."""
    name = key.partition("@")[0]
    if name.startswith(UNCOMPRESSED):
        return f"uncompressed {title(name.removeprefix(UNCOMPRESSED))}"
    if name.startswith("test_"):
        return name.replace("_", " ")
    kind = kind_of(name)
    return kind.title if kind else name.replace("_", " ")


def plain_name(key: str) -> str:
    """What the quantity of that key is called, without unit or target: ``latency``, ``validation accuracy``."""
    return title(key).partition(" (")[0]


def choice_words(name: str) -> str:
    """What a compression choice is called: ``weight bits``, ``stage2 weight bits``."""
    stage, choice = split_name(name)
    return f"{stage or ''} {choice.replace('_', ' ')}".strip()


def times(ratio: float, more: str, less: str, same: str) -> str:
    """A ratio in words, to two digits: ``2.3× faster``, ``1.4× slower`` for 1 / 1.4, ``as fast`` where it rounds to 1.

    Args:
        ratio: Greater than 0.
        more: Said of a ratio above 1, such as ``faster``.
        less: Said of one below 1, such as ``slower``.
        same: Said of one that is 1.0 to two digits, such as ``as fast``.
    """
    if float(significant(max(ratio, 1 / ratio), 2)) == 1:
        return same
    return f"{significant(ratio, 2)}× {more}" if ratio > 1 else f"{significant(1 / ratio, 2)}× {less}"


def constraint_words(constraint: Constraint) -> str:
    """A constraint as a person writes it: ``latency at most 0.5 ms``, ``validation accuracy at least 97.5 %``."""
    bound = "at most" if constraint.at_most else "at least"
    value = display(constraint.quantity.name, constraint.limit, LIMIT_DIGITS, zeros=False)
    return f"{plain_name(constraint.quantity.key)} {bound} {value}"


def target_words(name: str) -> str:
    """A target or place in words: ``ONNX Runtime, CPU, 1 thread, batch 1``; ``the fastest target, CPU, batch 1``.

    Raises:
        NasError: It is neither; see ``Target.parse``.
    """
    if (place := Place.parse(name)) is not None:
        return f"the fastest target, {place.device.upper()}, batch {place.batch}"
    target = Target.parse(name)
    threads = [plural(target.threads, "thread")] if target.threads is not None else []
    precision = [target.precision] if target.precision else []
    return ", ".join([target.kind.title, target.device.upper(), *threads, f"batch {target.batch}", *precision])


def frames_per_second(latency: Quantity) -> float:
    """Throughput of a latency: 1000 · batch / latency_ms, the batch being that of its target.

    Raises:
        ValueError: The quantity is no latency on a target.
    """
    if latency.name != "latency_ms" or latency.target is None:
        raise ValueError(f"frames per second need a latency on a target, but got {latency.key}")
    where = Place.parse(latency.target) or Target.parse(latency.target)
    return 1000 * where.batch / latency.value
