"""Checks that a deployment does what it promises: reads back what was written, runs it, and compares.

ONNX Runtime on the CPU, which is always there, runs in this process; other runtimes in the measuring one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.artifact import open_session
from nas.data.dataset import Split
from nas.deploy.deployment import Deployment, load_deployment
from nas.deploy.further import Further, check_file
from nas.deploy.model import Run, checked_model, is_onnx, stock_session
from nas.deploy.running import Runner
from nas.deploy.served import SCORES, Served
from nas.errors import ArtifactError
from nas.outcome import Quantity
from nas.record import TrialRecord
from nas.scoring import score
from nas.serving import Outputs
from nas.study import Study
from nas.wording import listing

COMPARED_IMAGES = 512

# On a GPU libraries choose among kernels whenever a model is loaded, which add in another order: so many of the samples
# (and one in any case) may then be told apart otherwise, and so much probabilities may differ.
GPU_SAMPLES = 0.002
GPU_DIFFERENCE = 0.01


@dataclass(frozen=True)
class Verification:
    """What was checked and found to hold.

    Args:
        sha256: Digest of the model file, the same as in ``deployment.json`` and in the trial's record.
        accuracy: Validation accuracy as scored now: the trial's, to the sample.
        test_accuracy: Test accuracy as scored now, the same as stated; None where none is stated or no data was given.
        compared: How many validation images gave the same probabilities as the study's artifact; 0 without a study.
        runtime: The name of the runtime that ran it.
        further: The further forms, whose files are those that were deployed.
    """

    sha256: str
    accuracy: Quantity
    test_accuracy: Quantity | None
    compared: int
    runtime: str
    further: tuple[Further, ...] = ()

    @property
    def words(self) -> str:
        """What was checked, in a sentence."""
        parts = ["the SHA-256", _score_words("validation accuracy", self.accuracy)]
        if self.test_accuracy is not None:
            parts.append(_score_words("test accuracy", self.test_accuracy))
        if self.compared:
            parts.append(f"the trial's outputs on {self.compared:,} images")
        return f"checked by reading it back with {self.runtime}: {listing(parts)}"


def verify_deployment(
    folder: Path,
    validation: Split,
    test: Split | None = None,
    study: Study | None = None,
    outputs: Outputs | None = None,
) -> Verification:
    """Reads a deployment as a stranger would, by the runtime that serves it, and holds it to what it states.

    Checked are the model's digest, what it takes and gives, its accuracy on validation and test data (to the sample;
    on a GPU to one in 500), and, with a study, that digest, numbers and outputs are those of the trial's record and
    artifact.

    Args:
        folder: The deployment.
        validation: The study's validation data.
        test: The study's test data.
        study: Where the deployment comes from.
        outputs: Runs what does not run in this process; a measuring process that ends with the check where None.

    Raises:
        ArtifactError: Something does not hold; the message says what, with both values.
        StudyError: The study does not have the trial or its artifact.
        UnsupportedError: The runtime or its device is missing here.
    """
    if outputs is None:
        with Runner() as runner:
            return verify_deployment(folder, validation, test, study, runner)
    deployment = load_deployment(folder)
    session = stock_session(deployment) if is_onnx(deployment) else None
    run = checked_model(deployment, deployment.read_model(), session, outputs)
    given = _run(str(folder), run, validation.images)
    accuracy = _check_scores(deployment, given, validation, "")
    test_accuracy = None
    if test is not None and deployment.test_scores:
        test_accuracy = _check_scores(deployment, _run(str(folder), run, test.images), test, "test_")
    compared = 0
    if study is not None:
        record = study.record(deployment.trial)
        served = Served(study, record, deployment.serving.as_target)
        _check_record(deployment, served)
        artifact = served.artifact
        session = open_session(artifact, deployment.serving.threads or 1) if is_onnx(deployment) else None
        compared = _check_outputs(
            deployment, checked_model(deployment, artifact, session, outputs), validation.images, given
        )
    for item in deployment.further:
        for file in item.files:
            check_file(folder, file, item.title)
    title = deployment.serving.as_target.kind.title
    return Verification(deployment.sha256, accuracy, test_accuracy, compared, title, deployment.further)


def scores_on_test(
    study: Study, record: TrialRecord, test: Split, target: str | None = None, outputs: Outputs | None = None
) -> Mapping[str, Quantity]:
    """Test scores of a trial by quantity name: the study's, or where it has none yet, measured now on its artifact.

    A search that was interrupted has not scored its front, and a deployment states its test accuracy.

    Args:
        study: Whose trial.
        record: The trial.
        test: The study's test data.
        target: The target or place where it is served; where the recipe's first one is for None.
        outputs: Runs what does not run in this process; a measuring process that ends with the call where None.
    """
    if outputs is None:
        with Runner() as runner:
            return scores_on_test(study, record, test, target, runner)
    return Served.at(study, record, target).test_scores(test, outputs)


def _run(model: str, run: Run, images: np.ndarray) -> np.ndarray:
    try:
        return run(images)
    except ArtifactError as error:
        message = f"{model} cannot be run on the data: {error.message}"
        raise ArtifactError(message, error.hint or "give the data that the study was made with") from error


def _score_words(name: str, accuracy: Quantity) -> str:
    count = int(accuracy.detail["samples"])
    return f"the {name} ({round(accuracy.value * count):,} of {count:,} right)"


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
    slack = max(1.0, GPU_SAMPLES * count) if deployment.serving.device == "cuda" else 0.0
    if abs(right - stated_right) > slack + 1e-6:
        raise ArtifactError(
            f"{deployment.folder} classifies {right} of {count} samples rightly, but states {accuracy.key} "
            f"{stated.value:.6f}, which are {stated_right:g}",
            "if the data was changed since the search, search again",
        )
    stated_balanced = deployment.quantity(balanced.key)
    exact = deployment.serving.device != "cuda"  # where a sample may differ, so may the recall of a small class
    if exact and stated_balanced is not None and not math.isclose(stated_balanced.value, balanced.value, abs_tol=1e-9):
        raise ArtifactError(
            f"{deployment.folder} has {balanced.key} {balanced.value:.6f}, but states {stated_balanced.value:.6f}"
        )
    return accuracy


def _check_record(deployment: Deployment, served: Served) -> None:
    """What the deployment states is what the trial's record holds, as its target serves it."""
    record = served.record
    # Where the record's accuracy is another runtime's, what is stated has just been scored.
    scores = {q.name: q for q in deployment.quantities if q.key in SCORES}
    pairs = (
        ("SHA-256", deployment.sha256, record.file_for(served.target.form)),
        ("design", deployment.design.digest, record.design.digest),
        ("list of quantities", deployment.quantities, served.quantities(deployment.read_model(), scores)),
        ("list of labels", dict(deployment.labels), dict(served.labels)),
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
            f"{deployment.model_path} has {deployment.size_bytes} bytes, but its trial states {size.value:g}"
        )


def _check_outputs(deployment: Deployment, artifact: Run, images: np.ndarray, outputs: np.ndarray) -> int:
    """The study's artifact gives bit for bit the same probabilities (on a GPU nearly). Returns how many were compared.

    The same batches are run as before, since a runtime may add in another order for another batch.
    """
    some = images[:COMPARED_IMAGES]
    difference = float(np.abs(outputs[: len(some)] - artifact(some)).max())
    if not difference <= (GPU_DIFFERENCE if deployment.serving.device == "cuda" else 0.0):
        message = f"{deployment.folder} gives other probabilities than its trial's artifact, by up to {difference:g}"
        raise ArtifactError(message)
    return len(some)
