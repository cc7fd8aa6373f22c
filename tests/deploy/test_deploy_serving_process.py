"""``nas serve`` as a process: 8 clients and no failed request, Ctrl-C, ports that are taken; other runtimes."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks import serving as bench
from served_fakes import OPENVINO, make_served

from nas.deploy import Deployment, Limits, choose, load_deployment, web, write_deployment
from nas.deploy.engine import engine
from nas.errors import ArtifactError, NasError, UnsupportedError

pytest.importorskip("uvicorn")

SECONDS = 60.0 if os.environ.get("NAS_SLOW") else 2.0


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return bench.write_network(tmp_path_factory.mktemp("network") / "deploy", (8, 8))


@pytest.mark.slow
def test_no_request_of_eight_clients_fails(network: Deployment) -> None:
    alone, loads = bench.measure(network, 8, SECONDS, 0.2)
    assert alone.per_second > 0
    for load in loads.values():
        assert load.failed == []
        assert load.answered >= 8
        assert len(load.latencies_ms) == load.answered
        assert "0 failed" in load.words


def test_the_benchmark_notices_a_wrong_answer(network: Deployment) -> None:
    (image,) = bench.images_for(network, 1)
    with bench.Server(network.folder) as server:
        requests = [bench.request_of(bench.npy(image))]
        with pytest.raises(SystemExit, match="a wrong answer: 200"):
            bench.bombard(server.address, server.process.pid, requests, ["no such class"], 1.0)
        with pytest.raises(SystemExit, match="a wrong answer: 400"):
            bench.bombard(server.address, server.process.pid, [bench.request_of(b"")], ["class 0"], 1.0)
        code, said = server.stop()
    assert (code, "Traceback" in said) == (0, False)
    assert "Ctrl-C ends it" in said
    assert "images were classified" in said
    with pytest.raises(OSError):  # noqa: PT011 - whichever way the system says that nobody listens
        socket.create_connection(server.address, timeout=5).close()


def test_a_port_that_is_taken(network: Deployment) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(NasError, match=rf"port {port} of 127\.0\.0\.1 cannot be used: .*name another with --port"):
            web.run(network, web.Options(port=port), lambda url: None)


def test_packages_that_are_missing(network: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UnsupportedError, match=r"packages that are not installed \(uvicorn\) .*nas-front\[serve\]"):
        web.run(network, web.Options(), lambda url: None)


# --- what runs the model ---------------------------------------------------------------------------------------------


def test_openvino_runs_in_this_process(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    example = make_served(tmp_path / "birds", OPENVINO)
    choice = choose(example.study, Limits(max_latency_ms=1))
    deployment = load_deployment(write_deployment(example.study, choice, tmp_path / "deploy"))
    images = example.dataset.test.images
    with engine(deployment) as run:
        given = run(images)
    expected = bench.open_session(deployment.read_model()).run(None, {"images": images})[0]
    np.testing.assert_allclose(given, expected, atol=1e-4)


def test_threads_are_at_most_the_cores(network: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def record(content: bytes, threads: int) -> object:
        opened.append(threads)
        return bench.open_session(content, 1)

    import sys

    monkeypatch.setattr(sys.modules["nas.deploy.engine"], "open_session", record)
    monkeypatch.setattr(sys.modules["nas.deploy.engine"], "usable_cores", lambda: 3)
    for threads in (None, 2, 200):
        with engine(network, threads) as run:
            assert run(bench.images_for(network, 2)).shape == (2, 10)
    assert opened == [1, 2, 3]


def test_threads_of_a_gpu(network: Deployment) -> None:
    serving = replace(network.serving, runtime="onnxruntime", device="cuda", threads=None, target=None)
    with pytest.raises(UnsupportedError, match="--threads is for CPUs"), engine(replace(network, serving=serving), 2):
        pass


def test_a_model_that_was_changed_is_not_served(tmp_path: Path) -> None:
    deployment = bench.write_network(tmp_path / "deploy", (4, 4))
    deployment.model_path.write_bytes(b"another")
    with pytest.raises(ArtifactError, match="was changed after it was deployed"), engine(deployment):
        pass
