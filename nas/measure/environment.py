"""The machine and its software, as far as numbers depend on them. What cannot be found out is ``"unknown"``."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from nas.design import sha256_of
from nas.packages import version_of
from nas.target import affinity, usable_cores

UNKNOWN = "unknown"

# Instruction sets that decide how fast a network runs: vectors, 8-bit dot products, 16-bit floats, matrix tiles.
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
# 8-bit dot products, of either width of registers.
VNNI = frozenset({"avx512_vnni", "avx_vnni"})
PACKAGES = ("numpy", "onnxruntime", "openvino", "onnx", "torch", "torch-pruning", "optuna", "ptflops", "nas-front")

# A latency depends on these, on the runtime and, as far as is known, on nothing else here: the fingerprint is taken
# over them. Memory counts in GiB: what the kernel keeps of it for itself changes from start to start.
LATENCY_DEPENDS_ON = (
    "machine",
    "cpu",
    "cores",
    "affinity",
    "features",
    "governor",
    "memory_gib",
    "container_cpus",
    "container_memory_bytes",
    "system",
)


def environment(root: Path = Path("/")) -> dict[str, Any]:
    """What there is to know of this machine and its software, as JSON holds it.

    ``cores`` counts the logical cores that this process may use; ``container_cpus`` and ``container_memory_bytes`` are
    a container's limits, or ``"none"``. Versions are read from the packages' metadata, so nothing is imported.

    Args:
        root: Where the system's files lie (``proc`` and ``sys``).
    """
    return {
        "machine": platform.machine() or UNKNOWN,
        "cpu": _cpu_model(root),
        "cores": usable_cores(),
        "affinity": _affinity(),
        "features": sorted(cpu_features(root)),
        "governor": _read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or UNKNOWN,
        "memory_bytes": (memory := _memory_bytes(root)),
        "memory_gib": round(memory / 2**30) if isinstance(memory, int) else UNKNOWN,
        "container_cpus": _container_cpus(root),
        "container_memory_bytes": _container_memory_bytes(root),
        "system": platform.system() or UNKNOWN,
        "kernel": platform.release() or UNKNOWN,
        "python": platform.python_version(),
        **{name: version_of(name) for name in PACKAGES},
    }


def environment_id(machine: Mapping[str, Any], runtime: Mapping[str, Any]) -> str:
    """A fingerprint of 12 hexadecimal digits over what latencies depend on.

    Latencies of one fingerprint may be compared. Versions of Python, the kernel or another runtime do not change it.

    Args:
        machine: What ``environment`` gives; of it counts ``LATENCY_DEPENDS_ON``.
        runtime: What the runtime says of itself (see ``nas.measure.runtimes``).

    Raises:
        KeyError: The environment lacks one of the fields.
    """
    return sha256_of({name: machine[name] for name in LATENCY_DEPENDS_ON} | {"runtime": dict(runtime)})[:12]


def cpu_features(root: Path = Path("/")) -> frozenset[str]:
    """Those of ``FEATURES`` that the processor has; empty where the system does not say."""
    return frozenset(FEATURES) & _cpu_flags(root)


def has_fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware (AVX-512 BF16 or AMX)."""
    return bool(cpu_features() & {"avx512_bf16", "amx_bf16"})


def has_vnni() -> bool:
    """Whether the processor has 8-bit dot products (VNNI), without which INT8 gains little."""
    return bool(cpu_features() & VNNI)


def _read(path: Path) -> str:
    """A small text file's content without white space around it, or nothing where it cannot be read."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _processor_fields(root: Path) -> dict[str, str]:
    """The first processor's lines of ``/proc/cpuinfo``; nothing on other systems than Linux."""
    first = _read(root / "proc/cpuinfo").split("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


@cache
def _cpu_flags(root: Path) -> frozenset[str]:
    return frozenset(_processor_fields(root).get("flags", "").split())


def _cpu_model(root: Path) -> str:
    """Model name, with family, model and stepping where given: clouds hide the name's number ("AMD EPYC")."""
    fields = _processor_fields(root)
    name = fields.get("model name") or platform.processor() or UNKNOWN
    numbers = [fields[key] for key in ("cpu family", "model", "stepping") if key in fields]
    return f"{name} ({'.'.join(numbers)})" if numbers else name


def _affinity() -> str:
    """The cores that this process may use, as the kernel lists them: ``0-3,6``."""
    runs: list[list[int]] = []
    for core in sorted(affinity()):
        if runs and core == runs[-1][-1] + 1:
            runs[-1].append(core)
        else:
            runs.append([core])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _memory_bytes(root: Path) -> int | str:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    if sys.platform != "win32" and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return UNKNOWN


def _control_group_file(root: Path, controller: str, name: str) -> str:
    """The content of one file of this process's control group, of its own folder before the hierarchy's root.

    Args:
        root: Where the system's files lie.
        controller: ``""`` for the unified hierarchy (version 2), else the controller's name (version 1).
        name: The file in the group's folder.
    """
    mount = root / "sys/fs/cgroup" / controller
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(",") and (content := _read(mount / path.lstrip("/") / name)):
            return content
    return _read(mount / name)


def _container_cpus(root: Path) -> float | str:
    """Processors' worth of time that the container may use."""
    words = _control_group_file(root, "", "cpu.max").split() or [
        _control_group_file(root, "cpu", "cpu.cfs_quota_us"),
        _control_group_file(root, "cpu", "cpu.cfs_period_us"),
    ]
    return int(words[0]) / int(words[1]) if words[0].isdigit() and words[1].isdigit() else "none"


def _container_memory_bytes(root: Path) -> int | str:
    text = _control_group_file(root, "", "memory.max") or _control_group_file(root, "memory", "memory.limit_in_bytes")
    # Version 1 says "no limit" by a number near 2^63.
    return int(text) if text.isdigit() and int(text) < 2**60 else "none"
