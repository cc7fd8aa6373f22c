"""Builds the complete table of real designs: all of a small space, trained, compressed and measured on digits.

    python tests/benchmarks/digits_table.py make      # trains and compresses all 3,072 designs: 45 minutes of one core
    python tests/benchmarks/digits_table.py measure   # times every artifact that has no undisturbed latency yet
    python tests/benchmarks/digits_table.py write     # tests/benchmarks/digits_table.csv.gz
    python tests/benchmarks/digits_table.py seeds     # how much accuracy differs between seeds
    python tests/benchmarks/tables.py                 # the finished table: ranges, front, what FLOPs say of latency

With the table the true front is known, and a search strategy is judged in seconds, without training anything (see
``tables.py``). ``make`` and ``measure`` go on where they were interrupted. ``measure`` wants a quiet machine; run it
again for what was disturbed, and with ``--anew`` to time everything afresh: earlier readings are set aside. Delete the
folder when the code that trains or compresses has changed: what is there is not made again.

The columns, beside a choice each (empty where it is inactive):

- ``accuracy``, ``test_accuracy``: of the exported, compressed file, on 539 validation and 360 test images;
- ``rung_accuracy_2``, ``rung_accuracy_7``: on validation data, of the float network that trained for 2 and 7 epochs
  instead of 20 from the same seed, each with a schedule of its own; the same for all compressions of an architecture;
- ``latency_ms``: of that file, by ONNX Runtime on one thread at batch 1; ``unstable`` is 1 where it was disturbed;
- ``size_bytes``, ``flops``: of that file, and of its float network after pruning;
- ``train_seconds``, ``compress_seconds``, ``measure_seconds``: what this design costs by itself, where nothing is
  shared: processor time of training, and of everything from pruning to the finished file; time of scoring and timing.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from nas import data
from nas.artifact import open_session, probabilities
from nas.data.dataset import Dataset, Split
from nas.design import Design
from nas.measure.clock import Policy
from nas.measure.complexity import count
from nas.measure.environment import has_vnni
from nas.measure.measurer import Measurer
from nas.pipeline import Pipeline, Product
from nas.recipe import Recipe, parse_recipe
from nas.space import SearchSpace, load_space
from nas.stages import Trace
from nas.store import Store, write_atomically
from nas.target import Target
from nas.train import numerics_for

HERE = Path(__file__).parent
SPACE = HERE / "digits_table_space.yaml"
TABLE = HERE / "digits_table.csv.gz"
TARGET = Target.parse("onnxruntime-cpu-1t-b1")
SEED, OTHER_SEED = 0, 1
EPOCHS, FINETUNE_EPOCHS, RUNGS = 20, 6, (2, 7)
STORE_BYTES = 10**10
SEEDS_COMPARED = 20  # architectures
ACCURATE = 0.95

# Shorter than a study's: thousands of files, most of which take less than 0.05 ms a call.
POLICY = Policy(warmup_ms=20.0, minimum_samples=100, minimum_ms=60.0, maximum_ms=1000.0)

MEASURED = (
    "accuracy",
    "test_accuracy",
    *(f"rung_accuracy_{rung}" for rung in RUNGS),
    "latency_ms",
    "unstable",
    "size_bytes",
    "flops",
    "train_seconds",
    "compress_seconds",
    "measure_seconds",
)


def recipe_for(epochs: int) -> Recipe:
    """As ``studies/digits.yaml`` trains, for so many epochs."""
    return parse_recipe(
        {
            "data": {"source": "digits", "validation": 0.3, "test": 0.2},
            "space": str(SPACE),
            "budget": {"trials": 1, "epochs": epochs, "finetune_epochs": FINETUNE_EPOCHS},
            "training": {
                "batch_size": 64,
                "learning_rate": 4e-3,
                "finetune_learning_rate": 2e-3,
                "augmentation": {"shift": 1},
                "precision": "float32",
                "threads": 1,
            },
            "seed": SEED,
        },
        "the table",
    )


class Lines:
    """A file of JSON objects, one a line, that is only ever added to; a line torn off at its end is dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """All whole lines."""
        return [json.loads(line) for line in self._whole().splitlines()]

    def add(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Adds lines at the end, in one go."""
        if self.path.exists() and self.path.stat().st_size != len(whole := self._whole()):
            write_atomically(self.path, whole)
        with self.path.open("ab") as file:
            file.write(b"".join(json.dumps(item, allow_nan=False).encode() + b"\n" for item in items))

    def _whole(self) -> bytes:
        content = self.path.read_bytes() if self.path.exists() else b""
        return content[: content.rfind(b"\n") + 1]


@dataclass
class Stopwatch:
    """Processor time of each stage of one run of the pipeline: from its start to that of the next."""

    seconds: list[float] = field(default_factory=list)
    started: float | None = None

    def __call__(self, stage: str, share: float) -> None:
        """What the pipeline calls while it works; a share of 0 begins a stage."""
        if share == 0.0:
            self.stop()
            self.started = time.process_time()

    def stop(self) -> None:
        """Ends the last stage."""
        if self.started is not None:
            self.seconds.append(time.process_time() - self.started)
        self.started = None


class Maker:
    """Trains, compresses and scores designs; what was done before is taken from the folder.

    Args:
        folder: Where everything lies: the cache, ``rows.jsonl`` and ``stages.jsonl``.
    """

    def __init__(self, folder: Path) -> None:
        self.rows = Lines(folder / "rows.jsonl")
        self.costs = Lines(folder / "stages.jsonl")
        self.seconds: dict[str, float] = {line["key"]: line["seconds"] for line in self.costs.read()}
        self.store = Store(folder / "cache", STORE_BYTES)
        self.dataset: Dataset = data.load(recipe_for(EPOCHS).data)
        self.pipelines = {epochs: self._pipeline(epochs) for epochs in (*RUNGS, EPOCHS)}

    def _pipeline(self, epochs: int) -> Pipeline:
        recipe = recipe_for(epochs)
        numerics = numerics_for(recipe.training, fast_bfloat16=False, usable_cores=1)
        return Pipeline(recipe, self.dataset, self.store, numerics, reduce_range=not has_vnni())

    def float_accuracy(self, design: Design, epochs: int, seed: int) -> float:
        """Validation accuracy of the design's float network after so many epochs, of its exported file."""
        whole = self.pipelines[epochs].uncompressed(design, seed, Trace())
        return accuracy_of(whole.artifact, self.dataset.validation)

    def make(self, designs: Sequence[Design]) -> None:
        """Makes rows of designs that share one architecture, and keeps them."""
        rungs = {f"rung_accuracy_{rung}": self.float_accuracy(designs[0], rung, SEED) for rung in RUNGS}
        flops: dict[Any, float] = {}
        rows = []
        for design in designs:
            product, train_seconds, compress_seconds = self._run(design)
            ratio = design.step("pruning_ratio")
            if ratio not in flops:
                flops[ratio] = count(product.network, self.pipelines[EPOCHS].input_shape).flops
            started = time.process_time()
            accuracy = accuracy_of(product.artifact, self.dataset.validation)
            score_seconds = time.process_time() - started
            rows.append(
                {
                    "design": design.digest,
                    "artifact": self.store.put(f"design-{design.digest}", product.artifact, {}).sha256,
                    "accuracy": accuracy,
                    "test_accuracy": accuracy_of(product.artifact, self.dataset.test),
                    **rungs,
                    "size_bytes": len(product.artifact),
                    "flops": flops[ratio],
                    "train_seconds": train_seconds,
                    "compress_seconds": compress_seconds,
                    "score_seconds": score_seconds,
                }
            )
        self.rows.add(rows)

    def _run(self, design: Design) -> tuple[Product, float, float]:
        """The finished product, and the seconds of training and of the rest, as if nothing had been there before.

        A stage that was cached costs what it cost when it was computed. Where that was not kept, as the process died
        in between, it is computed once more.
        """
        while True:
            watch = Stopwatch()
            trace = Trace(watch)
            product = self.pipelines[EPOCHS].run(design, SEED, None, trace)
            watch.stop()
            timed = list(zip(trace.stages, watch.seconds, strict=True))
            fresh = {stage.key: seconds for stage, seconds in timed if not stage.cached}
            self.costs.add([{"key": key, "seconds": seconds} for key, seconds in fresh.items()])
            self.seconds |= fresh
            unknown = [stage.key for stage, _ in timed if stage.key not in self.seconds]
            if not unknown:
                break
            for key in unknown:
                (self.store.folder / "keys" / f"{key}.json").unlink()
        costs: dict[str, float] = defaultdict(float)
        for stage, _ in timed:
            costs[stage.stage] += self.seconds[stage.key]
        return product, costs["train"], sum(costs.values()) - costs["train"]


def accuracy_of(artifact: bytes, split: Split | None) -> float:
    """Share of a split's images that the exported file puts in the right class."""
    if split is None:
        raise ValueError("digits have validation and test data, but there are none")
    outputs = probabilities(open_session(artifact), split.images)
    return float((outputs.argmax(1) == split.labels).mean())


def architectures(space: SearchSpace) -> list[list[Design]]:
    """The space's designs by architecture, these in an order without a pattern that is always the same."""
    found: dict[str, list[Design]] = defaultdict(list)
    for design in space.designs():
        found[design.architecture_digest].append(design)
    groups = list(found.values())
    random.Random(SEED).shuffle(groups)
    return groups


def make(folder: Path, console: Console) -> None:
    """Phase 1: every design that has no row yet."""
    maker = Maker(folder)
    done = {row["design"] for row in maker.rows.read()}
    groups = architectures(load_space(str(SPACE)))
    missing = [group for group in groups if any(design.digest not in done for design in group)]
    for group in track(missing, "architectures", console=console):
        maker.make(group)
    console.print(f"{len(maker.rows.read()):,} rows in {folder}")


def measure(folder: Path, anew: bool, console: Console) -> None:
    """Phase 2: a latency of every artifact that has no undisturbed one yet, in one process, in no particular order."""
    readings = Lines(folder / "latencies.jsonl")
    if anew and readings.path.exists():
        number = len(list(folder.glob("latencies-*.jsonl"))) + 1
        readings.path.rename(folder / f"latencies-{number}.jsonl")
    rows, store = Lines(folder / "rows.jsonl").read(), Store(folder / "cache", STORE_BYTES)
    images = data.load(recipe_for(EPOCHS).data).validation.images
    disturbed = 0
    with Measurer(POLICY) as measurer:
        here = measurer.environment_id(TARGET)
        known = readings.read()
        if any(line["environment"] != here for line in known):
            sys.exit("the latencies kept so far are of another machine: time all of them here with --anew")
        steady = {line["artifact"] for line in known if not line["unstable"]}
        missing = sorted({row["artifact"] for row in rows} - steady)
        random.Random(len(known)).shuffle(missing)
        for digest in track(missing, "latencies", console=console):
            blob = store.read_blob(digest)
            if blob is None:
                sys.exit(f"artifact {digest} is gone from {folder}: make the table in an empty folder")
            started = time.perf_counter()
            latency, _ = measurer.measure(blob, TARGET, images)
            disturbed += bool(latency.detail["unstable"])
            reading = {
                "artifact": digest,
                "latency_ms": latency.value,
                "unstable": bool(latency.detail["unstable"]),
                "why": latency.detail.get("why_unstable", ""),
                "slowdown": latency.detail["slowdown"],
                "seconds": time.perf_counter() - started,
                "environment": here,
            }
            readings.add([reading])
    console.print(f"{len(missing):,} artifacts timed, {disturbed:,} of them disturbed")


def latencies(folder: Path) -> dict[str, dict[str, float]]:
    """By artifact ``latency_ms``, ``unstable`` and the seconds that timing took.

    The median of undisturbed readings; where there is none, the fastest of the others, as disturbances only slow down.
    """
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in Lines(folder / "latencies.jsonl").read():
        found[line["artifact"]].append(line)
    result = {}
    for digest, lines in found.items():
        steady = [line["latency_ms"] for line in lines if not line["unstable"]]
        value = statistics.median(steady) if steady else min(line["latency_ms"] for line in lines)
        seconds = statistics.median(line["seconds"] for line in lines)
        result[digest] = {"latency_ms": value, "unstable": float(not steady), "seconds": seconds}
    return result


def cell(value: object) -> str:
    """A value as the table spells it: five significant digits, true and false, nothing for what is not there."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.5g}"
    return str(int(value)) if isinstance(value, float) else str(value)


def table_rows(folder: Path, space: SearchSpace) -> Iterator[dict[str, object]]:
    """Every design with its values, in the space's order.

    Raises:
        SystemExit: A design has no row or no latency yet.
    """
    rows = {row["design"]: row for row in Lines(folder / "rows.jsonl").read()}
    timed = latencies(folder)
    for design in space.designs():
        row = rows.get(design.digest)
        if row is None:
            sys.exit(f"design {design.digest[:12]} was not made yet: run 'make'")
        if row["artifact"] not in timed:
            sys.exit(f"design {design.digest[:12]} was not timed yet: run 'measure'")
        latency = timed[row["artifact"]]
        values = row | latency | {"measure_seconds": row["score_seconds"] + latency["seconds"]}
        yield {**design.architecture, **design.compression, **{name: values[name] for name in MEASURED}}


def write(folder: Path, path: Path, console: Console) -> None:
    """The table, compressed; the same rows give the same bytes."""
    space = load_space(str(SPACE))
    names = [*(choice.name for choice in space.choices), *MEASURED]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in table_rows(folder, space):
        writer.writerow([cell(row.get(name)) for name in names])
    write_atomically(path, gzip.compress(text.getvalue().encode(), mtime=0))
    console.print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def seeds(folder: Path, console: Console) -> None:
    """Trains some architectures from a second seed, and tells how far the accuracies of two seeds lie apart."""
    maker = Maker(folder)
    pairs = []
    for group in track(architectures(load_space(str(SPACE)))[:SEEDS_COMPARED], "architectures", console=console):
        pairs.append([maker.float_accuracy(group[0], EPOCHS, seed) for seed in (SEED, OTHER_SEED)])
    console.print(f"standard deviation of a float network's accuracy between seeds: {deviation(pairs)}")
    accurate = [pair for pair in pairs if statistics.mean(pair) >= ACCURATE]
    console.print(f"of those of at least {ACCURATE}: {deviation(accurate)}")


def deviation(pairs: Sequence[Sequence[float]]) -> str:
    """The pooled standard deviation within pairs, √(mean of (a − b)² / 2), in words."""
    if not pairs:
        return "there are none"
    variance = statistics.mean((first - second) ** 2 / 2 for first, second in pairs)
    return f"{variance**0.5:.4f} ({len(pairs)} architectures)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("make", "measure", "write", "seeds"))
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "digits-table", help="where all work is kept"
    )
    parser.add_argument("--anew", action="store_true", help="measure: time every artifact, not only those missing")
    options = parser.parse_args()
    console = Console()
    options.folder.mkdir(parents=True, exist_ok=True)
    steps: Mapping[str, Callable[[], None]] = {
        "make": lambda: make(options.folder, console),
        "measure": lambda: measure(options.folder, options.anew, console),
        "write": lambda: write(options.folder, TABLE, console),
        "seeds": lambda: seeds(options.folder, console),
    }
    steps[options.step]()


if __name__ == "__main__":
    main()
