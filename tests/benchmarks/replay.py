"""What a search's own rules cost and save, replayed on complete tables: there, what was given up is known too.

    python tests/benchmarks/replay.py                       # screening, and strategies beside the plain loop, on digits
    python tests/benchmarks/replay.py --table nas_bench_201_hw.csv.gz --device raspi4
    python tests/benchmarks/replay.py --only strategies --variants guided --set judging.SPARED=20   # a rule tried out

The search is the real one, its loop, sampler, surrogates and rules; only the evaluation reads the table
(``worlds.py``), and time is what the table says that training, compressing and measuring took. So it judges on a busy
machine too.

Screening is judged by what it threw away: how much hypervolume the screened designs would have added in the end, and
which share of the front, with them, they would have been. Strategies are judged by the hypervolume over those seconds,
accuracy linear and latency on a logarithmic axis, beside the plain loop: TPE, one design after the other, all epochs,
nothing kept from trial to trial, each training ``--plain-times`` as long (1 is this project's training code, float32 as
people write it takes about twice as long).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from scipy.stats import beta
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parent.parent))  # as tests import benchmarks

from benchmarks.worlds import EPOCHS, Clock, Replayed, World, cells, digits

from nas.design import Design
from nas.front import non_dominated
from nas.outcome import Outcome
from nas.recipe import Recipe, parse_recipe
from nas.record import TrialRecord
from nas.search.guide import Guide
from nas.search.insight import Insight
from nas.search.loop import Loop
from nas.study import Study, StudyFolder
from nas.train import rung_epochs
from nas.workers.here import Here

SHARES = (0.9, 0.95, 0.97)
MOMENTS = (60, 120, 180, 360)

# Sampler, whether it is guided, which parts of that are off or other than usual.
VARIANTS: dict[str, tuple[str, bool, dict[str, bool | int]]] = {
    "plain loop": ("tpe", False, {}),
    "tpe": ("tpe", False, {}),
    "predictor": ("predictor", False, {}),
    "guided": ("predictor", True, {}),
    "no fans": ("predictor", True, {"fans": False}),
    "no rungs": ("predictor", True, {"rungs": False}),
    "no screening": ("predictor", True, {"screening": False}),
    "reduction 4": ("predictor", True, {"reduction": 4}),
}


@dataclass(frozen=True)
class Given:
    """What a process is told to replay.

    Args:
        table: Of NAS-Bench-201's cells; None for digits.
        device: Whose latencies count there.
        dear: So many times dearer are trainings on digits.
        settings: Constants of ``nas.search`` to try out: module, name, value.
        disturbed: Which share of the latencies is read too high, see ``Replayed``.
    """

    table: Path | None
    device: str
    dear: float
    settings: tuple[tuple[str, str, float], ...] = ()
    disturbed: float = 0.0

    def world(self) -> World:
        return _world(self.table, self.device, self.dear)

    def apply(self) -> None:
        """Sets the constants in this process."""
        for module, name, value in self.settings:
            where = importlib.import_module(f"nas.search.{module}")
            setattr(where, name, type(getattr(where, name))(value))


@cache
def _world(table: Path | None, device: str, dear: float) -> World:
    return digits(dear) if table is None else cells(table, device)


class Silent:
    """Nobody watches."""

    def note(self, text: str) -> None: ...
    def began(self, study: Study) -> None: ...
    def asked(self, number: int, design: Design) -> None: ...
    def progress(self, stage: str, share: float, number: int | None = None) -> None: ...
    def told(self, record: TrialRecord, study: Study) -> None: ...


def run(world: World, recipe: Recipe, guided: bool, evaluate: Replayed) -> list[TrialRecord]:
    """The records of one replayed search."""
    rungs = tuple(r for r in rung_epochs(EPOCHS, recipe.guided.reduction) if r in world.rungs)
    guide = Guide(Insight(world.space, recipe, rungs, rough=world.rough, facts=world.facts)) if guided else None
    with tempfile.TemporaryDirectory() as folder:
        place = StudyFolder(Path(folder) / "s")
        with place.claim():
            place.start(recipe, {"space": world.space.digest, "data": "table"})
            here = Here(evaluate)
            loop = Loop(place, recipe, world.space, here, {}, Silent(), guide=guide, clock=evaluate.clock)
            loop.run()
            return loop.records


def make_recipe(seed: int, sampler: str, budget: dict[str, float], guided: dict[str, bool | int]) -> Recipe:
    data = {"data": {"source": "digits"}, "space": "table", "budget": {**budget, "epochs": EPOCHS}}
    return parse_recipe(data | {"seed": seed, "sampler": sampler, "guided": guided}, "a replay")


def volume(world: World, numbers: Sequence[int]) -> float:
    """The area that designs of these numbers dominate."""
    return world.axes.hypervolume(world.points()[list(numbers)]) if len(numbers) else 0.0


def _screened(given: Given, sampler: str, trials: int, seed: int) -> tuple[float, int, int, int, int]:
    """Of one run: hypervolume lost, front members screened out, front members, designs screened out, spared."""
    given.apply()
    world = given.world()
    recipe = make_recipe(seed, sampler, {"trials": trials}, {"screening": True, "rungs": False, "fans": False})
    records = run(world, recipe, True, Replayed(world, Clock()))
    measured = {world.number(r.design) for r in records if r.outcome is Outcome.MEASURED}
    thrown = {world.number(r.design) for r in records if r.outcome is Outcome.SCREENED} - measured
    both = sorted(measured | thrown)
    front = {both[i] for i in np.flatnonzero(non_dominated(world.points()[both], [True, False]))}
    whole = volume(world, both)
    lost = (whole - volume(world, sorted(measured))) / whole
    return lost, len(front & thrown), len(front), len(thrown), sum(record.spared for record in records)


def screening(given: Given, pool: ProcessPoolExecutor, seeds: int, trials: int, samplers: Sequence[str]) -> None:
    """Prints what screening threw away."""
    print(f"screening: {trials} trials, {seeds} seeds; aims: at most 0.5 % and 2 %")
    for sampler in samplers:
        found = np.array(list(pool.map(partial(_screened, given, sampler, trials), range(seeds))))
        lost, (out, members), screened, spared = found[:, 0], found[:, 1:3].sum(axis=0), found[:, 3], found[:, 4]
        # Clopper and Pearson's upper bound of the share.
        bound = float(beta.ppf(0.975, out + 1, members - out)) if out < members else 1.0
        print(
            f"  {sampler:10s} screened {screened.mean():6.1f} a run, spared {spared.mean():4.1f}; hypervolume lost "
            f"{100 * lost.mean():.3f} % (most {100 * lost.max():.3f} %); of the front screened out {out:.0f} of "
            f"{members:.0f}: {100 * out / members:.2f} % (at most {100 * bound:.2f} %)",
            flush=True,
        )


@dataclass(frozen=True)
class Course:
    """How one run went.

    Args:
        reached: Seconds until each of ``SHARES``; infinite where it was not.
        held: Share of the true hypervolume at each of ``MOMENTS``.
        spent: Seconds until the last of ``SHARES``, or the end, by what they went into.
        trials: Trials that ended by then.
    """

    reached: tuple[float, ...]
    held: tuple[float, ...]
    spent: Mapping[str, float]
    trials: int


def _course(given: Given, name: str, minutes: float, plain_times: float, seed: int) -> Course:
    given.apply()
    world = given.world()
    sampler, guided, parts = VARIANTS[name]
    plain = name == "plain loop"
    times = plain_times if plain else 1.0
    evaluate = Replayed(world, Clock(), not plain, times, given.disturbed, seed)
    records = run(world, make_recipe(seed, sampler, {"minutes": minutes}, parts), guided, evaluate)
    best = volume(world, range(len(world.table)))
    at, share, seen, reached, held = 0.0, 0.0, list[int](), dict[float, float](), dict[int, float]()
    spent, trials = defaultdict[str, float](float), 0
    for record in records:
        for moment in MOMENTS:
            if at <= moment < at + record.seconds:
                held[moment] = share
        at += record.seconds
        if SHARES[-1] not in reached:
            trials += 1
            what = f"{record.origin} {record.outcome.value}"
            for stage in record.stages:
                spent[f"{what}: {stage.stage}"] += stage.seconds
            spent[f"{what}: rest"] += record.seconds - sum(stage.seconds for stage in record.stages)
        if record.outcome is Outcome.MEASURED:
            seen.append(world.number(record.design))
            share = volume(world, seen) / best
            for wanted in SHARES:
                if share >= wanted:
                    reached.setdefault(wanted, at)
    return Course(
        tuple(reached.get(wanted, float("inf")) for wanted in SHARES),
        tuple(held.get(moment, share) for moment in MOMENTS),
        spent,
        trials,
    )


def strategies(
    given: Given,
    pool: ProcessPoolExecutor,
    seeds: Sequence[int],
    minutes: tuple[float, float],
    plain_times: float,
    names: Sequence[str],
    spent: bool,
) -> None:
    """Prints how soon each variant reaches shares of the true hypervolume, in the table's own seconds."""
    print(f"strategies: {len(seeds)} seeds; seconds to a share of the true front's hypervolume (median, quartiles for "
          "the last), share held at a moment (median)")  # fmt: skip
    heads = [f"{share:.0%}" for share in SHARES] + ["quartiles"] + [f"at {moment} s" for moment in MOMENTS] + ["trials"]
    print(f"  {'':18s}" + "".join(f"{head:>10s}" for head in heads))
    for name in names:
        allowed = minutes[1] if name == "plain loop" else minutes[0]
        courses = list(pool.map(partial(_course, given, name, allowed, plain_times), seeds))
        reached = np.array([course.reached for course in courses])
        # By order, as some are infinite.
        low, high = (np.percentile(reached[:, -1], q, method="nearest") for q in (25, 75))
        row = [_seconds(m) for m in np.percentile(reached, 50, axis=0, method="higher")]
        row += [f"{_seconds(low)}-{_seconds(high)}"]
        row += [f"{m:.1%}" for m in np.median([course.held for course in courses], axis=0)]
        row += [f"{np.median([course.trials for course in courses]):.0f}"]
        print(f"  {name:18s}" + "".join(f"{cell:>10s}" for cell in row), flush=True)
        if spent:
            every = {what for course in courses for what in course.spent}
            total = {what: sum(course.spent.get(what, 0.0) for course in courses) for what in every}
            for what, seconds in sorted(total.items(), key=lambda item: -item[1])[:14]:
                print(f"      {seconds / sum(total.values()):6.1%}  {what}")


def _seconds(value: float) -> str:
    return "not" if np.isinf(value) else f"{value:.0f}"


def _begin() -> None:
    """In each process: a thread is enough, as there is a process for each core; and others come first."""
    threadpool_limits(1)
    os.nice(10)


def _setting(text: str) -> tuple[str, str, float]:
    """``module.NAME=value``."""
    where, _, value = text.partition("=")
    module, _, name = where.rpartition(".")
    if not hasattr(importlib.import_module(f"nas.search.{module}"), name):
        raise argparse.ArgumentTypeError(f"nas.search.{module} has no '{name}'")
    return module, name, float(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", type=Path, help="a table of NAS-Bench-201's cells; else the digits table")
    parser.add_argument("--device", default="raspi4")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=100, help="for screening")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the table's time, for the strategies")
    parser.add_argument("--plain-minutes", type=float, default=60.0, help="the same, for the plain loop")
    parser.add_argument("--plain-times", type=float, default=1.0, help="so many times longer the plain loop trains")
    parser.add_argument("--dear", type=float, default=6.0, help="so many times dearer are trainings on digits")
    parser.add_argument("--disturbed", type=float, default=0.0, help="share of latencies that strategies read too high")
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe", "predictor"])
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--only", choices=["screening", "strategies"])
    parser.add_argument("--spent", action="store_true", help="say what the seconds went into")
    parser.add_argument("--set", nargs="*", type=_setting, default=[], dest="settings", metavar="MODULE.NAME=VALUE")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    given = Given(asked.table, asked.device, asked.dear, tuple(asked.settings), asked.disturbed)
    with ProcessPoolExecutor(asked.jobs, initializer=_begin) as pool:
        if asked.only != "strategies":
            screening(given, pool, asked.seeds, asked.trials, asked.samplers)
        if asked.only != "screening":
            seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
            minutes = asked.minutes, asked.plain_minutes
            strategies(given, pool, seeds, minutes, asked.plain_times, asked.variants, asked.spent)


if __name__ == "__main__":
    main()
