"""Who serves a trial after it was timed anew, and what follows from that: accuracy, size, the place's latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas.artifact import sizes
from nas.data.dataset import Split
from nas.errors import ArtifactError
from nas.outcome import Quantity
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.serving import Outputs, Scores, Service, at_place, choose, server_of, services
from nas.target import Target, usable_cores
from nas.wording import UNCOMPRESSED


def served_anew(
    recipe: Recipe,
    record: TrialRecord,
    targets: Sequence[Target],
    measured: Sequence[Quantity],
    files: Mapping[str, bytes],
    validation: Split,
    outputs: Outputs,
) -> list[Quantity]:
    """What a trial's new latencies mean for where it is served.

    The runtime that serves already computes what it should; another one is scored on the validation data before it
    may serve instead. Then accuracy is the lowest of those that serve, and the size that of the file which serves.

    Args:
        recipe: Whose places.
        record: The trial as it was.
        targets: What was to be measured on.
        measured: What was measured of it now; nothing on a target that refused it.
        files: Its files by form.
        validation: What is scored on.
        outputs: Runs other runtimes than ONNX Runtime on the CPU.

    Returns:
        The places' quantities, and accuracy and size where they change; nothing of a place that was not measured.

    Raises:
        ArtifactError: No target of a place can serve the trial.
    """
    scores = Scores(files, validation.images, validation.labels, outputs, usable_cores())
    latencies = {str(q.target): q for q in measured if q.name == "latency_ms"}
    before: dict[str, Target] = {}
    serving: dict[str, Target] = {}
    for service in services(recipe):
        previous = server_of(record.quantity(f"latency_ms@{service.name}"))
        if previous is None:  # the recipe asks for no latency
            continue
        before[service.name] = serving[service.name] = previous
        if service.is_place and any(target in targets for target in service.candidates):
            serving[service.name] = _chosen(service, previous, latencies, scores)
    found: list[Quantity] = []
    if any(serving[name].arithmetic != before[name].arithmetic for name in serving):
        found += scores.of_served(serving.values())
        found += sizes(files[next(iter(serving.values())).form])
    # What pruning gained at a place is told against the same target's latency before it.
    uncompressed = [q for q in record.quantities if q.name.startswith(UNCOMPRESSED)]
    for service in services(recipe):
        target = serving.get(service.name)
        if target is not None and target.name in latencies:
            found += at_place([*measured, *uncompressed], service, target)
    return found


def _chosen(service: Service, previous: Target, latencies: Mapping[str, Quantity], scores: Scores) -> Target:
    """The fastest target of a place that computes what it should."""
    target, _ = choose(
        service, latencies, lambda target: target.arithmetic == previous.arithmetic or scores.is_right(target)
    )
    if target is None:
        raise ArtifactError(f"none of the targets at {service.name} can serve the artifact")
    return target
