"""What a search optimises and what limits it: quantities with a direction, quantities with a limit."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from nas.errors import RecipeError, unknown_name


@dataclass(frozen=True)
class QuantityKind:
    """What is known of a quantity by its name alone; ``own`` is one that a person's recipe declares."""

    name: str
    unit: str
    maximise: bool
    needs_target: bool
    title: str
    log_axis: bool = False
    own: bool = False


KINDS = {
    kind.name: kind
    for kind in (
        QuantityKind("accuracy", "1", True, False, "validation accuracy"),
        QuantityKind("balanced_accuracy", "1", True, False, "balanced validation accuracy"),
        QuantityKind("latency_ms", "ms", False, True, "latency (ms)", log_axis=True),
        QuantityKind("load_ms", "ms", False, True, "time to first output (ms)", log_axis=True),
        QuantityKind("peak_memory_bytes", "bytes", False, True, "peak memory (bytes)", log_axis=True),
        QuantityKind("flops", "FLOP", False, False, "FLOPs", log_axis=True),
        QuantityKind("macs", "MAC", False, False, "MACs", log_axis=True),
        QuantityKind("params", "1", False, False, "parameters", log_axis=True),
        # Of the float network's activations for one image: see nas.measure.activations.
        QuantityKind(
            "peak_activation_bytes", "bytes", False, False, "peak memory of activations (bytes)", log_axis=True
        ),
        QuantityKind("size_bytes", "bytes", False, False, "file size (bytes)", log_axis=True),
        # Of the file deflated as for a download (zlib, level 9): where zeros among the weights pay.
        QuantityKind("compressed_size_bytes", "bytes", False, False, "compressed file size (bytes)", log_axis=True),
    )
}


def declare_own(name: str, unit: str, maximise: bool) -> QuantityKind:
    """Adds a quantity that a person's recipe declares to those that are known in this process.

    Costs are drawn on a logarithmic axis where they extend over so much, as all costs are.

    Args:
        name: By which objectives and constraints name it.
        unit: Of its values; empty where they have none. Ignored for a quality, which is a share from 0 to 1.
        maximise: Whether more is better.

    Raises:
        RecipeError: The name is that of another quantity, or no name; or the unit is none.
    """
    if unit and not _UNIT.fullmatch(unit):
        raise RecipeError(
            f"the unit of '{name}' must be up to 12 letters, digits and signs without spaces or brackets, "
            f"but got {unit!r}",
            "such as mJ or J/image",
        )
    kind = QuantityKind(
        name,
        "1" if maximise or not unit else unit,
        maximise,
        needs_target=False,
        title=name.replace("_", " ") + (f" ({unit})" if unit and not maximise else ""),
        log_axis=not maximise,
        own=True,
    )
    known = KINDS.get(name)
    if not name.isidentifier() or (known is not None and not known.own) or name.startswith(_TAKEN):
        reason = "is a quantity that is there already" if name.isidentifier() else "is no name"
        raise RecipeError(f"'{name}' cannot be the name of an own objective: it {reason}", "give it another name")
    if known is not None and known != kind:
        raise RecipeError(
            f"the own objective '{name}' is declared twice with another meaning: {_meaning(known)}; {_meaning(kind)}",
            "give one of them another name",
        )
    KINDS[name] = kind
    return kind


_UNIT = re.compile(r"[\w%°/·.^*+-]{1,12}")
# How names begin that stand for something else of a quantity, or of a test score.
_TAKEN = ("test_", "uncompressed_", "proxy_", "predicted_")


def _meaning(kind: QuantityKind) -> str:
    return f"{'more' if kind.maximise else 'less'} is better, unit {kind.unit}"


@dataclass(frozen=True)
class Objective:
    """A quantity with a direction, such as ``accuracy`` (more is better) or ``latency_ms@onnxruntime-cpu-1t-b1``."""

    name: str
    target: str | None = None

    @property
    def kind(self) -> QuantityKind:
        return KINDS[self.name]

    @property
    def key(self) -> str:
        return f"{self.name}@{self.target}" if self.target else self.name

    @property
    def maximise(self) -> bool:
        return self.kind.maximise

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """``"maximize"`` or ``"minimize"``, as Optuna spells it."""
        return "maximize" if self.maximise else "minimize"

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Reads ``name`` or ``name@target``.

        Raises:
            RecipeError: The name is unknown, or a target is missing or superfluous.
        """
        name, at, target = text.strip().partition("@")
        if name not in KINDS:
            raise RecipeError(unknown_name("objective", name, KINDS))
        if KINDS[name].needs_target and not target:
            raise RecipeError(
                f"'{name}' must say what it is measured on, but got '{text}'",
                f"write '{name}@onnxruntime-cpu-1t-b1'",
            )
        if at and not KINDS[name].needs_target:
            raise RecipeError(f"'{name}' does not depend on a target, but got '{text}'", f"write '{name}'")
        return cls(name, target or None)


@dataclass(frozen=True)
class Constraint:
    """A quantity with a limit: ``size_bytes <= 100000``."""

    quantity: Objective
    at_most: bool
    limit: float

    @property
    def key(self) -> str:
        """The constraint in words; also its name in Optuna's storage."""
        # The limit to its last digit: two constraints whose limits differ must not share a key.
        limit = repr(self.limit).removesuffix(".0")
        return f"{self.quantity.key} {'<=' if self.at_most else '>='} {limit}"

    def violation(self, value: float) -> float:
        """How far the limit is missed, relative to it; zero or less where it is met.

        ``value / limit - 1`` for an upper limit and its negative for a lower one, so that constraints of different
        units weigh alike where a sampler adds them up.
        """
        excess = value / self.limit - 1
        return excess if self.at_most else -excess

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Reads ``NAME <= LIMIT`` or ``NAME >= LIMIT``.

        Raises:
            RecipeError: Not of that form, an unknown name, or a limit that is not a positive number.
        """
        match = re.fullmatch(r"\s*(\S+?)\s*(<=|>=)\s*(\S+)\s*", text)
        if match is None:
            raise RecipeError(
                f"a constraint must read 'NAME <= LIMIT' or 'NAME >= LIMIT', but got '{text}'",
                "for example 'size_bytes <= 100000'",
            )
        name, sign, number = match.groups()
        try:
            limit = float(number)
        except ValueError:
            raise RecipeError(f"the limit of a constraint must be a number, but got '{number}' in '{text}'") from None
        if not math.isfinite(limit) or limit <= 0:
            raise RecipeError(
                f"the limit of a constraint must be greater than 0 and finite, but got {number} in '{text}'"
            )
        return cls(Objective.parse(name), sign == "<=", limit)
