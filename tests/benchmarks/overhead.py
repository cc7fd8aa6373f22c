"""What the tool itself costs: start-up, and the time of a trial beyond training, scoring and measuring.

    python tests/benchmarks/overhead.py                 # runs studies/digits.yaml afresh, in a temporary folder
    python tests/benchmarks/overhead.py studies/digits  # reads a study that was run before

Every figure that the README gives for them comes from here.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nas.outcome import Outcome
from nas.record import TrialRecord
from nas.study import Study

ROOT = Path(__file__).parent.parent.parent
NAS = [str(Path(sys.executable).parent / "nas")]
WORK = ("train", "prune", "sparsify", "teacher", "finetune", "share", "score", "measure", "compare", "startup")
EXPORT = ("export", "quantise")


def seconds(command: list[str]) -> float:
    """Wall time of one command."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - started


def split(record: TrialRecord) -> tuple[float, float, float]:
    """A trial's seconds of training, scoring and measuring; of export and quantisation; and of all the rest."""
    work = sum(stage.seconds for stage in record.stages if stage.stage in WORK)
    export = sum(stage.seconds for stage in record.stages if stage.stage in EXPORT)
    return work, export, record.seconds - work - export


def main() -> None:
    starts = [seconds([*NAS, "--help"]) for _ in range(9)]
    print(f"nas --help: median {statistics.median(starts):.2f} s of {len(starts)} (aim: under 0.4 s)")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "digits"
        if len(sys.argv) == 1:
            whole = seconds([*NAS, "search", "studies/digits.yaml", "--output", str(path)])
            print(f"nas search studies/digits.yaml: {whole:.0f} s, start-up and pictures included (aim: under 120 s)")
        study = Study.open(path)
        measured = [record for record in study.records if record.outcome is Outcome.MEASURED]
        parts = [split(record) for record in measured]
        works, exports, rests = zip(*parts, strict=True)
        overheads = [export + rest for export, rest in zip(exports, rests, strict=True)]
        print(f"trials: {len(study.records)}, of them {len(measured)} measured")
        print(f"training, scoring, measuring: median {statistics.median(works):.2f} s a trial")
        print(f"overhead: median {1000 * statistics.median(overheads):.0f} ms a trial (aim: at most 500 ms), of it")
        print(f"  export and quantisation: median {1000 * statistics.median(exports):.0f} ms")
        print(f"  all the rest: median {1000 * statistics.median(rests):.0f} ms (aim: under 150 ms)")
        best = max(record.value("accuracy") for record in study.front)
        print(f"front: {len(study.front)} designs (aim: at least 6), best accuracy {best:.4f} (aim: at least 0.98)")


if __name__ == "__main__":
    main()
