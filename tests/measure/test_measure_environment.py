from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nas.measure import environment as module
from nas.measure.environment import (
    FEATURES,
    LATENCY_DEPENDS_ON,
    cpu_features,
    environment,
    environment_id,
    has_fast_bfloat16,
    has_vnni,
)
from nas.target import usable_cores

RUNTIME = {"onnxruntime": "1.2.3", "provider": "CPUExecutionProvider"}

CPUINFO = """processor\t: 0
model name\t: Some CPU @ 2.00GHz
cpu family\t: 6
model\t\t: 143
stepping\t: 8
flags\t\t: fpu sse2 avx2 avx512f {flags}

processor\t: 1
model name\t: Another
flags\t\t: amx_int8
"""


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_environment_of_this_machine_is_json_and_complete() -> None:
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert found["cores"] == usable_cores()
    for name in ("numpy", "onnxruntime", "torch", "optuna"):
        assert found[name][0].isdigit()
    assert found["memory_bytes"] > 2**28
    assert found["memory_gib"] == round(found["memory_bytes"] / 2**30)
    assert set(LATENCY_DEPENDS_ON) <= set(found)


def test_files_of_the_system_are_read(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/cpuinfo": CPUINFO.format(flags="avx512_vnni amx_bf16"),
            "proc/meminfo": "MemFree: 1 kB\nMemTotal:       5241856 kB\n",
            "proc/self/cgroup": "0::/box\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
            "sys/fs/cgroup/box/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/box/memory.max": "1073741824\n",
        },
    )
    found = environment(root)
    assert found["cpu"] == "Some CPU @ 2.00GHz (6.143.8)"
    assert found["features"] == ["amx_bf16", "avx2", "avx512_vnni", "avx512f"]
    assert (found["memory_bytes"], found["memory_gib"]) == (5 * 2**30 - 2**20, 5)
    assert found["governor"] == "performance"
    assert (found["container_cpus"], found["container_memory_bytes"]) == (1.5, 2**30)


@pytest.mark.parametrize(
    ("files", "cpus", "memory"),
    [
        pytest.param({}, "none", "none", id="no control groups"),
        pytest.param(
            {"sys/fs/cgroup/cpu.max": "max 100000", "sys/fs/cgroup/memory.max": "max"}, "none", "none", id="no limits"
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/gone", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2.0, "none", id="namespaced"
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/a\n3:cpu,cpuacct:/a\n",
                "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1048576",
            },
            0.5,
            1048576,
            id="version 1",
        ),
        pytest.param(
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            },
            "none",
            "none",
            id="version 1 without limits",
        ),
    ],
)
def test_container_limits(tmp_path: Path, files: dict[str, str], cpus: object, memory: object) -> None:
    found = environment(write(tmp_path, files))
    assert (found["container_cpus"], found["container_memory_bytes"]) == (cpus, memory)


def test_what_the_system_does_not_say_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.platform, "processor", lambda: "")
    monkeypatch.setattr(module.os, "sysconf_names", {})
    found = environment(tmp_path)
    assert (found["cpu"], found["governor"], found["memory_bytes"]) == ("unknown", "unknown", "unknown")
    assert found["memory_gib"] == "unknown"
    assert found["features"] == []
    assert len(environment_id(found, {})) == 12


@pytest.mark.parametrize(
    ("cores", "text"),
    [({0}, "0"), ({0, 1}, "0-1"), ({0, 1, 2, 3, 6}, "0-3,6"), ({5, 1, 3}, "1,3,5"), ({2, 3, 8, 9, 10}, "2-3,8-10")],
)
def test_affinity_is_written_as_the_kernel_does(monkeypatch: pytest.MonkeyPatch, cores: set[int], text: str) -> None:
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: cores, raising=False)
    assert environment()["affinity"] == text


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_cores_that_may_not_be_used_change_the_fingerprint() -> None:
    before, here = os.sched_getaffinity(0), environment()
    core = min(before)
    try:
        os.sched_setaffinity(0, {core})
        kept = environment()
    finally:
        os.sched_setaffinity(0, before)
    assert (kept["affinity"], kept["cores"]) == (str(core), 1)
    assert (environment_id(kept, RUNTIME) == environment_id(here, RUNTIME)) is (before == {core})


def test_package_that_is_not_installed_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("no-such-package-anywhere",))
    assert environment()["no-such-package-anywhere"] == "not installed"


@pytest.mark.parametrize(
    ("field", "value", "changes"),
    [
        ("machine", "another", True),
        ("cpu", "another", True),
        ("features", ["none such"], True),
        ("cores", 10_000, True),
        ("affinity", "77", True),
        ("governor", "powersave?", True),
        ("memory_gib", 10_000, True),
        ("container_cpus", 0.25, True),
        ("container_memory_bytes", 7, True),
        ("system", "another", True),
        ("memory_bytes", 1, False),
        ("kernel", "another", False),
        ("python", "2.7", False),
        ("onnxruntime", "0.1", False),  # a runtime that is measured with says so itself
        ("torch", "0.1", False),
    ],
)
def test_fingerprint_covers_what_latencies_depend_on(field: str, value: object, changes: bool) -> None:
    here = environment()
    assert (environment_id(here | {field: value}, RUNTIME) != environment_id(here, RUNTIME)) is changes


@pytest.mark.parametrize(
    "runtime", [{}, {**RUNTIME, "onnxruntime": "1.2.4"}, {**RUNTIME, "provider": "CUDA"}, {**RUNTIME, "driver": "550"}]
)
def test_another_runtime_or_version_changes_the_fingerprint(runtime: dict[str, str]) -> None:
    here = environment()
    assert environment_id(here, runtime) != environment_id(here, RUNTIME)


def test_fingerprint_does_not_depend_on_the_order_of_the_fields() -> None:
    here = environment()
    turned = environment_id(dict(reversed(here.items())), dict(reversed(RUNTIME.items())))
    assert turned == environment_id(here, RUNTIME)
    assert set(turned) <= set("0123456789abcdef")
    assert len(turned) == 12


def test_a_field_that_is_missing_is_no_fingerprint() -> None:
    here = environment()
    del here["affinity"]
    with pytest.raises(KeyError, match="affinity"):
        environment_id(here, RUNTIME)


@pytest.mark.parametrize(
    ("flags", "bfloat16", "vnni"),
    [
        ("", False, False),
        ("avx512_bf16", True, False),
        ("amx_bf16", True, False),
        ("avx512_vnni", False, True),
        ("avx_vnni amx_int8", False, True),
        ("avx512_bf16x avx_vnnix", False, False),
    ],
)
def test_features_decide_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, bfloat16: bool, vnni: bool
) -> None:
    found = cpu_features(write(tmp_path, {"proc/cpuinfo": CPUINFO.format(flags=flags)}))
    assert found == {"avx2", "avx512f", *flags.split()} & set(FEATURES)
    monkeypatch.setattr(module, "cpu_features", lambda: found)
    assert (has_fast_bfloat16(), has_vnni()) == (bfloat16, vnni)
