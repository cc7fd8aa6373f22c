"""What the measuring process is asked and what it answers. Both ends are of this package, on this machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from nas.errors import NasError
from nas.measure.clock import Policy
from nas.target import Target


@dataclass(frozen=True)
class Describe:
    """Asks whether a target can be measured here: ``UnsupportedError``, or the runtime's environment as a dict."""

    target: Target


@dataclass(frozen=True)
class Measure:
    """Asks for a latency: answered by a ``Reading``.

    Args:
        content: The model, in the target's form.
        target: What to measure on.
        images: One batch as the artifact takes it.
        policy: When to stop sampling.
        overhead: Whether a model that computes nothing is measured too, once for a target and shape of images.
    """

    content: bytes = field(repr=False)
    target: Target
    images: np.ndarray = field(repr=False)
    policy: Policy
    overhead: bool = True


@dataclass(frozen=True)
class Outputs:
    """Asks for the first output for all of the images, N×…, in batches: answered by an array."""

    content: bytes = field(repr=False)
    target: Target
    images: np.ndarray = field(repr=False)
    batch: int


@dataclass(frozen=True)
class Interleave:
    """Asks for several models in turns, A B C A B C …: answered by ``Turns``.

    Args:
        contents: The models, all of the target's form.
        target: What to measure on.
        images: One batch as the artifacts take it.
        rounds: How often each has its turn.
        turn: When a turn stops sampling.
    """

    contents: tuple[bytes, ...] = field(repr=False)
    target: Target
    images: np.ndarray = field(repr=False)
    rounds: int
    turn: Policy


@dataclass(frozen=True)
class Turns:
    """Samples of models that were timed in turns.

    Args:
        samples_ns: For each model and each round its samples, in nanoseconds.
        troubles: What disturbed each round, by the names of ``nas.measure.quiet``.
    """

    samples_ns: tuple[tuple[np.ndarray, ...], ...]
    troubles: tuple[tuple[str, ...], ...]


Request = Describe | Measure | Outputs | Interleave


class Answerer(Protocol):
    """What requests are put to: a process on this machine (``nas.measure.process``), or one on a device
    (``nas.measure.remote``)."""

    def ask(self, request: Request) -> Any:
        """Sends a request and waits for its answer.

        Raises:
            UnsupportedError: The target cannot be measured there.
            ArtifactError: The model does not load or run, or does not take the images.
            MeasureError: It came to nothing through no fault of the model's; another attempt may succeed.
        """

    def close(self) -> None:
        """Ends the process: the next request starts another."""


@dataclass(frozen=True)
class Alive:
    """Said before the answer, as often as a request gets on: its time limit counts from here again.

    Args:
        patience_seconds: Longest until the next word, where others are waited for; None for the time limit.
    """

    patience_seconds: float | None = None


@dataclass(frozen=True)
class Answer:
    """What a request came to.

    Args:
        value: The result; None where there is an error.
        error: What was wrong with the model, the target or the machine.
        bug: A traceback, where it was none of these.
    """

    value: Any = None
    error: NasError | None = None
    bug: str = ""
