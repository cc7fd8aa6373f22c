"""Surrogates compute with one thread.

Their matrices are too small for more: on a machine where others compute as well, threads that wait for each other take
ten times as long as one alone. And what is predicted does not depend on how many cores a machine has.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import ParamSpec, TypeVar

from threadpoolctl import ThreadpoolController

P = ParamSpec("P")
R = TypeVar("R")


@cache
def _libraries() -> ThreadpoolController:
    """The libraries of linear algebra that this process has loaded, sought once as that takes milliseconds."""
    import scipy.linalg  # noqa: F401  it brings one of its own

    return ThreadpoolController()


def one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """The function, within which linear algebra has one thread."""

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        with _libraries().limit(limits=1, user_api="blas"):
            return function(*args, **kwargs)

    return limited
