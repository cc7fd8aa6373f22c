"""Runs deployed models by any runtime; the process that this takes is started when it is first needed."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from nas.errors import UnsupportedError
from nas.target import TORCH_PROGRAM, Target, usable_cores

if TYPE_CHECKING:
    from nas.measure.measurer import Measurer


class Runner:
    """What ``nas.serving.Outputs`` asks for: ``runner(file, target, images)`` gives N×classes probabilities.

    Runtimes are loaded in the measuring process, never in this one. Use it as a context manager, or close it.
    """

    def __init__(self) -> None:
        self._measurer: Measurer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process, if any."""
        if self._measurer is not None:
            self._measurer.close()
            self._measurer = None

    def __call__(self, content: bytes, target: Target, images: np.ndarray) -> np.ndarray:
        """Class probabilities as the target's runtime computes them, with no more threads than there are cores.

        Raises:
            UnsupportedError: The runtime or its device is missing here; the hint says what else runs the file.
            ArtifactError: The model does not load, or does not take these images.
            MeasureError: The process died or hung.
        """
        if self._measurer is None:
            from nas.measure.measurer import Measurer

            self._measurer = Measurer()
        if target.threads is not None:
            target = replace(target, threads=min(target.threads, usable_cores()))
        try:
            return self._measurer.outputs(content, target, images)
        except UnsupportedError as error:
            raise UnsupportedError(error.message, _with_another_way(error.hint, target)) from error


def _with_another_way(hint: str, target: Target) -> str:
    """What to install, and that ONNX files run without it."""
    if target.form == TORCH_PROGRAM:
        return hint
    other = "the model file is ONNX, which onnxruntime runs too, on any CPU (pip install onnxruntime)"
    return f"{hint}; or do without: {other}" if hint else other
