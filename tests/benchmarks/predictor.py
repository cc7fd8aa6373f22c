"""How well latencies are estimated: calibrates for three minutes at most, then measures networks it has not seen.

    python tests/benchmarks/predictor.py            # of the space convnet, in a temporary cache
    python tests/benchmarks/predictor.py resnet 2   # of another space, after two minutes

Ends with 0 where the aim is met, at least 90 % of the networks within ±10 %, else with 1. Of a calibration that the
machine's user has made nothing is read and nothing changed. Wants a quiet machine: disturbed measurements of unseen
networks are taken anew with other networks, as long as there is time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from nas.errors import InfeasibleDesignError, UnsupportedError
from nas.estimate.calibrate import POLICY, Calibrator
from nas.estimate.check import check
from nas.estimate.networks import Sampler
from nas.measure.environment import has_vnni
from nas.measure.measurer import Measurer
from nas.space import load_space
from nas.store import sha256_bytes
from nas.target import Target

TARGET = Target.parse("onnxruntime-cpu-1t-b1")
IMAGE_SHAPE, CLASSES = (28, 28, 1), 10
AIM = 0.90
UNSEEN = 60
UNSEEN_SEED = 2**31  # no calibration's seed, which is a number of measurements
MOST_SECONDS = 240.0


def main() -> int:
    space = load_space(sys.argv[1] if len(sys.argv) > 1 else "convnet")
    minutes = float(sys.argv[2]) if len(sys.argv) > 2 else 3.0
    with tempfile.TemporaryDirectory() as cache:
        with Measurer(POLICY) as quick:
            started = time.perf_counter()
            calibrator = Calibrator(TARGET, quick.environment_id(TARGET), quick.measure, Path(cache))
            calibration = calibrator.run(space, IMAGE_SHAPE, CLASSES, minutes)
            seconds = time.perf_counter() - started
        seen = {measurement.sha256 for measurement in calibrator.stored.read()}
    print(
        f"calibration: {seconds:.0f} s (aim: at most 180 s), {calibration.networks} networks and {calibration.layers} "
        f"single layers, {calibration.unstable} of them disturbed"
    )
    estimator = calibration.estimator
    if estimator is None:
        print("too few for estimates: aim missed")
        return 1

    sampler = Sampler(space, IMAGE_SHAPE, CLASSES, reduce_range=not has_vnni())
    measured: list[float] = []
    estimated: dict[str, list[float]] = {}
    covered = disturbed = 0
    began = time.perf_counter()
    with Measurer() as precise:
        for design in sampler.designs(UNSEEN_SEED):
            try:
                sample = sampler.network(design)
            except (InfeasibleDesignError, UnsupportedError):
                continue
            if sha256_bytes(sample.artifact) in seen:
                continue
            latency, _ = precise.measure(sample.artifact, TARGET, sample.images)
            if latency.detail["unstable"]:
                disturbed += 1
            else:
                measured.append(latency.value)
                for quantity in estimator.quantities(sample.artifact, sample.complexity):
                    estimated.setdefault(quantity.name, []).append(quantity.value)
                    if quantity.low is not None and quantity.high is not None:
                        covered += quantity.low <= latency.value <= quantity.high
            if len(measured) == UNSEEN or time.perf_counter() - began > MOST_SECONDS:
                break
    print(f"unseen: {len(measured)} networks of {space.name} (aim: {UNSEEN}), {disturbed} more were disturbed")
    if len(measured) < 2:
        print("the machine is too noisy to compare: aim missed")
        return 1
    for name, values in estimated.items():
        found, own = check(name, values, measured), estimator.checks[name]
        print(
            f"  {name:13s} within ±10 %: {found.within:6.1%}   median error {found.median_error:6.1%}   "
            f"Kendall's tau {found.tau:.3f}   Spearman {found.spearman:.3f}   (own check: {own.within:.1%})"
        )
    print(f"interval of predicted_ms: holds {covered / len(measured):.1%} (aim: about 95 %)")
    within = check("predicted_ms", estimated["predicted_ms"], measured).within
    met = within >= AIM and len(measured) >= UNSEEN and seconds <= 180
    print(f"aim of {AIM:.0%} within ±10 % after at most 180 s: {'met' if met else 'missed'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
