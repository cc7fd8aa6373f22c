"""The numbers of one design of the space ``convnet``, by simple rules: see ``large_study``."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nas.design import Design
from nas.outcome import How, Quantity
from nas.record import StageResult

TARGET = "onnxruntime-cpu-1t-b1"
SIDE, CLASSES = 28, 10
VALIDATION_IMAGES = 6000
EPOCHS, RUNG = 3, 1
OVERHEAD_MS = 0.0039  # of a call that computes nothing
LAYER_MS = 0.0011  # that starting a layer takes
MACS_PER_MS = {"standard": 6.0e7, "separable": 2.4e7}  # how well a kind of layer runs
INT8_FASTER = 2.1
# What the accuracy loses: of pruning half of the channels (squared in the share), of bits; and what distilling brings.
PRUNING_LOSS, BITS_LOSS, DISTILLATION_GAIN = 0.03, {32: 0.0, 8: 0.002, 4: 0.02}, 0.004


@dataclass(frozen=True)
class Layer:
    """One convolution or linear layer: its name, kind, output channels, multiply-adds and weights."""

    name: str
    kind: str
    width: int
    macs: float
    params: float


def layers(design: Design) -> Iterator[Layer]:
    """The layers of a convnet, before pruning."""
    chosen = design.architecture
    side = SIDE // int(chosen["stem.stride"])
    before = int(chosen["stem.width"])
    params = int(chosen["stem.kernel"]) ** 2 * before
    yield Layer("features.stem.0", "standard", before, side**2 * params, params)
    for stage in range(1, int(chosen["stages"]) + 1):
        get = {name.partition(".")[2]: value for name, value in chosen.items() if name.startswith(f"stage{stage}.")}
        kind, width, area = str(get["conv"]), int(get["width"]), int(get.get("kernel", 3)) ** 2
        for index in range(int(get.get("depth", 1))):
            if get["pooling"] == "stride" and index == 0:
                side //= 2
            params = area * before * width if kind == "standard" else area * before + before * width
            yield Layer(f"features.stage{stage}.{3 * index}", kind, width, side**2 * params, params)
            before = width
        if get["pooling"] in ("max", "average"):
            side //= 2
    features = before if chosen["head.pooling"] == "average" else before * side**2
    hidden = int(chosen["head.hidden"])
    if hidden:
        yield Layer("head.1", "standard", hidden, features * hidden, features * hidden)
    yield Layer("classifier", "standard", CLASSES, (hidden or features) * CLASSES, (hidden or features) * CLASSES)


class Network:
    """A design with its numbers; noise is drawn once.

    Args:
        design: A design of the space ``convnet``.
        rng: Draws the noise.
        faster: How many times faster the machine is than the usual one.
        environment_id: The machine's fingerprint.
    """

    def __init__(self, design: Design, rng: random.Random, faster: float, environment_id: str) -> None:
        self.design, self.environment_id = design, environment_id
        self.layers = list(layers(design))
        self.ratio = float(design.step("pruning_ratio"))
        self.bits = int(design.step("weight_bits"))
        self.raw_macs = sum(layer.macs for layer in self.layers)
        kept = (1 - self.ratio) ** 1.7
        self.macs, self.params = int(self.raw_macs * kept), int(sum(layer.params for layer in self.layers) * kept)
        computing = sum(layer.macs / MACS_PER_MS[layer.kind] for layer in self.layers)
        bits_faster = INT8_FASTER if self.bits < 32 else 1.0
        scale = rng.lognormvariate(0, 0.06) / faster
        starting = OVERHEAD_MS + LAYER_MS * len(self.layers)
        self.raw_latency_ms = (starting + computing) * scale
        self.latency_ms = (starting + computing * (1 - self.ratio) ** 1.2 / bits_faster) * scale
        self.accuracy = self._accuracy(rng)
        self.spread = rng.uniform(0.002, 0.02)
        self.unstable = rng.random() < 0.1
        self.guess = (rng.gauss(0, 0.008), rng.lognormvariate(0, 0.1))
        self.size_bytes = int(2500 + self.params * self.bits / 8)
        self._rng = rng

    def _accuracy(self, rng: random.Random) -> float:
        capacity = math.log10(self.macs + 1e3) - 3.0
        best = 0.93 - 0.22 * math.exp(-0.75 * capacity)
        lost = PRUNING_LOSS * (2 * self.ratio) ** 2 * 0.5 + BITS_LOSS[self.bits]
        if self.design.step("quantisation_aware"):
            lost -= 0.6 * BITS_LOSS[self.bits]
        if self.design.step("distillation"):
            lost -= DISTILLATION_GAIN
        correct = round(VALIDATION_IMAGES * min(0.95, max(0.15, best - lost + rng.gauss(0, 0.006))))
        return correct / VALIDATION_IMAGES

    @property
    def at_rung(self) -> float:
        """Accuracy of the float network after ``RUNG`` epochs."""
        return round((self.accuracy - 0.04) * VALIDATION_IMAGES) / VALIDATION_IMAGES

    def share(
        self, name: str, value: float, how: How = How.MEASURED, images: int = VALIDATION_IMAGES, **more: Any
    ) -> Quantity:
        """An accuracy with its 95 % interval."""
        arm = 1.96 * math.sqrt(value * (1 - value) / images)
        interval = {"low": max(0.0, value - arm), "high": min(1.0, value + arm)}
        return Quantity(name, value, "1", how, detail={"samples": images}, **interval, **more)

    def timed(self, name: str, value: float, how: How = How.MEASURED, **detail: Any) -> Quantity:
        """A latency with its interval and all that a measurement tells."""
        told = {
            **{"p95": value * (1 + 8 * self.spread), "iqr": value * 2 * self.spread, "samples": int(300 / value) + 50},
            **{"unstable": self.unstable, "fps": 1000 / value, "batch": 1, "windows": 3 if self.unstable else 1},
            **{"slowdown": 1.0 + self.spread, "busy_cores": 0.0, "busy_same_cores": 0.0, "waited": 0.0001},
            **{"mhz": 2599.998, "threads": 1, "cores": "1", "overhead_ms": OVERHEAD_MS},
            "overhead_bound": value < 3 * OVERHEAD_MS,
            **({"why_unstable": "pace"} if self.unstable else {}),
            **detail,
        }
        low, high = value * (1 - self.spread / 2), value * (1 + self.spread / 2)
        where = {"target": TARGET, "environment_id": self.environment_id}
        return Quantity(name, value, "ms", how, low=low, high=high, detail=told, **where)

    def quantities(self) -> tuple[Quantity, ...]:
        """What was measured and counted of the artifact."""
        balanced = max(0.0, self.accuracy - 0.002)
        found = [
            self.share("accuracy", self.accuracy),
            self.share("balanced_accuracy", balanced),
            Quantity("macs", self.macs, "MAC", How.COUNTED),
            Quantity("flops", 2 * self.macs, "FLOP", How.COUNTED),
            Quantity("params", self.params, "1", How.COUNTED),
            Quantity("peak_activation_bytes", 4 * SIDE**2 * self.layers[0].width, "bytes", How.COUNTED),
            Quantity("size_bytes", self.size_bytes, "bytes", How.MEASURED),
            Quantity("compressed_size_bytes", int(self.size_bytes * 0.9), "bytes", How.MEASURED),
            self.timed("latency_ms", self.latency_ms),
        ]
        if self.ratio:
            found.append(Quantity("uncompressed_macs", int(self.raw_macs), "MAC", How.COUNTED))
            found.append(self.timed("uncompressed_latency_ms", self.raw_latency_ms))
        return tuple(found)

    def rung(self) -> Quantity:
        """The accuracy at the rung."""
        return self.share("rung_accuracy", self.at_rung, How.PROXY, target=f"epoch-{RUNG}")

    def untrained(self) -> tuple[Quantity, ...]:
        """What the untrained network showed."""
        return (
            self.timed("proxy_latency_ms", self.latency_ms * self.guess[1], How.PROXY),
            Quantity("proxy_size_bytes", self.size_bytes, "bytes", How.PROXY),
            Quantity("proxy_compressed_size_bytes", int(self.size_bytes * 0.92), "bytes", How.PROXY),
        )

    def predicted(self) -> tuple[Quantity, ...]:
        """What the surrogate foretold."""
        accuracy, latency = self.accuracy + self.guess[0], self.latency_ms * self.guess[1]
        return (
            Quantity("predicted_accuracy", accuracy, "1", How.PROXY, low=accuracy - 0.015, high=accuracy + 0.015),
            Quantity("predicted_latency_ms", latency, "ms", How.PROXY, TARGET, low=latency / 1.2, high=latency * 1.2),
        )

    def training(self, number: int, epochs: int, cached: bool = False) -> StageResult:
        """The stage that trains, with its curve."""
        seconds = 2 + 4e-7 * self.raw_macs
        curve = [
            {
                "loss": 2.0 / (epoch + 1.2) + self.spread,
                "train_accuracy": self.accuracy - 0.1 / (epoch + 1),
                "seconds": seconds / EPOCHS + self.spread,
            }
            for epoch in range(epochs)
        ]
        detail = {"curve": curve, "epochs": float(epochs)}
        spent = 0.002 if cached else seconds * epochs / EPOCHS
        return StageResult("train", digest(f"train {number}"), spent, cached, detail)

    def stages(self, number: int, cached: bool) -> tuple[StageResult, ...]:
        """All that was done for a measured trial."""

        def stage(name: str, seconds: float, **detail: Any) -> StageResult:
            return StageResult(name, digest(f"{name} {number}"), seconds + self.spread, False, detail)

        found = [self.training(number, EPOCHS, cached)]
        tuned = [{"loss": 0.55 + self.spread, "train_accuracy": self.accuracy, "seconds": 1.4}]
        if self.ratio:
            found.append(stage("prune", 0.1, **self._pruned(), judged_by_l1=[], left={}, curve=[]))
            found.append(stage("finetune", 1.4, curve=tuned))
        found.append(stage("export", 0.02, parity_max_difference=2.1e-07))
        if self.bits < 32:
            found.append(
                stage("quantise", 1.2, layers=[layer.name for layer in self.layers], left_float=[], curve=tuned)
            )
        measuring = [
            StageResult(name, "", seconds, False)
            for name, seconds in (("measure", 0.4), ("score", 0.3), ("count", 0.01))
        ]
        compared = [StageResult("compare", "", 0.5, False)] if self.ratio else []
        return (*found, *measuring, *compared)

    def _pruned(self) -> dict[str, Any]:
        """The pruner's history (which channels went) and the widths before and after."""
        widths, history = {}, []
        for layer in self.layers:
            gone = 0 if layer.name == "classifier" else int(layer.width * self.ratio / 8) * 8
            widths[layer.name] = [layer.width, layer.width - gone]
            if gone:
                history.append([layer.name, True, self._rng.sample(range(layer.width), gone)])
        return {"history": history, "widths": widths}

    @property
    def notes(self) -> tuple[str, ...]:
        found = []
        if self.ratio:
            channels = sum(layer.width for layer in self.layers)
            kept = int(channels * (1 - self.ratio))
            found.append(f"pruning kept {kept} of {channels} output channels, the classes among them")
        if self.bits < 32:
            count = len(self.layers)
            found.append(f"{count} of {count} layers run in int8 in ONNX Runtime ({count} QLinearConv)")
        return tuple(found)


def digest(text: str) -> str:
    """A digest as records hold them."""
    return hashlib.sha256(text.encode()).hexdigest()
