"""What can go wrong, as values that a person can act on.

Every error that a user may cause is a ``NasError``: one line that says what is wrong and where, and a hint that
says how to mend it. The command line prints both and exits with ``exit_code``; anything else is a bug and may show
its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NasError(Exception):
    """Bad input or a state that the user can mend.

    Args:
        message: What is wrong and where: the rule, and the value that was received.
        hint: How to mend it; empty where the message already says so.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class RecipeError(NasError):
    """A study's recipe is missing, malformed or contradicts itself."""


class SpaceError(NasError):
    """A search space, or a design that is said to lie in one, is malformed."""


class ModuleError(NasError):
    """A person's own network cannot be built, its weights do not fit, or it does not fit the data."""


class DataError(NasError):
    """A data set cannot be read or cannot be learned from."""


class TeacherError(NasError):
    """A teacher that a recipe names cannot be loaded, or does not fit the data."""


class StudyError(NasError):
    """A study folder cannot be used: locked, corrupt, or of another recipe."""


class MeasureError(NasError):
    """A measurement came to nothing through no fault of the model's: its process died or hung, the machine is taken."""


class DeviceGoneError(MeasureError):
    """The device that measures does not answer any more."""


class ArtifactError(NasError):
    """A model file is missing, is no ONNX file, or does not do what its manifest says."""


class UnsupportedError(NasError):
    """The request is legal but this machine, package set or runtime cannot carry it out."""


class InfeasibleDesignError(NasError):
    """A design that no network can be built from, such as a feature map that shrinks to nothing."""


class DivergedError(NasError):
    """Training produced NaN or infinity; the design is the cause, so trying again would not help."""


class SurrogateError(NasError):
    """No surrogate can be fitted: too few values, or all the same. The search goes on with its plain sampler."""


class NothingFeasibleError(NasError):
    """No trial meets the limits; nothing was written."""

    exit_code = 1


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> str:
    """Says that a name is unknown, suggests the closest valid one (in whichever case) and lists all.

    Args:
        kind: What the name should have named, such as ``"sampler"``.
        name: What was received.
        valid: The names that would have been accepted.
    """
    names = sorted(valid)
    by_lower = {valid_name.lower(): valid_name for valid_name in names}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    suggestion = f"; did you mean '{by_lower[close[0]]}'?" if close else ";"
    return f"unknown {kind} '{name}'{suggestion} valid: {', '.join(names) or '(none)'}"


def one_line(error: BaseException, longest: int = 200) -> str:
    """What another library's exception says, in one line and not endless; its type where it says nothing."""
    return " ".join(str(error).split())[:longest] or type(error).__name__
