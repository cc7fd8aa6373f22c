"""What the doctor makes of what it sees: the machine's facts, the compression choices, the noise."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_doctor import ENVIRONMENT, ORT, SIGHT, FakeMeasurer, latency

from nas.compress.program import ON_THE_GRAPH
from nas.compression import CHOICES
from nas.doctor import machine
from nas.doctor.choices import choice_findings
from nas.doctor.findings import Fact, Here, RuntimeFinding, State, Verdict
from nas.doctor.machine import Sight, machine_facts, memory_available, see, why_not_pinned
from nas.doctor.noise import CLOSE, FEWEST, MOST, SECONDS, cores_words, judged, measure_noise
from nas.doctor.packages import OPTIONAL, package_findings, version_of
from nas.measure.quiet import Surroundings
from nas.outcome import Quantity, Realisation
from nas.target import Target

# --- the machine -----------------------------------------------------------------------------------------------------


def facts(changes: Mapping[str, Any] | None = None, sight: Sight = SIGHT) -> dict[str, Fact]:
    """The facts of a good machine with some things changed, by name."""
    found = machine_facts({**ENVIRONMENT, **(changes or {})}, sight)
    assert len({fact.name for fact in found}) == len(found)
    return {fact.name: fact for fact in found}


def test_a_good_machine_has_nothing_to_mend() -> None:
    assert [fact.name for fact in facts().values() if fact.state is State.BAD] == []


@pytest.mark.parametrize(
    ("changes", "name", "value", "state", "meaning"),
    [
        ({"cores": 1, "affinity": "3"}, "cores", "1 of 8", State.BAD, "shares the core"),
        ({"features": ["avx2", "avx512f"]}, "8-bit products", "none (no VNNI)", State.BAD, "7 of their 8 bits"),
        ({"features": ["avx2", "avx_vnni"]}, "8-bit products", "AVX VNNI", State.GOOD, "int8 is fast"),
        ({"features": ["avx2", "avx_vnni"]}, "vectors", "AVX2", State.GOOD, "kernels"),
        ({"features": ["amx_int8", "amx_bf16"]}, "vectors", "none of AVX", State.BAD, "slow kernels"),
        ({"features": ["avx512_bf16", "amx_bf16"]}, "bfloat16", "AVX-512 BF16 and AMX", State.GOOD, "bfloat16"),
        ({"features": ["avx2"]}, "bfloat16", "not in hardware", State.NEUTRAL, "float32"),
        ({"features": [], "machine": "arm64"}, "instruction set", "not told (arm64)", State.NEUTRAL, "measurement"),
        ({"governor": "powersave"}, "governor", "powersave", State.BAD, "cpupower frequency-set -g performance"),
        ({"governor": "unknown"}, "governor", "not told", State.NEUTRAL, "virtual machines"),
        ({"memory_bytes": "unknown"}, "memory", "not told", State.NEUTRAL, ""),
        ({"container_cpus": 1.5}, "limits", "1.5 CPUs", State.BAD, "cpusets"),
        ({"container_cpus": 8.0}, "limits", "8 CPUs", State.NEUTRAL, "container"),
        ({"container_cpus": 1.0, "container_memory_bytes": 2**31}, "limits", "1 CPU and 2 GiB", State.BAD, "whole"),
    ],
)  # fmt: skip
def test_what_a_machine_is_and_what_follows(
    changes: Mapping[str, Any], name: str, value: str, state: State, meaning: str
) -> None:
    fact = facts(changes)[name]
    assert (fact.value, fact.state) == (value, state)
    assert meaning in fact.meaning


@pytest.mark.parametrize(
    ("sight", "name", "value", "state", "meaning"),
    [
        ({"cannot_pin": "it is forbidden"}, "pinning", "not possible", State.BAD, "it is forbidden; "),
        ({"no_lease": "the folder is full"}, "lease", "none", State.BAD, "the folder is full; run one study"),
        ({"memory_available": 2**30}, "memory", "16 GiB", State.BAD, "1 GiB of it available"),
        ({"memory_available": None}, "memory", "16 GiB", State.NEUTRAL, ""),
        ({"surroundings": Surroundings(busy_cores=0.26)}, "other load", "0.26 cores of 4", State.BAD, "end it or wait"),
        ({"surroundings": Surroundings(busy_cores=0.25)}, "other load", "0.25 cores of 4", State.GOOD, "too little"),
        ({"surroundings": Surroundings()}, "other load", "not counted", State.NEUTRAL, "does not say"),
        ({"surroundings": Surroundings()}, "disturbances", "partly noticed", State.NEUTRAL, "counts nothing"),
        (
            {"surroundings": Surroundings(busy_cores=0.0)}, "disturbances", "partly noticed", State.NEUTRAL,
            "watch load, but not waiting for a core and the clock's frequency",
        ),
    ],
)  # fmt: skip
def test_what_is_seen_of_a_machine_and_what_follows(
    sight: Mapping[str, Any], name: str, value: str, state: State, meaning: str
) -> None:
    fact = facts(sight=replace(SIGHT, **sight))[name]
    assert (fact.value, fact.state) == (value, state)
    assert meaning in fact.meaning


STAT = "cpu{core} {user} 0 0 0 0 0 0 0 0 0\n"


def test_others_load_is_watched_while_nothing_of_ours_runs(tmp_path: Path) -> None:
    """Each look reads the counters before and after it; what counts happened in between, while nothing of ours ran."""
    proc = tmp_path / "proc"
    proc.mkdir()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    ticks = os.sysconf("SC_CLK_TCK")
    (proc / "stat").write_text("".join(STAT.format(core=core, user=ticks) for core in cores))
    (proc / "meminfo").write_text("MemTotal: 4096 kB\nMemAvailable:    1024 kB\n")
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        (proc / "stat").write_text("".join(STAT.format(core=core, user=1000 * ticks) for core in cores))

    sight = see("no folder", tmp_path, sleep)
    assert slept == [machine.WATCHED_SECONDS]
    assert sight.surroundings.busy_cores is not None
    assert sight.surroundings.busy_cores > 1
    assert sight.surroundings.waited is None
    assert (sight.no_lease, sight.memory_available) == ("no folder", 1024 * 1024)
    assert sight.cores == os.cpu_count()


def test_memory_that_the_system_does_not_tell(tmp_path: Path) -> None:
    assert memory_available(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 4096 kB\n")
    assert memory_available(tmp_path) is None


def test_why_a_process_cannot_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(process: int, cores: set[int]) -> None:
        raise PermissionError(1, "Operation not permitted")

    kept = {0}
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: kept, raising=False)
    asked = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cores: asked.append((process, cores)), raising=False)
    assert why_not_pinned() is None
    assert asked == [(0, kept)], "it stays where it is"
    monkeypatch.setattr(os, "sched_setaffinity", refuses)
    assert why_not_pinned() == "the system refuses it: Operation not permitted"
    monkeypatch.delattr(os, "sched_setaffinity")
    assert why_not_pinned() == "this system has no affinity"


# --- compression -----------------------------------------------------------------------------------------------------

VNNI = ("avx2", "avx512_vnni")


def ready(*names: str) -> list[RuntimeFinding]:
    targets = [Target.parse(name) for name in names]
    return [RuntimeFinding(target.runtime, target.device, target.name, Here.READY) for target in targets]


def labels(runtimes: Sequence[RuntimeFinding]) -> dict[str, Realisation]:
    return {finding.setting: finding.label for finding in choice_findings(runtimes, VNNI)}


def test_no_compression_choice_is_forgotten() -> None:
    told = {name for finding in choice_findings(ready(ORT.name), VNNI) for name in finding.choices}
    assert told == set(CHOICES)


def test_what_becomes_of_the_choices_on_the_cpu() -> None:
    assert labels(ready(ORT.name)) == {
        "pruning_ratio": Realisation.REALISED,
        "sparsity": Realisation.SIMULATED,
        "distillation": Realisation.REALISED,
        "weight_sharing kmeans": Realisation.SIMULATED,
        "weight_bits 8, activation_bits 8": Realisation.REALISED,
        "weight_bits 4, activation_bits 8": Realisation.SIMULATED,
        "weight_bits 16, activation_bits 16": Realisation.SIMULATED,
        "weight_bits 16, 8 or 4 alone": Realisation.SIMULATED,
        "activation_bits 16 with 8 or 4": Realisation.SIMULATED,
        "quantisation_aware": Realisation.REALISED,
    }


def test_half_precision_is_real_on_a_gpu_alone() -> None:
    found = {f.setting: f for f in choice_findings(ready(ORT.name, "onnxruntime-cuda-b1"), VNNI)}
    half = found["weight_bits 16, activation_bits 16"]
    assert (half.label, half.runtimes) == (Realisation.REALISED, ("onnxruntime (cuda)",))
    assert found["sparsity"].runtimes == ("onnxruntime", "onnxruntime (cuda)")


def test_a_torch_program_is_the_float_network() -> None:
    found = choice_findings(ready("torch-cpu-1t-b1"), VNNI)
    taken = {f.setting for f in found if f.label is not Realisation.UNSUPPORTED}
    assert taken == {"pruning_ratio", "sparsity", "distillation"}
    untaken = next(f for f in found if f.setting == "weight_sharing kmeans")
    assert untaken.runtimes == ()
    assert untaken.note == "needs one of ONNX Runtime, OpenVINO, TensorRT"


def test_what_torch_programs_leave_out_is_what_the_pipeline_leaves_out_of_them() -> None:
    found = choice_findings(ready("torch-cpu-1t-b1"), VNNI)
    left_out = {name for f in found if f.label is Realisation.UNSUPPORTED for name in f.choices}
    assert left_out == {n for n, choice in CHOICES.items() if {n, choice.refines} & ON_THE_GRAPH}


def test_runtimes_that_are_missing_take_nothing() -> None:
    missing = [RuntimeFinding("onnxruntime", "cpu", ORT.name, Here.MISSING)]
    assert set(labels(missing).values()) == set(labels([]).values()) == {Realisation.UNSUPPORTED}


@pytest.mark.parametrize(
    ("runtime", "features", "words"),
    [
        (ORT.name, VNNI, "fast by VNNI"),
        (ORT.name, ("avx2", "avx512f"), "slow without VNNI"),
        (ORT.name, (), "measure whether it is fast here"),
        ("tensorrt-cuda-b1", ("avx2",), "int8 kernels"),
    ],
)
def test_how_fast_int8_is_depends_on_the_processor(runtime: str, features: tuple[str, ...], words: str) -> None:
    found = {f.setting: f for f in choice_findings(ready(runtime), features)}
    assert words in found["weight_bits 8, activation_bits 8"].note


# --- noise -----------------------------------------------------------------------------------------------------------


def latencies(*values: float, **detail: Any) -> list[Quantity]:
    return [latency(value, **detail) for value in values]


def test_differences_are_those_of_all_pairs() -> None:
    noise = judged(latencies(1.0, 1.01, 1.03, slowdown=1.02, busy_cores=0.1, waited=0.01))
    assert noise.differences == pytest.approx((0.01, 0.03, 0.02 / 1.01))
    assert noise.latencies_ms == (1.0, 1.01, 1.03)
    assert (noise.target, noise.slowdown, noise.busy_cores, noise.waited) == (ORT.name, 1.02, 0.1, 0.01)
    assert (noise.retaken, noise.unstable, noise.troubles) == (0, 0, {})
    assert noise.words == "usable: two measurements differ by 2.0 %, 3.0 % at most"


@pytest.mark.parametrize(
    ("quantities", "verdict"),
    [
        (latencies(1.0, 1.004, 1.002), Verdict.QUIET),
        (latencies(1.0, 1.02, 1.0), Verdict.USABLE),
        (latencies(1.0, 1.0, 1.0, 1.0, 1.031), Verdict.USABLE),
        ([*latencies(1.0, 1.001), *latencies(1.0, why_unstable="load")], Verdict.USABLE),
        ([*latencies(1.0), *latencies(1.001, 1.0, why_unstable="load")], Verdict.DISTURBED),
        (latencies(1.0, 1.04, 1.08), Verdict.NOISY),
        (latencies(1.0, 1.04, 1.08, why_unstable="load"), Verdict.NOISY),
    ],
)
def test_the_verdict(quantities: list[Quantity], verdict: Verdict) -> None:
    noise = judged(quantities)
    assert noise.verdict is verdict
    assert noise.words.startswith(f"{verdict}: two measurements differ by ")
    assert (noise.advice == ()) is (verdict is Verdict.QUIET)
    assert (CLOSE in noise.advice) is (verdict in (Verdict.USABLE, Verdict.NOISY))
    assert ("would be marked unstable" in noise.words) is (verdict is Verdict.DISTURBED)


@pytest.mark.parametrize(
    ("troubles", "detail", "advice"),
    [
        ("load, same core", {"busy_cores": 1.3}, ["something else runs (it kept up to 1.3 cores busy)"]),
        ("waited", {}, ["something else runs (it wanted the same core)"]),
        ("pace, drift", {"slowdown": 1.25}, ["up to 1.25 times slower"]),
        ("frequency, pace", {"slowdown": 1.2}, ["cpupower frequency-set", "up to 1.20 times slower"]),
        ("spread", {}, ["samples scatter or drift"]),
        ("spread, drift", {}, ["samples scatter or drift"]),
    ],
)
def test_the_advice_is_for_what_disturbed(troubles: str, detail: dict[str, Any], advice: list[str]) -> None:
    noise = judged(latencies(1.0, 1.04, 1.08, why_unstable=troubles, windows=3, **detail))
    *remedies, last = noise.advice
    assert last == CLOSE
    assert len(remedies) == len(advice)
    assert all(words in remedy for words, remedy in zip(advice, remedies, strict=True))
    assert (noise.retaken, noise.unstable) == (3, 3)
    assert noise.troubles == dict.fromkeys(troubles.split(", "), 3)


@pytest.mark.parametrize("seconds", [0.01, 0.5, 100.0])
def test_so_many_measurements_as_fit_into_the_time(seconds: float) -> None:
    """The first, in a process that has just started, does not count."""

    class Counting(FakeMeasurer):
        def measure(self, content: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
            self.log.append(target.name)
            now[0] += seconds
            return latency(1.0 if len(self.log) > 1 else 9.0), np.zeros(1)

    now, shares = [0.0], list[float]()
    measurer = Counting({})
    noise = measure_noise(measurer, ORT, lambda: now[0], shares.append)
    expected = max(FEWEST, min(MOST, int(np.ceil(SECONDS / seconds))))
    assert len(noise.latencies_ms) == expected == len(measurer.log) - 1
    assert max(noise.latencies_ms) == 1.0
    assert shares == sorted(shares)
    assert 0 < shares[0] <= shares[-1] <= 1


@pytest.mark.parametrize(
    ("busy", "words"), [(0.0, "no core"), (0.001, "no core"), (0.123, "0.12 cores"), (1, "1 core")]
)
def test_cores_in_words(busy: float, words: str) -> None:
    assert cores_words(busy) == words


# --- packages --------------------------------------------------------------------------------------------------------


def test_optional_packages() -> None:
    found = package_findings({"torchvision": "0.28"}.get)
    assert [package.name for package in found] == [name for name, _, _ in OPTIONAL]
    assert {package.name: package.version for package in found if package.version} == {"torchvision": "0.28"}
    assert all(package.install.startswith("pip install ") for package in found)
    assert version_of("numpy") == np.__version__
    assert version_of("no-such-package-anywhere") is None
