"""What each compression technique costs and brings, on networks fixed beforehand: the figures in the README.

    python tests/benchmarks/compression.py                       # everything, about half an hour on two cores
    python tests/benchmarks/compression.py --only int8 pruning   # some of it
    python tests/benchmarks/compression.py --networks 1          # the first network alone

Data: Fashion-MNIST (``--data``), a part of the training images, all 10,000 test images: nothing is selected by them.
Every variant is held against the float network of the same architecture that trained for as many epochs in all, both
scored and timed as exported files by ONNX Runtime with one thread at batch 1. Latencies are measured in turns, three
times each; a speed-up is the median of the three ratios.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nas import data
from nas.artifact import open_session, probabilities
from nas.compress import export
from nas.data.dataset import Dataset
from nas.design import Design, Value, sha256_of
from nas.families.blocks import initialise
from nas.measure.environment import has_fast_bfloat16, has_vnni
from nas.measure.measurer import Measurer
from nas.pipeline import Pipeline
from nas.recipe import parse_recipe
from nas.recipe_sections import TeacherConfig
from nas.stages import Trace
from nas.store import Store
from nas.target import Target, usable_cores
from nas.teacher.given import GivenTeacher, load_teacher
from nas.train import numerics_for, seeded, train

TARGET = Target.parse("onnxruntime-cpu-1t-b1")
SEED = 0
ROUNDS = 3
EPOCHS, FINETUNE_EPOCHS = 6, 2


def convnet(stem: int, stride: int, *stages: tuple[int, int, str], conv: str = "standard", **head: Value) -> Design:
    """A convnet of 3×3 convolutions; a stage is (width, depth, pooling)."""
    choices: dict[str, Value] = {"stem.width": stem, "stem.stride": stride, "stages": len(stages), "head.hidden": 0}
    for number, (width, depth, pooling) in enumerate(stages, 1):
        stage = {"conv": conv, "width": width, "depth": depth, "pooling": pooling}
        choices |= {f"stage{number}.{name}": value for name, value in stage.items()}
    return Design("convnet", choices | {f"head.{name}": value for name, value in head.items()}, {})


def resnet(stem: int, stride: int, *stages: tuple[int, int, int]) -> Design:
    """A residual network; a stage is (width, depth, stride)."""
    choices: dict[str, Value] = {"stem.width": stem, "stem.stride": stride, "stages": len(stages)}
    for number, (width, depth, step) in enumerate(stages, 1):
        stage = {"width": width, "depth": depth, "stride": step}
        choices |= {f"stage{number}.{name}": value for name, value in stage.items()}
    return Design("resnet", choices, {})


# Standard convolutions of 32 channels or more.
NETWORKS: Mapping[str, Design] = {
    "convnet 32-64-128": convnet(32, 1, (64, 1, "max"), (128, 1, "max")),
    "convnet 48-64-64": convnet(48, 2, (64, 1, "max"), (64, 1, "none"), hidden=64),
    "convnet 32-64-64": convnet(32, 2, (64, 1, "max"), (64, 1, "none")),
    "resnet 32-64": resnet(32, 2, (32, 1, 1), (64, 1, 2)),
    "resnet 64-64": resnet(64, 2, (64, 1, 2)),
}

# A few thousand parameters: what has most to learn from a teacher.
SMALL_NETWORKS: Mapping[str, Design] = {
    "convnet 8-16": convnet(8, 2, (16, 1, "max")),
    "convnet 8-16-32 separable": convnet(8, 2, (16, 1, "max"), (32, 1, "none"), conv="separable"),
    "convnet 16-16": convnet(16, 2, (16, 1, "max")),
    "resnet 8-16": resnet(8, 2, (16, 1, 2)),
    "convnet 8-16-16": convnet(8, 2, (16, 1, "max"), (16, 1, "none")),
}


@dataclass(frozen=True)
class Scored:
    """An artifact with its accuracy on the test images."""

    artifact: bytes
    accuracy: float


@dataclass(frozen=True)
class Row:
    """One variant of one network against the float network."""

    technique: str
    network: str
    lost_points: float
    speedup: float
    size_ratio: float
    size_excess_bytes: float
    note: str = ""


class Bench:
    """The networks, trained and compressed, with a cache.

    Args:
        dataset: What they train on and are scored by.
        folder: Where the cache lies.
        console: Hears how it goes on.
    """

    def __init__(self, dataset: Dataset, folder: Path, console: Console) -> None:
        self.dataset = dataset
        self.console = console
        self.store = Store(folder, 4 * 10**9)
        self.whole = self._pipeline(EPOCHS, 1)
        self.split = self._pipeline(EPOCHS - FINETUNE_EPOCHS, FINETUNE_EPOCHS)
        # What is quantised or shared is nearly as good at once, so one epoch mends it.
        self.brief = self._pipeline(EPOCHS - 1, 1)
        # What is pruned early trains longer as it is, and with the full learning rate.
        self.early = self._pipeline(2, EPOCHS - 2, finetune_learning_rate=4e-3)
        # A teacher that was trained with smoothed labels teaches less (Müller et al., NeurIPS 2019), and most of a
        # student's epochs are for learning from it.
        self.unsmoothed = self._pipeline(EPOCHS, 1, label_smoothing=0.0)
        self.taught = self._pipeline(1, EPOCHS - 1, label_smoothing=0.0, finetune_learning_rate=4e-3)

    def _pipeline(self, epochs: int, finetune_epochs: int, **training: float) -> Pipeline:
        recipe = parse_recipe(
            {
                "data": {"source": "digits"},  # not used: the data set is given
                "space": "convnet",
                "budget": {"trials": 1, "epochs": epochs, "finetune_epochs": finetune_epochs},
                "training": {
                    "batch_size": 64,
                    "learning_rate": 4e-3,
                    "finetune_learning_rate": 2e-3,
                    "weight_decay": 0.05,
                    "augmentation": {"flip": True},
                    **training,
                },
            },
            "the benchmark",
        )
        numerics = numerics_for(recipe.training, has_fast_bfloat16(), usable_cores())
        return Pipeline(recipe, self.dataset, self.store, numerics, reduce_range=not has_vnni())

    def scored(self, artifact: bytes) -> Scored:
        session = open_session(artifact, usable_cores())
        hits = probabilities(session, self.dataset.test.images).argmax(1) == self.dataset.test.labels
        return Scored(artifact, float(hits.mean()))

    def float_network(self, design: Design) -> Scored:
        """The float network, trained for all epochs."""
        return self.scored(self.whole.run(design, SEED, None, Trace()).artifact)

    def compressed(
        self, design: Design, pipeline: Pipeline, teacher: GivenTeacher | None = None, **choices: Value
    ) -> Scored:
        product = pipeline.run(Design(design.family, design.architecture, choices), SEED, teacher, Trace())
        return self.scored(product.artifact)

    def teacher(self, whole: Pipeline, design: Design) -> GivenTeacher:
        """A network as the pipeline trains it, given as a file."""
        artifact = whole.run(design, SEED, None, Trace()).artifact
        with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
            file.write(artifact)
            file.flush()
            config = TeacherConfig(path=Path(file.name))
            return load_teacher(config, self.dataset, whole.normalisation, whole.numerics)

    def from_scratch(self, design: Design, **choices: Value) -> Scored:
        """A network of the pruned widths that never was larger, trained for all epochs."""
        pipeline, config = self.whole, self.whole.recipe.training
        design = Design(design.family, design.architecture, choices)
        key = sha256_of({"scratch": design.to_json(), "trained": pipeline.train_key(design, SEED)})
        if (entry := self.store.get(key)) is None:
            pruned = self.split.run(design, SEED, None, Trace()).network
            network = copy.deepcopy(pruned)
            with seeded(SEED, pipeline.numerics.threads) as generator:
                for module in network.modules():
                    if hasattr(module, "reset_parameters"):
                        module.reset_parameters()
                initialise(network)
                train(network, pipeline.data, config, pipeline.numerics, EPOCHS, config.learning_rate, generator)
            body = export.export_body(network, pipeline.input_shape)
            artifact = export.attach_front_end(body, self.dataset.input, pipeline.normalisation)
            entry = self.store.put(key, artifact, {})
        return self.scored(entry.blob)

    def speedup(self, before: bytes, after: bytes) -> float:
        """How many times faster ``after`` is: the median of ratios measured in turns."""
        images = self.dataset.validation.images
        ratios = []
        with Measurer() as measurer:
            for _ in range(ROUNDS):
                first, second = (measurer.measure(content, TARGET, images)[0].value for content in (before, after))
                ratios.append(first / second)
        return statistics.median(ratios)

    def row(self, technique: str, network: str, reference: Scored, variant: Scored, note: str = "") -> Row:
        """Compares, prints and returns."""
        sizes = len(reference.artifact), len(variant.artifact)
        row = Row(
            technique,
            network,
            100 * (reference.accuracy - variant.accuracy),
            self.speedup(reference.artifact, variant.artifact),
            sizes[1] / sizes[0],
            sizes[1] - 0.17 * sizes[0],
            note,
        )
        self.console.print(
            f"{network:28} {technique:24} {100 * reference.accuracy:6.2f} → {100 * variant.accuracy:6.2f} % "
            f"({-row.lost_points:+.2f})  {row.speedup:5.2f}× faster  {row.size_ratio:.3f} of {sizes[0]:,} bytes  {note}"
        )
        return row


def int8(bench: Bench, name: str, design: Design) -> list[Row]:
    reference = bench.float_network(design)
    after = bench.compressed(design, bench.whole, weight_bits=8, activation_bits=8)
    return [bench.row("int8", name, reference, after)]


def pruning(bench: Bench, name: str, design: Design) -> list[Row]:
    """Late with few epochs to mend, early with most of them, and early with the float network as a teacher."""
    reference = bench.float_network(design)
    teacher = bench.teacher(bench.whole, design)
    half: dict[str, Value] = {"pruning_ratio": 0.5}
    taylor = half | {"pruning_criterion": "taylor"}
    distilled = taylor | {"distillation": True, "distillation_temperature": 2.0}
    variants = {
        "late, l1": bench.compressed(design, bench.split, **half),
        "late, taylor": bench.compressed(design, bench.split, **taylor),
        "early, taylor": bench.compressed(design, bench.early, **taylor),
        "early, taylor, distilled": bench.compressed(design, bench.early, teacher, **distilled),
        "widths from scratch": bench.from_scratch(design, **half),
    }
    return [bench.row(f"pruning 0.5 {title}", name, reference, variant) for title, variant in variants.items()]


def four_bits(bench: Bench, name: str, design: Design) -> list[Row]:
    reference = bench.float_network(design)
    rows = []
    for activations in (32, 8):
        for aware in (True,) if activations == 32 else (False, True):
            choices: dict[str, Value] = {"weight_bits": 4, "activation_bits": activations}
            if aware:
                choices["quantisation_aware"] = True
            after = bench.compressed(design, bench.brief if aware else bench.whole, **choices)
            title = f"4-bit, activations {activations}{', aware' if aware else ''}"
            rows.append(bench.row(title, name, reference, after))
    return rows


def codebook(bench: Bench, name: str, design: Design) -> list[Row]:
    """The values trained for the last epoch, or for the last two."""
    reference = bench.float_network(design)
    variants = {
        "one epoch": bench.compressed(design, bench.brief, weight_sharing="kmeans", codebook_bits=4),
        "two epochs": bench.compressed(design, bench.split, weight_sharing="kmeans", codebook_bits=4),
    }
    return [bench.row(f"4-bit codebook, {title}", name, reference, variant) for title, variant in variants.items()]


def distillation(bench: Bench, name: str, design: Design) -> list[Row]:
    """Late and as the recipe's defaults have it; and for most of the epochs, by a teacher without smoothed labels.

    The teacher is the first of the large networks, trained for all epochs.
    """
    rows = []
    for title, pipeline, whole, temperature, weight in (
        ("late, T 4 w 0.5", bench.split, bench.whole, 4.0, 0.5),
        ("early, T 4 w 0.5", bench.taught, bench.unsmoothed, 4.0, 0.5),
        ("early, T 2 w 0.5", bench.taught, bench.unsmoothed, 2.0, 0.5),
        ("early, T 1 w 0.5", bench.taught, bench.unsmoothed, 1.0, 0.5),
    ):
        reference = bench.scored(whole.run(design, SEED, None, Trace()).artifact)
        choices: dict[str, Value] = {
            "distillation": True,
            "distillation_temperature": temperature,
            "distillation_weight": weight,
        }
        after = bench.compressed(design, pipeline, bench.teacher(whole, NETWORKS["convnet 32-64-128"]), **choices)
        rows.append(bench.row(f"distilled {title}", name, reference, after))
    return rows


PARTS: Mapping[str, tuple[Callable[[Bench, str, Design], list[Row]], Mapping[str, Design]]] = {
    "int8": (int8, NETWORKS),
    "pruning": (pruning, NETWORKS),
    "four_bits": (four_bits, NETWORKS),
    "codebook": (codebook, NETWORKS),
    "distillation": (distillation, SMALL_NETWORKS),
}


def summary(rows: list[Row]) -> Table:
    table = Table(title="Medians over the networks", title_justify="left")
    for header in (
        "technique",
        "networks",
        "points lost",
        "worst",
        "times faster",
        "size ratio",
        "0.17× + bytes, worst",
    ):
        table.add_column(header, justify="left" if header == "technique" else "right")
    for technique in dict.fromkeys(row.technique for row in rows):
        own = [row for row in rows if row.technique == technique]
        lost = [row.lost_points for row in own]
        table.add_row(
            technique,
            str(len(own)),
            f"{statistics.median(lost):.2f}",
            f"{max(lost):.2f}",
            f"{statistics.median(row.speedup for row in own):.2f}",
            f"{statistics.median(row.size_ratio for row in own):.3f}",
            f"{max(row.size_excess_bytes for row in own):,.0f}",
        )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist", help="the folder of Fashion-MNIST")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="which techniques")
    parser.add_argument("--networks", type=int, default=5, help="how many of the networks")
    parser.add_argument("--images", type=int, default=16000, help="how many training images")
    parser.add_argument("--cache", type=Path, help="a folder that keeps trained networks from run to run")
    options = parser.parse_args()
    console = Console(highlight=False, width=150)
    config = {"source": "idx", "path": options.data, "train_limit": options.images, "validation_limit": 2000}
    recipe = parse_recipe({"data": config, "space": "convnet", "budget": {"trials": 1}}, "the benchmark")
    dataset = data.load(recipe.data)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(dataset, options.cache or Path(folder), console)
        rows = []
        for part in options.only:
            technique, networks = PARTS[part]
            for name, design in list(networks.items())[: options.networks]:
                rows += technique(bench, name, design)
    console.print(summary(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
