"""Checks that a deployment does what it promises: reads back what was written, runs it, and compares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas.artifact import INPUT_NAME, OUTPUT_NAME, open_session, probabilities
from nas.data.dataset import Split
from nas.deploy.deployment import DEPLOYMENT_FILE, MODEL_FILE, Deployment, load_deployment
from nas.errors import ArtifactError
from nas.outcome import Quantity
from nas.record import TrialRecord
from nas.scoring import score
from nas.study import Study
from nas.wording import listing

if TYPE_CHECKING:
    import onnxruntime

COMPARED_IMAGES = 512
ONNX_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}


@dataclass(frozen=True)
class Verification:
    """What was checked and found to hold.

    Args:
        sha256: Digest of the model file, the same as in ``deployment.json`` and in the trial's record.
        accuracy: Validation accuracy as scored now: the trial's, to the sample.
        test_accuracy: Test accuracy as scored now, the same as stated; None where none is stated or no data was given.
        compared: How many validation images gave the same probabilities as the study's artifact; 0 without a study.
    """

    sha256: str
    accuracy: Quantity
    test_accuracy: Quantity | None
    compared: int

    @property
    def words(self) -> str:
        """What was checked, in a sentence."""
        parts = ["the SHA-256", _score_words("validation accuracy", self.accuracy)]
        if self.test_accuracy is not None:
            parts.append(_score_words("test accuracy", self.test_accuracy))
        if self.compared:
            parts.append(f"the trial's outputs on {self.compared:,} images")
        return f"checked by reading it back with ONNX Runtime: {listing(parts)}"


def verify_deployment(
    folder: Path, validation: Split, test: Split | None = None, study: Study | None = None
) -> Verification:
    """Reads a deployment as a stranger would, with stock ONNX Runtime, and holds it to what it states.

    Checked are the model's digest, what it takes and gives, its accuracy on validation and test data (to the sample),
    and, with a study, that digest, numbers and outputs are those of the trial's record and artifact.

    Args:
        folder: The deployment.
        validation: The study's validation data.
        test: The study's test data.
        study: Where the deployment comes from.

    Raises:
        ArtifactError: Something does not hold; the message says what, with both values.
        StudyError: The study does not have the trial or its artifact.
    """
    deployment = load_deployment(folder)
    session = _stock_session(deployment)
    check_signature(deployment, session)
    outputs = _run(str(folder), session, validation.images)
    accuracy = _check_scores(deployment, outputs, validation, "")
    test_accuracy = None
    if test is not None and deployment.test_scores:
        test_accuracy = _check_scores(deployment, _run(str(folder), session, test.images), test, "test_")
    compared = 0
    if study is not None:
        record = study.record(deployment.trial)
        _check_record(deployment, record)
        compared = _check_outputs(deployment, study.artifact(record), validation.images, outputs)
    return Verification(deployment.sha256, accuracy, test_accuracy, compared)


def scores_on_test(study: Study, record: TrialRecord, test: Split) -> Mapping[str, Quantity]:
    """Test scores of a trial by quantity name: the study's, or where it has none yet, measured now on its artifact.

    For ``deploy``: a search that was interrupted has not scored its front, and a deployment states its test accuracy.
    """
    if present := study.test_scores.get(record.number):
        return present
    outputs = _run(f"trial {record.number}", open_session(study.artifact(record)), test.images)
    return {quantity.name: quantity for quantity in score(outputs, test.labels, "test_")}


def _stock_session(deployment: Deployment) -> onnxruntime.InferenceSession:
    """The model opened by its path as any service would, with nothing of this package's between."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = deployment.serving.threads
    path = deployment.folder / MODEL_FILE
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        raise ArtifactError(f"ONNX Runtime cannot load {path}: {' '.join(str(error).split())[:300]}") from error


def _run(model: str, session: onnxruntime.InferenceSession, images: np.ndarray) -> np.ndarray:
    try:
        return probabilities(session, images)
    except ArtifactError as error:
        message = f"{model} cannot be run on the data: {error.message}"
        raise ArtifactError(message, "give the data that the study was made with") from error


def _score_words(name: str, accuracy: Quantity) -> str:
    count = int(accuracy.detail["samples"])
    return f"the {name} ({round(accuracy.value * count):,} of {count:,} right)"


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
            f"{deployment.folder / MODEL_FILE} takes and gives {found}, but must {expected} by {DEPLOYMENT_FILE}",
            "deploy again with 'nas pick'",
        )
    if isinstance(batch := inputs[0].shape[0], int):
        raise ArtifactError(f"{deployment.folder / MODEL_FILE} takes batches of {batch} only, not of any size")


def _check_scores(deployment: Deployment, outputs: np.ndarray, split: Split, prefix: str) -> Quantity:
    """Scores one split and compares with what is stated; accuracy to the sample. Returns the accuracy."""
    accuracy, balanced = score(outputs, split.labels, prefix)
    stated = deployment.quantity(accuracy.key)
    if stated is None:
        raise ArtifactError(f"{deployment.folder} states no {accuracy.key}")
    count = len(split)
    stated_count = stated.detail.get("samples", count)
    if stated_count != count:
        raise ArtifactError(
            f"{deployment.folder} states its {accuracy.key} on {stated_count} samples, but these are {count}",
            "give the data that it was scored on",
        )
    right, stated_right = round(accuracy.value * count), stated.value * count
    if not math.isclose(right, stated_right, abs_tol=1e-6):
        raise ArtifactError(
            f"{deployment.folder} classifies {right} of {count} samples rightly, but states {accuracy.key} "
            f"{stated.value:.6f}, which are {stated_right:g}",
            "if the data was changed since the search, search again",
        )
    stated_balanced = deployment.quantity(balanced.key)
    if stated_balanced is not None and not math.isclose(stated_balanced.value, balanced.value, abs_tol=1e-9):
        raise ArtifactError(
            f"{deployment.folder} has {balanced.key} {balanced.value:.6f}, but states {stated_balanced.value:.6f}"
        )
    return accuracy


def _check_record(deployment: Deployment, record: TrialRecord) -> None:
    """What the deployment states is what the trial's record holds."""
    pairs = (
        ("SHA-256", deployment.sha256, record.artifact_sha256),
        ("design", deployment.design.digest, record.design.digest),
        ("list of quantities", deployment.quantities, record.quantities),
        ("list of labels", dict(deployment.labels), dict(record.labels)),
    )
    for name, stated, recorded in pairs:
        if stated != recorded:
            raise ArtifactError(
                f"{deployment.folder} states another {name} than trial {record.number} has: "
                f"{stated!s:.200}, not {recorded!s:.200}"
            )
    size = deployment.quantity("size_bytes")
    if size is not None and size.value != deployment.size_bytes:
        raise ArtifactError(
            f"{deployment.folder / MODEL_FILE} has {deployment.size_bytes} bytes, but its trial states {size.value:g}"
        )


def _check_outputs(deployment: Deployment, artifact: bytes, images: np.ndarray, outputs: np.ndarray) -> int:
    """The study's artifact gives bit for bit the same probabilities. Returns how many images were compared."""
    some = images[:COMPARED_IMAGES]
    # The same batches as before, since a runtime may add in another order for another batch.
    expected = probabilities(open_session(artifact, deployment.serving.threads), some)
    if not np.array_equal(outputs[: len(some)], expected):
        difference = float(np.abs(outputs[: len(some)] - expected).max())
        message = f"{deployment.folder} gives other probabilities than its trial's artifact, by up to {difference:g}"
        raise ArtifactError(message)
    return len(some)
