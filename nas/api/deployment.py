"""A deployment as the API shows it: arrays in, classes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from nas.deploy import Deployment as Description
from nas.deploy.predict import fitted


@dataclass(frozen=True, eq=False)
class Predictions:
    """What images were taken for.

    Args:
        labels: The most probable class of each.
        probabilities: N×classes, in the order of the deployment's ``class_names``.
    """

    labels: tuple[str, ...]
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


class Deployment:
    """A deployment, ready to predict. Where its runtime needs a process of its own, that ends with ``close``.

    Args:
        description: All that ``deployment.json`` says.
    """

    def __init__(self, description: Description) -> None:
        from nas.deploy.running import Runner

        self.description = description
        self._runner = Runner()
        self._run: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.description.folder

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of the probabilities."""
        return self.description.class_names

    def predict(self, images: np.ndarray) -> Predictions:
        """Classifies images, by the runtime that the deployment names.

            deployment.predict(images).labels

        Args:
            images: One image as the model takes it (``description.input``), such as H×W×C of uint8, or N of them; with
                one channel its axis may be absent.

        Raises:
            DataError: The array does not hold what the model takes.
            ArtifactError: The model cannot be run.
            UnsupportedError: The runtime or its device is missing here.
        """
        fitting = fitted(np.asarray(images), self.description.input, "images")
        batch = fitting[None] if fitting.ndim == len(self.description.input.shape) else fitting
        if self._run is None:
            self._run = self._loaded()
        given = self._run(batch)
        return Predictions(tuple(self.class_names[index] for index in given.argmax(axis=1)), given)

    def close(self) -> None:
        """Ends the process that the runtime needed, if any; ``predict`` would start another."""
        self._runner.close()
        self._run = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<nas.Deployment {str(self.folder)!r}: {self.description.design_words}>"

    def _loaded(self) -> Callable[[np.ndarray], np.ndarray]:
        """The model, made to run."""
        from nas.artifact import open_session
        from nas.deploy.model import checked_model, is_onnx
        from nas.target import usable_cores

        content, serving = self.description.read_model(), self.description.serving
        threads = min(serving.threads or 1, usable_cores())
        session = open_session(content, threads) if is_onnx(self.description) else None
        return checked_model(self.description, content, session, self._runner)
