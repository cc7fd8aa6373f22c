"""Finalists of all searches trained again in the same way, and timed in turns in one go; see ``search_efficiency.py``.

Each design goes through this project's pipeline at the recipe's full epochs, from seeds that no search had, and is
scored on the test data, by which nothing was chosen. Its accuracy is the mean over these seeds: of hundreds of single
trainings the luckiest would make up the best front, which no search could then come near. Distilled designs learn from
one teacher, the space's baseline trained likewise, which counts as there already. A design is trained once from each
seed, whichever and however many searches found it. What each stage of its first making took is kept by the stage's key,
so that what designs share can be counted once: a person trains a finalist once.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nas import data
from nas.artifact import open_session, probabilities
from nas.design import Design
from nas.errors import NasError
from nas.measure.clock import NANOSECONDS_PER_MS
from nas.measure.environment import has_fast_bfloat16, has_vnni
from nas.measure.measurer import ROUNDS, Measurer
from nas.pipeline import Pipeline, Teacher
from nas.recipe import Recipe, load_recipe
from nas.space import load_space
from nas.stages import Trace
from nas.store import Store, sha256_bytes, write_atomically
from nas.target import Target
from nas.train import numerics_for

FIRST_SEED = 1_000_003  # no search's, and those after it
PASSES = 4  # fresh processes that the rounds are shared among
CACHE_BYTES = 4 * 10**9


class Retrained:
    """What a folder keeps: which designs are needed, a line and a file of each that was trained again, latencies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.timings = folder / "timings.json"
        self.needed = folder / "needed.json"

    def rows(self) -> dict[tuple[str, int], dict[str, Any]]:
        """By design's digest and seed what came of it; a line torn off by a process that died is left out."""
        found = {}
        for path in sorted(self.folder.glob("rows-*.jsonl")):
            for line in path.read_bytes().split(b"\n")[:-1]:
                row = json.loads(line)
                found[row["design"], row["seed"]] = row
        return found

    def add(self, lane: int, row: Mapping[str, Any]) -> None:
        """Adds a line, after what a process that died left of its last one."""
        path = self.folder / f"rows-{lane}.jsonl"
        whole = path.read_bytes() if path.exists() else b""
        if whole and not whole.endswith(b"\n"):
            write_atomically(path, whole[: whole.rfind(b"\n") + 1])
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def artifact(self, sha256: str) -> Path:
        return self.folder / "artifacts" / f"{sha256}.onnx"


def seeds_of(repeats: int) -> list[int]:
    """The seeds that every design is trained again from, the one whose making counts as its cost first."""
    return [FIRST_SEED + number for number in range(repeats)]


class Trainer:
    """Trains designs again.

    Args:
        recipe: Data, budget of a training.
        seeds: That designs will be trained from; the teacher is trained from the first of them.
        folder: Where stages are cached, for as long as this process lives: what they took must be known.
    """

    def __init__(self, recipe: Recipe, seeds: Sequence[int], folder: Path) -> None:
        self.recipe = recipe
        self.seeds = seeds
        self.dataset = data.load(recipe.data)
        numerics = numerics_for(recipe.training, has_fast_bfloat16(), recipe.training.threads)
        self.store = Store(folder, CACHE_BYTES)
        self.pipeline = Pipeline(recipe, self.dataset, self.store, numerics, reduce_range=not has_vnni())
        self.seconds: dict[str, float] = {}

    def teacher(self, designs: Iterable[Design]) -> Teacher | None:
        """The one that distilled designs learn from, trained; None where none of them is distilled.

        It is one network for all seeds: theirs are the student's.

        Raises:
            NasError: The space has no baseline.
        """
        if not any(design.step("distillation") for design in designs):
            return None
        space = load_space(self.recipe.space)
        if space.baseline is None:
            raise NasError(
                f"space '{space.name}' has no baseline, from which distilled designs could learn", "give it one"
            )
        trace = Trace()
        self.pipeline.networks.trained(space.baseline, self.seeds[0], trace)
        self._learn_seconds(trace)
        first, *others = (self.pipeline.train_key(space.baseline, seed) for seed in self.seeds)
        trained = self.store.get(first)
        assert trained is not None, "the pipeline has just stored it"
        for key in others:
            self.store.put(key, trained.blob, trained.detail)
            self.seconds[key] = self.seconds[first]
        return Teacher(0, space.baseline)

    def again(self, design: Design, seed: int, teacher: Teacher | None) -> tuple[dict[str, Any], bytes]:
        """A design's row, and its file; an empty one where it failed."""
        trace = Trace()
        row: dict[str, Any] = {"design": design.digest, "seed": seed}
        try:
            file = self.pipeline.run(design, seed, teacher, trace).artifact
        except NasError as error:
            return row | {"error": error.message}, b""
        self._learn_seconds(trace)
        started = time.perf_counter()
        test = self.dataset.test
        accuracy = float((probabilities(open_session(file), test.images).argmax(1) == test.labels).mean())
        stages = {stage.key: self.seconds[stage.key] for stage in trace.stages}
        stages[f"score {design.digest}"] = time.perf_counter() - started
        return row | {"accuracy": accuracy, "artifact": sha256_bytes(file), "stages": stages}, file

    def _learn_seconds(self, trace: Trace) -> None:
        """Keeps what stages took; of one that came from the cache it is known already."""
        self.seconds |= {stage.key: stage.seconds for stage in trace.stages if not stage.cached}


def retrain(
    recipe: Recipe, designs: Sequence[Design], seeds: Sequence[int], retrained: Retrained, lane: int, lanes: int
) -> int:
    """Trains those designs again that have no row of a seed yet and are this lane's, all from one seed before the next;
    designs of one architecture share a lane.

    Returns:
        How many trainings there were.
    """
    done = retrained.rows()
    groups: dict[str, list[Design]] = defaultdict(list)
    for design in sorted(designs, key=lambda design: design.digest):
        groups[design.architecture_digest].append(design)
    mine = [group for place, (_, group) in enumerate(sorted(groups.items())) if place % lanes == lane]
    missing = [
        (design, seed) for seed in seeds for group in mine for design in group if (design.digest, seed) not in done
    ]
    if not missing:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, seeds, Path(folder))
        teacher = trainer.teacher(design for design, _ in missing)
        for number, (design, seed) in enumerate(missing, 1):
            row, file = trainer.again(design, seed, teacher)
            if file:
                write_atomically(retrained.artifact(row["artifact"]), file)
            retrained.add(lane, row)
            said = f"accuracy {row['accuracy']:.4f}" if file else row["error"]
            print(f"  {number} of {len(missing)}: {design.digest[:12]} {said}", flush=True)
    return len(missing)


def time_in_turns(recipe: Recipe, digests: Sequence[str], retrained: Retrained) -> dict[str, float]:
    """Latency in ms of each file, all of them in turns so that what the machine does meanwhile hits all alike; kept,
    and taken anew for all where a file is new.

    Args:
        recipe: Says on which target, and on which images.
        digests: Of the files.
        retrained: Where they lie.

    Returns:
        By file; and under ``each`` the seconds that timing one of them took.
    """
    wanted = sorted(set(digests))
    if retrained.timings.exists():
        kept: dict[str, float] = json.loads(retrained.timings.read_text())
        if set(wanted) <= set(kept):
            return kept
    target = latency_target(recipe)
    images = data.load(recipe.data).validation.images
    files = [retrained.artifact(digest).read_bytes() for digest in wanted]
    medians: list[list[float]] = [[] for _ in wanted]
    started = time.perf_counter()
    with Measurer() as measurer:
        for _ in range(PASSES):
            measurer.start_anew(target)
            turns = measurer.turns(files, target, images, ROUNDS // PASSES)
            for own, rounds in zip(medians, turns.samples_ns, strict=True):
                own += [float(np.median(samples)) / NANOSECONDS_PER_MS for samples in rounds]
    found = {digest: float(np.median(own)) for digest, own in zip(wanted, medians, strict=True)}
    found["each"] = (time.perf_counter() - started) / max(1, len(wanted))
    write_atomically(retrained.timings, json.dumps(found, indent=1).encode())
    return found


def latency_target(recipe: Recipe) -> Target:
    """What the recipe's one latency is measured on."""
    return next(Target.parse(item.target) for item in recipe.parsed_objectives if item.target is not None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the comparison")
    parser.add_argument("--lane", type=int, required=True)
    parser.add_argument("--lanes", type=int, required=True)
    parser.add_argument("--repeats", type=int, required=True, help="seeds to train each design from")
    options = parser.parse_args()
    recipe = load_recipe(options.folder / "recipe.yaml")
    seeds = seeds_of(options.repeats)
    retrained = Retrained(options.folder / "retrained")
    designs = [Design.from_json(item) for item in json.loads(retrained.needed.read_text())]
    print(f"{retrain(recipe, designs, seeds, retrained, options.lane, options.lanes)} trainings again")


if __name__ == "__main__":
    main()
