"""The stages that turn a design into an artifact, in their one legal order, each a pure function of its key.

    train → prune → fine-tune or distil → export → quantise → freeze

A stage's key is the digest of its name and code version, its parent's key, its own options, the data, the seed, the
numeric policy and the versions that matter. So two designs that differ only after pruning share everything before it,
whichever is evaluated first; and a stage that a design leaves out adds no key.
"""

from __future__ import annotations

import importlib.metadata
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import nn

from nas.artifact import Manifest, open_session, probabilities
from nas.compress import export, prune, quantise
from nas.data.dataset import Dataset
from nas.data.normalise import Normalisation, normalisation_of
from nas.design import IDENTITY, Design, sha256_of
from nas.errors import DivergedError, NasError, UnsupportedError, unknown_name
from nas.families import build
from nas.outcome import Realisation
from nas.recipe import Recipe
from nas.record import StageResult
from nas.store import Entry, Store
from nas.train import Distillation, Numerics, TrainingData, predict_logits, seeded, train

# Raised by one when a stage's code changes what it produces, so that old cache entries no longer count.
CODE_VERSIONS = {"train": 2, "teacher": 1, "finetune": 2, "export": 1, "quantise": 2}
CALIBRATION_IMAGES = 256
PARITY_IMAGES = 64
# Bits of (weights, activations) that there is a way to carry out.
BITS = ((32, 32), (8, 32), (8, 8))
# Largest difference of a class probability between network and exported file: float32 sums in another order.
PARITY_TOLERANCE = 1e-3

# Called while a stage works: (stage, share done from 0 to 1).
Progress = Callable[[str, float], None]


def _ignore(stage: str, share: float) -> None:
    """The progress callback of whoever does not watch."""


@dataclass(frozen=True)
class Teacher:
    """Whose trained float network a distilled design learns from; resolved when the trial is asked."""

    trial: int
    design: Design


@dataclass(frozen=True)
class Product:
    """What the pipeline made of a design.

    Args:
        network: The float network that the artifact was exported from, after pruning.
        artifact: The finished ONNX file.
        manifest: What it takes and gives.
        labels: For each compression choice that is not the identity: realised, simulated or unsupported.
        notes: What a reader should know, in words.
    """

    network: nn.Module
    artifact: bytes
    manifest: Manifest
    labels: Mapping[str, Realisation]
    notes: tuple[str, ...]


@dataclass
class Trace:
    """The stages of one evaluation, as they happen."""

    progress: Progress = _ignore
    stages: list[StageResult] = field(default_factory=list)


@dataclass(frozen=True)
class _Network:
    """A network with the key of the stage that it came from, and its layers' widths before and after pruning."""

    model: nn.Module
    key: str
    widths: Mapping[str, list[int]] = field(default_factory=dict)


class Pipeline:
    """Builds artifacts for one recipe on one data set, with a cache.

    Args:
        recipe: Budget, training options.
        dataset: What networks train on.
        store: The cache.
        numerics: On what and in which precision networks train.
        reduce_range: Whether int8 weights use 7 bits, for CPUs whose int8 products saturate.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset, store: Store, numerics: Numerics, reduce_range: bool) -> None:
        self.recipe = recipe
        self.dataset = dataset
        self.store = store
        self.numerics = numerics
        self.reduce_range = reduce_range
        self.input_shape = dataset.input.channels_first
        self.normalisation: Normalisation = normalisation_of(dataset.train.images, dataset.input)
        self.data = TrainingData.from_arrays(
            dataset.train.images,
            dataset.train.labels,
            len(dataset.class_names),
            dataset.input.layout,
            self.normalisation,
            numerics.device,
        )

    def run(self, design: Design, seed: int, teacher: Teacher | None, trace: Trace) -> Product:
        """Trains, compresses and exports a design.

        Raises:
            InfeasibleDesignError: No network can be built from the architecture.
            DivergedError: Training produced NaN or infinity.
            UnsupportedError: A step is not known here, or cannot be carried out on this network.
        """
        bits = _checked_bits(design)
        network = self._trained(design, seed, trace)
        labels: dict[str, Realisation] = {}
        notes: list[str] = []
        if design.step("pruning_ratio") or design.step("distillation"):
            network = self._finetuned(design, network, seed, teacher, trace)
        if design.step("pruning_ratio"):
            labels["pruning_ratio"], note = _pruning_label(network.widths)
            notes.append(note)
        if design.step("distillation"):
            labels["distillation"] = Realisation.REALISED
        body = self._exported(network, trace)
        quantised = body if bits == (32, 32) else self._quantised(body, bits, trace)
        artifact = export.attach_front_end(quantised.blob, self.dataset.input, self.normalisation)
        if bits != (32, 32):
            label, note = _bits_label(artifact, bits)
            labels |= {name: label for name in ("weight_bits", "activation_bits") if design.step(name) != 32}
            notes.append(note)
        manifest = Manifest(self.dataset.input, self.dataset.class_names, export.OPSET, export.EXPORTER)
        return Product(network.model, artifact, manifest, labels, tuple(notes))

    def train_key(self, design: Design, seed: int) -> str:
        """The key of a design's trained float network; designs of one architecture share it."""
        budget = self.recipe.budget
        options = {
            "architecture": design.architecture_digest,
            "training": self.recipe.training.model_dump(mode="json"),
            "epochs": budget.epochs,
        }
        return self._key("train", "", seed, options)

    def _key(self, stage: str, parent: str, seed: int, options: Mapping[str, Any]) -> str:
        return sha256_of(
            {
                "stage": stage,
                "code": CODE_VERSIONS[stage],
                "parent": parent,
                "options": options,
                "data": self.dataset.digest,
                "seed": seed,
                "numerics": self.numerics.to_json(),
            }
        )

    def _cached(self, stage: str, key: str, trace: Trace, compute: Callable[[], tuple[bytes, dict[str, Any]]]) -> Entry:
        """The stage's result from the cache, or computed and stored; noted in the trace either way."""
        started, before = time.perf_counter(), len(trace.stages)
        trace.progress(stage, 0.0)
        entry = self.store.get(key)
        cached = entry is not None
        if entry is None:
            blob, detail = compute()
            entry = self.store.put(key, blob, detail)
        inner = sum(result.seconds for result in trace.stages[before:])  # of stages run for this one, noted themselves
        trace.stages.append(StageResult(stage, key, time.perf_counter() - started - inner, cached, entry.detail))
        return entry

    def _trained(self, design: Design, seed: int, trace: Trace) -> _Network:
        key = self.train_key(design, seed)
        budget, config = self.recipe.budget, self.recipe.training
        with seeded(seed, self.numerics.threads) as generator:
            model = build(design.family, design.architecture, self.input_shape, len(self.dataset.class_names))

            def compute() -> tuple[bytes, dict[str, Any]]:
                curve = train(
                    model, self.data, config, self.numerics, budget.epochs, config.learning_rate, generator,
                    on_epoch=lambda done, of: trace.progress("train", done / of),
                )  # fmt: skip
                return _save(model), {"curve": curve}

            entry = self._cached("train", key, trace, compute)
        return _Network(_load(model, entry.blob), key)

    def _finetuned(
        self, design: Design, parent: _Network, seed: int, teacher: Teacher | None, trace: Trace
    ) -> _Network:
        """Prunes where asked, then trains on, with the teacher's help where asked."""
        ratio, config = float(design.step("pruning_ratio")), self.recipe.training
        epochs = self.recipe.budget.finetune_epochs
        options: dict[str, Any] = {
            "pruning_ratio": ratio,
            "training": config.model_dump(mode="json"),
            "epochs": epochs,
            "torch-pruning": importlib.metadata.version("torch-pruning") if ratio else None,
        }
        if design.step("distillation"):
            if teacher is None:
                raise NasError("a distilled design needs a teacher, but none was resolved")
            options["teacher"] = self.train_key(teacher.design, seed)
        key = self._key("finetune", parent.key, seed, options)

        def compute() -> tuple[bytes, dict[str, Any]]:
            detail: dict[str, Any] = {}
            model = parent.model
            if ratio:
                pruned = prune.prune(model, ratio, self.input_shape)
                model, detail = pruned.model, {"history": pruned.history, "widths": pruned.widths}
            distillation = None
            if teacher is not None and design.step("distillation"):
                logits = self._teacher_logits(teacher, seed, trace)
                distillation = Distillation(logits, config.distillation_temperature, config.distillation_weight)
            with seeded(seed, self.numerics.threads) as generator:
                detail["curve"] = train(
                    model, self.data, config, self.numerics, epochs, config.finetune_learning_rate, generator,
                    distillation, lambda done, of: trace.progress("finetune", done / of),
                )  # fmt: skip
            return _save(model), detail

        entry = self._cached("finetune", key, trace, compute)
        model = parent.model
        if ratio:
            model = prune.replay(model, entry.detail["history"], self.input_shape)
        return _Network(_load(model, entry.blob), key, entry.detail.get("widths", {}))

    def _teacher_logits(self, teacher: Teacher, seed: int, trace: Trace) -> torch.Tensor:
        """The teacher's logits of every training image, computed once per teacher and data set."""

        def compute() -> tuple[bytes, dict[str, Any]]:
            network = self._trained(teacher.design, seed, Trace(trace.progress))
            network.model.to(self.numerics.device)
            with seeded(seed, self.numerics.threads):
                logits = predict_logits(network.model, self.data)
            buffer = io.BytesIO()
            np.save(buffer, logits.cpu().numpy(), allow_pickle=False)
            return buffer.getvalue(), {"trial": teacher.trial}

        key = self._key("teacher", self.train_key(teacher.design, seed), seed, {})
        entry = self._cached("teacher", key, trace, compute)
        return torch.from_numpy(np.load(io.BytesIO(entry.blob), allow_pickle=False)).to(self.numerics.device)

    def _exported(self, network: _Network, trace: Trace) -> Entry:
        """The body, checked against the network that it was exported from."""

        def compute() -> tuple[bytes, dict[str, Any]]:
            body = export.export_body(network.model, self.input_shape)
            return body, {"parity_max_difference": self._parity(network.model, body)}

        options = {"exporter": export.EXPORTER, "opset": export.OPSET}
        return self._cached("export", self._key("export", network.key, 0, options), trace, compute)

    def _parity(self, model: nn.Module, body: bytes) -> float:
        images = self.data.normalise(self.data.images[:PARITY_IMAGES]).cpu()
        with torch.no_grad():
            expected = torch.softmax(model.cpu().eval()(images), 1).numpy()
        difference = float(np.abs(probabilities(open_session(body), images.contiguous().numpy()) - expected).max())
        if not np.isfinite(expected).all():  # the weights may be finite all the same, and overflow
            raise DivergedError("the trained network's outputs are NaN or infinite", "lower training.learning_rate")
        if not difference <= PARITY_TOLERANCE:  # NaN in the file alone is a difference too
            raise NasError(
                f"the exported file differs from the network by {difference:.2g} in a class probability, "
                f"more than {PARITY_TOLERANCE:g}"
            )
        return difference

    def _quantised(self, body: Entry, bits: tuple[int, int], trace: Trace) -> Entry:
        options = {
            "bits": list(bits),
            "images": CALIBRATION_IMAGES,
            "reduce_range": self.reduce_range,
            "onnxruntime": importlib.metadata.version("onnxruntime"),
        }

        def compute() -> tuple[bytes, dict[str, Any]]:
            if bits == (8, 32):
                return quantise.quantise_weights(body.blob), {}
            images = self.data.normalise(self.data.images[:CALIBRATION_IMAGES]).cpu().contiguous().numpy()
            is_pixels = self.dataset.input.dtype == "uint8"
            pixels = export.input_quantisation(self.normalisation) if is_pixels else None
            return quantise.quantise_body(body.blob, images, pixels, self.reduce_range), {}

        return self._cached("quantise", self._key("quantise", body.sha256, 0, options), trace, compute)


def _checked_bits(design: Design) -> tuple[int, int]:
    """A design's bits of weights and activations, after making sure that no step of it would be left out silently."""
    for name in design.compression:
        if name not in IDENTITY:
            raise UnsupportedError(unknown_name("compression choice", name, IDENTITY))
    if design.step("weight_sharing") != IDENTITY["weight_sharing"]:
        raise UnsupportedError(f"weight sharing '{design.step('weight_sharing')}' is not supported yet")
    bits = (int(design.step("weight_bits")), int(design.step("activation_bits")))
    if bits not in BITS:
        known = ", ".join(f"{weights} and {activations}" for weights, activations in BITS)
        raise UnsupportedError(f"weights of {bits[0]} and activations of {bits[1]} bits are not supported", known)
    return bits


def _pruning_label(widths: Mapping[str, list[int]]) -> tuple[Realisation, str]:
    """Unsupported where every layer was too narrow to lose a channel; and how many channels remain, in words."""
    before, after = (sum(pair[position] for pair in widths.values()) for position in (0, 1))
    label = Realisation.REALISED if after < before else Realisation.UNSUPPORTED
    return label, f"pruning kept {after} of {before} output channels, the classes among them"


def _bits_label(artifact: bytes, bits: tuple[int, int]) -> tuple[Realisation, str]:
    if bits == (8, 32):
        return Realisation.SIMULATED, "weights are stored in 8 bits, which saves size; the arithmetic is float32"
    label, operators = quantise.runs_in_int8(artifact)
    ran = ", ".join(f"{count} {name}" for name, count in operators.items())
    return label, f"operators that ONNX Runtime runs: {ran}"


def _save(model: nn.Module) -> bytes:
    return safetensors.torch.save({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()})


def _load(model: nn.Module, blob: bytes) -> nn.Module:
    """The network with the stored weights, on the CPU, for evaluation.

    Always channels last: the memory layout decides the order of a convolution's sums, so a network from the cache must
    have that of one just trained, or a student of it would depend on what was cached.
    """
    model.cpu().load_state_dict(safetensors.torch.load(blob))
    return model.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]
