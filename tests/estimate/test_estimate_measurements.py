from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_latencies import PLATFORM, measurement, networks

from nas.errors import MeasureError
from nas.estimate.kernels import Kernel
from nas.estimate.measurements import DISTURBED_NOISE, NETWORK, Measurement, Measurements, cache_folder
from nas.outcome import How, Quantity
from nas.store import sha256_bytes
from nas.target import Target

TARGET = Target.parse("onnxruntime-cpu-1t-b1")
SOME = [measurement(network, number) for number, network in enumerate(networks(5))]


def stored(folder: Path, environment: str = "abc", target: Target = TARGET) -> Measurements:
    return Measurements(folder, environment, target)


def test_what_is_added_is_read_back_in_order(tmp_path: Path) -> None:
    assert stored(tmp_path).read() == []
    for item in SOME:
        stored(tmp_path).add(item)
    assert stored(tmp_path).read() == SOME


def test_a_target_and_an_environment_have_their_own(tmp_path: Path) -> None:
    stored(tmp_path).add(SOME[0])
    assert stored(tmp_path, environment="def").read() == []
    assert stored(tmp_path, target=Target.parse("onnxruntime-cpu-2t-b1")).read() == []


def test_of_an_artifact_measured_twice_the_last_counts(tmp_path: Path) -> None:
    again = replace(SOME[0], ms=9.0, low=8.0, high=10.0)
    for item in (SOME[0], SOME[1], again):
        stored(tmp_path).add(item)
    assert stored(tmp_path).read() == [SOME[1], again]


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    kept = stored(tmp_path)
    kept.add(SOME[0])
    whole = kept.path.read_bytes()
    kept.add(SOME[1])
    kept.path.write_bytes(kept.path.read_bytes()[: len(whole) + 40])  # the process died while it wrote
    kept.add(SOME[2])
    assert kept.read() == [SOME[0], SOME[2]]


@pytest.mark.parametrize(
    "change",
    [{"source": "rumour"}, {"ms": 0}, {"low": 99.0}, {"kernels": [[1, 2]]}, {"more": 1}, {"ms": "fast"}],
)
def test_a_line_that_makes_no_sense_is_left_out(tmp_path: Path, change: dict[str, object]) -> None:
    kept = stored(tmp_path)
    kept.add(SOME[0])
    with kept.path.open("a") as file:
        file.write(json.dumps(SOME[1].to_json() | change) + "\n")
    assert kept.read() == [SOME[0]]


def test_what_cannot_be_written_or_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "abc").write_text("a file where a folder should be")
    with pytest.raises(MeasureError, match="cannot be written"):
        stored(tmp_path).add(SOME[0])
    with pytest.raises(MeasureError, match="cannot be written"):
        stored(tmp_path).write_platform(PLATFORM)
    with pytest.raises(MeasureError, match="cannot be read"):
        stored(tmp_path).read()


def test_a_measurement_is_made_of_the_measured_latency() -> None:
    kernels: tuple[Kernel, ...] = SOME[0].kernels
    latency = Quantity("latency_ms", 2.0, "ms", How.MEASURED, low=1.9, high=2.2, detail={"unstable": True})
    found = Measurement.of(NETWORK, "a network", b"file", latency, 1e6, kernels)
    assert (found.ms, found.low, found.high, found.unstable) == (2.0, 1.9, 2.2, True)
    assert found.sha256 == sha256_bytes(b"file")
    bare = Measurement.of(NETWORK, "", b"", Quantity("latency_ms", 2.0, "ms", How.MEASURED), 0, kernels)
    assert (bare.low, bare.high, bare.unstable, bare.noise) == (2.0, 2.0, False, 0)


def test_noise_is_the_standard_error_and_what_a_disturbance_may_bring() -> None:
    steady = replace(SOME[0], ms=10.0, low=9.0, high=11.0)
    assert steady.noise == pytest.approx(0.1 / 1.96)
    assert replace(steady, unstable=True).noise == pytest.approx(((0.1 / 1.96) ** 2 + DISTURBED_NOISE**2) ** 0.5)


def test_a_disturbed_platform_does_not_replace_an_undisturbed_one(tmp_path: Path) -> None:
    kept = stored(tmp_path)
    assert kept.read_platform() is None
    rough, fine, finer = replace(PLATFORM, unstable=True), PLATFORM, replace(PLATFORM, flops_per_second_conv=2e9)
    for given, expected in ((rough, rough), (fine, fine), (rough, fine), (finer, finer)):
        kept.write_platform(given)
        assert kept.read_platform() == expected


def test_a_damaged_platform_counts_as_none(tmp_path: Path) -> None:
    kept = stored(tmp_path)
    kept.write_platform(PLATFORM)
    kept.platform_path.write_text("{")
    assert kept.read_platform() is None


def test_the_cache_is_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "nas-front"
    for nowhere in ("", "relative"):  # the specification has relative paths ignored
        monkeypatch.setenv("XDG_CACHE_HOME", nowhere)
        assert cache_folder() == Path.home() / ".cache" / "nas-front"
