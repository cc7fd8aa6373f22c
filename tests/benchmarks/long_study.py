"""What asking and telling cost in a study of 10,000 trials, how much memory and disk it takes.

    python tests/benchmarks/long_study.py                      # 9,400 trials made up, 600 searched
    python tests/benchmarks/long_study.py --made-up 0 --searched 10000
    python tests/benchmarks/long_study.py --samplers guided --profile
    python tests/benchmarks/long_study.py --growth             # at 1,000, 3,000 and 10,000 trials

The loop, the guide, the records, the storage and the cache are the real ones; only the evaluator is none: it tells
numbers that follow from the design (see ``tests/large_study_network.py``), in rungs as a real one does, and writes real
files into the cache. So that 10,000 trials are reached within minutes, all but the last 600 are made up as a long
guided search would have left them (``tests/large_study.py``), and the search goes on from there as from any study.
Optuna's Gaussian processes (``--samplers gp``) need more than 16 GB for so many.

Each sampler runs in a process of its own, the same trials before it. The columns: medians of the last 500 trials in
milliseconds, of asking and telling (together, and each), and of all the time between the ends of two trials that no
evaluation took (``loop``: also writing the record, trimming the cache, judging at rungs); the most memory that the
process ever had, the most that the cache did, and the whole folder at the end, in MB; and how many of the front's
artifacts are there. Exits with 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import hashlib
import json
import multiprocessing
import pstats
import random
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # as tests import benchmarks

from large_study import CLASSES, Machine, large_recipe, make_records
from large_study_network import EPOCHS, Network

from nas.design import Design
from nas.evaluate import EvalRequest, EvalResult
from nas.front import pareto_front
from nas.outcome import Outcome
from nas.recipe import Recipe
from nas.record import TrialRecord, record_path
from nas.search.asking import Asking
from nas.search.guide import Guide
from nas.search.insight import Insight
from nas.search.loop import Loop
from nas.search.network_facts import network_facts
from nas.search.optuna_bridge import Bridge
from nas.space import load_space
from nas.stages import Progress
from nas.store import Store
from nas.study import Study, StudyFolder
from nas.train import rung_epochs
from nas.workers.here import Here

AIM_MS, AIM_MEMORY_BYTES = 150.0, 10**9
JUDGED = 500  # the last so many trials
SHAPE = (1, 28, 28)
ARTIFACT_BYTES, WEIGHTS_BYTES = 20_000, 30_000
CACHE_LIMIT_MB, CACHE_SLACK = 40, 1.05
# What searches: Optuna's samplers beside ours, which is guided as in a search by default, or alone.
SEARCHES = {
    "guided": ("guided", "predictor"),
    "predictor": ("plain", "predictor"),
    "tpe": ("plain", "tpe"),
    "nsga2": ("plain", "nsga2"),
    "random": ("plain", "random"),
    "gp": ("plain", "gp"),
}
MOST_FUNCTIONS = 45


class Computed:
    """An evaluator whose numbers follow from the design alone; it keeps the seconds that it took itself.

    Args:
        store: Where weights and artifacts are written.
        seconds: Tells the time.
    """

    def __init__(self, store: Store, seconds: Callable[[], float] = time.perf_counter) -> None:
        self.store = store
        self.clock = seconds
        self.seconds = 0.0
        self._trained: dict[str, int] = {}

    def __call__(self, request: EvalRequest, progress: Progress | None) -> EvalResult:
        began = self.clock()
        try:
            return self._evaluated(request)
        finally:
            self.seconds += self.clock() - began

    def _evaluated(self, request: EvalRequest) -> EvalResult:
        design = request.design
        known = Network(design, random.Random(design.digest), 1.0, Machine().environment_id)
        if request.until == 0:
            return EvalResult(Outcome.STOPPED, quantities=known.untrained())
        until = EPOCHS if request.until is None else request.until
        before = self._trained.get(design.architecture_digest, 0)
        self._trained[design.architecture_digest] = max(before, until)
        if before < until:
            self.store.put(f"train-{until}-{design.architecture_digest}", content(design, until, WEIGHTS_BYTES), {})
        training = replace(known.training(request.number, until), cached=before >= until)
        if request.until is not None:
            return EvalResult(Outcome.STOPPED, quantities=(known.rung(),), stages=(training,))
        artifact = self.store.put(f"artifact-{request.number:05d}", content(design, 0, ARTIFACT_BYTES), {})
        return EvalResult(
            Outcome.MEASURED,
            quantities=known.quantities(),
            stages=(training, *known.stages(request.number, cached=False)[1:]),
            artifact_sha256=artifact.sha256,
            manifest={"class_names": [str(label) for label in range(CLASSES)]},
            notes=known.notes,
        )


def content(design: Design, kind: int, size: int) -> bytes:
    """Bytes that follow from the design, and that no two designs share."""
    return random.Random(f"{kind}-{design.digest}").randbytes(size)


@dataclass
class Reading:
    """What was read off a search; lists have one entry for each trial that it searched.

    Args:
        loop: Seconds between the ends of two trials less those of evaluations.
        asked: Seconds of asking for the next design.
        told: Seconds of telling Optuna of a trial.
        memory_bytes: The most resident memory that the process had.
        most_cache_bytes: The most that all files in the cache took.
        folder_bytes: What all files of the study took at the end.
        front: How many trials are on the front, and ``front_kept`` of how many of them the artifacts are there.
        trials: All trials at the end.
    """

    loop: list[float] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    told: list[float] = field(default_factory=list)
    memory_bytes: int = 0
    most_cache_bytes: int = 0
    folder_bytes: int = 0
    front: int = 0
    front_kept: int = 0
    trials: int = 0

    @property
    def both(self) -> list[float]:
        """Seconds of asking for a trial and telling of it."""
        count = min(len(self.asked), len(self.told))
        return [ask + tell for ask, tell in zip(self.asked[-count:], self.told[-count:], strict=True)]

    def milliseconds(self, name: str) -> float:
        """The median of the last ``JUDGED`` trials."""
        last = getattr(self, name)[-JUDGED:]
        return 1000 * statistics.median(last) if last else 0.0


class Reader:
    """A watcher that reads while it is told, and ends the search after so many trials as a person would.

    Args:
        evaluate: The evaluator of the search.
        trials: How many.
        clock: Tells the seconds.
    """

    def __init__(self, evaluate: Computed, trials: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.evaluate, self.trials, self.clock = evaluate, trials, clock
        self.reading = Reading()
        self.last = (0.0, 0.0)

    def note(self, text: str) -> None:
        pass

    def began(self, study: Study) -> None:
        self.last = self.clock(), self.evaluate.seconds

    def asked(self, number: int, design: Design) -> None:
        pass

    def progress(self, stage: str, share: float, number: int | None = None) -> None:
        pass

    def told(self, record: TrialRecord, study: Study) -> None:
        now = self.clock(), self.evaluate.seconds
        self.reading.loop.append(now[0] - self.last[0] - (now[1] - self.last[1]))
        if len(self.reading.loop) % 25 == 0:
            self.reading.most_cache_bytes = max(self.reading.most_cache_bytes, size_of(study.folder.cache))
        if len(self.reading.loop) == self.trials:
            raise KeyboardInterrupt
        self.last = self.clock(), self.evaluate.seconds


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def most_memory_bytes() -> int:
    """The most resident memory that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


@contextmanager
def timed(owner: type, name: str, seconds: list[float], clock: Callable[[], float]) -> Iterator[None]:
    """How long each call of a method takes is added to a list meanwhile."""
    method = getattr(owner, name)

    @functools.wraps(method)
    def measured(*args: Any, **kwargs: Any) -> Any:
        began = clock()
        try:
            return method(*args, **kwargs)
        finally:
            seconds.append(clock() - began)

    setattr(owner, name, measured)
    try:
        yield
    finally:
        setattr(owner, name, method)


def long_recipe(name: str, **changes: Any) -> Recipe:
    """The recipe of one of ``SEARCHES``; both budgets are beyond reach, so that both are reckoned with."""
    strategy, sampler = SEARCHES[name]
    budget = {"trials": 10**6, "minutes": 10**6, "epochs": EPOCHS, "patience_minutes": 10**6}
    common = {"sampler": sampler, "strategy": strategy, "budget": budget, "cache_limit_mb": CACHE_LIMIT_MB}
    return large_recipe(10**6, **(common | changes))


def make_up(folder: Path, recipe: Recipe, trials: int) -> None:
    """Writes trials as if they had been searched; the cache holds the front's artifacts and as many as fit."""
    blobs = folder / "cache" / "blobs"
    for path in (folder / "trials", blobs):
        path.mkdir(parents=True)
    records = []
    for record in make_records(trials) if trials else ():
        if record.artifact_sha256 is not None:
            sha256 = hashlib.sha256(content(record.design, 0, ARTIFACT_BYTES)).hexdigest()
            record = replace(record, artifact_sha256=sha256)
        # Not by write_record, which waits for the disk after each.
        record_path(folder / "trials", record.number).write_text(json.dumps(record.to_json(), indent=1))
        records.append(record)
    measured = [record for record in records if record.artifact_sha256 is not None]
    fit = recipe.cache_limit_mb * 10**6 // ARTIFACT_BYTES
    front = pareto_front(records, recipe.parsed_objectives, recipe.parsed_constraints)
    for record in [*front, *measured[-fit:]]:
        (blobs / str(record.artifact_sha256)).write_bytes(content(record.design, 0, ARTIFACT_BYTES))


def search(
    path: Path,
    recipe: Recipe,
    made: Path | None,
    searched: int,
    clock: Callable[[], float] = time.perf_counter,
    profiler: cProfile.Profile | None = None,
) -> Reading:
    """Searches so many trials after those that were made up.

    Args:
        path: The study's folder.
        recipe: What is searched.
        made: Where ``make_up`` left trials and cache; None where there are none.
        searched: How many trials are searched.
        clock: Tells the seconds; of a process where others disturb the measurement.
        profiler: Sees the search, where given.
    """
    folder, space = StudyFolder(path), load_space("convnet")
    guide = None
    if recipe.strategy == "guided":
        facts = network_facts(space, SHAPE, CLASSES)
        guide = Guide(Insight(space, recipe, rung_epochs(EPOCHS, recipe.guided.reduction), facts=facts))
    with folder.claim(), ExitStack() as stack:
        folder.start(recipe, {"space": space.digest, "data": "none"})
        if made is not None:
            shutil.copytree(made, folder.path, dirs_exist_ok=True)
        store = Store(folder.cache, recipe.cache_limit_mb * 10**6)
        evaluate = Computed(store, clock)
        reader = Reader(evaluate, searched, clock)
        loop = Loop(folder, recipe, space, Here(evaluate), Machine().environment, reader, guide=guide)
        stack.enter_context(timed(Asking, "next", reader.reading.asked, clock))
        stack.enter_context(timed(Bridge, "tell", reader.reading.told, clock))
        with suppress(KeyboardInterrupt):
            if profiler is None:
                loop.run()
            else:
                profiler.runcall(loop.run)
    reader.reading.memory_bytes = most_memory_bytes()
    return _with_folder(reader.reading, Study.open(path))


def _with_folder(reading: Reading, study: Study) -> Reading:
    """The reading with what the folder holds at the end."""
    reading.trials = len(study.records)
    reading.most_cache_bytes = max(reading.most_cache_bytes, size_of(study.folder.cache))
    reading.folder_bytes = size_of(study.folder.path)
    front = [record for record in study.front if record.outcome is Outcome.MEASURED]
    reading.front = len(front)
    reading.front_kept = sum(study.store.read_blob(str(record.artifact_sha256)) is not None for record in front)
    return reading


def _in_own_process(name: str, made: Path, searched: int, profile: bool, results: Any) -> None:
    profiler = cProfile.Profile() if profile else None
    with tempfile.TemporaryDirectory() as scratch:
        results.put(search(Path(scratch) / "study", long_recipe(name), made, searched, profiler=profiler))
    if profiler is not None:
        pstats.Stats(profiler).strip_dirs().sort_stats("cumulative").print_stats(MOST_FUNCTIONS)
        pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(MOST_FUNCTIONS)


def read(name: str, made: Path, searched: int, profile: bool = False) -> Reading:
    """Runs one of ``SEARCHES`` in a process of its own, so that its memory is its own."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_in_own_process, args=(name, made, searched, profile, results))
    process.start()
    while process.is_alive() and results.empty():
        process.join(0.2)
    if results.empty():
        sys.exit(f"the search '{name}' ended with {process.exitcode}")
    reading: Reading = results.get()
    process.join()
    return reading


HEADINGS = (
    f"{'search':<12}{'trials':>8}{'ask + tell':>12}{'ask':>9}{'tell':>7}{'loop':>9}"
    f"{'memory':>9}{'cache':>8}{'folder':>8}{'front kept':>12}"
)


def line(name: str, reading: Reading) -> str:
    """A line of the table."""
    milliseconds = reading.milliseconds
    return (
        f"{name:<12}{reading.trials:>8,}{milliseconds('both'):>12.1f}{milliseconds('asked'):>9.1f}"
        f"{milliseconds('told'):>7.1f}{milliseconds('loop'):>9.1f}{reading.memory_bytes / 1e6:>9.0f}"
        f"{reading.most_cache_bytes / 1e6:>8.1f}{reading.folder_bytes / 1e6:>8.1f}"
        f"{f'{reading.front_kept}/{reading.front}':>12}"
    )


def missed(name: str, reading: Reading) -> list[str]:
    """What a search missed of the aims."""
    words = []
    if SEARCHES[name][1] == "predictor" and reading.milliseconds("both") >= AIM_MS:
        words.append(f"{name}: asking and telling under {AIM_MS:g} ms")
    if reading.memory_bytes >= AIM_MEMORY_BYTES:
        words.append(f"{name}: memory under {AIM_MEMORY_BYTES / 1e9:g} GB")
    # What goes beyond the limit is what must stay, the index files, and what was written since it was last looked at.
    if reading.most_cache_bytes > CACHE_SLACK * CACHE_LIMIT_MB * 10**6:
        words.append(f"{name}: a cache within {CACHE_LIMIT_MB} MB")
    if reading.front_kept < reading.front:
        words.append(f"{name}: all artifacts of the front kept")
    return words


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--made-up", type=int, default=9400)
    parser.add_argument("--searched", type=int, default=600)
    parser.add_argument(
        "--samplers", nargs="+", choices=list(SEARCHES), default=[name for name in SEARCHES if name != "gp"]
    )
    parser.add_argument("--growth", action="store_true", help="at 1,000, 3,000 and 10,000 trials")
    parser.add_argument("--profile", action="store_true", help="show which functions take the time")
    options = parser.parse_args()
    counts = [1_000 - options.searched, 3_000 - options.searched] if options.growth else []
    counts = [max(0, count) for count in (*counts, options.made_up)]
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in counts:
            make_up(Path(scratch) / str(count), long_recipe("guided"), count)
        print(HEADINGS, flush=True)
        for name in options.samplers:
            for count in counts:
                reading = read(name, Path(scratch) / str(count), options.searched, options.profile)
                print(line(name, reading), flush=True)
                found += missed(name, reading)
    print(f"missed: {'; '.join(found)}" if found else "all aims met")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
