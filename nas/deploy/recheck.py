"""``nas verify``: whether a deployment still is, and does, what it promised, on this machine and on given data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas.artifact import open_session
from nas.deploy.also import SAME_CLASS, run_form
from nas.deploy.deployment import DEPLOYMENT_FILE, Deployment
from nas.deploy.further import Further, check_file
from nas.deploy.given_data import Given
from nas.deploy.model import Run, checked_model, is_onnx
from nas.deploy.speed import random_images, recheck_latency
from nas.errors import ArtifactError, UnsupportedError
from nas.outcome import Quantity
from nas.scoring import score
from nas.serving import Outputs
from nas.target import usable_cores
from nas.wording import display, interval, plain_name

if TYPE_CHECKING:
    from nas.measure.measurer import Measurer

# On the images that a score was taken on, so large a share of them (and one in any case) may be told apart otherwise:
# another version of a runtime, or another processor, adds in another order.
SAME_DATA_SLACK = 0.002

COMPARED_IMAGES = 512


@dataclass(frozen=True)
class Finding:
    """One promise and what was found.

    Args:
        what: Of what: ``test accuracy``.
        promised: The promise.
        found: What there is now; empty where nothing was looked at.
        holds: Whether the promise is kept; None where that was not judged.
        why: The reason where it is not kept or not judged.
    """

    what: str
    promised: str
    found: str
    holds: bool | None
    why: str = ""

    @property
    def verdict(self) -> str:
        """``pass``, ``fail`` or ``not judged``."""
        return {True: "pass", False: "fail", None: "not judged"}[self.holds]


@dataclass(frozen=True)
class Rechecked:
    """All findings."""

    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing that was judged is broken."""
        return all(finding.holds is not False for finding in self.findings)


def recheck(
    deployment: Deployment,
    given: Sequence[Given],
    outputs: Outputs,
    measurer: Measurer | None,
    forced: bool = False,
) -> Rechecked:
    """Holds a deployment to its promises.

    A model whose file is another one than was deployed is not run at all.

    Args:
        deployment: As ``read_description`` gives it.
        given: Labelled images to score it on.
        outputs: Runs what does not run in this process.
        measurer: Times it; None for no latency.
        forced: Judge the latency also on another machine than the one that it was promised for.

    Raises:
        ArtifactError: The model is the one that was deployed, but cannot be run on these images.
        UnsupportedError: The runtime that serves it is missing here.
    """
    return Rechecked(tuple(_findings(deployment, given, outputs, measurer, forced)))


def _findings(
    deployment: Deployment, given: Sequence[Given], outputs: Outputs, measurer: Measurer | None, forced: bool
) -> Iterator[Finding]:
    files = [_file(deployment), *(_further_file(deployment, item) for item in deployment.further)]
    yield from files
    if not files[0].holds:
        return
    content = deployment.read_model()
    if given:
        threads = min(deployment.serving.threads or 1, usable_cores())
        session = open_session(content, threads) if is_onnx(deployment) else None
        run = checked_model(deployment, content, session, outputs)
        for item in given:
            yield _accuracy(deployment, item, run)
        some = given[0].split.images[:COMPARED_IMAGES]
        for further, file in zip(deployment.further, files[1:], strict=True):
            if file.holds:
                yield _same_outputs(deployment, further, some, run(some), outputs)
    if measurer is not None:
        images = given[0].split.images if given else random_images(deployment)
        yield Finding(*recheck_latency(deployment, content, images, measurer, forced))


def _file(deployment: Deployment) -> Finding:
    """The model's file by its digest."""
    what, promised = deployment.serving.model_file, _digest(deployment.sha256)
    try:
        content = deployment.read_model()
    except ArtifactError as error:
        return Finding(
            what, promised, "another file" if deployment.model_path.is_file() else "none", False, error.message
        )
    if len(content) != deployment.size_bytes:
        why = f"{DEPLOYMENT_FILE} states {deployment.size_bytes:,} bytes, the file has {len(content):,}"
        return Finding(what, promised, "the same", False, why)
    return Finding(what, promised, "the same", True)


def _further_file(deployment: Deployment, further: Further) -> Finding:
    what, promised = ", ".join(file.file for file in further.files), _digest(further.files[0].sha256)
    try:
        for file in further.files:
            check_file(deployment.folder, file, further.title)
    except ArtifactError as error:
        return Finding(what, promised, "another file, or none", False, error.message)
    return Finding(what, promised, "the same", True)


def _digest(sha256: str) -> str:
    return f"SHA-256 {sha256[:12]}…"


def _accuracy(deployment: Deployment, given: Given, run: Run) -> Finding:
    """A score: on the same images it must come out again, on others the intervals must meet."""
    stated = deployment.quantity(given.key)
    if stated is None:
        raise ArtifactError(f"{deployment.folder} states no {plain_name(given.key)}", "deploy again with 'nas pick'")
    measured, _ = score(run(given.split.images), given.split.labels)
    count = len(given.split)
    found = f"{display('accuracy', measured.value)} of {count:,}"
    if not given.is_the_studys:
        return _on_other_data(stated, measured, found)
    fewer = round(stated.value * count) - round(measured.value * count)
    slack = max(1, int(SAME_DATA_SLACK * count))
    why = "" if fewer <= slack else f"{fewer:,} of the {count:,} images fewer are right than when it was deployed"
    if -fewer > slack:
        why = f"{-fewer:,} images more are right than stated, so these are not the images that it was scored on"
    return Finding(plain_name(given.key), f"{display('accuracy', stated.value)} of {count:,}", found, not why, why)


def _on_other_data(stated: Quantity, measured: Quantity, found: str) -> Finding:
    least = stated.low if stated.low is not None else stated.value
    most = measured.high if measured.high is not None else measured.value
    why = ""
    if most < least:
        why = (
            f"on these images it is less accurate than can be chance: {display('accuracy', most)} at most, promised "
            f"are {display('accuracy', least)} at least (95 % intervals)"
        )
    return Finding(f"{plain_name(stated.key)}, own data", interval(stated), found, not why, why)


def _same_outputs(
    deployment: Deployment, further: Further, images: np.ndarray, expected: np.ndarray, outputs: Outputs
) -> Finding:
    """Whether a further form puts images into the same classes as the model does."""
    what, promised = f"{further.title}'s classes", f"{further.same_class:.1%} the model's"
    try:
        given = run_form(further.form, deployment.folder, images, outputs)
    except UnsupportedError as error:
        return Finding(what, promised, "", None, error.message)
    same = min(float((rows.argmax(1) == expected.argmax(1)).mean()) for rows in given)
    why = "" if same >= SAME_CLASS else f"{1 - same:.1%} of {len(images)} images get another class than by the model"
    return Finding(what, promised, f"{same:.1%} of {len(images):,}", not why, why)
