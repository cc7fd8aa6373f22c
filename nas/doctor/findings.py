"""What was found out about a machine, as values that JSON holds and that ``nas.doctor.page`` prints."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nas.outcome import Realisation
from nas.target import RUNTIMES

VERSION = 1


class State(enum.StrEnum):
    """What a fact is worth: it helps, it makes no difference, or it costs something that may be mended."""

    GOOD = "good"
    NEUTRAL = "neutral"
    BAD = "bad"


@dataclass(frozen=True)
class Fact:
    """Something about the machine.

    Args:
        name: What it is about, in a word or two.
        value: What was found.
        state: Whether that is good.
        meaning: What follows from it for measuring and training, or how to mend it.
    """

    name: str
    value: str
    state: State
    meaning: str = ""


class Here(enum.StrEnum):
    """Whether a runtime can be measured on."""

    READY = "ready"
    MISSING = "missing"
    BROKEN = "broken"


@dataclass(frozen=True)
class RuntimeFinding:
    """A runtime on a device.

    Args:
        runtime: A key of ``nas.target.RUNTIMES``.
        device: ``cpu`` or ``cuda``.
        target: The target that was asked for, of one thread and a batch of one.
        here: Whether it can be measured on.
        environment: What it says of itself, by name.
        message: Why it is missing, or what broke.
        hint: What to install.
        call_ms: What a call costs that computes nothing, in ms; None where it was not measured.
    """

    runtime: str
    device: str
    target: str
    here: Here
    environment: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""
    hint: str = ""
    call_ms: float | None = None

    @property
    def title(self) -> str:
        """The runtime's name in print."""
        return RUNTIMES[self.runtime].title

    @property
    def form(self) -> str:
        """The form of the model that it wants."""
        return RUNTIMES[self.runtime].forms[self.device]

    @property
    def ready(self) -> bool:
        return self.here is Here.READY


@dataclass(frozen=True)
class ChoiceFinding:
    """What becomes of a compression choice here.

    Args:
        setting: The choice, or choices that go together, with their values: ``weight_bits 8, activation_bits 8``.
        choices: Their names, and those of the choices that refine them.
        label: Whether it is realised on the runtimes that are ready; unsupported where none takes it.
        runtimes: The names of those that take it, such as ``onnxruntime``; with the device where that is a GPU.
        note: What it saves, and what the processor has to do with it.
    """

    setting: str
    choices: tuple[str, ...]
    label: Realisation
    runtimes: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class PackageFinding:
    """An optional package: its version (None where it is not installed), what it is good for and how to have it."""

    name: str
    version: str | None
    purpose: str
    install: str


class Verdict(enum.StrEnum):
    """What measurements are worth at the moment.

    ``DISTURBED``: they agree, but something else ran, so that a study would mark them unstable.
    """

    QUIET = "quiet"
    USABLE = "usable"
    DISTURBED = "disturbed"
    NOISY = "noisy"


@dataclass(frozen=True)
class Noise:
    """A small network, measured several times in a row as a study would.

    Args:
        target: What on.
        latencies_ms: The median of each measurement.
        differences: Relative differences of all pairs of them, 0.01 for 1 %, in no order.
        retaken: How many measurements took more than one window, as something disturbed the first.
        unstable: How many were disturbed to the end.
        troubles: What disturbed those, by the names of ``nas.measure.quiet`` and ``nas.measure.clock``, and how often.
        slowdown: How many times slower than at its best the machine was at worst; 1 where it always was at its best.
        busy_cores: Cores' worth of processor time that others used at most; None where the system does not count.
        waited: Share of the time that we waited for a core at most; None where the system does not count.
        verdict: What that comes to.
        words: The verdict in a sentence.
        advice: What to do, most important first; empty where it is quiet.
    """

    target: str
    latencies_ms: tuple[float, ...]
    differences: tuple[float, ...]
    retaken: int
    unstable: int
    troubles: Mapping[str, int]
    slowdown: float
    busy_cores: float | None
    waited: float | None
    verdict: Verdict
    words: str
    advice: tuple[str, ...]


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was found out.

    Args:
        environment: The machine and its software, as ``nas.measure.environment`` gives them.
        machine: What of it matters, and what it means.
        runtimes: Each runtime on each device.
        choices: What becomes of the compression choices.
        packages: What may be installed beside.
        noise: How noisy the machine is; None where that was not measured.
        why_no_noise: Why it was not.
    """

    environment: Mapping[str, Any]
    machine: tuple[Fact, ...]
    runtimes: tuple[RuntimeFinding, ...]
    choices: tuple[ChoiceFinding, ...]
    packages: tuple[PackageFinding, ...]
    noise: Noise | None = None
    why_no_noise: str = ""

    @property
    def ready(self) -> tuple[RuntimeFinding, ...]:
        """The runtimes that can be measured on."""
        return tuple(runtime for runtime in self.runtimes if runtime.ready)

    def to_json(self) -> dict[str, Any]:
        """JSON form, for scripts."""
        return {"version": VERSION, "can_measure": bool(self.ready)} | asdict(self)
