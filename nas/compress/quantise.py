"""Quantisation: fewer bits for weights and activations, for the network or for single stages, all in the ONNX file.

Weights of 8 and 4 bits are integers with one scale for each output channel (``bits.grid``), with activations of
8 or 16 bits whose range calibration on training data shows (``bits.qdq``); 16 bits of both are float16
(``bits.half``). Where the design asks for it the network is trained on, on the very grid that the file stores.
What the file holds is a request: what the runtime makes of it is read off its optimised graph.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx

from nas.artifact import open_session
from nas.compress.bits.aware import train_quantised
from nas.compress.bits.body import Bits, name_nodes, prepare, weighted
from nas.compress.bits.half import compute_in_half, halve_weights
from nas.compress.bits.inspect_graph import FLOAT16, FLOAT32, INT8, LayerRun, inspect
from nas.compress.bits.pack import pack
from nas.compress.bits.qdq import Calibration, quantise_layers, quantise_weights
from nas.compress.refusal import refused
from nas.compress.stages import check_stages, path_of_node, stage_of
from nas.compress.technique import CALIBRATION_IMAGES, Account, GraphTechnique, Tools
from nas.compression import IDENTITY
from nas.design import Design
from nas.errors import ArtifactError, UnsupportedError
from nas.outcome import Realisation

FLOAT = Bits(32, 32)
# Loads the model that comes in, in a process of its own.
LOAD = """
import sys, onnxruntime
onnxruntime.InferenceSession(sys.stdin.buffer.read(), providers=["CPUExecutionProvider"])
"""


@dataclass(frozen=True)
class StageBits:
    """What a single stage has for itself; None where it follows the network."""

    stage: str
    weight_bits: int | None
    activation_bits: int | None


@dataclass(frozen=True)
class QuantiseConfig:
    """Bits of weights and activations, and how they are come by.

    Args:
        weight_bits: Of the network.
        activation_bits: Of the network.
        stages: Stages with bits of their own.
        calibration: How the range of activations is chosen; ``minmax`` where none are calibrated.
        aware: Whether the network is trained on with its quantisation.
    """

    weight_bits: int
    activation_bits: int
    stages: tuple[StageBits, ...] = ()
    calibration: str = "minmax"
    aware: bool = False

    def bits(self, stage: str | None) -> Bits:
        """Those of a stage, or for None of the layers that are in no stage with bits of its own."""
        own = next((own for own in self.stages if own.stage == stage), StageBits("", None, None))
        return Bits(own.weight_bits or self.weight_bits, own.activation_bits or self.activation_bits)

    @property
    def stage_names(self) -> tuple[str, ...]:
        return tuple(own.stage for own in self.stages)

    @property
    def everywhere(self) -> tuple[Bits, ...]:
        """Those of the network and of each stage."""
        return tuple(self.bits(stage) for stage in (None, *self.stage_names))

    def of_nodes(self, body: bytes) -> dict[str, Bits]:
        """The bits of each node of a body, by its name."""
        names = [node.name for node in onnx.load_from_string(body).graph.node]
        return {name: self.bits(stage_of(path_of_node(name), self.stage_names)) for name in names}


class Quantise(GraphTechnique[QuantiseConfig]):
    """Fewer bits for weights and activations."""

    name = "quantise"
    choices = ("weight_bits", "activation_bits", "calibration", "quantisation_aware")
    version = 3
    packages = ("onnx", "onnxruntime")

    def config(self, design: Design) -> QuantiseConfig | None:
        stages = tuple(
            StageBits(stage, _own(design, f"{stage}.weight_bits"), _own(design, f"{stage}.activation_bits"))
            for stage in design.stages
            if {f"{stage}.weight_bits", f"{stage}.activation_bits"} & design.compression.keys()
        )
        weight_bits, activation_bits = int(design.step("weight_bits")), int(design.step("activation_bits"))
        config = QuantiseConfig(weight_bits, activation_bits, stages)
        if set(config.everywhere) == {FLOAT}:
            return None
        calibrates = any(bits.in_integers for bits in config.everywhere)
        calibration = str(design.step("calibration") if calibrates else IDENTITY["calibration"])
        aware = bool(design.step("quantisation_aware"))
        if aware and not any(bits.weights in (8, 4) for bits in config.everywhere):
            raise UnsupportedError(
                "quantisation_aware trains on a grid of 8 or 4 bits, but all weights have 16 or 32",
                "give quantisation_aware when: {weight_bits: [8, 4]}",
            )
        return QuantiseConfig(weight_bits, activation_bits, stages, calibration, aware)

    def trains(self, config: QuantiseConfig) -> bool:
        return config.aware

    def untrained(self, config: QuantiseConfig) -> QuantiseConfig:
        """As calibration alone gives it."""
        return replace(config, aware=False)

    def looked_at(self, tools: Tools) -> Mapping[str, Any]:
        return {"images": CALIBRATION_IMAGES, "reduce_range": tools.reduce_range}

    def apply(self, body: bytes, config: QuantiseConfig, tools: Tools) -> tuple[bytes, dict[str, Any]]:
        return quantise(body, config, tools)

    def account(self, config: QuantiseConfig, detail: Mapping[str, Any], artifact: bytes) -> Account:
        try:
            layers = _by_stage(inspect(artifact).layers, config)
        except ArtifactError as error:
            return Account(dict.fromkeys(_keys(config), Realisation.UNSUPPORTED), (error.message,))
        labels = {key: _label(key, config, layers) for key in _keys(config)}
        if config.aware:
            labels["quantisation_aware"] = Realisation.REALISED
        if config.calibration != IDENTITY["calibration"]:
            labels["calibration"] = Realisation.REALISED
        return Account(labels, tuple(_notes(config, layers)))


def quantise(
    body: bytes, config: QuantiseConfig, tools: Tools, symmetric: bool = False
) -> tuple[bytes, dict[str, Any]]:
    """Gives a float body the bits of a config, and trains it on its grid where the config says so.

    Args:
        body: From ``nas.compress.export``.
        config: The bits.
        tools: Images for calibration, data and options for training.
        symmetric: Whether activations are int8 around 0, see ``nas.compress.bits.qdq``.

    Returns:
        The body in the canonical form of ``nas.compress.bits.qdq``, and what is worth knowing of it, as JSON.

    Raises:
        UnsupportedError: It cannot be done to this network; the message names the layer and the remedy.
    """
    in_integers = any(bits.in_integers for bits in config.everywhere)
    body = prepare(body) if in_integers else name_nodes(body)
    bits = config.of_nodes(body)
    check_stages(config.stage_names, [path_of_node(name) for name in weighted(onnx.load_from_string(body).graph)])
    quantised = quantise_weights(body, bits, tools.reduce_range)
    if in_integers:
        calibration = Calibration(tools.calibration, config.calibration, tools.pixels, symmetric)
        quantised = quantise_layers(quantised, bits, calibration, tools.reduce_range)
    detail: dict[str, Any] = {}
    if config.aware:
        quantised, detail["curve"] = train_quantised(body, quantised, tools, tools.epochs)
    quantised = halve_weights(quantised, [name for name in bits if bits[name] == (16, 32)])
    quantised = compute_in_half(quantised, [name for name in bits if bits[name] == (16, 16)])
    _check_loads(quantised, in_half=(16, 16) in config.everywhere)
    return quantised, detail


def _own(design: Design, name: str) -> int | None:
    return int(design.compression[name]) if name in design.compression else None


def _check_loads(body: bytes, in_half: bool) -> None:
    """Makes sure that ONNX Runtime takes a body in the form in which it is stored.

    Of some graphs in float16 its optimiser dies (1.32; products of transposed and scaled matrices, as attention has
    them), and takes the process with it, so such a body is first loaded in another one.

    Raises:
        UnsupportedError: It does not; the message names the layer.
    """
    stored = pack(body)
    if in_half and subprocess.run([sys.executable, "-c", LOAD], input=stored, capture_output=True).returncode < 0:
        raise UnsupportedError(
            "ONNX Runtime crashes when it loads the network in float16",
            "set activation_bits to 32: the weights are stored as float16 all the same",
        )
    try:
        open_session(stored)
    except ArtifactError as error:
        graph = onnx.load_from_string(stored).graph
        raise refused("ONNX Runtime cannot run the network in these bits", error, graph) from error


Group = tuple[str | None, Sequence[LayerRun]]


def _by_stage(layers: Sequence[LayerRun], config: QuantiseConfig) -> list[Group]:
    """The layers of the network, of each stage with bits of its own those that lie in it."""
    stages = [stage_of(path_of_node(layer.name), config.stage_names) for layer in layers]
    return [
        (stage, [layer for layer, own in zip(layers, stages, strict=True) if own == stage])
        for stage in (None, *config.stage_names)
    ]


def _keys(config: QuantiseConfig) -> list[str]:
    """The choices that ask for something, by the names under which they get a label."""
    asked = {"weight_bits": config.weight_bits, "activation_bits": config.activation_bits}
    keys = [choice for choice, bits in asked.items() if bits != 32]
    for own in config.stages:
        for choice, bits in (("weight_bits", own.weight_bits), ("activation_bits", own.activation_bits)):
            # 32 bits too are asked for where the network has fewer.
            if bits is not None and not bits == asked[choice] == 32:
                keys.append(f"{own.stage}.{choice}")
    return keys


def _label(key: str, config: QuantiseConfig, groups: Sequence[Group]) -> Realisation:
    """Whether every layer that a choice is for runs as it says; the network's own is for what stages leave to it."""
    stage, _, choice = key.rpartition(".")
    others = {own.stage for own in config.stages if getattr(own, choice) is not None}
    concerned = [(own, layers) for own, layers in groups if (own == stage if stage else own not in others)]
    runs = [_runs_as_asked(choice, config.bits(own), layer.precision) for own, layers in concerned for layer in layers]
    if not runs:
        return Realisation.UNSUPPORTED
    return Realisation.REALISED if all(runs) else Realisation.SIMULATED


def _runs_as_asked(choice: str, bits: Bits, precision: str) -> bool:
    """Whether a layer's precision is that of its weight_bits or activation_bits.

    There are no kernels for weights of 4 bits nor for integer activations of 16: these are imitated by others.
    """
    asked = bits.weights if choice == "weight_bits" else bits.activations
    if asked == 16:
        return precision == FLOAT16 and not bits.in_integers
    return precision == {32: FLOAT32, 8: INT8}.get(asked)


def _notes(config: QuantiseConfig, groups: Sequence[Group]) -> Iterator[str]:
    """What really runs, a line for the network and for each stage with bits of its own."""
    for stage, layers in groups:
        words = _words(config.bits(stage), layers) if layers else "no layer is concerned"
        if words and (layers or stage):
            yield f"{stage}: {words}" if stage else words


def _words(bits: Bits, layers: Sequence[LayerRun]) -> str:
    kernels = Counter(layer.kernel for layer in layers if layer.precision == INT8)
    how_many = f"{kernels.total()} of {len(layers)} layers run in int8"
    which = ", ".join(f"{count} {name}" for name, count in sorted(kernels.items()))
    stored = f"weights are stored in {bits.weights} bits, which saves size"
    arithmetic = how_many if kernels else "the arithmetic is float32"
    if bits == FLOAT:
        return f"asked to run in float32, but {how_many}" if kernels else ""
    if bits == (16, 16):
        halves = sum(layer.precision == FLOAT16 for layer in layers)
        return f"{halves} of {len(layers)} layers run in float16" if halves else f"{stored}; {arithmetic}"
    if bits.activations == 16:
        return f"{stored}; activations are rounded to 16 bits, {arithmetic}"
    if bits.activations == 8:
        ran = f"{how_many} in ONNX Runtime" + (f" ({which})" if which else "")
        return f"{ran}; {stored}" if bits.weights == 4 else ran
    return f"{stored}; {arithmetic}"
