"""A study of many trials as a long guided search would leave it, made within seconds: nothing is trained or measured.

The designs are drawn from the space ``convnet``. Their numbers follow from them by simple rules (multiply-adds by the
layers, latency by multiply-adds and how well each kind of layer runs, accuracy by capacity and what compression takes),
with noise, so that fronts, importances and rank correlations look like a real study's. Records are as long as real
ones: training curves, pruned widths, all numbers of every measurement, notes, proxies of what was known beforehand.

    make(tmp_path / "large")                                        # 2,000 trials
    make(tmp_path / "small", trials=60, seed=1)
    make(tmp_path / "other", trials=60, environment_id="b45dcc2588c4", faster=1.3)   # another machine
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from large_study_network import CLASSES, EPOCHS, RUNG, SIDE, TARGET, VALIDATION_IMAGES, Network, digest

from nas.design import Design
from nas.front import pareto_front
from nas.measurements import Measurements, write_measurements
from nas.outcome import Outcome, Realisation, Reason
from nas.recipe import Recipe, parse_recipe
from nas.record import StageResult, TrialRecord, record_path
from nas.space import load_space
from nas.study import Study

LATENCY = f"latency_ms@{TARGET}"
ENVIRONMENT_ID = "077fff166764"
TEST_IMAGES = 10_000
LABELLED = ("pruning_ratio", "distillation", "weight_bits", "activation_bits", "quantisation_aware")
# How the trials after the baseline end, as shares.
SHARES = (
    (Outcome.MEASURED, 0.55),
    (Outcome.SCREENED, 0.15),
    (Outcome.STOPPED, 0.17),
    (Outcome.INFEASIBLE, 0.06),
    (Outcome.FAILED, 0.04),
    (Outcome.DUPLICATE, 0.03),
)
SPARED = 0.03  # of those measured: would have been screened out
DRAWN = 0.2  # of what the sampler would else have proposed: networks unlike all others
FAILURES = (
    ("diverged", "the loss became NaN in epoch 2"),
    ("measuring", "the measuring process died (signal 9)"),
    ("memory", "not enough memory: 3.2 GB wanted"),
    ("refused", "ONNX Runtime refused the graph: <ConvInteger> is not implemented & has no fallback"),
)


@dataclass(frozen=True)
class Machine:
    """What the numbers were measured on.

    Args:
        environment_id: Its fingerprint.
        faster: How many times faster than the usual one.
    """

    environment_id: str = ENVIRONMENT_ID
    faster: float = 1.0

    @property
    def environment(self) -> dict[str, Any]:
        return {
            "machine": "x86_64",
            "cpu": f"Example processor {self.environment_id[:3]}",
            "cores": 2,
            "affinity": "0-1",
            "features": ["avx2", "avx512_bf16", "avx512_vnni", "avx512f"],
            "governor": "unknown",
            "memory_gib": 24,
            "system": "Linux",
            "python": "3.11.7",
            **{"numpy": "2.3.5", "onnxruntime": "1.32.0", "onnx": "1.23.2", "torch": "2.13.0+cpu", "optuna": "5.0.0"},
            "runtimes": {TARGET: {"onnxruntime": "1.32.0", "provider": "CPUExecutionProvider"}},
        }


def large_recipe(trials: int, **changes: Any) -> Recipe:
    """The recipe of such a study; keywords replace whole keys."""
    data = {
        "data": {"source": "idx", "path": "fashion-mnist", "train_limit": 16000, "validation_limit": VALIDATION_IMAGES},
        "space": "convnet",
        "objectives": ["accuracy", LATENCY],
        "constraints": ["size_bytes <= 1000000"],
        "budget": {"trials": trials, "epochs": EPOCHS},
        "strategy": "guided",
    }
    return parse_recipe(data | changes, "a large study's recipe")


def make(
    folder: Path,
    trials: int = 2000,
    seed: int = 0,
    environment_id: str = ENVIRONMENT_ID,
    faster: float = 1.0,
    **changes: Any,
) -> Study:
    """Writes such a study into a folder, and opens it. The same arguments give the same files.

    Args:
        folder: Where; made where it is missing.
        trials: How many; at least 1, the baseline.
        seed: Draws designs, outcomes and noise.
        environment_id: Fingerprint of the machine that it was measured on.
        faster: How many times faster that machine is than the usual one.
        changes: Keys of the recipe to replace.
    """
    recipe = large_recipe(trials, **changes)
    machine = Machine(environment_id, faster)
    records = make_records(trials, seed, machine)
    for name in ("trials", "samples", "cache", "measurements"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for record in records:
        # Not by write_record, which waits for the disk after each.
        record_path(folder / "trials", record.number).write_text(json.dumps(record.to_json(), indent=1))
    inputs = {"space": load_space("convnet").digest, "data": digest("fashion-mnist")}
    (folder / "inputs.json").write_text(json.dumps(inputs))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_json(), sort_keys=False))
    front = pareto_front(records, recipe.parsed_objectives, recipe.parsed_constraints)
    _write_confirmed(
        folder, [records[0], *(r for r in front if r.number != 0)], random.Random(f"front {seed}"), machine
    )
    return Study.open(folder)


def make_records(trials: int, seed: int = 0, machine: Machine | None = None) -> list[TrialRecord]:
    """The records alone, trial 0 being the baseline; see ``make``."""
    rng, space = random.Random(seed), load_space("convnet")
    assert space.baseline is not None
    maker = _Maker(rng, machine or Machine())
    maker.add(space.baseline, Outcome.MEASURED, "baseline")
    outcomes, weights = zip(*SHARES, strict=True)
    while len(maker.records) < trials:
        outcome = rng.choices(outcomes, weights)[0]
        maker.add(space.sample(rng), outcome, rng.choices(("asked", "fan", "promotion"), (6, 3, 1))[0])
    return maker.records


class _Maker:
    """Makes one record after the other; what went before is what duplicates, fans and promotions refer to."""

    def __init__(self, rng: random.Random, machine: Machine) -> None:
        self.rng, self.machine = rng, machine
        self.records: list[TrialRecord] = []
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def add(self, design: Design, outcome: Outcome, origin: str) -> None:
        number = len(self.records)
        fields: dict[str, Any] = {"seed": 0, "started_at": self.time.isoformat(timespec="seconds")}
        parents = [
            r for r in self.records if r.outcome is (Outcome.STOPPED if origin == "promotion" else Outcome.MEASURED)
        ]
        if outcome is Outcome.MEASURED and origin in ("fan", "promotion"):
            if parents:
                parent = self.rng.choice(parents)
                fields["parent"] = parent.number
                half = parent.design if origin == "promotion" else design
                design = Design("convnet", parent.design.architecture, half.compression)
            else:
                origin = "asked"
        elif outcome is not Outcome.MEASURED:
            origin = "asked"
        if origin == "asked" and self.rng.random() < DRAWN:
            origin = "drawn"
        fields |= {"number": number, "origin": origin, "design": design, "outcome": outcome}
        record = self._record(fields)
        self.records.append(record)
        self.time += timedelta(seconds=record.seconds)

    def _record(self, fields: dict[str, Any]) -> TrialRecord:
        outcome, number, design = fields["outcome"], fields["number"], fields["design"]
        known = Network(design, self.rng, self.machine.faster, self.machine.environment_id)
        if outcome is Outcome.MEASURED:
            return self._measured(known, fields)
        if outcome is Outcome.DUPLICATE:
            original = self.rng.choice([r for r in self.records if r.outcome is Outcome.MEASURED])
            fields |= {"design": original.design, "duplicate_of": original.number, "quantities": original.quantities}
            return TrialRecord(**fields, seconds=0.01)
        environment = self.machine.environment
        if outcome is Outcome.INFEASIBLE:
            reason = Reason("shape", "the feature map is 1×1 before stage 3 pools it")
            return TrialRecord(**fields, reason=reason, seconds=0.1)
        if outcome is Outcome.SCREENED:
            ahead = self.rng.choice([r for r in self.records if r.outcome is Outcome.MEASURED]).number
            words = f"{100 * known.accuracy + 1:.2f} % at {known.latency_ms:.3g} ms"
            reason = Reason("screened", f"at best {words}, which trial {ahead} beats")
            numbers = (*known.predicted(), *known.untrained())
            return TrialRecord(**fields, reason=reason, quantities=numbers, environment=environment, seconds=1.1)
        stages = (_stage("sketch", 0.1), _stage("measure", 0.96), known.training(number, RUNG))
        if outcome is Outcome.STOPPED:
            words = f"place {self.rng.randint(4, 9)} of 9, accuracy {100 * known.at_rung:.2f} %"
            reason = Reason("rung", f"after {RUNG} of {EPOCHS} epochs: {words}")
            numbers = (known.rung(), *known.untrained(), *known.predicted())
            fields |= {"reason": reason, "epochs": RUNG, "quantities": numbers, "stages": stages}
            return TrialRecord(**fields, environment=environment, seconds=_seconds(stages))
        kind, message = self.rng.choice(FAILURES)
        reason = Reason(kind, message, transient=kind in ("measuring", "memory"))
        fields |= {"reason": reason, "stages": stages, "environment": environment}
        return TrialRecord(**fields, seconds=_seconds(stages))

    def _measured(self, known: Network, fields: dict[str, Any]) -> TrialRecord:
        number, design, origin = fields["number"], fields["design"], fields["origin"]
        distilled = bool(design.step("distillation"))
        proxies = () if origin == "baseline" else (known.rung(), *known.untrained(), *known.predicted())
        fields["spared"] = origin == "asked" and self.rng.random() < SPARED
        stages = known.stages(number, cached=origin == "fan")
        return TrialRecord(
            **fields,
            quantities=(*known.quantities(), *proxies),
            labels={name: _label(design, name) for name in design.compression if name in LABELLED},
            stages=stages,
            teacher=digest("teacher") if distilled else None,
            teacher_trial=0 if distilled else None,
            artifact_sha256=digest(f"artifact {number} {design.digest}"),
            manifest={
                "version": 1,
                "input": {"dtype": "uint8", "shape": [SIDE, SIDE, 1], "layout": "NHWC", "resize": None},
                **{"input_name": "images", "output_name": "probabilities", "opset": 17},
                "class_names": [f"class {index}" for index in range(CLASSES)],
                "exporter": "torch.onnx (TorchScript)",
            },
            environment=self.machine.environment,
            seconds=_seconds(stages),
            notes=known.notes,
        )


def _label(design: Design, name: str) -> Realisation:
    """4-bit weights are computed in 8 bits, and so only simulated; all else of this space runs as it says."""
    simulated = name == "weight_bits" and design.step(name) == 4
    return Realisation.SIMULATED if simulated else Realisation.REALISED


def _stage(name: str, seconds: float) -> StageResult:
    return StageResult(name, "", seconds, False)


def _seconds(stages: tuple[StageResult, ...]) -> float:
    return sum(stage.seconds for stage in stages) + 0.2


def _write_confirmed(folder: Path, finalists: list[TrialRecord], rng: random.Random, machine: Machine) -> None:
    """What the end of a search adds for its front and baseline: test scores, and latencies timed in turns."""
    scores, timed = {}, {}
    for record in finalists:
        known = Network(record.design, rng, machine.faster, machine.environment_id)
        value = record.value("accuracy") - 0.008 + rng.gauss(0, 0.003)
        names = ("test_accuracy", "test_balanced_accuracy")
        scores[record.number] = [known.share(name, value, images=TEST_IMAGES).to_json() for name in names]
        latency = record.value(LATENCY) * rng.lognormvariate(0, 0.004)
        timed[record.number] = (known.timed("latency_ms", latency, in_turns=True),)
    (folder / "test_scores.json").write_text(json.dumps(scores, indent=1))
    later = Measurements("front", "2026-01-02T00:00:00+00:00", timed, machine.environment)
    write_measurements(folder / "measurements", later)
