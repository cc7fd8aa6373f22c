"""The stages that turn a design into an artifact, in their one legal order, each a pure function of its key.

    train → prune → sparsify → fine-tune or distil → export → share or quantise → freeze

A person's own network that comes with its weights is loaded, not trained.

What each technique does lies in ``nas.compress``, in the order of ``nas.compress.registry``; here is how one follows
another. How a stage is cached under its key is the matter of ``nas.stages``.
"""

from __future__ import annotations

import copy
import functools
import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from nas.artifact import Manifest, open_session, probabilities
from nas.compress import export, forms
from nas.compress.program import export_program, unrealised
from nas.compress.quantise import Quantise
from nas.compress.registry import GRAPH_TECHNIQUES, NETWORK_TECHNIQUES
from nas.compress.technique import GraphTechnique, NetworkTechnique, Technique, Tools
from nas.compression import CHOICES, conflict, is_known
from nas.data.dataset import Dataset, Split
from nas.data.normalise import Normalisation, given_normalisation, normalisation_of
from nas.design import Design
from nas.errors import DivergedError, NasError, UnsupportedError, unknown_name
from nas.families import OwnNetwork, load_own
from nas.families.layout import laid_out
from nas.networks import FloatNetworks, Inherits, KeyedNetwork, load_network, save_network
from nas.outcome import Realisation
from nas.own_module import OwnModule
from nas.packages import version_of
from nas.recipe import Recipe
from nas.sketch import Sketch, cut, sketch, sketch_in_form, with_own_values
from nas.stages import CODE_VERSIONS, Stages, Trace
from nas.store import Entry, Store
from nas.target import ONNX, SYMMETRIC, TORCH_PROGRAM
from nas.teacher.given import GivenTeacher
from nas.train import Distillation, Numerics, TrainingData, predict_logits, seeded

PARITY_IMAGES = 64
# Largest difference of a class probability between network and exported file: float32 sums in another order.
PARITY_TOLERANCE = 1e-3
OVERFLOWS = ("the trained network's outputs are NaN or infinite", "lower training.learning_rate")


@dataclass(frozen=True)
class Teacher:
    """Whose trained float network a distilled design learns from, and what that one's own training inherited; resolved
    when the trial is asked."""

    trial: int
    design: Design
    inherits: Inherits | None = None


# The network that a distilled design learns from: one of the study's own, or the one that the recipe names.
AnyTeacher = Teacher | GivenTeacher


@dataclass(frozen=True)
class Uncompressed:
    """The float network that a design was made from, as trained, and its file: the yardstick of what was gained."""

    network: nn.Module
    artifact: bytes


@dataclass(frozen=True)
class Product:
    """What the pipeline made of a design.

    Args:
        network: The float network that the artifact was exported from, after pruning.
        artifact: The finished ONNX file.
        float_body: The exported network before its weights and activations got fewer bits, for other forms of it.
        manifest: What the artifact takes and gives.
        labels: For each compression choice that is not the identity: realised, simulated or unsupported.
        notes: What a reader should know, in words.
    """

    network: nn.Module
    artifact: bytes
    float_body: Entry
    manifest: Manifest
    labels: Mapping[str, Realisation]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Formed:
    """A design's artifact in another form than ONNX as it is.

    Args:
        content: The file.
        unrealised: Compression choices that have no effect in this form.
        notes: What a reader should know, in words.
    """

    content: bytes
    unrealised: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Pipeline:
    """Builds artifacts for one recipe on one data set, with a cache.

    Args:
        recipe: Budget, training options.
        dataset: What networks train on.
        store: The cache.
        numerics: On what and in which precision networks train.
        reduce_range: Whether int8 weights use 7 bits, for CPUs whose int8 products saturate.
        own: The network of designs of family ``module``, see ``own_network``.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        store: Store,
        numerics: Numerics,
        reduce_range: bool,
        own: OwnNetwork | None = None,
    ) -> None:
        self.recipe = recipe
        self.dataset = dataset
        self.store = store
        self.stages = Stages(store, dataset.digest, numerics)
        self.numerics = numerics
        self.reduce_range = reduce_range
        self.own = own
        self.input_shape = dataset.input.channels_first
        self.normalisation = normalisation_for(own, dataset)
        self.data = self._on_device(dataset.train)
        self.networks = FloatNetworks(recipe, self.data, self.input_shape, self.stages, numerics, own)

    @property
    def trains_from_scratch(self) -> bool:
        """Whether networks are trained here; False for a person's own that comes with its weights."""
        return self.networks.loaded is None

    def run(
        self, design: Design, seed: int, teacher: AnyTeacher | None, trace: Trace, inherits: Inherits | None = None
    ) -> Product:
        """Trains, compresses and exports a design.

        Raises:
            InfeasibleDesignError: No network can be built from the architecture.
            DivergedError: Training produced NaN or infinity.
            UnsupportedError: A step is not known here, or cannot be carried out on this network.
        """
        _check(design)
        network = self.networks.trained(design, seed, trace, inherits)
        tools = self._tools(design, seed, teacher, trace)
        teacher_key = self._teacher_key(design, seed, teacher)
        labels: dict[str, Realisation] = {}
        notes: list[str] = []
        for technique in NETWORK_TECHNIQUES:
            if (config := technique.config(design)) is not None:
                network, detail = self._on_network(technique, config, network, tools, teacher_key, trace)
                account = technique.account(config, detail)
                labels, notes = {**labels, **account.labels}, [*notes, *account.notes]
        body = float_body = self._exported(network, trace)
        applied: list[tuple[GraphTechnique[Any], Any, Mapping[str, Any]]] = []
        for on_graph in GRAPH_TECHNIQUES:
            if (config := on_graph.config(design)) is not None:
                body = self._on_graph(on_graph, config, body, tools, teacher_key, trace)
                applied.append((on_graph, config, body.detail))
                if on_graph.name != Quantise.name:
                    float_body = body
        artifact = self._finished(body)
        for on_graph, config, detail in applied:
            account = on_graph.account(config, detail, artifact)
            labels, notes = {**labels, **account.labels}, [*notes, *account.notes]
        opset = export.opset_of(artifact)
        manifest = Manifest(self.dataset.input, self.dataset.class_names, opset, export.EXPORTER)
        return Product(network.model, artifact, float_body, manifest, labels, tuple(notes))

    def rung(
        self, design: Design, seed: int, epochs: float, trace: Trace, inherits: Inherits | None = None
    ) -> nn.Module:
        """The float network after a training of so many epochs, on the CPU; a longer one goes on from its trunk.

        Raises:
            UnsupportedError: The network comes with its weights, so that there is nothing to train.
        """
        most = self.recipe.budget.epochs
        if not 0 < epochs <= most:
            raise NasError(
                f"a rung must have more than 0 and up to {most} epochs, the whole budget, but got {epochs:g}"
            )
        _check(design)
        return self.networks.trained(design, seed, trace, inherits, epochs).model

    def logits(self, network: nn.Module, split: Split) -> np.ndarray:
        """What a float network says of images (N×classes), by torch in the precision that it trains in.

        Raises:
            DivergedError: Some of it is NaN or infinite.
        """
        logits = self._logits(network, self._on_device(split), 0, self.numerics.precision)
        if not np.isfinite(logits).all():
            raise DivergedError(*OVERFLOWS)
        return logits

    def uncompressed(self, design: Design, seed: int, trace: Trace, inherits: Inherits | None = None) -> Uncompressed:
        """The network that a design's compression starts from, and the file that it would be without."""
        trained = self.networks.trained(design, seed, trace, inherits)
        return Uncompressed(trained.model, self._finished(self._exported(trained, trace)))

    def in_form(
        self, form: str, product: Product, design: Design, seed: int, teacher: AnyTeacher | None, trace: Trace
    ) -> Formed:
        """A design's artifact in the form that some targets want instead of ONNX as it is (see ``nas.target``).

        Raises:
            UnsupportedError: The network cannot be brought into it.
        """
        if form == TORCH_PROGRAM:
            left_out = unrealised(design)
            notes = (f"as a torch program without effect: {', '.join(left_out)}",) if left_out else ()
            return Formed(export_program(product.network, self.dataset.input, self.normalisation), left_out, notes)
        if form != SYMMETRIC:
            raise UnsupportedError(unknown_name("form of a model", form, (ONNX, SYMMETRIC, TORCH_PROGRAM)))
        tools = self._tools(design, seed, teacher, trace)
        config = forms.symmetric_config(design)
        options: dict[str, Any] = {"config": None}
        if config is not None:
            options = self._options(Quantise(), config, tools, self._teacher_key(design, seed, teacher))

        def compute() -> tuple[bytes, dict[str, Any]]:
            made = forms.symmetric(product.float_body.blob, design, tools, self.dataset.input)
            return made.artifact, {"notes": list(made.notes), **made.detail}

        key = self.stages.key("symmetric", product.float_body.sha256, seed, options)
        trains = config is not None and Quantise().trains(config)
        entry = self.stages.cached("symmetric", key, trace, compute, brief=not trains)
        return Formed(entry.blob, notes=tuple(entry.detail["notes"]))

    def uncompressed_in_form(self, form: str, whole: Uncompressed) -> bytes:
        """The yardstick's file in the form that a target wants."""
        if form == TORCH_PROGRAM:
            return export_program(whole.network, self.dataset.input, self.normalisation)
        return whole.artifact  # in float there is nothing to be symmetric

    def without_training(
        self, design: Design, seed: int, trace: Trace, inherits: Inherits | None = None
    ) -> tuple[nn.Module, bytes]:
        """What a design's compression makes of its trained network where every step that trains is left out.

        Nothing of it is cached but the trained network and its export.

        Returns:
            The network after pruning, and the finished ONNX file.

        Raises:
            UnsupportedError: A step cannot be carried out on this network.
        """
        _check(design)
        trained = self.networks.trained(design, seed, trace, inherits)
        tools = self._tools(design, seed, None, trace)
        network = cut(trained.model, design, tools)
        unchanged = network is trained.model
        body = self._exported(trained, trace).blob if unchanged else export.export_body(network, self.input_shape)
        for on_graph in GRAPH_TECHNIQUES:
            config = on_graph.config(design)
            if config is not None and (config := on_graph.untrained(config)) is not None:
                body, _ = on_graph.apply(body, config, tools)
        return network, export.attach_front_end(body, self.dataset.input, self.normalisation)

    def sketch(self, design: Design, seed: int) -> Sketch:
        """The design's artifact before any training, see ``nas.sketch``; nothing of it is cached.

        Raises:
            InfeasibleDesignError: No network can be built from the architecture.
            UnsupportedError: A step cannot be carried out on this network.
        """
        _check(design)
        network = self.networks.untrained(design, seed)
        if self.trains_from_scratch:
            network = with_own_values(network)
        return sketch(network, design, self._untaught(design, seed), self.dataset.input)

    def sketch_in_form(self, form: str, made: Sketch, design: Design, seed: int) -> bytes:
        """A sketch in the form that some targets want, see ``in_form``."""
        return sketch_in_form(form, made, design, self._untaught(design, seed), self.dataset.input)

    def _untaught(self, design: Design, seed: int) -> Tools:
        """What techniques work with where nothing is trained, so that nobody is needed to teach."""
        return self._tools(Design(design.family, design.architecture, {}), seed, None, Trace())

    def train_key(self, design: Design, seed: int, inherits: Inherits | None = None) -> str:
        """The key of a design's trained float network; designs of one architecture share it."""
        return self.networks.key(design, seed, inherits)

    def _tools(self, design: Design, seed: int, teacher: AnyTeacher | None, trace: Trace) -> Tools:
        """What techniques work with for one design."""
        teach: Callable[[], Distillation] | None = None
        if design.step("distillation"):
            if teacher is None:
                raise NasError("a distilled design needs a teacher, but none was resolved")
            temperature, weight = self._distillation(design)
            teach = functools.cache(
                lambda: Distillation(self._teacher_logits(teacher, seed, trace), temperature, weight)
            )
        is_bytes = self.dataset.input.dtype == "uint8" and self.normalisation.is_one_dequantisation
        return Tools(
            data=self.data,
            input_shape=self.input_shape,
            training=self.recipe.training,
            epochs=self.recipe.budget.finetune_epochs,
            numerics=self.numerics,
            seed=seed,
            pixels=export.input_quantisation(self.normalisation) if is_bytes else None,
            reduce_range=self.reduce_range,
            teach=teach,
        )

    def _distillation(self, design: Design) -> tuple[float, float]:
        """Temperature and weight: the design's choices, or the recipe's where it makes none."""
        training = self.recipe.training
        temperature = design.compression.get("distillation_temperature", training.distillation_temperature)
        weight = design.compression.get("distillation_weight", training.distillation_weight)
        return float(temperature), float(weight)

    def _teacher_key(self, design: Design, seed: int, teacher: AnyTeacher | None) -> list[Any] | None:
        """What a distilled design's training depends on beside its own options."""
        if not design.step("distillation") or teacher is None:
            return None
        return [self._network_key(teacher, seed), *self._distillation(design)]

    def _network_key(self, teacher: AnyTeacher, seed: int) -> str:
        """What stands for the teacher's network in keys; where a given one's file lies has no part in it."""
        if isinstance(teacher, GivenTeacher):
            return teacher.digest
        return self.train_key(teacher.design, seed, teacher.inherits)

    def _options(
        self, technique: Technique[Any], config: Any, tools: Tools, teacher_key: list[Any] | None
    ) -> dict[str, Any]:
        """All that a technique's result depends on beside what it is applied to, the data and the numeric policy."""
        options: dict[str, Any] = {
            "config": asdict(config),
            "looked_at": dict(technique.looked_at(tools)),
            "packages": {name: version_of(name) for name in technique.packages},
        }
        if technique.trains(config):
            training = self.recipe.training.model_dump(mode="json")
            options |= {"training": training, "epochs": tools.epochs, "teacher": teacher_key}
            options["train"] = CODE_VERSIONS["train"]
        return options

    def _on_network(
        self,
        technique: NetworkTechnique[Any],
        config: Any,
        parent: KeyedNetwork,
        tools: Tools,
        teacher_key: list[Any] | None,
        trace: Trace,
    ) -> tuple[KeyedNetwork, Mapping[str, Any]]:
        tools = replace(tools, progress=lambda share: trace.progress(technique.name, share))
        key = self.stages.key(
            technique.name, parent.key, tools.seed, self._options(technique, config, tools, teacher_key)
        )

        def compute() -> tuple[bytes, dict[str, Any]]:
            model, detail = technique.apply(parent.model, config, tools)
            return save_network(model), detail

        entry = self.stages.cached(technique.name, key, trace, compute, brief=not technique.trains(config))
        # The structure from the detail and the weights from the blob, also where both were just made: so that a
        # network from the cache cannot differ.
        model = technique.restore(copy.deepcopy(parent.model), entry.detail, tools)
        return KeyedNetwork(load_network(model, entry.blob), key), entry.detail

    def _on_graph(
        self,
        technique: GraphTechnique[Any],
        config: Any,
        body: Entry,
        tools: Tools,
        teacher_key: list[Any] | None,
        trace: Trace,
    ) -> Entry:
        tools = replace(tools, progress=lambda share: trace.progress(technique.name, share))
        seed = tools.seed if technique.trains(config) else 0
        options = self._options(technique, config, tools, teacher_key)
        key = self.stages.key(technique.name, body.sha256, seed, options)
        brief = not technique.trains(config)
        return self.stages.cached(technique.name, key, trace, lambda: technique.apply(body.blob, config, tools), brief)

    def _finished(self, body: Entry) -> bytes:
        return export.attach_front_end(body.blob, self.dataset.input, self.normalisation)

    def _teacher_logits(self, teacher: AnyTeacher, seed: int, trace: Trace) -> torch.Tensor:
        """The teacher's logits of every training image, computed once per teacher and data set."""

        def compute() -> tuple[bytes, dict[str, Any]]:
            if isinstance(teacher, GivenTeacher):
                images = self.dataset.train.images
                logits = teacher.logits(images, self.numerics, lambda share: trace.progress("teacher", share))
                detail: dict[str, Any] = {"file": teacher.name}
            else:
                network = self.networks.trained(teacher.design, seed, Trace(trace.progress), teacher.inherits)
                logits = self._logits(network.model, self.data, seed, self.numerics.precision)
                detail = {"trial": teacher.trial}
            buffer = io.BytesIO()
            np.save(buffer, logits, allow_pickle=False)
            return buffer.getvalue(), detail

        # A network of the study's own is trained from the seed; a given one is what it is.
        seed_of_key = 0 if isinstance(teacher, GivenTeacher) else seed
        key = self.stages.key("teacher", self._network_key(teacher, seed), seed_of_key, {})
        entry = self.stages.cached("teacher", key, trace, compute)
        return torch.from_numpy(np.load(io.BytesIO(entry.blob), allow_pickle=False)).to(self.numerics.device)

    def _logits(self, network: nn.Module, data: TrainingData, seed: int, precision: str = "float32") -> np.ndarray:
        """Logits of images as they are; the seed is for networks that draw even in evaluation."""
        network.to(self.numerics.device)
        with seeded(seed, self.numerics.threads):
            logits: np.ndarray = predict_logits(network, data, precision).cpu().numpy()
        return logits

    def _on_device(self, split: Split) -> TrainingData:
        classes, layout = len(self.dataset.class_names), self.dataset.input.layout
        device = self.numerics.device
        return TrainingData.from_arrays(split.images, split.labels, classes, layout, self.normalisation, device)

    def _exported(self, network: KeyedNetwork, trace: Trace) -> Entry:
        """The body, checked against the network that it was exported from."""

        def compute() -> tuple[bytes, dict[str, Any]]:
            body = export.export_body(network.model, self.input_shape)
            return body, {"parity_max_difference": self._parity(network.model, body)}

        options = {"exporter": export.EXPORTER, "opset": export.OPSET}
        key = self.stages.key("export", network.key, 0, options)
        return self.stages.cached("export", key, trace, compute, brief=True)

    def _parity(self, model: nn.Module, body: bytes) -> float:
        images = self.data.normalise(self.data.images[:PARITY_IMAGES]).cpu()
        with torch.no_grad():
            expected = torch.softmax(model.cpu().eval()(laid_out(images, model)), 1).numpy()
        difference = float(np.abs(probabilities(open_session(body), images.contiguous().numpy()) - expected).max())
        if not np.isfinite(expected).all():  # the weights may be finite all the same, and overflow
            raise DivergedError(*OVERFLOWS)
        if not difference <= PARITY_TOLERANCE:  # NaN in the file alone is a difference too
            raise NasError(
                f"the exported file differs from the network by {difference:.2g} in a class probability, "
                f"more than {PARITY_TOLERANCE:g}"
            )
        return difference


def own_network(module: OwnModule | None, dataset: Dataset) -> OwnNetwork | None:
    """The network of a space's section ``module``, built once and checked against the data; None for other spaces.

    Raises:
        ModuleError: It cannot be built, or does not fit the data.
        DataError: Its normalisation is for another number of channels.
    """
    if module is None:
        return None
    _given_normalisation(module, dataset)
    return load_own(module, dataset.input.channels_first, len(dataset.class_names))


def normalisation_for(own: OwnNetwork | None, dataset: Dataset) -> Normalisation:
    """What a study's networks get their images normalised by: what came with a person's own, else as the data is."""
    given = _given_normalisation(own.module, dataset) if own is not None else None
    return given or normalisation_of(dataset.train.images, dataset.input)


def _given_normalisation(module: OwnModule, dataset: Dataset) -> Normalisation | None:
    if module.mean is None or module.std is None:
        return None
    return given_normalisation(module.mean, module.std, dataset.input)


def _check(design: Design) -> None:
    """Makes sure that no step of a design would be left out silently."""
    for name in design.compression:
        if not is_known(name):
            raise UnsupportedError(unknown_name("compression choice", name, CHOICES))
    if (found := conflict(design.compression)) is not None:
        raise UnsupportedError(*found)
