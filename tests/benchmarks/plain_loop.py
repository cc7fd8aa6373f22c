"""The loop that people write around Optuna, on one of this project's recipes: what a search is compared with.

    python tests/benchmarks/plain_loop.py studies/fashion-mnist.yaml --minutes 15 --log plain.jsonl
    python tests/benchmarks/plain_loop.py studies/fashion-mnist.yaml --minutes 15 --log fast.jsonl --training ours

Each trial: suggest a design, build it, train it from scratch, prune and fine-tune, quantise, export, score the exported
file with ONNX Runtime and time it. One design per training, nothing kept from trial to trial but the best network so
far, from which distilled designs learn. Accuracy and latency are the study's two objectives; the sampler is Optuna's
TPE unless another is named. Space, data, epochs, batch size, learning rates and augmentation are the recipe's.

``--training float32`` is written as one would write it: PyTorch in float32, AdamW under a one-cycle schedule, batches
cut from tensors in memory, torch-pruning, ``torch.onnx``, ONNX Runtime's ``quantize_static``. ``--training ours``
trains and compresses by this project's pipeline instead (channels last, bfloat16 where the hardware has it), each trial
with an empty cache. Four bits of weights are rounded to in torch and stored in eight, which runs as fast as eight and
costs the accuracy of four; ONNX's own INT4 runs several times slower.

Every finished trial is a line of the log, written at once: ``seconds`` since the start (after the imports, before the
data is loaded), ``design``, ``accuracy``, ``latency_ms``, ``parts`` (seconds of its own).
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
import torch
import torch_pruning
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nas import data
from nas.artifact import open_session
from nas.augment import augment
from nas.choice import Choice
from nas.data.dataset import Dataset
from nas.data.normalise import Normalisation, normalisation_of
from nas.design import Design, Value
from nas.errors import NasError
from nas.families import build
from nas.measure.environment import has_fast_bfloat16, has_vnni
from nas.pipeline import Pipeline, Teacher
from nas.recipe import Recipe, load_recipe
from nas.space import SearchSpace, load_space
from nas.stages import Trace
from nas.store import Store
from nas.train import numerics_for

SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
TRAININGS = ("float32", "ours")

# What the loop can carry out; a space that offers more is refused.
SUPPORTED: dict[str, tuple[Value, ...] | None] = {
    "pruning_ratio": None,
    "pruning_criterion": ("l1", "taylor"),
    "pruning_rounding": None,
    "distillation": (False, True),
    "weight_sharing": ("none",),
    "weight_bits": (32, 8, 4),
    "activation_bits": (32, 8),
    "quantisation_aware": (False, True),
}

ROUND_CHANNELS_TO = 4  # torch-pruning rounds down, so that its usual 8 would leave 8 of 24 channels at a ratio of 0.5
TAYLOR_BATCHES = 16
CALIBRATION_IMAGES = 256
WARMUP_RUNS, TIMED_RUNS = 50, 300
OPSET = 17


class Training(Protocol):
    """Turns designs into ONNX files, and images into what these take."""

    def make(self, design: Design, parts: dict[str, float]) -> bytes:
        """A design's file; the seconds of each part are added to ``parts``."""

    def keep(self) -> None:
        """The design made last is the most accurate so far: what distilled ones learn from."""

    def inputs(self, images: np.ndarray) -> np.ndarray:
        """Images as the files take them."""


@contextmanager
def timed(parts: dict[str, float], name: str) -> Iterator[None]:
    """Adds the seconds of a block to a part."""
    started = time.perf_counter()
    yield
    parts[name] = parts.get(name, 0.0) + time.perf_counter() - started


class PlainTraining:
    """PyTorch as people write it: float32, contiguous tensors, one-cycle schedule."""

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        self.recipe = recipe
        self.dataset = dataset
        self.normalisation: Normalisation = normalisation_of(dataset.train.images, dataset.input)
        self.images = torch.from_numpy(self.inputs(dataset.train.images))
        self.labels = torch.from_numpy(dataset.train.labels)
        self.example = self.images[:1]
        self.teacher: nn.Module | None = None
        self.last: nn.Module | None = None

    def inputs(self, images: np.ndarray) -> np.ndarray:
        """Normalised float32, N×C×H×W."""
        first = images.transpose(0, 3, 1, 2) if self.dataset.input.layout == "NHWC" else images
        shape = (1, -1, 1, 1)
        mean, std = (np.array(v, np.float32).reshape(shape) for v in (self.normalisation.mean, self.normalisation.std))
        return np.ascontiguousarray((first.astype(np.float32) - mean) / std)

    def keep(self) -> None:
        self.teacher = self.last

    def make(self, design: Design, parts: dict[str, float]) -> bytes:
        budget, training = self.recipe.budget, self.recipe.training
        classes = len(self.dataset.class_names)
        with timed(parts, "train"):
            model = build(design.family, design.architecture, self.dataset.input.channels_first, classes)
            self.fit(model, budget.epochs, training.learning_rate)
            self.last = copy.deepcopy(model)
        ratio = float(design.step("pruning_ratio"))
        teacher = self.teacher if design.step("distillation") else None
        with timed(parts, "fine-tune"):
            if ratio:
                self.prune(model, ratio, str(design.step("pruning_criterion")))
            if ratio or teacher is not None:
                self.fit(model, budget.finetune_epochs, training.finetune_learning_rate, teacher)
            bits = int(design.step("weight_bits"))
            in_integers = int(design.step("activation_bits")) == 8
            if bits < 8 or (bits == 8 and (design.step("quantisation_aware") or not in_integers)):
                self.to_grid(model, bits, bool(design.step("quantisation_aware")), teacher)
        with timed(parts, "export"), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            export(model.eval(), self.example, path)
            if in_integers:
                path = quantise(path, self.images[:CALIBRATION_IMAGES].numpy())
            return path.read_bytes()

    def fit(self, model: nn.Module, epochs: int, rate: float, teacher: nn.Module | None = None) -> None:
        """Trains a network in place.

        Raises:
            FloatingPointError: The loss is NaN or infinite.
        """
        config = self.recipe.training
        size = min(config.batch_size, len(self.labels))
        steps = len(self.labels) // size
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=epochs * steps)
        criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
        draws = torch.Generator().manual_seed(int(torch.randint(2**31, (1,))))
        model.train()
        for _ in range(epochs):
            for chosen in torch.split(torch.randperm(len(self.labels))[: steps * size], size):
                images = augment(self.images[chosen], config.augmentation, draws).contiguous()
                logits = model(images)
                loss: Tensor = criterion(logits, self.labels[chosen])
                if teacher is not None:
                    loss = self.distilled(loss, logits, teacher, images)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
        model.eval()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"training diverged: the loss is {float(loss)}")

    def distilled(self, loss: Tensor, logits: Tensor, teacher: nn.Module, images: Tensor) -> Tensor:
        """Labels and the teacher's softened classes (Hinton et al., 2015)."""
        temperature = self.recipe.training.distillation_temperature
        weight = self.recipe.training.distillation_weight
        with torch.no_grad():
            target = torch.log_softmax(teacher(images) / temperature, 1)
        student = torch.log_softmax(logits / temperature, 1)
        soft = nn.functional.kl_div(student, target, reduction="batchmean", log_target=True) * temperature**2
        mixed: Tensor = (1 - weight) * loss + weight * soft
        return mixed

    def prune(self, model: nn.Module, ratio: float, criterion: str) -> None:
        """Removes a share of each layer's channels, by torch-pruning."""
        importance: Any = torch_pruning.importance.GroupMagnitudeImportance(p=1)
        if criterion == "taylor":
            importance = torch_pruning.importance.GroupTaylorImportance()
        pruner = torch_pruning.pruner.BasePruner(
            model, self.example, importance, pruning_ratio=ratio, ignored_layers=[model.classifier],
            round_to=ROUND_CHANNELS_TO, in_channel_groups={}, out_channel_groups={},
        )  # fmt: skip
        if criterion == "taylor":
            size = self.recipe.training.batch_size
            for chosen in torch.split(torch.randperm(len(self.labels))[: TAYLOR_BATCHES * size], size):
                loss: Tensor = nn.functional.cross_entropy(model(self.images[chosen]), self.labels[chosen])
                loss.backward()  # type: ignore[no-untyped-call]
        pruner.step()
        model.zero_grad()

    def to_grid(self, model: nn.Module, bits: int, aware: bool, teacher: nn.Module | None) -> None:
        """Rounds the weights to a grid for each output channel; trains on the grid first if ``aware``."""
        layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        for layer in layers:
            parametrize.register_parametrization(layer, "weight", Grid(bits))
        if aware:
            self.fit(model, self.recipe.budget.finetune_epochs, self.recipe.training.finetune_learning_rate, teacher)
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


class Grid(nn.Module):
    """Weights on a symmetric grid for each output channel, with gradients as if they were not rounded."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.most = 2 ** (bits - 1) - 1

    def forward(self, weight: Tensor) -> Tensor:
        scale = weight.detach().abs().amax(tuple(range(1, weight.ndim)), keepdim=True).clamp(min=1e-12) / self.most
        rounded: Tensor = weight + (torch.round(weight / scale) * scale - weight).detach()
        return rounded


def export(model: nn.Module, example: Tensor, path: Path) -> None:
    """Exports a network by torch's exporter through TorchScript, which takes a tenth of the other's time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (example,), str(path), dynamo=False, opset_version=OPSET, input_names=["images"],
            output_names=["logits"], dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
        )  # fmt: skip


class _Images(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, images: np.ndarray) -> None:
        self.batches = iter(np.array_split(images, max(1, len(images) // 32)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch}


def quantise(path: Path, images: np.ndarray) -> Path:
    """Quantises an exported network to int8, statically; the new file lies beside the old."""
    ready, done = path.with_name("ready.onnx"), path.with_name("int8.onnx")
    quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
    quantize_static(
        str(ready), str(done), _Images(images), per_channel=True, reduce_range=not has_vnni(),
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return done


class OurTraining:
    """This project's training and compression, in a loop that keeps nothing but the best network so far."""

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        self.recipe = recipe
        self.dataset = dataset
        numerics = numerics_for(recipe.training, has_fast_bfloat16(), recipe.training.threads)
        self.pipeline = Pipeline(recipe, dataset, Store(Path(), 0), numerics, reduce_range=not has_vnni())
        self.teacher: tuple[Design, str, bytes] | None = None
        self.last: tuple[Design, str, bytes] | None = None

    def inputs(self, images: np.ndarray) -> np.ndarray:
        return images

    def keep(self) -> None:
        self.teacher = self.last

    def make(self, design: Design, parts: dict[str, float]) -> bytes:
        pipeline, seed = self.pipeline, self.recipe.seed
        if self.teacher is None:  # nobody to learn from yet
            design = without_distillation(design)
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder), 10**9)
            pipeline.store = pipeline.stages.store = store
            teacher = None
            if design.step("distillation") and self.teacher is not None:
                network, key, weights = self.teacher
                teacher = Teacher(0, network)
                if network.architecture_digest != design.architecture_digest:  # else its own training would be spared
                    store.put(key, weights, {"curve": []})
            trace = Trace()
            artifact: bytes = pipeline.run(design, seed, teacher, trace).artifact
            for stage in trace.stages:
                parts[stage.stage] = parts.get(stage.stage, 0.0) + stage.seconds
            key = pipeline.train_key(design, seed)
            trained = store.get(key)
            assert trained is not None, "the pipeline has just stored it"
            self.last = (design, key, trained.blob)
        return artifact


def without_distillation(design: Design) -> Design:
    """The design with what it learns from a teacher left out."""
    kept = {name: value for name, value in design.compression.items() if not name.startswith("distillation")}
    return Design(design.family, design.architecture, kept)


def check_supported(space: SearchSpace) -> None:
    """Refuses a space with compression that this loop cannot carry out.

    Raises:
        NasError: A choice, or a value of one, is not supported; or the space is of a person's own network.
    """
    if space.module is not None:
        raise NasError(f"the plain loop trains networks of families, but space '{space.name}' is of an own one")
    for choice in space.choices:
        if choice.group != "compression":
            continue
        values = SUPPORTED.get(choice.name, ())
        if values is not None and not set(choice.values) <= set(values):
            raise NasError(
                f"the plain loop does not carry out {choice.name} {list(choice.values)} of space '{space.name}'",
                f"it does {', '.join(SUPPORTED)}",
            )


def suggest(trial: optuna.Trial, choice: Choice) -> Value:
    """A choice's value as one asks Optuna for it: numbers in equal steps as numbers, all else as categories."""
    values = choice.values
    if len(values) == 1:
        return values[0]
    if choice.ordered:
        steps = np.diff([float(value) for value in values])
        if np.allclose(steps, steps[0]):
            low, high, step = values[0], values[-1], steps[0]
            if all(isinstance(value, int) for value in values):
                return trial.suggest_int(choice.name, int(low), int(high), step=int(step))
            found = trial.suggest_float(choice.name, float(low), float(high), step=float(step))
            return min(values, key=lambda value: abs(float(value) - found))
    suggested: Value = trial.suggest_categorical(choice.name, list(values))
    return suggested


def accuracy_of(file: bytes, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of the images that the exported file puts in the right class."""
    session = open_session(file)
    name = session.get_inputs()[0].name
    outputs = [session.run(None, {name: images[start : start + 256]})[0] for start in range(0, len(images), 256)]
    return float((np.concatenate(outputs).argmax(1) == labels).mean())


def latency_of(file: bytes, image: np.ndarray) -> float:
    """Median of some hundred calls with one image, after some to warm up, in ms."""
    session = open_session(file)
    feeds = {session.get_inputs()[0].name: image}
    durations = []
    for _ in range(WARMUP_RUNS + TIMED_RUNS):
        started = time.perf_counter()
        session.run(None, feeds)
        durations.append(time.perf_counter() - started)
    return 1000 * statistics.median(durations[WARMUP_RUNS:])


def search(recipe: Recipe, training: str, sampler: str, seconds: float, log: Path, started: float) -> int:
    """Runs the loop until its time is over (the trial under way is finished) and gives the number of trials.

    Args:
        recipe: Space, data, budget of each training, seed.
        training: One of ``TRAININGS``.
        sampler: One of ``SAMPLERS``.
        seconds: How long it may take, from ``started`` on.
        log: Where a line for each trial goes.
        started: ``time.monotonic()`` at the start.
    """
    space = load_space(recipe.space)
    check_supported(space)
    torch.set_num_threads(recipe.training.threads)
    torch.manual_seed(recipe.seed)
    dataset = data.load(recipe.data)
    maker: Training = OurTraining(recipe, dataset) if training == "ours" else PlainTraining(recipe, dataset)
    images, labels = maker.inputs(dataset.validation.images), dataset.validation.labels
    best = 0.0

    def objective(trial: optuna.Trial) -> Sequence[float]:
        nonlocal best
        design = space.choose(lambda choice: suggest(trial, choice))
        parts: dict[str, float] = {}
        line = {"number": trial.number, "design": design.to_json(), "parts": parts}
        try:
            file = maker.make(design, parts)
            with timed(parts, "score"):
                accuracy = accuracy_of(file, images, labels)
            with timed(parts, "measure"):
                latency = latency_of(file, images[:1])
        except Exception as error:
            write_line(log, line | {"seconds": time.monotonic() - started, "error": f"{type(error).__name__}: {error}"})
            raise
        if accuracy > best:
            best = accuracy
            maker.keep()
        values = {"accuracy": accuracy, "latency_ms": latency}
        write_line(log, line | {"seconds": time.monotonic() - started, **values})
        return accuracy, latency

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=SAMPLERS[sampler](recipe.seed))
    left = seconds - (time.monotonic() - started)
    study.optimize(objective, timeout=max(0.0, left), catch=(Exception,))
    return len(study.trials)


def write_line(log: Path, line: dict[str, Any]) -> None:
    """Adds a line to a log, flushed."""
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--training", choices=TRAININGS, default="float32")
    parser.add_argument("--sampler", choices=sorted(SAMPLERS), default="tpe")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger().setLevel(logging.ERROR)  # the quantiser's advice
    recipe = load_recipe(options.recipe)
    recipe = recipe.model_copy(
        update={"seed": options.seed, "training": recipe.training.model_copy(update={"threads": 1})}
    )
    trials = search(recipe, options.training, options.sampler, 60 * options.minutes, options.log, started)
    print(f"{trials} trials in {time.monotonic() - started:.0f} s: {options.log}")


if __name__ == "__main__":
    main()
