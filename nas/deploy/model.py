"""A deployed model made to run: by the runtime that serves it, and held to what the deployment says it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from nas.artifact import INPUT_NAME, OUTPUT_NAME, probabilities
from nas.deploy.deployment import DEPLOYMENT_FILE, Deployment
from nas.errors import ArtifactError
from nas.serving import Outputs
from nas.target import TORCH_PROGRAM

if TYPE_CHECKING:
    import onnxruntime

ONNX_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}

# A file of the deployment's form, made to run: images as it takes them → class probabilities, N×classes.
Run = Callable[[np.ndarray], np.ndarray]


def checked_model(
    deployment: Deployment, content: bytes, session: onnxruntime.InferenceSession | None, outputs: Outputs
) -> Run:
    """The deployed model made to run by the runtime that serves it.

    Args:
        deployment: Whose model.
        content: Its file.
        session: An ONNX file opened by ONNX Runtime on the CPU, which says what it takes, and runs it where it serves
            it; None for a torch program, which is held to its output alone.
        outputs: Runs what does not run in this process.

    Raises:
        ArtifactError: It does not take and give what the deployment describes.
    """
    if session is not None:
        check_signature(deployment, session)
        if deployment.serving.runs_here:
            return lambda images: probabilities(session, images)
    classes, target = len(deployment.class_names), deployment.serving.as_target

    def run(images: np.ndarray) -> np.ndarray:
        given = outputs(content, target, images)
        if given.shape != (len(images), classes):
            shape = "×".join(map(str, given.shape))
            raise ArtifactError(
                f"{deployment.model_path} gives {shape} numbers for {len(images)} images, but must {classes} for each",
                "deploy again with 'nas pick'",
            )
        return given

    return run


def is_onnx(deployment: Deployment) -> bool:
    """Whether the model is an ONNX file, which ONNX Runtime can open whatever serves it."""
    return deployment.serving.form != TORCH_PROGRAM


def check_signature(deployment: Deployment, session: onnxruntime.InferenceSession) -> None:
    """Checks that the model's one input and output are those that the deployment describes, with a free batch.

    Raises:
        ArtifactError: They are not: another name, type or shape, another number of classes, or a fixed batch.
    """
    inputs, outputs = session.get_inputs(), session.get_outputs()
    found = [(item.name, item.type, list(item.shape[1:])) for item in (*inputs, *outputs)]
    spec = deployment.input
    expected = [
        (INPUT_NAME, ONNX_TYPES[spec.dtype], list(spec.shape)),
        (OUTPUT_NAME, "tensor(float)", [len(deployment.class_names)]),
    ]
    if found != expected:
        raise ArtifactError(
            f"{deployment.model_path} takes and gives {found}, but must {expected} by {DEPLOYMENT_FILE}",
            "deploy again with 'nas pick'",
        )
    if isinstance(batch := inputs[0].shape[0], int):
        raise ArtifactError(f"{deployment.model_path} takes batches of {batch} only, not of any size")


def stock_session(deployment: Deployment) -> onnxruntime.InferenceSession:
    """The model opened by its path as any service would, with nothing of this package's between."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = deployment.serving.threads or 1
    path = deployment.model_path
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        raise ArtifactError(f"ONNX Runtime cannot load {path}: {' '.join(str(error).split())[:300]}") from error
