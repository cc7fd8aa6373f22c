"""How far latencies can be trusted, and what taking one costs: the figures in the README.

    python tests/benchmarks/latency.py                    # everything, about 3 minutes on a quiet machine
    python tests/benchmarks/latency.py --only bare        # a part: repeat, disturbed, bare, duration
    python tests/benchmarks/latency.py --candidates 40 --artifacts 6 --runs 3    # smaller, to try it out

repeat     The same 20 untrained convnets, neighbours 5 to 10 % apart, measured again in a fresh process.
disturbed  One convnet, beside a process that computes or copies memory, on the core that is measured on or another;
           and as often beside nothing. Every other run is in a process that has never seen the machine quiet.
bare       The harness against a bare loop of perf_counter_ns around the same session, in turns; and its own cost.
duration   A full measurement of an artifact of at most 1 ms, while the measuring process is up.

Exits with 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from rich import progress
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau

from nas.artifact import InputSpec
from nas.compress.export import attach_front_end, export_body
from nas.data.normalise import Normalisation
from nas.design import Value
from nas.families import build
from nas.measure.clock import Policy, sample_timed, timed_by
from nas.measure.latency import batch_of, cores_for, pinned, read_latency
from nas.measure.measurer import Measurer
from nas.measure.quiet import Watch
from nas.measure.runtimes.onnx_runtime import OnnxRuntime, OnnxRuntimeSession
from nas.outcome import Quantity
from nas.target import Target

TARGET = Target.parse("onnxruntime-cpu-1t-b1")
SHAPE, CLASSES = (28, 28, 1), 10
IMAGES = np.random.default_rng(0).integers(0, 256, (8, *SHAPE), dtype=np.uint8)
CORES = sorted(os.sched_getaffinity(0))
(MEASURED_CORE,) = cores_for(1, CORES)

# Neighbours' latencies, and the smallest that the comparison with a bare loop is for.
LEAST_STEP, LARGEST_STEP = 1.05, 1.10
LEAST_MS = 0.05
CLOSE = 0.03

# What a neighbour does: arithmetic in registers, or copies that fit no cache.
NEIGHBOURS = {
    "computes": "while True:\n    sum(range(1000))",
    "copies": "import numpy\na = numpy.ones(2**23)\nb = numpy.empty_like(a)\nwhile True:\n    numpy.copyto(b, a)",
}


Item = TypeVar("Item")


def track(items: Sequence[Item], title: str) -> Iterable[Item]:
    """A bar in a terminal, nothing in a file."""
    return progress.track(items, title, transient=True, disable=not sys.stdout.isatty())


@dataclass
class Results:
    """Lines of the table at the end: what, value, target, and whether it is met."""

    rows: list[tuple[str, str, str, bool]] = field(default_factory=list)

    def add(self, what: str, value: str, target: str, met: bool) -> None:
        self.rows.append((what, value, target, met))

    @property
    def met(self) -> bool:
        return all(met for *_, met in self.rows)

    def table(self) -> Table:
        table = Table("benchmark", "measured", "target", "")
        for what, value, target, met in self.rows:
            table.add_row(what, value, target, "met" if met else "[bold red]missed")
        return table


def convnets(count: int) -> list[bytes]:
    """So many untrained convnets of two stages and all widths, exported; from about 0.02 to 1 ms."""
    rng = random.Random(0)
    shapes = list(itertools.product((1, 2), (8, 16, 24, 32), range(8, 72, 8), range(16, 136, 8), (1, 2)))
    return [_exported(*shape) for shape in track(rng.sample(shapes, count), "exporting")]


def _exported(stride: int, stem: int, first: int, second: int, depth: int) -> bytes:
    choices: dict[str, Value] = {"stem.width": stem, "stem.stride": stride, "stages": 2, "head.hidden": 0}
    for number, (width, layers) in enumerate(((first, 1), (second, depth)), 1):
        stage = {"conv": "standard", "kernel": 3, "width": width, "depth": layers, "pooling": "max"}
        choices |= {f"stage{number}.{name}": value for name, value in stage.items()}
    torch.manual_seed(0)
    height, width, channels = SHAPE
    network = build("convnet", choices, (channels, height, width), CLASSES).eval()
    spec = InputSpec("uint8", SHAPE)
    return attach_front_end(export_body(network, (channels, height, width)), spec, Normalisation((128.0,), (64.0,)))


def spaced(latencies: Sequence[float], wanted: int) -> list[int]:
    """Places of latencies that follow each other by 5 to 10 %: the longest such chain, but at most so many."""
    order = sorted(range(len(latencies)), key=latencies.__getitem__)
    chains: dict[int, list[int]] = {}
    for place in order:
        before = [
            chain
            for other, chain in chains.items()
            if LEAST_STEP <= latencies[place] / latencies[other] <= LARGEST_STEP
        ]
        chains[place] = [*max(before, key=len, default=[]), place]
    return max(chains.values(), key=len)[:wanted]


def repeat(results: Results, files: Sequence[bytes], first: Sequence[float], wanted: int) -> None:
    """Measures spaced artifacts again, in a fresh process."""
    chosen = spaced(first, wanted)
    results.add("artifacts, 5 to 10 % apart", str(len(chosen)), str(wanted), len(chosen) == wanted)
    with Measurer() as measurer:
        again = [measurer.measure(files[i], TARGET, IMAGES)[0] for i in track(chosen, "again")]
    before, after = [first[i] for i in chosen], [quantity.value for quantity in again]
    apart = [abs(b / a - 1) for a, b in zip(before, after, strict=True)]
    tau = float(kendalltau(before, after).statistic)
    flagged = sum(bool(quantity.detail["unstable"]) for quantity in again)
    spread = f"{100 * statistics.median(apart):.2f} % (most {100 * max(apart):.1f} %; {flagged} flagged)"
    results.add("measured again: median disagreement", spread, "≤ 3 %", statistics.median(apart) <= CLOSE)
    results.add("measured again: Kendall's τ", f"{tau:.3f}", "≥ 0.9", tau >= 0.9)


@contextmanager
def neighbour(kind: str, core: int) -> Iterator[None]:
    """A process that does something for ever on one core."""
    pin = f"import os\nos.sched_setaffinity(0, {{{core}}})\nprint('up', flush=True)\n"
    code = NEIGHBOURS[kind]
    setup, loop = code.split("while", 1)
    with subprocess.Popen([sys.executable, "-c", f"{setup}{pin}while{loop}"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def disturbed(results: Results, content: bytes, runs: int) -> None:
    """One artifact beside a neighbour of each kind on each core, and beside none."""
    with Measurer() as measurer:
        quiet = [_beside(measurer, content, i, nullcontext) for i in track(range(runs), "quiet")]
        reference = statistics.median(quantity.value for quantity in quiet)
        flagged = [quantity for quantity in quiet if quantity.detail["unstable"]]
        why = "; ".join(sorted({str(quantity.detail["why_unstable"]) for quantity in flagged}))
        most = max(1, runs // 10)
        value = f"{len(flagged)} of {runs} flagged{f' ({why})' if why else ''}"
        results.add(f"quiet, {reference:.3f} ms", value, f"≤ {most} of {runs}", len(flagged) <= most)
        for kind, core in itertools.product(NEIGHBOURS, dict.fromkeys((MEASURED_CORE, CORES[0]))):
            where = "on the same core" if core == MEASURED_CORE else "on another core"
            title = f"beside one that {kind} {where}"
            beside = [
                _beside(measurer, content, i, lambda kind=kind, core=core: neighbour(kind, core))
                for i in track(range(runs), title)
            ]
            _judge(results, title, reference, beside)


def _beside(measurer: Measurer, content: bytes, number: int, around: Callable[[], object]) -> Quantity:
    """Measures it with company; every other time in a process that starts in it."""
    with around():  # type: ignore[attr-defined]
        if number % 2:
            with Measurer() as fresh:
                return fresh.measure(content, TARGET, IMAGES)[0]
        return measurer.measure(content, TARGET, IMAGES)[0]


def _judge(results: Results, title: str, reference: float, taken: Sequence[Quantity]) -> None:
    apart = [abs(quantity.value / reference - 1) for quantity in taken]
    flags = [bool(quantity.detail["unstable"]) for quantity in taken]
    right = sum(flag or far <= CLOSE for flag, far in zip(flags, apart, strict=True))
    least = len(taken) - max(1, len(taken) // 10)
    far = 100 * max(apart)
    value = f"{right} of {len(taken)} ({sum(flags)} flagged; apart by {far:.0f} % at most)"
    results.add(f"{title}: within 3 % or flagged", value, f"≥ {least} of {len(taken)}", right >= least)


def bare(results: Results, files: Sequence[bytes], rounds: int) -> None:
    """The harness and a bare loop in turns, around one session; pinned alike."""
    watch, images = Watch(), batch_of(IMAGES, 1)
    apart: list[float] = []
    for content in track(files, "bare loop"):
        session = OnnxRuntime().load(content, TARGET)
        assert isinstance(session, OnnxRuntimeSession)
        ratios = []
        with pinned((MEASURED_CORE,)):
            for _ in range(rounds):
                loop = _bare_loop(session, images)
                taken = read_latency(session, TARGET, images, Policy(), watch).window.summary.median_ms
                ratios.append(taken / loop)
        apart.append(abs(statistics.median(ratios) - 1))
    value = f"{100 * max(apart):.2f} % at most, of {len(apart)} artifacts"
    results.add(f"against a bare loop, over {1000 * LEAST_MS:g} µs", value, "≤ 3 %", max(apart) <= CLOSE)
    cost = min(_cost_of_a_sample() for _ in range(5))
    results.add("the harness itself, per sample", f"{cost:.2f} µs", "< 2 µs", cost < 2)


def _bare_loop(session: OnnxRuntimeSession, images: np.ndarray) -> float:
    """Median of a call in ms as one would time it without any of this."""
    run, feeds, durations = session.session.run, {session.input_name: images}, []
    end = time.perf_counter_ns() + 400_000_000
    while (start := time.perf_counter_ns()) < end:
        run(None, feeds)
        durations.append(time.perf_counter_ns() - start)
    return statistics.median(durations[len(durations) // 4 :]) / 1e6


def _cost_of_a_sample() -> float:
    """Microseconds of a sample of a call that does nothing, that call included."""
    count = 100_000
    policy = Policy(warmup_ms=0, minimum_samples=count, minimum_ms=0)
    started = time.perf_counter()
    samples = sample_timed(timed_by(lambda: None), policy)
    return 1e6 * (time.perf_counter() - started) / len(samples)


def duration(results: Results, files: Sequence[bytes]) -> None:
    """Wall time of whole measurements, each of a model that was not loaded before."""
    seconds, windows = [], []
    with Measurer() as measurer:
        measurer.measure(files[-1], TARGET, IMAGES)  # the process is up, and the cost of a call is known
        for content in track(files, "whole measurements"):
            started = time.perf_counter()
            quantity, _ = measurer.measure(content, TARGET, IMAGES)
            seconds.append(time.perf_counter() - started)
            windows.append(int(quantity.detail["windows"]))
    undisturbed = [taken for taken, number in zip(seconds, windows, strict=True) if number == 1]
    value = f"median {statistics.median(seconds):.2f} s, most {max(seconds):.2f} s"
    if len(undisturbed) < len(seconds):
        value += f" ({len(seconds) - len(undisturbed)} of {len(seconds)} were disturbed and taken again)"
    met = bool(undisturbed) and max(undisturbed) < 0.7 and statistics.median(seconds) < 0.7
    results.add("a whole measurement of at most 1 ms", value, "< 0.7 s undisturbed", met)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("repeat", "disturbed", "bare", "duration")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--candidates", type=int, default=150, help="convnets that are built to choose from")
    parser.add_argument("--artifacts", type=int, default=20, help="artifacts that are measured again")
    parser.add_argument("--runs", type=int, default=10, help="runs of a kind of neighbour, and of none")
    options = parser.parse_args()
    console, results, started = Console(), Results(), time.perf_counter()
    files = convnets(options.candidates if "repeat" in options.only else min(40, options.candidates))
    with Measurer() as measurer:
        first = [measurer.measure(file, TARGET, IMAGES)[0].value for file in track(files, "first")]
    short = [file for file, ms in zip(files, first, strict=True) if LEAST_MS <= ms <= 1]
    console.print(f"{len(files)} convnets, {1000 * min(first):.0f} to {1000 * max(first):.0f} µs on {TARGET.name}")
    if "repeat" in options.only:
        repeat(results, files, first, options.artifacts)
    if "disturbed" in options.only:
        disturbed(results, short[0], options.runs)
    if "bare" in options.only:
        bare(results, short[:6], 5)
    if "duration" in options.only:
        duration(results, short[:10])
    console.print(results.table())
    console.print(f"{time.perf_counter() - started:.0f} s")
    sys.exit(0 if results.met else 1)


if __name__ == "__main__":
    main()
