"""The examination: looks at the machine, asks each runtime, measures the noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nas import lease
from nas.doctor.choices import choice_findings
from nas.doctor.findings import Diagnosis, Noise, RuntimeFinding
from nas.doctor.machine import Sight, machine_facts, see
from nas.doctor.noise import measure_noise
from nas.doctor.packages import package_findings, version_of
from nas.doctor.runtimes import Measures, all_targets, find, with_call
from nas.errors import NasError, one_line
from nas.measure.environment import environment
from nas.measure.measurer import Measurer
from nas.target import ONNX, Target

# Told what is done at the moment, and which share of all is done, 0 to 1.
Progress = Callable[[str, float], None]

# The share of the time after which only the noise is left to measure.
_CALLED = 0.75


@dataclass(frozen=True)
class Tools:
    """What the examination looks through; replaced in tests."""

    environment: Callable[[], Mapping[str, Any]] = environment
    see: Callable[[], Sight] = lambda: see(lease.available())
    measurer: Callable[[], Measures] = Measurer
    version: Callable[[str], str | None] = version_of
    noise: Callable[[Measures, Target, Callable[[float], None]], Noise] = lambda measurer, target, progress: (
        measure_noise(measurer, target, progress=progress)
    )


def examine(
    tools: Tools | None = None, quick: bool = False, progress: Progress = lambda what, share: None
) -> Diagnosis:
    """Finds out what this machine can do; takes 10 to 30 seconds, as torch is loaded several times.

    Each runtime has a process of its own, which ends when it has been asked and measured.

    Args:
        tools: What it looks through.
        quick: Leave out whatever is timed: the noise, and what a call costs.
        progress: Told what is done at the moment.
    """
    tools = tools or Tools()
    progress("looking at the machine", 0.0)
    sight = tools.see()  # before anything of ours runs
    machine = tools.environment()
    runtimes = _runtimes(tools, quick, progress)
    noise, why_no_noise = (None, "left out by --quick") if quick else _noise(tools, runtimes, progress)
    return Diagnosis(
        dict(machine),
        machine_facts(machine, sight),
        runtimes,
        choice_findings(runtimes, machine["features"]),
        package_findings(tools.version),
        noise,
        why_no_noise,
    )


def _runtimes(tools: Tools, quick: bool, progress: Progress) -> tuple[RuntimeFinding, ...]:
    """Every runtime, asked and measured one after the other: side by side they would disturb each other."""
    targets, identities = all_targets(), dict[str, bytes]()
    share = (1.0 if quick else _CALLED) / len(targets)
    findings = []
    for i, target in enumerate(targets):
        progress(f"asking {target.kind.title} ({target.device})", i * share)
        measurer = tools.measurer()
        try:
            finding = find(measurer, target)
            if not quick and finding.ready:
                progress(f"timing an empty call of {finding.title} ({target.device})", (i + 0.5) * share)
                finding = with_call(finding, measurer, identities)
        finally:
            measurer.close()
        findings.append(finding)
    return tuple(findings)


def _noise(tools: Tools, runtimes: tuple[RuntimeFinding, ...], progress: Progress) -> tuple[Noise | None, str]:
    """The noise on the first runtime of the CPU that takes an ONNX file, or why there is none."""
    ready = [runtime for runtime in runtimes if runtime.ready and runtime.device == "cpu" and runtime.form == ONNX]
    if not ready:
        return None, "no runtime here takes an ONNX file on the CPU"
    what = "measuring the noise"
    progress(what, _CALLED)
    measurer = tools.measurer()
    try:
        target = Target.parse(ready[0].target)
        return tools.noise(measurer, target, lambda done: progress(what, _CALLED + (1 - _CALLED) * done)), ""
    except NasError as error:
        return None, one_line(error)
    finally:
        measurer.close()
