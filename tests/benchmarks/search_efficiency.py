"""What a search costs beside the loop that people write around Optuna: hypervolume over wall time, time to 97 %.

    python tests/benchmarks/search_efficiency.py    # Fashion-MNIST, five seeds: 2 h of searches, about 1 h of the rest
    python tests/benchmarks/search_efficiency.py --folder /tmp/small --recipe studies/digits.yaml \
        --space tests/benchmarks/digits_table_space.yaml --minutes 1 --seeds 0 1           # everything in 10 minutes

Three ways to search the same space, data and epochs from the same seeds, each a process of its own on one core:

    ours        ``nas search`` as the recipe says (strategy auto); ``ours-guided``, ``ours-plain`` and ``ours-supernet``
                force a strategy
    plain       the loop of ``plain_loop.py``: float32, TPE, one design per training
    plain-fast  the same loop with this project's training and compression, without its cache

Two run side by side at a time, so that what the machine does hits both sides, and a free core takes the next. The clock
starts when a process has imported what it needs, and everything after counts, a strategy's trying out of costs too.

What a search is worth is told by its finalists trained again, all in the same way (``efficiency_retraining.py``): the
fronts that it had are trained from ``--repeats`` other seeds, whose mean accuracy on test data counts, and timed in
turns with those of all other runs. To do so once costs time, which is added: members are trained again in the order of
what each adds to the front, and a run reaches a target at the first moment t + c(t) at which those of the front of
moment t that were trained again in c(t) seconds have its hypervolume. The target is 97 % of the hypervolume of all that
was trained again, of all runs. A run that does not reach it counts with the time that it had, as a lower bound, and the
ratio is said to be a bound.

Everything lies in ``--folder``. What is finished there is not done again, so the same command goes on where it was
interrupted, and more seeds or variants may be added. ``--steps`` does a part alone. Wants a quiet machine of two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parent.parent))  # as tests import benchmarks

from benchmarks.efficiency_analysis import (
    Again,
    Axes,
    Front,
    Scored,
    as_scored,
    as_trained_again,
    at_checkpoints,
    fronts,
    points_of,
    time_to,
)
from benchmarks.efficiency_picture import draw
from benchmarks.efficiency_report import Result, as_json, report
from benchmarks.efficiency_retraining import Retrained, seeds_of, time_in_turns
from benchmarks.efficiency_runs import Job, Run, check, lanes_of, one_after_another

from nas.design import Design
from nas.errors import NasError
from nas.recipe import Recipe, load_recipe
from nas.space import load_space
from nas.store import write_atomically
from nas.target import ONNX, Place, Target
from nas.wording import plural

HERE = Path(__file__).parent
RECIPE = HERE.parent.parent / "studies" / "fashion-mnist.yaml"
FOLDER = Path(tempfile.gettempdir()) / "search-efficiency"

# The box in which fronts are compared, and the share of the best one's hypervolume that counts as there.
AXES = Axes(least_accuracy=0.5, fastest_ms=0.01, slowest_ms=1.0)
SHARE = 0.97

VARIANTS = ("ours", "plain", "plain-fast")
STRATEGIES = ("auto", "guided", "plain", "supernet")
STEPS = ("search", "retrain", "time", "analyse")
CHECKPOINTS = 24
REPEATS = 3
AIMS = {"plain": 0.1, "plain-fast": 0.25}


class Comparison:
    """All runs of a comparison in a folder, and what was settled when it began."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder: Path = options.folder
        self.recipe_path = self.folder / "recipe.yaml"
        self.recipe = settled_recipe(options.recipe, options.space)
        self.retrained = Retrained(self.folder / "retrained")
        self.seeds_again = seeds_of(options.repeats)
        self.runs = [
            Run(variant, seed, self.folder / "runs" / f"{variant}-{seed}")
            for seed in options.seeds
            for variant in options.variants
        ]

    def begin(self) -> None:
        """Writes the recipe into the folder, or makes sure that it is the one there.

        Raises:
            NasError: The folder holds a comparison of another recipe or space.
        """
        settings = {
            "recipe": self.recipe.identity,
            "space": load_space(self.recipe.space).digest,
        }
        path = self.folder / "settings.json"
        if path.exists() and (there := json.loads(path.read_text())) != settings:
            different = [name for name in settings if there.get(name) != settings[name]]
            raise NasError(
                f"{self.folder} holds a comparison with another {', '.join(different)}", "name another --folder"
            )
        self.retrained.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.recipe_path, yaml.safe_dump(self.recipe.to_json(), sort_keys=False).encode())
        write_atomically(path, json.dumps(settings, indent=1).encode())

    def minutes(self, run: Run) -> float:
        longer = self.options.plain_minutes
        return float(longer if longer and not run.is_ours else self.options.minutes)

    def search(self) -> None:
        """Runs what is not done, so many at a time as there are lanes, each beside another on a core of its own."""
        missing = sorted((run for run in self.runs if not run.done.exists()), key=self.minutes)
        missing = missing[-1:] + missing[:-1]  # a long one beside the short ones, so that cores end together
        jobs = [
            Job(self.command(run), run.folder, partial(self.begin_run, run), partial(self.end_run, run))
            for run in missing
        ]
        check(one_after_another(jobs, lanes_of(self.options.lanes)))

    def begin_run(self, run: Run) -> None:
        print(f"searching: {run.variant} from seed {run.seed}", flush=True)
        shutil.rmtree(run.folder, ignore_errors=True)
        run.folder.mkdir(parents=True)

    def end_run(self, run: Run) -> None:
        spent = 60 * self.minutes(run)
        write_atomically(run.done, json.dumps({"seconds": spent}).encode())
        trials = [line for line in run.lines() if line["seconds"] <= spent]
        print(f"  {run.variant} {run.seed}: {len(trials)} trials", flush=True)

    def command(self, run: Run) -> list[str]:
        """What runs a search in a process of its own."""
        common = ["--seed", str(run.seed), "--minutes", str(self.minutes(run)), "--log", str(run.log)]
        if run.is_ours:
            strategy = ["--strategy", run.strategy] if run.strategy else []
            return [str(HERE / "efficiency_ours.py"), str(self.recipe_path), *common, *strategy]
        return [str(HERE / "plain_loop.py"), str(self.recipe_path), *common, "--training", run.training]

    def retrain(self) -> None:
        """Trains the members of all fronts again that were not yet."""
        designs: dict[str, dict[str, Any]] = {}
        for run in self.finished():
            members = {name for front in self.fronts(run) for name in front.members}
            for line in run.lines():
                design = Design.from_json(line["design"])
                if design.digest in members:
                    designs[design.digest] = line["design"]
        needed = {(name, seed) for name in designs for seed in self.seeds_again}
        missing = len(needed - self.retrained.rows().keys())
        print(
            f"{len(designs)} designs to train again from {plural(len(self.seeds_again), 'seed')}: "
            f"{len(needed) - missing} of {len(needed)} trainings done",
            flush=True,
        )
        if not missing:
            return
        write_atomically(self.retrained.needed, json.dumps(list(designs.values())).encode())
        cores = lanes_of(self.options.lanes)
        script = str(HERE / "efficiency_retraining.py")
        jobs = []
        for lane in range(len(cores)):
            place = self.folder / f"lane-{lane}"
            command = [script, str(self.folder), "--lane", str(lane), "--lanes", str(len(cores))]
            command += ["--repeats", str(self.options.repeats)]
            jobs.append(Job(command, place, partial(place.mkdir, exist_ok=True), lambda: None))
        check(one_after_another(jobs, cores))

    def finished(self) -> list[Run]:
        return [run for run in self.runs if run.done.exists()]

    def fronts(self, run: Run, every: bool = False) -> list[Front]:
        """Every front of a run, or those that are trained again."""
        scored = [
            Scored(line["seconds"], Design.from_json(line["design"]).digest, line["accuracy"], line["latency_ms"])
            for line in run.lines()
            if "accuracy" in line
        ]
        found = fronts(scored, AXES, run.horizon())
        return found if every else at_checkpoints(found, self.options.checkpoints)

    def time(self) -> dict[str, float]:
        """Latencies of the files that each design's first training again gave."""
        first = self.seeds_again[0]
        rows = self.retrained.rows().items()
        files = [row["artifact"] for (_, seed), row in rows if seed == first and "artifact" in row]
        return time_in_turns(self.recipe, files, self.retrained)

    def trained(self) -> dict[str, Again | None]:
        """What came of each design that was trained from all seeds; None where a training failed."""
        rows = self.retrained.rows()
        latencies = self.time()
        found: dict[str, Again | None] = {}
        for digest in dict.fromkeys(digest for digest, _ in rows):
            own = [rows[digest, seed] for seed in self.seeds_again if (digest, seed) in rows]
            if len(own) == len(self.seeds_again):
                found[digest] = again_of(own, latencies)
        return found


def again_of(rows: Sequence[dict[str, Any]], latencies: dict[str, float]) -> Again | None:
    """A design's rows of all seeds as one: the mean accuracy; latency and cost of the first."""
    if any("artifact" not in row for row in rows):
        return None
    first = rows[0]
    return Again(
        mean(row["accuracy"] for row in rows),
        latencies[first["artifact"]],
        first["stages"] | {f"time {first['design']}": latencies["each"]},
    )


def settled_recipe(path: Path, space: Path | None) -> Recipe:
    """The recipe as all runs take it: accuracy and one latency are its objectives, and networks train on one thread.

    Raises:
        NasError: There is no accuracy, or no latency of ONNX files on the CPU.
    """
    recipe = load_recipe(path)
    keys = [item.key for item in recipe.parsed_objectives]
    latency = next((item for item in recipe.parsed_objectives if item.name == "latency_ms"), None)
    target = None if latency is None or Place.parse(latency.target or "") else Target.parse(latency.target or "")
    if "accuracy" not in keys or latency is None or target is None or target.form != ONNX or target.device != "cpu":
        raise NasError(
            f"the comparison is of accuracy and a latency on ONNX Runtime, but {path} asks for {', '.join(keys)}"
        )
    changes: dict[str, Any] = {
        "objectives": ("accuracy", latency.key),
        "constraints": (),
        "targets": (),
        "training": recipe.training.model_copy(update={"threads": 1}),
    }
    if space is not None:
        changes["space"] = str(space.resolve())
    return recipe.model_copy(update=changes)


def analyse(comparison: Comparison) -> bool:
    """Prints what came of it, draws it, and says whether the aims are met."""
    trained = comparison.trained()
    best = AXES.hypervolume(points_of([item for item in trained.values() if item is not None]))
    found = []
    for run in comparison.finished():
        every = comparison.fronts(run, every=True)
        some = comparison.fronts(run)
        if any(name not in trained for front in some for name in front.members):
            raise NasError("some fronts were not trained again yet", "take the step retrain before analyse")
        curve = as_trained_again(some, trained, AXES)
        alone = as_trained_again(some, trained, AXES, with_cost=False)
        reached, searched = (time_to(one, SHARE * best, run.horizon()) for one in (curve, alone))
        found.append(Result(run, as_scored(every), curve, reached, searched))
    failed = sum(item is None for item in trained.values())
    print(
        f"\nhypervolume: {AXES.words()}\nbest front of all runs: {best:.4f}, of {len(trained)} designs trained again "
        f"from {plural(len(comparison.seeds_again), 'seed')}"
        + (f", of which {failed} failed" if failed else "")
        + f"; {SHARE:.0%} of it: {SHARE * best:.4f}"
    )
    met = report(found, SHARE, AIMS, comparison.options.levels)
    write_atomically(comparison.folder / "results.json", json.dumps(as_json(found, best), indent=1).encode())
    picture = comparison.folder / "search_efficiency.png"
    data = comparison.recipe.data
    heading = f"{Path(data.path).name if data.path else data.source}, {load_space(comparison.recipe.space).name}"
    draw(picture, found, best, SHARE, heading, AXES.words())
    print(f"\npicture: {picture}")
    return met


def whole(options: argparse.Namespace) -> bool:
    """All steps, or those that are asked for."""
    comparison = Comparison(options)
    comparison.begin()
    met = True
    for step in (step for step in STEPS if step in options.steps):
        match step:
            case "search":
                comparison.search()
            case "retrain":
                comparison.retrain()
            case "time":
                comparison.time()
            case "analyse":
                met = analyse(comparison)
    return met


def variant_name(text: str) -> str:
    name, dash, strategy = text.partition("-")
    if text in VARIANTS or (name == "ours" and dash and strategy in STRATEGIES):
        return text
    raise argparse.ArgumentTypeError(f"must be one of {', '.join(VARIANTS)}, or ours-STRATEGY, but got '{text}'")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where everything is kept")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--space", type=Path, help="a .yaml file, in place of the recipe's space")
    parser.add_argument("--minutes", type=float, default=15.0, help="of each search")
    parser.add_argument("--plain-minutes", type=float, help="of the plain loops, where they may take longer")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--variants", type=variant_name, nargs="+", default=list(VARIANTS))
    parser.add_argument("--steps", choices=STEPS, nargs="+", default=list(STEPS))
    parser.add_argument("--lanes", type=int, default=min(2, len(os.sched_getaffinity(0))), help="cores to use")
    parser.add_argument("--checkpoints", type=int, default=CHECKPOINTS, help="fronts of a run to train again; 0: all")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="seeds to train each of their members from")
    parser.add_argument("--levels", type=float, nargs="+", default=[], help="hypervolumes to tell the time to as well")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, but got {options.repeats}")
    options.folder = options.folder.resolve()
    try:
        return 0 if whole(options) else 1
    except NasError as error:
        print(f"{error.message}{f' ({error.hint})' if error.hint else ''}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
