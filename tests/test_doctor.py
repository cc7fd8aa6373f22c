"""The doctor: what it asks of whom, what it makes of the answers, and what it prints; on machines that are made up."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from nas import cli
from nas.artifact import open_session, probabilities
from nas.doctor import Diagnosis, Tools, examine
from nas.doctor.findings import Here, Noise, RuntimeFinding, State, Verdict
from nas.doctor.machine import Sight
from nas.doctor.network import network_images, small_network
from nas.doctor.noise import judged
from nas.doctor.packages import version_of
from nas.doctor.page import render
from nas.doctor.runtimes import all_targets, find, identity, with_call
from nas.errors import ArtifactError, MeasureError, UnsupportedError
from nas.measure.clock import Policy
from nas.measure.measurer import Measurer
from nas.measure.quiet import Surroundings
from nas.outcome import How, Quantity, Realisation
from nas.target import RUNTIMES, Target

ENVIRONMENT: Mapping[str, Any] = {
    "machine": "x86_64",
    "cpu": "A processor (1.2.3)",
    "cores": 4,
    "affinity": "0-3",
    "features": ["avx2", "avx512_vnni", "avx512f"],
    "governor": "performance",
    "memory_bytes": 16 * 2**30,
    "memory_gib": 16,
    "container_cpus": "none",
    "container_memory_bytes": "none",
    "system": "Linux",
}
QUIET = Surroundings(busy_cores=0.0, busy_same_cores=0.0, waited=0.0, mhz=3000.0, mhz_change=0.0)
SIGHT = Sight(8, None, None, QUIET, 12 * 2**30)
ORT = Target.parse("onnxruntime-cpu-1t-b1")
TORCH = Target.parse("torch-cpu-1t-b1")


def latency(value: float, target: str = ORT.name, **detail: Any) -> Quantity:
    return Quantity("latency_ms", value, "ms", How.MEASURED, target=target, detail={"windows": 1} | detail)


class FakeMeasurer:
    """Answers for the runtimes that it is given; all else is missing."""

    def __init__(self, there: Mapping[str, Any], log: list[str] | None = None) -> None:
        self.there = there
        self.log = [] if log is None else log

    def environment(self, target: Target) -> Mapping[str, Any]:
        self.log.append(f"ask {target.name}")
        answer = self.there.get(target.name, UnsupportedError(f"{target.runtime} is not installed", "get it"))
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    def measure(self, content: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
        self.log.append(f"measure {target.name}")
        return latency(0.005, target.name), np.zeros(3, np.float32)

    def close(self) -> None:
        self.log.append("close")


def tools(there: Mapping[str, Any] | None = None, log: list[str] | None = None, **changes: Any) -> Tools:
    """Tools for a machine that has ONNX Runtime on its CPU, or what is there."""
    there = {ORT.name: {"onnxruntime": "1.30"}} if there is None else there
    made = Tools(
        environment=lambda: ENVIRONMENT,
        see=lambda: SIGHT,
        measurer=lambda: FakeMeasurer(there, log),
        version={"openvino": "2026.1"}.get,
        noise=lambda measurer, target, progress: judged([latency(0.1), latency(0.1002)]),
    )
    return replace(made, **changes)


def text_of(diagnosis: Diagnosis, width: int = 100) -> str:
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(render(diagnosis))
    return captured.get()


# --- runtimes --------------------------------------------------------------------------------------------------------


def test_every_runtime_is_asked_on_each_of_its_devices_the_cpu_first() -> None:
    targets = all_targets()
    assert {(t.runtime, t.device) for t in targets} == {(n, d) for n, kind in RUNTIMES.items() for d in kind.forms}
    assert [t.device for t in targets] == sorted(t.device for t in targets)
    assert all(Target.parse(target.name) == target for target in targets)


def test_a_runtime_that_is_there_says_what_it_is() -> None:
    found = find(FakeMeasurer({ORT.name: {"onnxruntime": "1.30"}}), ORT)
    assert found == RuntimeFinding("onnxruntime", "cpu", ORT.name, Here.READY, {"onnxruntime": "1.30"})
    assert (found.title, found.form, found.ready) == ("ONNX Runtime", "onnx", True)


BUG = RuntimeError("the measuring process met a bug:\nTraceback …\nValueError: no such thing\n")


@pytest.mark.parametrize(
    ("error", "here", "message", "hint"),
    [
        (UnsupportedError("no torch", "get torch"), Here.MISSING, "no torch", "get torch"),
        (UnsupportedError("target 'torch-cpu-1t-b1': no torch"), Here.MISSING, "no torch", "pip install torch"),
        (MeasureError("the measuring process died (SIGILL)"), Here.BROKEN, "(SIGILL)", "try: pip install torch"),
        (BUG, Here.BROKEN, "ValueError: no such thing", "try: pip install torch"),
    ],
)
def test_whatever_keeps_a_runtime_away_is_a_finding_with_a_remedy(
    error: Exception, here: Here, message: str, hint: str
) -> None:
    found = find(FakeMeasurer({TORCH.name: error}), TORCH)
    assert (found.here, found.hint, found.ready) == (here, hint, False)
    assert found.message.endswith(message)
    assert "\n" not in found.message
    assert with_call(found, FakeMeasurer({}), {}) is found, "nothing is timed on it"


def test_a_call_is_timed_on_a_model_of_the_runtimes_form_made_once() -> None:
    class Recorder(FakeMeasurer):
        def measure(self, content: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
            contents.append(content)
            return latency(0.012, target.name), np.zeros(3)

    contents: list[bytes] = []
    identities: dict[str, bytes] = {}
    for target in (ORT, Target.parse("openvino-cpu-1t-b1")):
        ready = RuntimeFinding(target.runtime, target.device, target.name, Here.READY)
        assert with_call(ready, Recorder({}), identities).call_ms == 0.012
    assert list(identities) == ["onnx"]
    assert contents == [identities["onnx"]] * 2
    images = network_images()
    np.testing.assert_array_equal(open_session(contents[0]).run(None, {"images": images})[0], images)


def test_a_runtime_that_says_it_is_there_but_cannot_measure_is_broken() -> None:
    class Broken(FakeMeasurer):
        def measure(self, content: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
            raise ArtifactError("it wants 1 thread but runs with 2")

    found = with_call(RuntimeFinding("onnxruntime", "cpu", ORT.name, Here.READY), Broken({}), {})
    assert found.here is Here.BROKEN
    assert found.message == "it is there, but cannot be measured on: it wants 1 thread but runs with 2"


def test_a_model_of_another_form_is_made_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """One where the runtime is not there cannot be made, which is said in a line."""
    monkeypatch.setitem(RUNTIMES, "nowhere", RUNTIMES["torch"])  # type: ignore[index]
    with pytest.raises(MeasureError, match=r"^making a model failed: .*nowhere") as caught:
        identity(Target("nowhere", "cpu", 1, 1), network_images())
    assert "\n" not in str(caught.value)


def test_a_real_runtime_is_asked_and_measured_in_its_process() -> None:
    with Measurer(Policy(warmup_ms=0, minimum_samples=10, minimum_ms=0, maximum_ms=100)) as measurer:
        found = with_call(find(measurer, ORT), measurer, {})
        quantity, _ = measurer.measure(small_network(), ORT, network_images())
    assert found.here is Here.READY, found.message
    assert found.environment["onnxruntime"] == version_of("onnxruntime")
    assert found.call_ms is not None
    assert 0 < found.call_ms < quantity.value, "the small network is more work than a call"


def test_the_small_network_gives_probabilities_and_is_always_the_same() -> None:
    content = small_network()
    assert content == small_network()
    outputs = probabilities(open_session(content), np.repeat(network_images(), 3, axis=0))
    assert outputs.shape == (3, 10)
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)
    assert 0.0 < outputs.min() <= outputs.max() < 1.0


# --- the examination -------------------------------------------------------------------------------------------------


def test_the_machine_is_looked_at_before_anything_runs_and_each_process_is_ended() -> None:
    log: list[str] = []
    steps: list[tuple[str, float]] = []

    def see() -> Sight:
        log.append("see")
        return SIGHT

    diagnosis = examine(tools(log=log, see=see), progress=lambda what, share: steps.append((what, share)))
    asked = [f"ask {target.name}" for target in all_targets()]
    assert [entry for entry in log if entry.startswith(("see", "ask"))] == ["see", *asked]
    assert log.count("close") == len(asked) + 1, "one for the noise"
    assert log.index("measure onnxruntime-cpu-1t-b1") == log.index("ask onnxruntime-cpu-1t-b1") + 1
    assert [r.target for r in diagnosis.ready] == [ORT.name]
    assert diagnosis.ready[0].call_ms == 0.005
    assert diagnosis.noise is not None
    assert diagnosis.noise.verdict is Verdict.QUIET
    shares = [share for _, share in steps]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] <= 1
    assert ("asking TensorRT (cuda)") in [what for what, _ in steps]


def test_quick_times_nothing() -> None:
    log: list[str] = []
    diagnosis = examine(tools(log=log), quick=True)
    assert [entry for entry in log if entry.startswith("measure")] == []
    assert diagnosis.ready[0].call_ms is None
    assert (diagnosis.noise, diagnosis.why_no_noise) == (None, "left out by --quick")


def test_noise_needs_a_runtime_for_onnx_files_on_the_cpu() -> None:
    diagnosis = examine(tools({"tensorrt-cuda-b1": {"tensorrt": "10"}}))
    assert [r.target for r in diagnosis.ready] == ["tensorrt-cuda-b1"]
    assert (diagnosis.noise, diagnosis.why_no_noise) == (None, "no runtime here takes an ONNX file on the CPU")


def test_noise_that_cannot_be_measured_is_a_finding_and_its_process_is_ended() -> None:
    def fails(measurer: Any, target: Target, progress: Any) -> Noise:
        raise MeasureError("waited 600 s for the machine", "end process 7")

    log: list[str] = []
    diagnosis = examine(tools(log=log, noise=fails))
    assert diagnosis.noise is None
    assert diagnosis.why_no_noise == "waited 600 s for the machine (end process 7)"
    assert log[-1] == "close"


def test_processes_end_when_the_examination_is_interrupted() -> None:
    log: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        examine(tools(measurer=lambda: Interrupted({}, log)))
    assert log == ["close"]


class Interrupted(FakeMeasurer):
    def environment(self, target: Target) -> Mapping[str, Any]:
        raise KeyboardInterrupt


# --- the page --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
def test_the_page_tells_everything_and_fits(width: int) -> None:
    text = text_of(examine(tools()), width)
    assert max(map(len, text.splitlines())) <= width
    flat = " ".join(text.split())
    for words in ("A processor (1.2.3)", "4 of 8", "AVX-512 VNNI", "onnxruntime 1.30", "5.00 µs", "quiet: two"):
        assert words in flat, words
    for runtime in RUNTIMES.values():
        assert runtime.title in flat
    assert "pip install 'nas-front[dashboard]'" in flat
    assert "Ready to measure on onnxruntime-cpu-1t-b1." in flat
    assert "Worth mending" not in flat
    assert "…" not in flat, "nothing is cut off"


def test_the_page_of_a_machine_in_a_bad_state() -> None:
    busy = replace(SIGHT, cannot_pin="the system refuses it", surroundings=Surroundings(busy_cores=1.25))
    diagnosis = examine(tools({ORT.name: BUG}, see=lambda: busy))
    flat = " ".join(text_of(diagnosis).split())
    assert "Nothing can be measured here" in flat
    assert "ValueError: no such thing" in flat
    assert "not measured: no runtime here" in flat
    assert "1.2 cores of 4" in flat
    assert [fact.name for fact in diagnosis.machine if fact.state is State.BAD] == ["pinning", "other load"]
    assert {choice.label for choice in diagnosis.choices} == {Realisation.UNSUPPORTED}


def test_names_that_look_like_markup_are_printed_as_they_are() -> None:
    odd = dict(ENVIRONMENT) | {"cpu": "[bold]chip[/q]"}
    assert "[bold]chip[/q]" in text_of(examine(tools(environment=lambda: odd), quick=True))


def test_json_holds_everything() -> None:
    data = json.loads(json.dumps(examine(tools()).to_json()))
    assert (data["version"], data["can_measure"]) == (1, True)
    assert data["environment"]["cpu"] == "A processor (1.2.3)"
    ready = {entry["target"]: entry["here"] for entry in data["runtimes"]}
    assert ready[ORT.name] == "ready"
    assert ready["torch-cuda-b1"] == "missing"
    assert data["noise"]["latencies_ms"] == [0.1, 0.1002]
    assert data["noise"]["verdict"] == "quiet"
    assert {entry["label"] for entry in data["choices"]} == {"realised", "simulated"}
    assert {entry["name"]: entry["version"] for entry in data["packages"]}["openvino"] == "2026.1"
    nothing = examine(tools({}), quick=True).to_json()
    assert (nothing["can_measure"], nothing["noise"]) == (False, None)


# --- the command -----------------------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, there: Mapping[str, Any] | None, *arguments: str) -> int:
    """Runs ``nas doctor`` on a made-up machine and gives its exit code."""
    real = examine
    monkeypatch.setattr("nas.doctor.examine", lambda **options: real(tools(there), **options))
    monkeypatch.setattr(sys, "argv", ["nas", "doctor", *arguments])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_command_prints_the_page(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, None) == 0
    printed = capsys.readouterr()
    for heading in ("Machine", "Runtimes", "Compression", "Optional packages", "Noise right now"):
        assert f"{heading}\n" in printed.out
    assert printed.err == ""


def test_the_command_prints_json_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, None, "--json", "--quick") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["noise"] is None
    assert [entry["target"] for entry in data["runtimes"] if entry["here"] == "ready"] == [ORT.name]


@pytest.mark.parametrize("arguments", [(), ("--json",), ("--quick",)])
def test_the_command_fails_where_nothing_can_be_measured(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, {}, *arguments) == 1
    assert "onnxruntime is not installed" in capsys.readouterr().out
