"""Where something was measured: the machine, and what each target's runtime says of itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nas.measure.measurer import Measurer
from nas.target import Target


def surroundings_of(measurer: Measurer, targets: Iterable[Target]) -> dict[str, Any]:
    """The machine, its software, and under ``runtimes`` what each target's runtime says of itself.

    Raises:
        UnsupportedError: A target cannot be measured here.
    """
    return {**measurer.machine, "runtimes": {target.name: dict(measurer.environment(target)) for target in targets}}
