"""What a search's own rules cost and save, replayed on complete tables: there, what was given up is known too.

    python tests/benchmarks/replay.py                       # screening and the whole strategy, on the digits table
    python tests/benchmarks/replay.py --table nas_bench_201_hw.csv.gz --device raspi4
    python tests/benchmarks/replay.py --seeds 5 --trials 60 # in short

The search is the real one, its loop, sampler, surrogates and rules; only the evaluation reads the table, and time is
what the table says that training, compressing and measuring took.

Screening is judged by what it threw away: how much hypervolume the screened designs would have added in the end, and
which share of the front, with them, they would have been. The strategy is judged by the hypervolume over the seconds of
the table, beside the same sampler without rungs, fans and screening, and TPE alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import beta
from tables import Table, digits_space, digits_table, nas_bench_201

from nas.choice import Choice
from nas.design import Design
from nas.evaluate import EvalRequest, EvalResult
from nas.front import Reference
from nas.outcome import How, Outcome, Quantity
from nas.recipe import Recipe, parse_recipe
from nas.record import StageResult, TrialRecord
from nas.search.guide import Guide
from nas.search.loop import Loop
from nas.search.plan import rung_epochs
from nas.space import SearchSpace
from nas.stages import Progress
from nas.study import Study, StudyFolder
from nas.workers.here import Here

TARGET = "onnxruntime-cpu-1t-b1"
LATENCY = f"latency_ms@{TARGET}"
EPOCHS = 20
RUNGS = (2, 7)
# What a trial takes beside the table's seconds: asking, writing.
OVERHEAD = 0.1


@dataclass(frozen=True)
class World:
    """A table as a search sees it: accuracies from 0 to 1, latencies in ms."""

    table: Table
    space: SearchSpace
    accuracy: np.ndarray
    latency: np.ndarray
    rungs: dict[int, np.ndarray]
    train: np.ndarray
    rest: np.ndarray

    def number(self, design: Design) -> int:
        return self.table.find({**design.architecture, **design.compression})

    @property
    def reference(self) -> Reference:
        """Guessing, and ten times the slowest latency on the front's side: the same for all runs."""
        return Reference(("accuracy", LATENCY), (0.1, float(np.nanmax(self.latency))))


def digits() -> World:
    table = digits_table()
    values = table.values
    rest = values["compress_seconds"] + values["measure_seconds"]
    rungs = {epochs: values[f"rung_accuracy_{epochs}"] for epochs in RUNGS}
    return World(table, digits_space(), values["accuracy"], values["latency_ms"], rungs, values["train_seconds"], rest)


def cells(path: Path, device: str) -> World:
    table = nas_bench_201(path)
    choices = tuple(Choice(c.name, "architecture", c.values) for c in table.columns)
    seconds = table.values["cifar10_train_time_s"]
    return World(
        table,
        SearchSpace("nas-bench-201", "cell", "", choices),
        table.values["cifar10_val_accuracy"] / 100,
        table.values[f"latency_ms_{device}"],
        {},
        seconds,
        np.full(len(table), 10.0),
    )


class Clock:
    """Time as the table has it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Replayed:
    """Evaluates by looking up; an architecture is trained once, as with a cache."""

    def __init__(self, world: World, clock: Clock) -> None:
        self.world, self.clock = world, clock
        self.trained: dict[str, int] = {}

    def __call__(self, request: EvalRequest, progress: Progress | None) -> EvalResult:
        world, number = self.world, self.world.number(request.design)
        if request.until == 0:
            latency = float(world.latency[number])
            proxy = Quantity("proxy_latency_ms", latency, "ms", How.PROXY, target=TARGET)
            self.clock.now += float(world.rest[number])
            return EvalResult(Outcome.STOPPED, quantities=(proxy,))
        until = EPOCHS if request.until is None else request.until
        done = self.trained.get(request.design.architecture_digest, 0)
        seconds = max(0, until - done) / EPOCHS * float(world.train[number])
        self.trained[request.design.architecture_digest] = max(done, until)
        stages = [StageResult("train", "", seconds, seconds == 0)]
        self.clock.now += seconds
        if request.until is not None:
            rung = Quantity("rung_accuracy", float(world.rungs[until][number]), "1", How.PROXY, f"epoch-{until}")
            return EvalResult(Outcome.STOPPED, quantities=(rung,), stages=tuple(stages))
        self.clock.now += float(world.rest[number]) + OVERHEAD
        return EvalResult(
            Outcome.MEASURED,
            quantities=(
                Quantity("accuracy", float(world.accuracy[number]), "1", How.MEASURED),
                Quantity("latency_ms", float(world.latency[number]), "ms", How.MEASURED, target=TARGET),
            ),
            stages=(*stages, StageResult("measure", "", float(world.rest[number]), False)),
            manifest={"class_names": [str(n) for n in range(10)]},
        )


class Silent:
    """Nobody watches."""

    def note(self, text: str) -> None: ...
    def began(self, study: Study) -> None: ...
    def asked(self, number: int, design: Design) -> None: ...
    def progress(self, stage: str, share: float, number: int | None = None) -> None: ...
    def told(self, record: TrialRecord, study: Study) -> None: ...


def run(world: World, recipe: Recipe, guided: bool) -> list[TrialRecord]:
    """The records of one replayed search."""
    clock = Clock()
    rungs = tuple(r for r in rung_epochs(EPOCHS, recipe.guided.reduction) if r in world.rungs)
    guide = Guide(world.space, recipe, rungs) if guided else None
    with tempfile.TemporaryDirectory() as folder:
        place = StudyFolder(Path(folder) / "s")
        with place.claim():
            place.start(recipe, {"space": world.space.digest, "data": "table"})
            evaluate = Replayed(world, clock)
            loop = Loop(place, recipe, world.space, Here(evaluate), {}, Silent(), guide=guide, clock=clock)
            loop.run()
            return loop.records


def make_recipe(seed: int, sampler: str, budget: dict[str, float], guided: dict[str, bool]) -> Recipe:
    data = {"data": {"source": "digits"}, "space": "table", "budget": {**budget, "epochs": EPOCHS}}
    return parse_recipe(data | {"seed": seed, "sampler": sampler, "guided": guided}, "a replay")


def volume(world: World, numbers: Sequence[int]) -> float:
    """The share of the box that designs of these numbers dominate."""
    import moocore

    points = np.stack([world.accuracy[list(numbers)], world.latency[list(numbers)]], axis=1)
    axes = world.reference.normalise(points)
    return float(moocore.hypervolume(axes, ref=[0.0, 0.0], maximise=True)) if len(numbers) else 0.0


def screening(world: World, seeds: int, trials: int, samplers: Sequence[str]) -> None:
    """Prints what screening threw away."""
    print(f"screening on {world.table.name}: {trials} trials, {seeds} seeds; aims: at most 0.5 % and 2 %")
    for sampler in samplers:
        lost, out, members, screened, spared = [], 0, 0, 0, 0
        for seed in range(seeds):
            parts = {"screening": True, "rungs": False, "fans": False}
            records = run(world, make_recipe(seed, sampler, {"trials": trials}, parts), guided=True)
            measured = {world.number(r.design) for r in records if r.outcome is Outcome.MEASURED}
            thrown = {world.number(r.design) for r in records if r.outcome is Outcome.SCREENED} - measured
            both = sorted(measured | thrown)
            front = {both[i] for i in world_front(world, both)}
            whole = volume(world, both)
            lost.append((whole - volume(world, sorted(measured))) / whole)
            out += len(front & thrown)
            members += len(front)
            screened += len(thrown)
            spared += sum(record.spared for record in records)
        # Clopper and Pearson's upper bound of the share.
        bound = float(beta.ppf(0.975, out + 1, members - out)) if out < members else 1.0
        print(
            f"  {sampler:10s} screened {screened / seeds:6.1f} a run, spared {spared / seeds:4.1f}; hypervolume lost "
            f"{100 * np.mean(lost):.3f} % (most {100 * max(lost):.3f} %); of the front screened out {out} of "
            f"{members}: {100 * out / members:.2f} % (at most {100 * bound:.2f} %)",
            flush=True,
        )


def world_front(world: World, numbers: Sequence[int]) -> np.ndarray:
    from nas.front import non_dominated

    points = np.stack([world.accuracy[list(numbers)], world.latency[list(numbers)]], axis=1)
    return np.flatnonzero(non_dominated(points, [True, False]))


VARIANTS: dict[str, tuple[str, bool, dict[str, bool]]] = {
    "tpe": ("tpe", False, {}),
    "predictor alone": ("predictor", False, {}),
    "+ fans": ("predictor", True, {"screening": False, "rungs": False}),
    "+ rungs": ("predictor", True, {"screening": False, "fans": False}),
    "+ screening": ("predictor", True, {"rungs": False, "fans": False}),
    "fans, screening": ("predictor", True, {"rungs": False}),
    "guided": ("predictor", True, {}),
}


def strategies(world: World, seeds: int, minutes: float, names: Sequence[str]) -> None:
    """Prints how soon each variant reaches shares of the true hypervolume, in the table's own seconds."""
    best = volume(world, range(len(world.table)))
    shares = (0.9, 0.95, 0.97, 0.99)
    print(f"strategies on {world.table.name}: seconds to a share of the true hypervolume, {seeds} seeds, median")
    print(f"  {'':18s}" + "".join(f"{share:10.0%}" for share in shares) + "      end   trials")
    for name in names:
        sampler, guided, parts = VARIANTS[name]
        times: list[list[float]] = []
        ends, counts = [], []
        for seed in range(seeds):
            records = run(world, make_recipe(seed, sampler, {"minutes": minutes}, parts), guided)
            at, seen, reached = 0.0, list[int](), dict[float, float]()
            for record in records:
                at += record.seconds
                if record.outcome is Outcome.MEASURED:
                    seen.append(world.number(record.design))
                    share = volume(world, seen) / best
                    for wanted in shares:
                        if share >= wanted:
                            reached.setdefault(wanted, at)
            times.append([reached.get(wanted, float("inf")) for wanted in shares])
            ends.append(volume(world, seen) / best)
            counts.append(len(seen))
        medians = np.median(np.array(times), axis=0)
        cells = "".join(f"{'not' if np.isinf(m) else f'{m:.0f}':>10s}" for m in medians)
        print(f"  {name:18s}{cells} {np.median(ends):8.1%} {np.median(counts):8.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", type=Path, help="a table of NAS-Bench-201's cells; else the digits table")
    parser.add_argument("--device", default="raspi4")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=4.0, help="of the table's time, for the strategies")
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe", "predictor"])
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--only", choices=["screening", "strategies"])
    given = parser.parse_args()
    world = cells(given.table, given.device) if given.table else digits()
    if given.only != "strategies":
        screening(world, given.seeds, given.trials, given.samplers)
    if given.only != "screening" and given.table is None:
        strategies(world, given.seeds, given.minutes, given.variants)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
