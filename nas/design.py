"""A design: one point of a search space, as a frozen value with a digest.

A design has two halves. The *architecture* says which network is built and is all that training depends on; the
*compression* says what is done to the trained network. Both are flat mappings from a choice's name to its value
(``stage1.width: 32``), canonical: only choices that are active stand in them, in sorted order. So two designs that
mean the same network have the same digest, and the digest of a *prefix* of the pipeline finds work already done.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

from nas.compression import IDENTITY, Value, everywhere, stages_in, value_of
from nas.errors import SpaceError

__all__ = ["IDENTITY", "Design", "Value", "canonical_json", "sha256_of"]

VERSION = 1


def canonical_json(data: Any) -> str:
    """The one spelling of a JSON value: sorted keys, no spaces, NaN refused."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_of(data: Any) -> str:
    """SHA-256 of a JSON value's canonical spelling, in hexadecimal."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


@dataclass(frozen=True)
class Design:
    """Architecture and compression of one candidate.

    Args:
        family: The builder that turns the architecture into a network.
        architecture: Active architecture choices and their values.
        compression: Active compression choices and their values; what is absent is left out (``IDENTITY``). A name may
            carry a stage, ``stage2.weight_bits``, see ``nas.compression``.

    Raises:
        SpaceError: A value is no finite number, text or boolean.
    """

    family: str
    architecture: Mapping[str, Value]
    compression: Mapping[str, Value]

    def __post_init__(self) -> None:
        for half in ("architecture", "compression"):
            values = getattr(self, half)
            for name, value in values.items():
                if not isinstance(value, bool | int | float | str):
                    raise SpaceError(f"{half} choice '{name}' must be a number, text or boolean, but got {value!r}")
                if isinstance(value, float) and not math.isfinite(value):
                    raise SpaceError(f"{half} choice '{name}' must be finite, but got {value!r}")
            object.__setattr__(self, half, MappingProxyType(dict(sorted(values.items()))))

    def __eq__(self, other: object) -> bool:
        # By digest and not by field, as the hash is: to Python 1 == 1.0 == True, but their spellings differ.
        return self.digest == other.digest if isinstance(other, Design) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[type[Design], tuple[Any, ...]]:
        """How it goes to another process: its views of the halves cannot."""
        return Design, (self.family, dict(self.architecture), dict(self.compression))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical form, in hexadecimal."""
        return sha256_of(self.to_json())

    @cached_property
    def architecture_digest(self) -> str:
        """What training depends on: designs that share it share the trained network."""
        return sha256_of({"family": self.family, "architecture": dict(self.architecture)})

    def step(self, choice: str, stage: str | None = None) -> Value:
        """The value of a compression choice, for the network or one of its stages; its identity where none is named."""
        return value_of(self.compression, choice, stage)

    def everywhere(self, choice: str) -> tuple[Value, ...]:
        """The values that a compression choice has: for the network, and for stages with one of their own."""
        return everywhere(self.compression, choice)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages for which a compression choice has a value of its own."""
        return stages_in(self.compression)

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "family": self.family,
            "architecture": dict(self.architecture),
            "compression": dict(self.compression),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Design:
        """Reads what ``to_json`` wrote.

        Raises:
            SpaceError: Another version, or a part is missing or of the wrong type.
        """
        if data.get("version") != VERSION:
            raise SpaceError(f"a design's version must be {VERSION}, but got {data.get('version')!r}")
        family, architecture, compression = (data.get(k) for k in ("family", "architecture", "compression"))
        if not (isinstance(family, str) and isinstance(architecture, Mapping) and isinstance(compression, Mapping)):
            raise SpaceError("a design needs 'family' (text), 'architecture' and 'compression' (mappings)")
        return cls(family, architecture, compression)
