"""What the driver says of the NVIDIA cards here."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

UNKNOWN = "unknown"
_COMMAND = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
_SECONDS = 20.0


@dataclass(frozen=True)
class Card:
    """A card's name and its driver's version; ``unknown`` where the driver's tool is not there or says nothing."""

    name: str = UNKNOWN
    driver: str = UNKNOWN

    @property
    def known(self) -> bool:
        return self.name != UNKNOWN


def first_card() -> Card:
    """The first card, which is what a model runs on."""
    try:
        said = subprocess.run(_COMMAND, capture_output=True, text=True, timeout=_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return Card()
    name, _, driver = next(iter(said.splitlines()), "").rpartition(",")
    return Card(name.strip(), driver.strip()) if name.strip() and driver.strip() else Card()
