"""Complete tables as a search sees them: what an evaluation tells, and what its stages take.

- ``digits``: the digits table, architecture and compression. Training there is so cheap that timing is a sixth of a
  trial; ``dear`` makes training and fine-tuning as many times dearer, as they are with more data.
- ``cells``: the cells of NAS-Bench-201 with accuracies, latencies and training times as measured (the times scaled).
  What that table lacks is made up, the same for every search: accuracies at two rungs, and pruning and bits, each with
  a deviation drawn from a fixed seed. So it tells nothing but whether rules are tuned to digits alone.

Seconds are charged as the product spends them: a rung keeps its stable trunk and loses its decay branch, a network is
trained and pruned once, however many bit widths follow. Without sharing, every design pays for all that it needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from benchmarks.efficiency_analysis import Axes
from benchmarks.tables import Table, digits_space, digits_table, nas_bench_201
from sklearn.ensemble import HistGradientBoostingRegressor

from nas.choice import Choice
from nas.design import Design, Value
from nas.evaluate import EvalRequest, EvalResult
from nas.outcome import How, Outcome, Quantity
from nas.record import StageResult
from nas.search.network_facts import NetworkFacts, network_facts
from nas.search.rough import RoughCosts
from nas.space import SearchSpace
from nas.stages import Progress
from nas.train.schedule import DECAY_SHARE

TARGET = "onnxruntime-cpu-1t-b1"
EPOCHS = 20
RUNGS = (2, 7)
# What a trial takes beside the table's seconds: asking, two fits of surrogates, writing.
OVERHEAD = 0.3
# Of cells: the median of their trainings is scaled to so many seconds; scoring and timing take so many.
CELL_SECONDS, CELL_MEASURED = 12.0, 1.0
# The quantile of comparable readings that is taken for undisturbed.
LOW = 0.2


@dataclass(frozen=True, eq=False)
class World:
    """A table as a search sees it. Arrays have one value for each design.

    Args:
        table: Its designs.
        space: The same as a search space.
        axes: The box in which fronts are compared.
        rough: What trainings cost against each other, as a search knows it before any trial, by the facts where known.
        facts: What networks are made of; None of cells, of which the table tells no more than what their edges do.
        accuracy: From 0 to 1.
        latency: In ms.
        rungs: Accuracies at a rung, by its epochs.
        train: Seconds of the architecture's training.
        finetune: Seconds of fine-tuning after pruning; 0 where nothing is pruned.
        finish: Seconds of the rest: quantisation, with training where it has that, and export.
        measure: Seconds of scoring and timing.
    """

    table: Table
    space: SearchSpace
    axes: Axes
    rough: RoughCosts
    facts: NetworkFacts | None
    accuracy: np.ndarray
    latency: np.ndarray
    rungs: dict[int, np.ndarray]
    train: np.ndarray
    finetune: np.ndarray
    finish: np.ndarray
    measure: np.ndarray

    def number(self, design: Design) -> int:
        """The design's line of the table."""
        return self.table.find({**design.architecture, **design.compression})

    def points(self) -> np.ndarray:
        """N×2: accuracy and latency of every design."""
        return np.stack([self.accuracy, self.latency], axis=1)


def digits(dear: float = 1.0) -> World:
    """The digits table, its trainings and fine-tunings so many times dearer."""
    table, space = digits_table(), digits_space()
    values = table.values
    compress = values["compress_seconds"]
    plain = np.array([compress[table.find(_exported(row))] for row in table.rows])
    floats = np.array([table.find(_float(row)) for row in table.rows])
    pruned = np.maximum(0.0, compress[floats] - plain[floats])
    trained_on = np.maximum(0.0, compress - plain - pruned)

    latency = _undisturbed(table)

    facts = network_facts(space, (1, 8, 8), 10)
    assert facts is not None
    return World(
        table,
        space,
        Axes(0.5, float(latency.min()) / 2, float(latency.max())),
        facts.costs,
        facts,
        values["accuracy"],
        latency,
        {epochs: values[f"rung_accuracy_{epochs}"] for epochs in RUNGS},
        dear * values["train_seconds"],
        dear * pruned,
        plain + dear * trained_on,
        values["measure_seconds"],
    )


def _undisturbed(table: Table) -> np.ndarray:
    """Latencies without the disturbances of single readings, of which all of this table are marked as unstable.

    Files of one graph differ up to twofold there. A disturbance only ever adds, so that a low quantile of what
    comparable designs took is what they take.
    """
    names = [column.name for column in table.columns]
    x = np.array([[_as_number(row.get(name)) for name in names] for row in table.rows])
    x = np.column_stack([x, np.log(table.values["flops"]), np.log(table.values["size_bytes"])])
    model = HistGradientBoostingRegressor(loss="quantile", quantile=LOW, max_iter=200, random_state=0)
    return np.asarray(np.exp(model.fit(x, np.log(table.values["latency_ms"])).predict(x)))


def _as_number(value: Value | None) -> float:
    """A choice's value for trees; texts by their bytes' sum, which tells those of one choice apart."""
    if value is None:
        return -1.0
    return float(sum(value.encode())) if isinstance(value, str) else float(value)


def _float(row: Mapping[str, Value]) -> dict[str, Value]:
    """A design's pruned network as it is, in 32 bits."""
    bits = ("activation_bits", "quantisation_aware")
    return {**{name: value for name, value in row.items() if name not in bits}, "weight_bits": 32}


def _exported(row: Mapping[str, Value]) -> dict[str, Value]:
    """A design without what trains: not pruned, not trained on with its bits."""
    whole = {name: value for name, value in row.items() if name != "pruning_rounding"} | {"pruning_ratio": 0.0}
    return whole | {"quantisation_aware": False} if "quantisation_aware" in row else whole


def cells(path: Path, device: str) -> World:
    """The cells of NAS-Bench-201, each in four compressions that are made up, as are the rungs."""
    given = nas_bench_201(path)
    known = given.values
    rng = np.random.default_rng(201)
    choices = (
        *(Choice(c.name, "architecture", c.values) for c in given.columns),
        Choice("pruning_ratio", "compression", (0.0, 0.5)),
        Choice("weight_bits", "compression", (32, 8)),
        Choice("activation_bits", "compression", (8,), {"weight_bits": (8,)}),
    )
    rows, origin, pruned, narrow = [], [], [], []
    for number, row in enumerate(given.rows):
        for ratio in (0.0, 0.5):
            for bits in (32, 8):
                active = {**row, "pruning_ratio": ratio, "weight_bits": bits}
                rows.append(MappingProxyType(active if bits == 32 else {**active, "activation_bits": 8}))
                origin.append(number)
                pruned.append(ratio > 0)
                narrow.append(bits == 8)
    at, cut, small = np.array(origin), np.array(pruned), np.array(narrow)
    table = Table(given.name, choices, tuple(rows), {})

    def spread(width: float, of: int) -> np.ndarray:
        return np.exp(width * rng.standard_normal(of))

    error = 1 - known["cifar10_val_accuracy"] / 100
    lost = np.where(cut, 1.25 * spread(0.1, len(at)), 1.0) * np.where(small, 1.03 * spread(0.03, len(at)), 1.0)
    faster = np.where(cut, 0.65 * spread(0.1, len(at)), 1.0) * np.where(small, 0.6 * spread(0.1, len(at)), 1.0)
    # Errors at a rung stand to those at the end as powers of them, more alike than at the end.
    rungs = {epochs: 1 - np.minimum(0.9, error**power * spread(width, len(error)))[at]
             for epochs, power, width in ((2, 0.4, 0.12), (7, 0.7, 0.07))}  # fmt: skip
    seconds = known["cifar10_train_time_s"] / np.median(known["cifar10_train_time_s"]) * CELL_SECONDS
    guess = seconds * spread(0.2, len(seconds))
    latency = known[f"latency_ms_{device}"][at] * faster

    space = SearchSpace("nas-bench-201", "cell", "", choices)

    def rough(designs: Sequence[Design]) -> np.ndarray:
        return np.array([guess[given.find(design.architecture)] for design in designs])

    return World(
        table,
        space,
        Axes(0.8, float(np.percentile(latency, 1)) / 2, float(latency.max())),
        rough,
        None,
        1 - np.minimum(0.9, error[at] * lost),
        latency,
        rungs,
        seconds[at],
        np.where(cut, seconds[at] / 3, 0.0),
        np.full(len(at), 0.2),
        np.full(len(at), CELL_MEASURED),
    )


class Clock:
    """Time as the table has it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Replayed:
    """Evaluates by looking up, and moves the clock on by what the product would have taken.

    Args:
        world: What there is.
        clock: Moved on.
        shares: Whether stages that were carried out for another trial are there, as with a cache.
        times: So many times longer is every training.
        disturbed: This share of the latencies is read 1.2 to 1.8 times too high, and marked as unstable.
        seed: Of these disturbances.
    """

    def __init__(
        self,
        world: World,
        clock: Clock,
        shares: bool = True,
        times: float = 1.0,
        disturbed: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.world, self.clock, self.shares, self.times = world, clock, shares, times
        self.disturbed, self.rng = disturbed, np.random.default_rng([seed, 3])
        self.trunk: dict[str, float] = {}
        self.whole: set[tuple[str, float]] = set()
        self.pruned: set[tuple[str, float]] = set()

    def __call__(self, request: EvalRequest, progress: Progress | None) -> EvalResult:
        world, number = self.world, self.world.number(request.design)
        if request.until == 0:
            self._spend("export", float(world.finish[number]))
            measure = self._spend("measure", float(world.measure[number]))
            proxy = self._latency("proxy_latency_ms", number, How.PROXY)
            return EvalResult(Outcome.STOPPED, quantities=(proxy,), stages=(measure,))
        architecture = request.design.architecture_digest
        stages = [self._train(architecture, number, EPOCHS if request.until is None else request.until)]
        if request.until is not None:
            rung = Quantity("rung_accuracy", float(world.rungs[request.until][number]), "1", How.PROXY,
                            f"epoch-{request.until}")  # fmt: skip
            return EvalResult(Outcome.STOPPED, quantities=(rung,), stages=tuple(stages))
        ratio = float(request.design.compression.get("pruning_ratio", 0.0))  # type: ignore[arg-type]
        there = (architecture, ratio) in self.pruned
        stages.append(self._spend("finetune", 0.0 if there else self.times * float(world.finetune[number])))
        self._keep(self.pruned, (architecture, ratio))
        stages.append(self._spend("quantise", float(world.finish[number])))
        stages.append(self._spend("measure", float(world.measure[number])))
        self.clock.now += OVERHEAD
        return EvalResult(
            Outcome.MEASURED,
            quantities=(
                Quantity("accuracy", float(world.accuracy[number]), "1", How.MEASURED),
                self._latency("latency_ms", number, How.MEASURED),
            ),
            stages=tuple(stages),
            manifest={"class_names": [str(n) for n in range(10)]},
        )

    def _latency(self, name: str, number: int, how: How) -> Quantity:
        """A latency as it is read."""
        unstable = bool(self.rng.random() < self.disturbed)
        slowdown = float(self.rng.uniform(1.2, 1.8)) if unstable else 1.0
        detail = {"unstable": unstable, "slowdown": slowdown}
        return Quantity(name, slowdown * float(self.world.latency[number]), "ms", how, TARGET, detail=detail)

    def _train(self, architecture: str, number: int, until: int) -> StageResult:
        """A training to so many epochs, from the stable trunk that is there."""
        if (architecture, until) in self.whole:
            return StageResult("train", "", 0.0, True)
        epoch = self.times * float(self.world.train[number]) / EPOCHS
        stable = (1 - DECAY_SHARE) * until
        left = max(0.0, stable - self.trunk.get(architecture, 0.0)) + DECAY_SHARE * until
        if self.shares:
            self.trunk[architecture] = max(stable, self.trunk.get(architecture, 0.0))
        self._keep(self.whole, (architecture, until))
        return self._spend("train", left * epoch)

    def _keep(self, there: set[tuple[str, float]], key: tuple[str, float]) -> None:
        if self.shares:
            there.add(key)

    def _spend(self, stage: str, seconds: float) -> StageResult:
        self.clock.now += seconds
        return StageResult(stage, "", seconds, seconds == 0.0)
