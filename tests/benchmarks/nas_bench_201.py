"""How many evaluations samplers need to find the front of a complete table of networks, and how long they take to ask.

    python tests/benchmarks/nas_bench_201.py --seeds 20 --evaluations 300
    python tests/benchmarks/nas_bench_201.py --noise --samplers predictor tpe
    python tests/benchmarks/nas_bench_201.py other.csv.gz --floor 60
    python tests/benchmarks/nas_bench_201.py --synthetic 4 --renamed

A table is a CSV file, compressed or not, with a column for each choice, an accuracy in per cent (a column whose name
holds "accuracy") and latencies (columns ``latency_*``). Accuracies above the floor count, latencies are divided by the
greatest; the hypervolume's reference is (floor, 1). With ``--noise`` samplers see accuracies as one training gives
them; what they evaluated is scored by the table's. Every sampler has the seeds 0, 1, 2, ... and no knowledge of the
reference, unless ``--tell-reference`` gives it to ours.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import moocore
import numpy as np
import optuna

sys.path.insert(0, str(Path(__file__).parent.parent))  # as tests import benchmarks

from benchmarks.searchers import Searcher, installed, searchers

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT.parent / "shared" / "data" / "nas-bench-201-hw" / "nas_bench_201_hw.csv.gz"
SHARES = (0.90, 0.95, 0.98)
# Standard deviations of an accuracy in per cent over training seeds: the better the network the smaller.
NOISE_AT = ((10.0, 2.0), (80.0, 0.8), (90.0, 0.4), (94.0, 0.2))


@dataclass(frozen=True)
class Table:
    """A complete table.

    Args:
        name: What it is called.
        choices: For each choice its name and values.
        rows: N×choices integers, the places of the values.
        accuracy: N accuracies in per cent.
        latencies: By name N latencies.
        floor: Accuracies above it count.
    """

    name: str
    choices: tuple[tuple[str, tuple[str, ...]], ...]
    rows: np.ndarray
    accuracy: np.ndarray
    latencies: dict[str, np.ndarray]
    floor: float

    def renamed(self, seed: int) -> Table:
        """The same table with its choices shuffled and every value named anew, so that no two choices share values."""
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(self.choices))
        choices, columns = [], []
        for place, old in enumerate(order):
            values = self.choices[old][1]
            shuffled = rng.permutation(len(values))
            choices.append((f"choice{place}", tuple(f"{place}-{n}" for n in range(len(values)))))
            columns.append(shuffled[self.rows[:, old]])
        return replace(self, name=f"{self.name}, renamed", choices=tuple(choices), rows=np.stack(columns, axis=1))


@dataclass(frozen=True)
class Problem:
    """One accuracy and one latency of a table, to be searched; latency is divided by its maximum."""

    table: Table
    device: str

    @property
    def points(self) -> np.ndarray:
        """N×2 accuracies and latencies."""
        latency = self.table.latencies[self.device]
        return np.stack([self.table.accuracy, latency / latency.max()], axis=1)


def read(path: Path, floor: float) -> Table:
    """Reads a table; exits with a line that says what is wrong with it."""
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        sys.exit(f"the table {path} cannot be read: {error}")
    lines = list(csv.DictReader(io.StringIO(text)))
    header = list(lines[0]) if lines else []
    qualities = [name for name in header if "accuracy" in name]
    devices = [name for name in header if name.startswith("latency_")]
    if not qualities or not devices:
        sys.exit(f"{path}: a table needs a column with 'accuracy' in its name and one 'latency_*', has {header}")
    named = [name for name in header if name.startswith("op")]
    if not named:
        named = [name for name in header if not _is_number(lines[0][name])]
    values = [tuple(sorted({line[name] for line in lines})) for name in named]
    rows = np.array([[own.index(line[name]) for name, own in zip(named, values, strict=True)] for line in lines])
    columns = {name: np.array([float(line[name]) for line in lines]) for name in [qualities[0], *devices]}
    choices = tuple(zip(named, values, strict=True))
    return Table(path.name, choices, rows, columns[qualities[0]], {name: columns[name] for name in devices}, floor)


def synthetic(seed: int) -> Table:
    """A table of random effects: of choices, of pairs of choices, and a few values that break a network.

    Accuracies saturate as they do in training; latencies add up, and some pairs of choices are slower together.
    """
    rng = np.random.default_rng([seed, 201])
    shape = [(6, 6, 6, 6, 6), (5,) * 6, (3, 4, 5, 4, 3, 4, 3), (8, 8, 4, 4, 4, 2)][seed % 4]
    grids = np.meshgrid(*[np.arange(size) for size in shape], indexing="ij")
    rows = np.stack([grid.ravel() for grid in grids], axis=1)
    skill, cost = np.zeros(len(rows)), np.zeros(len(rows))
    for place, size in enumerate(shape):
        useful = rng.gamma(2.0, 1.0) * rng.random(size)
        skill += useful[rows[:, place]]
        # What makes a network better tends to cost.
        cost += rng.gamma(2.0, 1.0) * (0.6 * useful / useful.max() + 0.4 * rng.random(size))[rows[:, place]]
        for other in range(place):
            together = rng.standard_normal((size, shape[other])) * (rng.random() < 0.5)
            skill += 0.5 * together[rows[:, place], rows[:, other]]
            cost += 0.3 * np.maximum(rng.standard_normal((size, shape[other])), 0)[rows[:, place], rows[:, other]]
    ranks = (skill - skill.mean()) / skill.std()
    accuracy = 94.0 - 6.0 * np.exp(-0.9 * ranks)
    broken = (rows[:, 0] == 0) & (rows[:, 1] == rng.integers(shape[1]))
    accuracy = np.where(broken, 10.0, np.maximum(accuracy, 10.0))
    choices = tuple((f"op{place}", tuple(f"v{n}" for n in range(size))) for place, size in enumerate(shape))
    latency = np.where(broken, cost.min(), cost) + 0.2
    return Table(f"synthetic {seed}", choices, rows, accuracy, {"latency_made_up": latency}, 80.0)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Run:
    """One search: evaluations until each share was reached (None where it was not), and seconds a proposal took."""

    needed: tuple[int | None, ...]
    seconds: tuple[float, ...]


def search(problem: Problem, searcher: Searcher, seed: int, evaluations: int, noise: bool) -> Run:
    """Lets a searcher search a problem."""
    table, points = problem.table, problem.points
    whole = volume(points, table.floor)
    number_of = {tuple(row): number for number, row in enumerate(table.rows.tolist())}
    rng = np.random.default_rng([seed, 7])
    errors = rng.standard_normal(len(points)) * np.interp(points[:, 0], *zip(*NOISE_AT, strict=True))
    found: list[int] = []
    needed: list[int | None] = [None] * len(SHARES)
    seconds = []
    for _ in range(evaluations):
        began = time.perf_counter()
        picked = searcher.ask()
        seconds.append(time.perf_counter() - began)
        number = number_of[tuple(picked)]
        found.append(number)
        searcher.tell(points[number, 0] + (errors[number] if noise else 0.0), points[number, 1])
        reached = volume(points[found], table.floor) / whole
        for place, share in enumerate(SHARES):
            if needed[place] is None and reached >= share:
                needed[place] = len(found)
        if None not in needed:
            break
    return Run(tuple(needed), tuple(seconds))


def volume(points: np.ndarray, floor: float) -> float:
    """Hypervolume of N×2 accuracies and relative latencies."""
    return float(moocore.hypervolume(points * [-1.0, 1.0], ref=[-floor, 1.0]))


def summary(runs: Sequence[Run], evaluations: int) -> str:
    """Medians of what was needed, each with its middle half, and the time of a proposal."""
    cells = []
    for place in range(len(SHARES)):
        needed = [run.needed[place] if run.needed[place] is not None else evaluations + 1 for run in runs]
        low, middle, high = np.percentile(np.array(needed, dtype=float), [25, 50, 75])
        cells.append(f"{_shown(middle, evaluations):>6} ({_shown(low, evaluations)}-{_shown(high, evaluations)})")
    asked = [second for run in runs for second in run.seconds]
    return "  ".join(f"{cell:<20}" for cell in cells) + f"{1000 * float(np.median(asked)):8.1f}"


def _shown(count: float, evaluations: int) -> str:
    return f">{evaluations}" if count > evaluations else f"{count:g}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="?", type=Path, default=TABLE)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=300)
    parser.add_argument("--gp-evaluations", type=int, default=120, help="of Optuna's GP, which is slow")
    parser.add_argument("--noise", action="store_true", help="samplers see accuracies of single trainings")
    parser.add_argument("--samplers", nargs="+", choices=list(searchers()), default=list(searchers()))
    parser.add_argument("--devices", nargs="+", help="columns of latencies; all where not given")
    parser.add_argument("--floor", type=float, default=80.0, help="accuracies above it count, in per cent")
    parser.add_argument("--synthetic", type=int, metavar="N", help="N tables of random effects instead")
    parser.add_argument("--renamed", action="store_true", help="choices shuffled, values named anew for each choice")
    parser.add_argument("--tell-reference", action="store_true", help="our sampler is told the reference")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    tables = [read(options.table, options.floor)] if options.synthetic is None else []
    tables += [synthetic(seed) for seed in range(options.synthetic or 0)]
    if options.renamed:
        tables = [table.renamed(seed) for seed, table in enumerate(tables)]
    noise = "noisy" if options.noise else "exact"
    for table in tables:
        for device in options.devices or table.latencies:
            if device not in table.latencies:
                sys.exit(f"unknown device '{device}'; valid: {', '.join(table.latencies)}")
            print(f"\n{table.name}, {device}, {len(table.rows):,} designs, {noise} accuracies, {options.seeds} seeds")
            print(f"{'sampler':<24}{'  '.join(f'to {share:.0%}'.ljust(20) for share in SHARES)}ms/trial")
            for name in options.samplers:
                print(f"{name:<24}{_line(name, Problem(table, device), options)}", flush=True)


def _line(name: str, problem: Problem, options: argparse.Namespace) -> str:
    """How one sampler did."""
    if not installed(name):
        return "not installed"
    make = searchers([problem.table.floor, 1.0] if options.tell_reference else None)[name]
    evaluations = options.evaluations if name != "gp" else min(options.gp_evaluations, options.evaluations)
    runs = [
        search(problem, make(problem.table.choices, seed), seed, evaluations, options.noise)
        for seed in range(options.seeds)
    ]
    return summary(runs, evaluations)


if __name__ == "__main__":
    main()
