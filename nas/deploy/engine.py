"""A deployed model loaded once to be run often, as ``nas serve`` does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from nas.artifact import open_session
from nas.deploy.deployment import Deployment
from nas.deploy.model import Run, checked_model, is_onnx
from nas.deploy.running import Runner
from nas.deploy.speed import random_images
from nas.errors import UnsupportedError
from nas.measure.runtimes.open_vino import OpenVino
from nas.target import usable_cores


@contextmanager
def engine(deployment: Deployment, threads: int | None = None) -> Iterator[Run]:
    """The model, run by the runtime that serves it; it has been run once, so that the first request finds it ready.

    ONNX Runtime and OpenVINO run in this process, others in one that ends with the context.

    Args:
        deployment: Whose model.
        threads: Of the runtime; None for the deployment's, or for as many as there are cores where those are fewer.

    Raises:
        ArtifactError: The model was changed, is not what the deployment describes, or cannot be run.
        UnsupportedError: The runtime or its device is missing here.
    """
    content, serving = deployment.read_model(), deployment.serving
    if serving.threads is not None:
        serving = replace(serving, threads=min(threads or serving.threads, usable_cores()), target=None)
    elif threads is not None:
        raise UnsupportedError("--threads is for CPUs, but this deployment is served by a GPU", "leave it out")
    served = replace(deployment, serving=serving)
    with Runner() as runner:
        if serving.runtime == "openvino":
            run = _openvino(served, content)
        else:
            session = open_session(content, serving.threads or 1) if is_onnx(served) else None
            run = checked_model(served, content, session, runner)
        run(random_images(served))
        yield run


def _openvino(deployment: Deployment, content: bytes) -> Run:
    """OpenVINO on the CPU, compiled for the batch that it was measured with."""
    target, runtime = deployment.serving.as_target, OpenVino()
    if (missing := runtime.missing(target)) is not None:
        raise UnsupportedError(missing.message, missing.hint)
    session = runtime.load(content, target)

    def run(images: np.ndarray) -> np.ndarray:
        return session.run(images)

    return run
