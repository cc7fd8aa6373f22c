"""How long ``nas front``, ``nas report``, ``nas compare`` and ``nas plot`` take on a study of many trials.

    python tests/benchmarks/large_study.py
    python tests/benchmarks/large_study.py --trials 5000 --profile

Makes two such studies (see ``tests/large_study.py``) in a temporary folder and runs each command in a process of its
own, as a person would, so that starting Python and loading libraries count. Prints the median and the worst time of
each, its processor time (which a busy machine changes less), its peak of memory, the size of the page, and whether the
aims are met; exits with 1 where one is not. With ``--profile`` it also prints in which functions of this project a
command spends its time.
"""

from __future__ import annotations

import argparse
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from large_study import make

AIMS_SECONDS = {"front": 1.5, "report": 10.0, "compare": 5.0}
PAGE_AIM_BYTES = 12_000_000
START = "from nas.cli import main; main()"
MOST_FUNCTIONS = 15


@dataclass(frozen=True)
class Timed:
    """What runs of one command took: seconds of each, on the clock and of processors; most resident memory in bytes."""

    seconds: tuple[float, ...]
    processor_seconds: tuple[float, ...]
    memory_bytes: int


def timed(words: list[str], runs: int) -> Timed:
    """Runs a command so many times; its output is thrown away.

    Raises:
        RuntimeError: It failed; the message holds what it wrote.
    """
    seconds, computed, memory = [], [], 0
    for _ in range(runs):
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", START, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds.append(time.perf_counter() - began)
        computed.append(usage.ru_utime + usage.ru_stime)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"nas {' '.join(words)} ended with {process.returncode}: {errors}")
        memory = max(memory, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    return Timed(tuple(seconds), tuple(computed), memory)


def profile(words: list[str], folder: Path) -> list[str]:
    """The functions of this project in which a command spends most, with what they call: lines to print."""
    path = folder / "profile"
    script = f"""
import cProfile, sys
from nas.cli import main
sys.argv = ["nas", *{words!r}]
profiler = cProfile.Profile()
try:
    profiler.runcall(main)
except SystemExit:
    pass
profiler.dump_stats({str(path)!r})
"""
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
    stats = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
    own = [(total[3], total[0], where) for where, total in stats.items() if f"{os.sep}nas{os.sep}" in where[0]]
    return [
        f"  {seconds:7.2f} s  {calls:>9,} calls  {Path(file).name}:{line} {name}"
        for seconds, calls, (file, line, name) in sorted(own, reverse=True)[:MOST_FUNCTIONS]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="show which functions take the time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        one, other = Path(scratch) / "one", Path(scratch) / "other"
        make(one, options.trials, seed=0)
        make(other, options.trials, seed=1)
        commands = {
            "front": [str(one)],
            "report": [str(one)],
            "compare": [str(one), str(other), "--output", str(Path(scratch) / "compare.png")],
            **{f"plot {kind}": [str(one), "--kind", kind] for kind in ("front", "history", "importance")},
        }
        missed = []
        print(f"{options.trials:,} trials, {options.runs} runs each, Python {sys.version.split()[0]}")
        for name, arguments in commands.items():
            words = [name.partition(" ")[0], *arguments]
            found = timed(words, options.runs)
            aim = AIMS_SECONDS.get(name)
            median = statistics.median(found.seconds)
            if aim is not None and median >= aim:
                missed.append(f"nas {name}")
            told = f"   aim {aim:g} s" if aim is not None else ""
            computed, memory = statistics.median(found.processor_seconds), found.memory_bytes / 1e6
            print(
                f"nas {name:<16} median {median:6.2f} s   worst {max(found.seconds):6.2f} s   "
                f"processor {computed:6.2f} s   {memory:5.0f} MB{told}"
            )
            if options.profile:
                print("\n".join(profile(words, Path(scratch))))
        page = (one / "report.html").stat().st_size
        print(f"report.html          {page / 1e6:.2f} MB   aim {PAGE_AIM_BYTES / 1e6:g} MB")
        missed += ["the page's size"] if page >= PAGE_AIM_BYTES else []
    print(f"missed: {', '.join(missed)}" if missed else "all aims met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
