"""What several workers gain: two on two cores against one, and a Ray cluster of this machine against both.

    python tests/benchmarks/executors.py                       # one worker, two workers, Ray with two
    python tests/benchmarks/executors.py --executors one two   # without Ray
    python tests/benchmarks/executors.py --trials 40 --epochs 12

The same designs in the same order each time (``strategy: plain``, ``sampler: random``), each training in one thread.
Nobody trains while one measures, so with t seconds of training and m of measuring a trial two workers can be
2(t+m)/(t+2m) times as fast as one, and not twice as fast. Timed from the end of the second trial to the end of the
last, as what starts up does so once in a search. Latencies are compared design by design. Exits with 1 where an aim is
missed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.outcome import Outcome
from nas.record import TrialRecord, record_path
from nas.study import Study

NAS = [str(Path(sys.executable).parent / "nas")]
OPTIONS = {
    "one": ["--workers", "1"],
    "two": ["--workers", "2"],
    "ray": ["--executor", "ray", "--workers", "2"],
}
# What of a trial nobody else may compute beside.
EXCLUSIVE = ("measure", "compare", "startup")
SKIPPED = 2  # trials at the beginning
AIM_SHARE, AIM_LATENCY, AIM_RAY = 0.9, 0.05, 1.1

RECIPE = """\
data: {{source: digits}}
space: convnet-small
budget: {{trials: {trials}, epochs: {epochs}, finetune_epochs: {finetune}}}
training: {{threads: 1, precision: float32}}
strategy: plain
sampler: random
seed: {seed}
"""


@dataclass(frozen=True)
class Run:
    """One search.

    Args:
        seconds: From the end of the first trials to that of the last.
        trials: That ended meanwhile.
        records: All trials, by number.
    """

    seconds: float
    trials: int
    records: Sequence[TrialRecord]

    @property
    def trial_seconds(self) -> float:
        """Between the ends of two trials, on the average."""
        return self.seconds / self.trials

    @property
    def measuring(self) -> float:
        """Seconds of measuring of a trial, on the average."""
        spent = [sum(s.seconds for s in record.stages if s.stage in EXCLUSIVE) for record in self.records]
        return statistics.mean(spent)


def search(folder: Path, recipe: Path, options: Sequence[str]) -> Run:
    """Runs a search and reads when its trials ended."""
    command = [*NAS, "search", str(recipe), "--output", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    study = Study.open(folder)
    ends = sorted(record_path(study.folder.trials, record.number).stat().st_mtime for record in study.records)
    return Run(ends[-1] - ends[SKIPPED - 1], len(ends) - SKIPPED, study.records)


def latencies(run: Run) -> dict[str, float]:
    """Latency in milliseconds by design."""
    return {
        record.design.digest: record.value("latency_ms@onnxruntime-cpu-1t-b1")
        for record in run.records
        if record.outcome is Outcome.MEASURED
    }


def agreement(run: Run, other: Run) -> list[float]:
    """How many times as long each design takes in one run as in the other."""
    theirs = latencies(other)
    return sorted(ms / theirs[digest] for digest, ms in latencies(run).items() if digest in theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executors", nargs="+", choices=list(OPTIONS), default=list(OPTIONS), metavar="NAME")
    parser.add_argument("--trials", type=int, default=32, help="trials of each search (%(default)s)")
    parser.add_argument("--epochs", type=int, default=24, help="epochs of each training (%(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="so often, with other designs each time (%(default)s)")
    given = parser.parse_args()
    missed = False
    for seed in range(given.rounds):
        with tempfile.TemporaryDirectory() as place:
            recipe = Path(place) / "recipe.yaml"
            finetune = max(1, given.epochs // 3)
            recipe.write_text(RECIPE.format(trials=given.trials, epochs=given.epochs, finetune=finetune, seed=seed))
            runs = {name: search(Path(place) / name, recipe, OPTIONS[name]) for name in given.executors}
        missed |= told(runs)
    sys.exit(missed)


def told(runs: dict[str, Run]) -> bool:
    """Prints what came of one round; says whether an aim was missed."""
    missed = False
    for name, run in runs.items():
        print(
            f"{name:>4}: {run.trial_seconds:.2f} s a trial, {run.measuring:.2f} s of it measuring, {run.trials} trials"
        )
    if "one" in runs and "two" in runs:
        one, two = runs["one"], runs["two"]
        measuring = one.measuring
        training = one.trial_seconds - measuring
        possible = 2 * (training + measuring) / (training + 2 * measuring)
        gain = one.trial_seconds / two.trial_seconds
        print(
            f"two workers are {gain:.2f} times as fast; {possible:.2f} is possible: {gain / possible:.0%} of it", end=""
        )
        print(f" (aim: {AIM_SHARE:.0%})")
        missed |= gain < AIM_SHARE * possible
    for name in ("two", "ray"):
        if "one" not in runs or name not in runs:
            continue
        ratios = agreement(runs[name], runs["one"])
        middle = statistics.median(ratios)
        inside = sum(abs(ratio - 1) <= AIM_LATENCY for ratio in ratios)
        span = f"median; {ratios[0]:.3f} to {ratios[-1]:.3f}"
        print(f"{name}: latencies are {middle:.3f} times those of one worker ({span}), ", end="")
        print(f"{inside} of {len(ratios)} within {AIM_LATENCY:.0%} (aim: the median)")
        missed |= abs(middle - 1) > AIM_LATENCY
    if "two" in runs and "ray" in runs:
        slower = runs["ray"].trial_seconds / runs["two"].trial_seconds
        print(f"Ray takes {slower:.3f} times as long as local workers (aim: at most {AIM_RAY})")
        missed |= slower > AIM_RAY
    return missed


if __name__ == "__main__":
    main()
