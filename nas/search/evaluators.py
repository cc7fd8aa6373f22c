"""What evaluates the designs of a search with a real clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas.estimate.estimator import Estimator
from nas.evaluate import Estimate, Evaluator
from nas.measure.complexity import Complexity
from nas.measure.measurer import Measurer
from nas.outcome import Quantity
from nas.pipeline import Pipeline
from nas.search.prepared import Prepared
from nas.target import ONNX, Target


def evaluator_for(prepared: Prepared, pipeline: Pipeline, measurer: Measurer) -> Evaluator:
    """What evaluates designs with a real clock."""
    return Evaluator(
        prepared.recipe,
        prepared.dataset,
        pipeline,
        pipeline.store,
        measurer.measure,
        measurer.outputs,
        measurer.startup,
        estimates_for(prepared.targets, prepared.here),
        measurer.on_this_machine,
        measurer.glance,
    )


def estimates_for(targets: Sequence[Target], here: Mapping[str, str]) -> Estimate | None:
    """What this machine's calibrations estimate of an artifact; None where there are none (see ``nas calibrate``).

    Args:
        targets: What latencies are measured on.
        here: Fingerprint of this machine and the runtime, by target.
    """
    found = {target.name: Estimator.load(target, here[target.name]) for target in targets if target.form == ONNX}
    estimators = {name: estimator for name, estimator in found.items() if estimator is not None}
    if not estimators:
        return None

    def estimate(content: bytes, complexity: Complexity, target: Target) -> Sequence[Quantity]:
        estimator = estimators.get(target.name)
        return estimator.quantities(content, complexity) if estimator is not None else ()

    return estimate
