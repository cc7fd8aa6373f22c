"""What of the machine matters for measuring and training, and what it means."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.doctor.findings import Fact, State
from nas.doctor.noise import cores_words
from nas.measure.environment import UNKNOWN
from nas.measure.quiet import BUSY_CORES, Surroundings, Watch
from nas.wording import listing, plural, significant

# How long others' load is watched.
WATCHED_SECONDS = 0.5

# Governors that let the clock follow the load; "performance" alone keeps it up.
CHANGING_GOVERNORS = ("powersave", "ondemand", "conservative", "schedutil", "userspace")


@dataclass(frozen=True)
class Sight:
    """What is seen of the machine beside its environment.

    Args:
        cores: Logical cores in all, also those that this process may not use.
        cannot_pin: Why processes cannot be kept on a core; None where they can.
        no_lease: Why training and measuring cannot keep out of each other's way; None where they can.
        surroundings: What else ran while nothing of ours did.
        memory_available: Bytes that a new process may have; None where the system does not say.
    """

    cores: int
    cannot_pin: str | None
    no_lease: str | None
    surroundings: Surroundings
    memory_available: int | None


def see(no_lease: str | None, root: Path = Path("/"), sleep: Callable[[float], None] = time.sleep) -> Sight:
    """Looks at the machine for ``WATCHED_SECONDS``; to be called before anything of ours is started.

    Args:
        no_lease: What ``nas.lease.available`` says.
        root: Where the system's files lie.
        sleep: Waits so many seconds.
    """
    watch = Watch(root=root / "proc")
    before = watch.look()
    sleep(WATCHED_SECONDS)
    around = watch.between(before, watch.look())
    return Sight(os.cpu_count() or 1, why_not_pinned(), no_lease, around, memory_available(root))


def why_not_pinned() -> str | None:
    """Why a process cannot be kept on a core, found out by keeping this thread on those that it has anyway."""
    if not hasattr(os, "sched_setaffinity"):
        return "this system has no affinity"
    try:
        os.sched_setaffinity(0, os.sched_getaffinity(0))
    except OSError as error:
        return f"the system refuses it: {error.strerror or error}"
    return None


def memory_available(root: Path = Path("/")) -> int | None:
    """Bytes that Linux would give a new process without swapping."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def machine_facts(environment: Mapping[str, Any], sight: Sight) -> tuple[Fact, ...]:
    """The machine in a dozen facts.

    Args:
        environment: As ``nas.measure.environment.environment`` gives it.
        sight: What was seen beside.
    """
    return (
        Fact("processor", str(environment["cpu"]), State.NEUTRAL, f"{environment['machine']}, {environment['system']}"),
        _cores(environment, sight),
        _pinning(sight),
        *_features(environment),
        _governor(str(environment["governor"])),
        _memory(environment, sight),
        _container(environment),
        _load(sight, int(environment["cores"])),
        _watching(sight.surroundings),
        _lease(sight),
    )


def _cores(environment: Mapping[str, Any], sight: Sight) -> Fact:
    usable = int(environment["cores"])
    value = f"{usable} of {sight.cores}" if usable != sight.cores else str(usable)
    meaning = f"logical cores {environment['affinity']}: targets of up to {plural(usable, 'thread')}"
    if usable == 1:
        return Fact("cores", value, State.BAD, f"{meaning}; whatever else runs shares the core that is measured on")
    return Fact("cores", value, State.GOOD, meaning)


def _pinning(sight: Sight) -> Fact:
    if sight.cannot_pin is None:
        return Fact("pinning", "works", State.GOOD, "measurements stay on the same cores")
    return Fact("pinning", "not possible", State.BAD, f"{sight.cannot_pin}; latencies scatter more")


def _features(environment: Mapping[str, Any]) -> tuple[Fact, ...]:
    """Vectors, 8-bit dot products and 16-bit floats: what they are good for, and what is lost without them."""
    features = set(environment["features"])
    if not features:
        meaning = "the system does not list it; whether int8 is fast here, a measurement tells"
        return (Fact("instruction set", f"not told ({environment['machine']})", State.NEUTRAL, meaning),)
    vectors = "AVX-512" if "avx512f" in features else "AVX2" if "avx2" in features else ""
    dots = [name for name, flag in _NAMES if flag in features and flag in ("avx512_vnni", "avx_vnni", "amx_int8")]
    halves = [name for name, flag in _NAMES if flag in features and flag in ("avx512_bf16", "amx_bf16")]
    return (
        Fact("vectors", vectors, State.GOOD, "runtimes have their fast kernels for it")
        if vectors
        else Fact("vectors", "none of AVX", State.BAD, "runtimes fall back on slow kernels"),
        Fact("8-bit products", listing(dots), State.GOOD, "int8 is fast here: four products in one instruction")
        if dots
        else Fact(
            "8-bit products",
            "none (no VNNI)",
            State.BAD,
            "int8 gains little time, and weights use 7 of their 8 bits; it still saves size",
        ),
        Fact("bfloat16", listing(halves), State.GOOD, "training on the CPU runs in bfloat16, up to twice as fast")
        if halves
        else Fact("bfloat16", "not in hardware", State.NEUTRAL, "training on the CPU runs in float32"),
    )


_NAMES = (
    ("AVX-512 VNNI", "avx512_vnni"),
    ("AVX VNNI", "avx_vnni"),
    ("AMX", "amx_int8"),
    ("AVX-512 BF16", "avx512_bf16"),
    ("AMX", "amx_bf16"),
)


def _governor(governor: str) -> Fact:
    if governor == "performance":
        return Fact("governor", governor, State.GOOD, "the clock does not follow the load")
    if governor in CHANGING_GOVERNORS:
        mend = "latencies scatter as the clock follows the load: sudo cpupower frequency-set -g performance"
        return Fact("governor", governor, State.BAD, mend)
    value = "not told" if governor == UNKNOWN else governor
    return Fact("governor", value, State.NEUTRAL, "usual in virtual machines; who runs the host sets the clock")


def _memory(environment: Mapping[str, Any], sight: Sight) -> Fact:
    total = environment["memory_bytes"]
    if not isinstance(total, int):
        return Fact("memory", "not told", State.NEUTRAL)
    if sight.memory_available is None:
        return Fact("memory", _gib(total), State.NEUTRAL)
    free = sight.memory_available
    state = State.BAD if free < 2 * 2**30 else State.GOOD
    return Fact("memory", _gib(total), state, f"{_gib(free)} of it available; a search takes 1 to 2 GiB")


def _container(environment: Mapping[str, Any]) -> Fact:
    cpus, memory = environment["container_cpus"], environment["container_memory_bytes"]
    limits = [f"{cpus:g} CPU{'' if cpus == 1 else 's'}"] if isinstance(cpus, int | float) else []
    limits += [_gib(memory)] if isinstance(memory, int) else []
    if not limits:
        return Fact("limits", "none", State.GOOD, "no container holds processes back")
    if isinstance(cpus, int | float) and cpus < int(environment["cores"]):
        mend = (
            "beyond its share of time the container stands still, which latencies show: give it whole cores (cpusets)"
        )
        return Fact("limits", listing(limits), State.BAD, mend)
    return Fact("limits", listing(limits), State.NEUTRAL, "of the container; part of a latency's environment")


def _load(sight: Sight, usable: int) -> Fact:
    busy = sight.surroundings.busy_cores
    if busy is None:
        return Fact("other load", "not counted", State.NEUTRAL, "the system does not say what else runs")
    value = f"{cores_words(busy)} of {usable}"
    if busy > BUSY_CORES:
        return Fact("other load", value, State.BAD, "busy with something else: end it or wait (top shows it)")
    return Fact("other load", value, State.GOOD, "busy with something else, too little to matter")


def _watching(around: Surroundings) -> Fact:
    """Which disturbances a measurement can notice here."""
    counted = {
        "load": around.busy_cores,
        "waiting for a core": around.waited,
        "the clock's frequency": around.mhz,
    }
    seen = [name for name, value in counted.items() if value is not None]
    unseen = [name for name, value in counted.items() if value is None]
    if not seen:
        meaning = "the system counts nothing: only the pace and the samples tell of a disturbance"
        return Fact("disturbances", "partly noticed", State.NEUTRAL, meaning)
    value = "noticed" if not unseen else "partly noticed"
    meaning = f"measurements watch {listing(seen)}" + (f", but not {listing(unseen)}" if unseen else "")
    return Fact("disturbances", value, State.GOOD if not unseen else State.NEUTRAL, meaning)


def _lease(sight: Sight) -> Fact:
    if sight.no_lease is None:
        return Fact("lease", "works", State.GOOD, "studies do not train while another one measures")
    return Fact("lease", "none", State.BAD, f"{sight.no_lease}; run one study at a time")


def _gib(size: int) -> str:
    return f"{significant(size / 2**30, 3, zeros=False)} GiB"
