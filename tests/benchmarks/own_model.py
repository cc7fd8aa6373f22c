"""What ``nas compress`` makes of two networks as other people write them: a ResNet-18 and a MobileNetV2.

    python tests/benchmarks/own_model.py                        # both, in a temporary folder; about an hour on one core
    python tests/benchmarks/own_model.py --only resnet18 --folder /somewhere   # kept, and continued when run again
    python tests/benchmarks/own_model.py --large                # only the export at 224×224

Trained are narrow versions (the structure is whole) on coloured Fashion-MNIST: clothing of a random colour before a
ground of another, 32×32 RGB, with noise, so that colour does not tell the class. Then every figure comes from the study
that ``nas compress`` leaves. Every figure that the README gives for one's own model comes from here.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import foreign_networks  # noqa: E402 - of the tests, found by the line above
from small_networks import with_statistics  # noqa: E402

from nas import data  # noqa: E402
from nas.artifact import InputSpec, open_session, probabilities  # noqa: E402
from nas.commands.compress import IMAGENET_MEAN, IMAGENET_STD  # noqa: E402
from nas.data.dataset import Dataset, Split  # noqa: E402
from nas.describe import describe  # noqa: E402
from nas.design import Design, Value  # noqa: E402
from nas.gains import baseline_of  # noqa: E402
from nas.measure.environment import has_fast_bfloat16, has_vnni  # noqa: E402
from nas.measure.measurer import Measurer  # noqa: E402
from nas.own_module import OwnModule  # noqa: E402
from nas.pipeline import Pipeline, own_network  # noqa: E402
from nas.recipe import parse_recipe  # noqa: E402
from nas.recipe_sections import DataConfig  # noqa: E402
from nas.record import TrialRecord  # noqa: E402
from nas.stages import Trace  # noqa: E402
from nas.store import Store  # noqa: E402
from nas.study import Study  # noqa: E402
from nas.target import Target, usable_cores  # noqa: E402
from nas.train import numerics_for  # noqa: E402

NETWORKS = ROOT / "tests" / "foreign_networks.py"
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
TARGET = "onnxruntime-cpu-1t-b1"
LATENCY = f"latency_ms@{TARGET}"
POINTS_LOST = 0.01
SIDE = 32


@dataclass(frozen=True)
class Case:
    """A network to train and compress.

    Args:
        callable: Its name in ``foreign_networks``.
        arguments: What it is called with for 32×32 images.
        images: Training images, validation set included.
        epochs: Of its training.
        learning_rate: Likewise.
    """

    callable: str
    arguments: dict[str, Any]
    images: int
    epochs: int
    learning_rate: float


CASES = {
    "resnet18": Case("resnet18", {"classes": 10, "width": 16, "stem": "small"}, 10_000, 8, 2e-3),
    "mobilenet_v2": Case("mobilenet_v2_small_images", {"classes": 10, "width": 0.5, "last": 640}, 10_000, 8, 2e-3),
}


def coloured(grey: np.ndarray, seed: int) -> np.ndarray:
    """N×28×28 grey images (uint8) as N×32×32×3: resized, in one random colour before another, with noise."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    large = np.stack(
        [np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for image in grey]
    )
    mask = large[..., None].astype(np.float32) / 255
    cloth, ground = rng.uniform(0, 1, (2, len(grey), 1, 1, 3)).astype(np.float32)
    near = np.abs(cloth - ground).mean(axis=(1, 2, 3)) < 0.25
    ground[near] = (ground[near] + 0.5) % 1  # else nothing could be seen
    picture = ground + mask * (cloth - ground) + rng.normal(0, 0.06, (len(grey), SIDE, SIDE, 3)).astype(np.float32)
    return np.clip(np.round(255 * picture), 0, 255).astype(np.uint8)


def write_images(path: Path, count: int) -> None:
    """Coloured training and test images in one .npz file."""
    source = data.load(DataConfig(source="idx", path=FASHION_MNIST, validation=0.01, train_limit=count))
    train, test = (coloured(split.images[..., 0], seed) for seed, split in enumerate((source.train, source.test)))
    np.savez(path, images=train, labels=source.train.labels, test_images=test, test_labels=source.test.labels)


def train(case: Case, images: Path, weights: Path) -> None:
    """Trains the network as nas trains any family, and keeps its weights as their owner would."""
    section = {"source": "npz", "path": images}
    dataset = data.load(DataConfig(**section))
    training = {"batch_size": 64, "learning_rate": case.learning_rate, "augmentation": {"flip": True}}
    recipe = parse_recipe(
        {"data": section, "space": "own", "budget": {"trials": 1, "epochs": case.epochs}, "training": training},
        "benchmark",
    )
    own = own_network(
        OwnModule(str(NETWORKS), case.callable, case.arguments, None, IMAGENET_MEAN, IMAGENET_STD), dataset
    )
    numerics = numerics_for(recipe.training, has_fast_bfloat16(), usable_cores())
    pipeline = Pipeline(recipe, dataset, Store(weights.parent / "cache", 10**9), numerics, not has_vnni(), own)
    trace = Trace(lambda stage, share: print(f"\r{stage} {share:.0%} ", end="", flush=True))
    network = pipeline.uncompressed(Design("module", {"module": case.callable}, {}), 0, trace).network
    curve = trace.stages[0].detail["curve"]
    print(f"\rtrained {case.callable} in {trace.stages[0].seconds:.0f} s: last epoch {curve[-1]}")
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, weights)


def compress(case: Case, images: Path, weights: Path, output: Path, trials: int) -> Study:
    """Runs ``nas compress`` in the terminal, and reads the study that it leaves."""
    settings = [word for name, value in case.arguments.items() for word in ("--arg", f"{name}={value}")]
    command = [str(Path(sys.executable).parent / "nas"), "compress", f"{NETWORKS}:{case.callable}", *settings]
    command += ["--weights", str(weights), "--data", str(images), "--imagenet", "--trials", str(trials)]
    subprocess.run([*command, "--output", str(output)], check=True, env=os.environ | {"COLUMNS": "150"})
    return Study.open(output)


def apart(one: TrialRecord, other: TrialRecord) -> bool:
    """Whether two trials differ by more than their spread: in accuracy by more than the 95 % intervals, in latency by
    more than half the interquartile range of each, or in size by more than a tenth."""
    sizes = sorted(record.value("size_bytes") for record in (one, other))
    return sizes[1] > 1.1 * sizes[0] or any(
        a[0] > b[1] or b[0] > a[1] for a, b in ((spread(one, key), spread(other, key)) for key in ("accuracy", LATENCY))
    )


def spread(record: TrialRecord, key: str) -> tuple[float, float]:
    """From where to where a quantity of a trial may lie."""
    quantity = record.quantity(key)
    assert quantity is not None
    if key == LATENCY:
        half = quantity.detail["iqr"] / 2
        return quantity.value - half, quantity.value + half
    assert quantity.low is not None
    assert quantity.high is not None
    return quantity.low, quantity.high


def variants(study: Study) -> list[TrialRecord]:
    """Front members of which every two are apart, and all from the baseline; cheapest first."""
    baseline = baseline_of(study)
    assert baseline is not None
    chosen: list[TrialRecord] = []
    for record in study.front:
        if record is not baseline and all(apart(record, other) for other in (baseline, *chosen)):
            chosen.append(record)
    return chosen


def report(name: str, study: Study) -> None:
    """The table: the network as it is, and what became of it."""
    baseline = baseline_of(study)
    assert baseline is not None
    found = variants(study)
    print(f"\n{name}: {len(study.records)} trials, {study.seconds / 60:.0f} minutes\n")
    print(
        "| trial | design | accuracy valid. | test | latency ms | speed-up | size kB |\n|---|---|---|---|---|---|---|"
    )
    for record in (baseline, *found):
        latency, test = record.value(LATENCY), accuracy_on_test(study, record)
        speed_up = baseline.value(LATENCY) / latency
        print(
            f"| {record.number} | {describe(record.design)} | {record.value('accuracy'):.2%} | {test:.2%} "
            f"| {latency:.3f} | {speed_up:.2f} | {record.value('size_bytes') / 1000:.0f} |"
        )
    print(f"\nvariants apart from each other and from the baseline: {len(found)} (aim: at least 4)")
    enough = [r for r in study.front if r.value("accuracy") >= baseline.value("accuracy") - POINTS_LOST]
    on_test = [r for r in enough if accuracy_on_test(study, r) >= accuracy_on_test(study, baseline) - POINTS_LOST]
    for data_sets, records in (("validation data", enough), ("test data too", on_test)):
        fastest = max((baseline.value(LATENCY) / record.value(LATENCY) for record in records), default=0)
        print(f"fastest at no more than 1 point lost on {data_sets}: {fastest:.2f}× (aim: at least 2)")


def accuracy_on_test(study: Study, record: TrialRecord) -> float:
    return study.test_scores[record.number]["test_accuracy"].value


def noise(side: int, count: int, classes: int) -> Dataset:
    """Pictures of a few waves, for what depends on no meaning: parity, calibration, latency."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side] / side
    parts = {}
    for name in ("train", "validation", "test"):
        waves = rng.uniform(1, 12, (count, 3, 2)) * rng.choice([-1, 1], (count, 3, 2))
        angle = 2 * np.pi * (np.einsum("ncd,dhw->nhwc", waves, np.stack([y, x])) + rng.uniform(0, 1, (count, 1, 1, 3)))
        parts[name] = Split(np.round(127.5 + 127 * np.sin(angle)).astype(np.uint8), np.arange(count) % classes)
    spec = InputSpec("uint8", (side, side, 3))
    return Dataset(*parts.values(), tuple(map(str, range(classes))), spec, f"waves {side} {count}")


def large(folder: Path) -> None:
    """Full width, 1000 classes, 224×224, random batch-norm statistics: parity, and latency of float32 and int8."""
    dataset = noise(224, 64, 1000)
    print("\nfull width at 224×224; parity: the largest difference of a probability, of probabilities up to …\n")
    print("| network | parity | float32 ms | int8 ms | speed-up | MB |\n|---|---|---|---|---|---|")
    for name in ("resnet18", "mobilenet_v2"):
        torch.manual_seed(0)
        network = with_statistics(getattr(foreign_networks, name)())
        weights = folder / f"{name}-224.safetensors"
        safetensors.torch.save_file(network.state_dict(), weights)
        module = OwnModule(str(NETWORKS), name, {}, str(weights), IMAGENET_MEAN, IMAGENET_STD)
        recipe = parse_recipe({"data": {"source": "digits"}, "space": "own", "budget": {"trials": 1}}, "benchmark")
        numerics = numerics_for(recipe.training, has_fast_bfloat16(), usable_cores())
        own = own_network(module, dataset)
        pipeline = Pipeline(recipe, dataset, Store(folder / "cache", 10**10), numerics, not has_vnni(), own)
        files = {bits: built(pipeline, name, bits) for bits in (32, 8)}
        images = dataset.validation.images
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        pixels = (torch.from_numpy(images[:16]).permute(0, 3, 1, 2) / 255 - mean) / std
        with torch.no_grad():
            expected = torch.softmax(network(pixels), 1).numpy()
        difference = np.abs(probabilities(open_session(files[32]), images[:16]) - expected).max()
        with Measurer() as measurer:
            target = Target.parse(TARGET)
            times = {bits: measurer.measure(file, target, images)[0].value for bits, file in files.items()}
        sizes = " → ".join(f"{len(file) / 1e6:.1f}" for file in files.values())
        parity, gain = f"{difference:.1e} of {expected.max():.2g}", times[32] / times[8]
        print(f"| {name} | {parity} | {times[32]:.2f} | {times[8]:.2f} | {gain:.2f} | {sizes} |")


def built(pipeline: Pipeline, name: str, bits: int) -> bytes:
    """The artifact with weights and activations of so many bits."""
    compression: dict[str, Value] = {} if bits == 32 else {"weight_bits": bits, "activation_bits": bits}
    return pipeline.run(Design("module", {"module": name}, compression), 0, None, Trace()).artifact


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=CASES, help="one network instead of both")
    parser.add_argument("--folder", type=Path, help="where everything is kept; a temporary folder by default")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--large", action="store_true", help="only the export at 224×224")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name, case in CASES.items():
            if chosen.large or chosen.only not in (None, name):
                continue
            images, weights = folder / f"images-{case.images}.npz", folder / f"{name}.safetensors"
            if not images.exists():
                write_images(images, case.images)
            if not weights.exists():
                train(case, images, weights)
            report(name, compress(case, images, weights, folder / name, chosen.trials))
        if chosen.large or chosen.only is None:
            large(folder)


if __name__ == "__main__":
    main()
