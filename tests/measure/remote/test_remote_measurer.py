"""A measurer whose device is this machine, over loopback: it measures as the local one, and tells what goes wrong."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import make_model, tiny_artifact
from remote_agents import LONG, SHORT, TARGET, TOKEN, running, started, url_in

from nas.errors import ArtifactError, MeasureError, NasError, UnsupportedError
from nas.measure.measurer import Measurer
from nas.measure.protocol import Measure
from nas.measure.remote import client as client_module
from nas.measure.remote import web
from nas.measure.remote.agent import Running
from nas.measure.remote.client import Client, Reply
from nas.measure.remote.measurer import RemoteMeasurer
from nas.outcome import How
from nas.target import Target, usable_cores

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
MODEL = tiny_artifact()


@pytest.fixture(scope="module")
def agent(own_lease: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("received"), limit_mb=1) as agent:
        yield agent


@pytest.fixture
def measurer(agent: Running) -> Iterator[RemoteMeasurer]:
    with RemoteMeasurer(agent.address.url, TOKEN, SHORT) as measurer:
        yield measurer


# --- as the local one ------------------------------------------------------------------------------------------------


def test_it_is_a_measurer_with_the_device_s_fingerprint(measurer: RemoteMeasurer, agent: Running) -> None:
    assert isinstance(measurer, Measurer)
    assert (Measurer.on_this_machine, measurer.on_this_machine) == (True, False)
    with Measurer(SHORT) as local:
        assert measurer.environment(TARGET) == local.environment(TARGET)
        assert measurer.environment_id(TARGET) == local.environment_id(TARGET)
        assert {name: measurer.machine[name] for name in local.machine} == dict(local.machine)
    assert measurer.machine["device"] == agent.address.url
    assert measurer.machine["host"]
    assert measurer.machine["asked_from"]["python"]


def test_latency_is_measured_with_its_samples(measurer: RemoteMeasurer) -> None:
    target = replace(TARGET, batch=8)
    quantity, samples = measurer.measure(MODEL, target, IMAGES)
    assert (quantity.key, quantity.unit, quantity.how) == (f"latency_ms@{target.name}", "ms", How.MEASURED)
    assert quantity.environment_id == measurer.environment_id(target)
    assert quantity.low is not None
    assert quantity.high is not None
    assert 0 < quantity.low <= quantity.value <= quantity.high
    assert (samples.dtype, len(samples)) == (np.float32, quantity.detail["samples"])
    assert quantity.value == pytest.approx(float(np.median(samples)), rel=1e-6)
    assert quantity.detail["batch"] == 8
    assert quantity.detail["overhead_ms"] > 0  # type: ignore[operator]


def test_outputs_are_the_local_ones_in_parts(measurer: RemoteMeasurer, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(1).integers(0, 256, (7, 4, 4, 1), dtype=np.uint8)
    with Measurer() as local:
        expected = local.outputs(MODEL, TARGET, images, batch=2)
    monkeypatch.setattr(measurer, "_part_bytes", lambda: 32)  # two images at a time
    assert np.array_equal(measurer.outputs(MODEL, TARGET, images, batch=2), expected)


def test_models_take_turns_and_processes_start_anew(measurer: RemoteMeasurer, agent: Running) -> None:
    turns = measurer.turns([MODEL, tiny_artifact(5)], TARGET, IMAGES, rounds=3)
    assert [len(taken) for taken in turns.samples_ns] == [3, 3]
    assert len(turns.troubles) == 3
    before = agent.answers._process(TARGET).pid
    assert before is not None
    measurer.start_anew(TARGET)
    assert agent.answers._process(TARGET).pid is None
    measurer.environment(replace(TARGET, batch=3))
    assert agent.answers._process(TARGET).pid not in (None, before)


def test_load_time_and_memory_are_the_device_s(measurer: RemoteMeasurer, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(MODEL)
    load, memory = measurer.startup(path, TARGET, IMAGES)
    assert (load.name, memory.name) == ("load_ms", "peak_memory_bytes")
    assert load.value > 0
    assert memory.value > 10**7
    assert load.environment_id == memory.environment_id == measurer.environment_id(TARGET)
    assert load.detail["processes"] == 3
    with pytest.raises(ArtifactError, match="cannot be read"):
        measurer.startup(tmp_path / "gone", TARGET, IMAGES)


def test_the_local_one_measures_startup_too() -> None:
    with Measurer(SHORT) as local:
        load, memory = local.startup(MODEL, TARGET, IMAGES)
        assert load.environment_id == memory.environment_id == local.environment_id(TARGET)


def test_a_file_is_sent_once(measurer: RemoteMeasurer, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = tiny_artifact(9), IMAGES + 1
    sent: list[str] = []
    once = measurer.client._once

    def noted(method: str, path: str, body: bytes | None) -> Reply:
        if method == "PUT":
            sent.append(path)
        return once(method, path, body)

    monkeypatch.setattr(measurer.client, "_once", noted)
    for _ in range(2):
        measurer.measure(model, TARGET, images)
    measurer.outputs(model, TARGET, images[:1])
    assert len(sent) == len(set(sent)) == 2  # the model, and the first image, which is the batch


# --- what it does not do ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["torch-cpu-1t-b1", "inductor-cpu-1t-b1", "openvino-cpu-1t-b1", "tensorrt-cuda-b1"])
def test_only_onnx_is_executed(measurer: RemoteMeasurer, agent: Running, name: str) -> None:
    target = Target.parse(name)
    for call in (measurer.environment_id, lambda target: measurer.outputs(MODEL, target, IMAGES)):
        with pytest.raises(UnsupportedError, match="measures on onnxruntime alone"):
            call(target)
    with pytest.raises(UnsupportedError, match="a device measures on ONNX Runtime alone"):  # the agent itself
        measurer.ask(Measure(MODEL, target, IMAGES[:1], SHORT))


def test_more_threads_than_the_device_has_are_refused_there(measurer: RemoteMeasurer) -> None:
    target = replace(TARGET, threads=usable_cores() + 1)
    with pytest.raises(UnsupportedError, match=f"wants {usable_cores() + 1} threads"):
        measurer.measure(MODEL, target, IMAGES)


def test_a_file_of_the_device_cannot_be_read(measurer: RemoteMeasurer, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(np.arange(16, dtype=np.float32).tobytes())
    node = helper.make_node("Add", ["images", "weights"], ["probabilities"])
    model = onnx.load_from_string(make_model([node], {"weights": np.zeros(16, np.float32)}, ["N", 16]))
    (weights,) = model.graph.initializer
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", str(secret)
    content, images = model.SerializeToString(), np.zeros((1, 16), np.float32)
    calls: list[Callable[[], Any]] = [
        lambda: measurer.outputs(content, TARGET, images),
        lambda: measurer.measure(content, TARGET, images),
        lambda: measurer.turns([MODEL, content], TARGET, images, rounds=1),
        lambda: measurer.startup(content, TARGET, images),
    ]
    for call in calls:
        with pytest.raises(ArtifactError, match="weights lie in another file"):
            call()


def test_what_is_wrong_with_a_model_is_told_as_here(measurer: RemoteMeasurer) -> None:
    with pytest.raises(ArtifactError, match="no ONNX"):
        measurer.measure(b"no model", TARGET, IMAGES)
    with pytest.raises(ArtifactError, match="the model cannot be run"):
        measurer.measure(MODEL, TARGET, IMAGES.astype(np.float32))
    measurer.measure(MODEL, TARGET, IMAGES)


def test_what_is_too_large_is_not_sent(measurer: RemoteMeasurer) -> None:
    with pytest.raises(ArtifactError, match=r"takes at most 1,000,000 bytes, but .* 1,000,001") as caught:
        measurer.measure(b"x" * 1_000_001, TARGET, IMAGES)
    assert "--limit-mb" in caught.value.hint
    measurer._limit *= 2  # as if the agent had been started anew with another limit: it refuses by itself
    with pytest.raises(ArtifactError, match="refuses the file"):
        measurer.measure(b"x" * 1_000_001, TARGET, IMAGES)


# --- who answers -----------------------------------------------------------------------------------------------------


def test_a_wrong_token_is_told_in_one_line(agent: Running) -> None:
    with pytest.raises(MeasureError, match="does not accept the token") as caught:
        RemoteMeasurer(agent.address.url, TOKEN + "x")
    assert TOKEN not in str(caught.value)


def test_an_agent_of_another_version_is_told(agent: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "PROTOCOL", 2)
    with pytest.raises(MeasureError, match="speaks version 2 of the protocol, and this is 1") as caught:
        RemoteMeasurer(agent.address.url, TOKEN)
    assert caught.value.hint == "install the same version on both machines"


def test_nobody_there(agent: Running) -> None:
    with pytest.raises(MeasureError, match=r"no agent answers at http://127.0.0.1:1: Connection refused") as caught:
        RemoteMeasurer("http://127.0.0.1:1", TOKEN)
    assert "nas measure --serve" in caught.value.hint


def test_somebody_else_there(monkeypatch: pytest.MonkeyPatch, agent: Running) -> None:
    monkeypatch.setattr(web, "PROTOCOL_HEADER", "Something-Else")
    with pytest.raises(MeasureError, match="is no agent that measures"):
        RemoteMeasurer(agent.address.url, TOKEN)


# --- faults ----------------------------------------------------------------------------------------------------------


class Unreliable(Client):
    """Loses the first answer to each request, once the agent has dealt with it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options, sleep=lambda _: None)
        self.lost: set[tuple[str, str]] = set()

    def _once(self, method: str, path: str, body: bytes | None) -> Reply:
        reply = super()._once(method, path, body)
        if (method, path) not in self.lost and path != "/device":
            self.lost.add((method, path))
            raise client_module._Lost("Connection reset by peer")
        return reply


def test_nothing_is_measured_twice_where_connections_are_lost(agent: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.measure.remote.measurer.Client", Unreliable)
    before = agent.jobs.done
    with RemoteMeasurer(agent.address.url, TOKEN, SHORT) as measurer:
        measurer.measure(tiny_artifact(11), TARGET, IMAGES)
        assert {method for method, _ in measurer.client.lost} >= {"POST", "PUT", "GET"}  # type: ignore[attr-defined]
    assert agent.jobs.done == before + 2  # what the runtime is, and the latency


def test_a_file_that_is_torn_on_its_way_is_sent_again(
    measurer: RemoteMeasurer, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = measurer.client._once
    torn: list[str] = []

    def tearing(method: str, path: str, body: bytes | None) -> Reply:
        if method == "PUT" and body is not None and path not in torn:
            torn.append(path)
            body = body[:-1] + bytes([body[-1] ^ 1])
        return once(method, path, body)

    monkeypatch.setattr(measurer.client, "_once", tearing)
    assert measurer.outputs(tiny_artifact(12), TARGET, IMAGES).shape == (5, 12)
    assert torn


def test_two_who_ask_at_once_are_served_one_after_the_other(agent: Running) -> None:
    found: dict[int, Any] = {}

    def ask(number: int) -> None:
        with RemoteMeasurer(agent.address.url, TOKEN, SHORT) as measurer:
            found[number] = [measurer.outputs(tiny_artifact(number), TARGET, IMAGES).shape for _ in range(3)]
            measurer.measure(tiny_artifact(number), TARGET, IMAGES)

    threads = [threading.Thread(target=ask, args=(number,)) for number in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {2: [(5, 2)] * 3, 3: [(5, 3)] * 3}


def until(true: Callable[[], object]) -> None:
    """Waits until something is true, which it becomes soon."""
    pause = threading.Event()
    for _ in range(6000):
        if true():
            return
        pause.wait(0.01)
    raise AssertionError("it did not become true")


def measuring(agent: Running) -> bool:
    """Whether the agent is at something."""
    return any(job.started and job.answer is None for job in list(agent.jobs._jobs.values()))


def test_one_who_gives_up_frees_the_device(agent: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    with RemoteMeasurer(agent.address.url, TOKEN, LONG) as measurer:
        measurer.environment(TARGET)
        once = measurer.client._once

        def interrupted(method: str, path: str, body: bytes | None) -> Reply:
            if method == "GET":
                until(lambda: measuring(agent))
                raise KeyboardInterrupt
            return once(method, path, body)

        monkeypatch.setattr(measurer.client, "_once", interrupted)
        with pytest.raises(KeyboardInterrupt):
            measurer.measure(MODEL, TARGET, IMAGES)
    with RemoteMeasurer(agent.address.url, TOKEN, SHORT) as other:  # which would wait five minutes
        other.measure(MODEL, TARGET, IMAGES)


def test_one_who_vanishes_frees_the_device_once_another_asks(agent: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    class Vanished(Exception):
        pass

    with RemoteMeasurer(agent.address.url, TOKEN, LONG) as measurer:
        measurer.environment(TARGET)
        once = measurer.client._once

        def vanishing(method: str, path: str, body: bytes | None) -> Reply:
            if method in ("GET", "DELETE"):
                until(lambda: measuring(agent))
                raise Vanished
            return once(method, path, body)

        monkeypatch.setattr(measurer.client, "_once", vanishing)
        with pytest.raises(Vanished):
            measurer.measure(MODEL, TARGET, IMAGES)
    assert measuring(agent)
    for job in agent.jobs._jobs.values():
        job.asked -= 61  # a minute later
    with RemoteMeasurer(agent.address.url, TOKEN, SHORT) as other:
        other.measure(MODEL, TARGET, IMAGES)


def test_a_measuring_process_that_dies_is_told_and_replaced(agent: Running, measurer: RemoteMeasurer) -> None:
    measurer.policy = LONG
    measurer.environment(TARGET)
    process = agent.answers._process(TARGET)
    found: list[BaseException] = []

    def measure() -> None:
        try:
            measurer.measure(MODEL, TARGET, IMAGES)
        except NasError as error:
            found.append(error)

    thread = threading.Thread(target=measure)
    thread.start()
    until(lambda: measuring(agent))
    assert process._process is not None
    process._process.kill()
    thread.join()
    (error,) = found
    assert isinstance(error, MeasureError)
    assert "the measuring process died (SIGKILL)" in str(error)
    measurer.policy = SHORT
    measurer.measure(MODEL, TARGET, IMAGES)


def test_an_agent_that_is_killed_is_told_in_one_line_and_found_again(own_lease: None) -> None:
    with started("--port", "0") as (process, line):
        url = url_in(line)
        measurer = RemoteMeasurer(url, TOKEN, LONG, patience_seconds=0.2)
        fingerprint = measurer.environment_id(TARGET)
        once, kill = measurer.client._once, process.kill

        def killing(method: str, path: str, body: bytes | None) -> Reply:
            if method == "GET":
                kill()
                process.wait()
            return once(method, path, body)

        measurer.client._once = killing  # type: ignore[method-assign]
        with pytest.raises(MeasureError, match=rf"^the agent at {url} is gone: ") as caught:
            measurer.measure(MODEL, TARGET, IMAGES)
        assert "\n" not in str(caught.value)
        measurer.client._once = once  # type: ignore[method-assign]
    with started("--port", url.rpartition(":")[2]):
        measurer.policy = SHORT
        quantity, _ = measurer.measure(MODEL, TARGET, IMAGES)
        assert quantity.environment_id == fingerprint
        # What was measured before and what comes now must not be mixed where the device is another one.
        measurer.machine = {**measurer.machine, "cpu": "another"}
        measurer._agent = "former"
        for _ in range(2):
            with pytest.raises(MeasureError, match="is not what it was: the fingerprint of its machine"):
                measurer.measure(MODEL, TARGET, IMAGES)


def test_an_agent_that_was_started_anew_knows_nothing_of_a_measurement(
    agent: Running, measurer: RemoteMeasurer
) -> None:
    measurer.environment(TARGET)
    once = measurer.client._once

    def anew(method: str, path: str, body: bytes | None) -> Reply:
        if method == "GET":
            agent.jobs.drop(path.rpartition("/")[2])
        return once(method, path, body)

    measurer.client._once = anew  # type: ignore[method-assign]
    with pytest.raises(MeasureError, match="knows nothing of the measurement any more"):
        measurer.measure(MODEL, TARGET, IMAGES)


def test_an_agent_with_too_much_to_do_is_asked_again(agent: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    client = Client(agent.address, TOKEN, clock=lambda: sum(waits), sleep=waits.append)
    monkeypatch.setattr("nas.measure.remote.jobs.MOST_JOBS", 0)
    with pytest.raises(MeasureError, match="took no request for 900 s: too many measurements wait"):
        client.ask(Measure(MODEL, TARGET, IMAGES[:1], SHORT))
    assert sum(waits) > 900


def test_an_agent_that_is_interrupted_in_mid_measurement_ends_at_once(own_lease: None) -> None:
    with started("--port", "0") as (process, line):
        measurer = RemoteMeasurer(url_in(line), TOKEN, LONG, patience_seconds=0)
        measurer.environment(TARGET)
        once = measurer.client._once

        def interrupting(method: str, path: str, body: bytes | None) -> Reply:
            if method == "GET" and process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(60)  # the measurement itself takes five minutes
            return once(method, path, body)

        measurer.client._once = interrupting  # type: ignore[method-assign]
        with pytest.raises(MeasureError, match="is gone"):
            measurer.measure(MODEL, TARGET, IMAGES)
        assert process.returncode == 0, process.stderr.read() if process.stderr else ""
