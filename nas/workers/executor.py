"""What every executor offers: requests go in, results come out, and a worker that dies costs its request alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from nas.outcome import Reason

Request = TypeVar("Request")
Result = TypeVar("Result")
Takes = TypeVar("Takes", contravariant=True)
Gives = TypeVar("Gives")

# Called while jobs run: (job, stage, share of it done from 0 to 1).
JobProgress = Callable[[int, str, float], None]
# What does the work: given a request and what hears how far a stage has come, it gives the result.
Work = Callable[[Request, Callable[[str, float], None] | None], Result]


@dataclass(frozen=True)
class Done(Generic[Gives]):
    """A job that came to its end.

    Args:
        job: Its number.
        result: What came of it.
        peak_memory_bytes: The most resident memory that its process had meanwhile; None where that cannot be told.
    """

    job: int
    result: Gives
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class Lost:
    """A job whose worker died, or was ended because it took too long.

    Args:
        job: Its number.
        reason: Why; transient where another attempt may succeed.
    """

    job: int
    reason: Reason


class Executor(Protocol[Takes, Gives]):
    """Runs jobs. It is used by one thread."""

    @property
    def slots(self) -> int:
        """How many jobs run at once."""

    def submit(self, job: int, request: Takes) -> None:
        """Starts a job; no more than ``slots`` are under way at once.

        Args:
            job: A number that no other job under way has.
            request: What to work on.
        """

    def wait(self, progress: JobProgress) -> Done[Gives] | Lost:
        """Waits until a job ends, and tells meanwhile how far jobs have come. At least one must be under way.

        Raises:
            NasError: No worker can be started.
        """

    def close(self) -> None:
        """Ends all workers at once, also those at work."""
