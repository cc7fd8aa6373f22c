"""Evaluations on a Ray cluster of several nodes in processes of this machine: what dies is done again, and once."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray_entry
from onnx_models import tiny_artifact
from ray_nodes import BOARD, FOLDERS, several_nodes

from nas.errors import NasError, StudyError, UnsupportedError
from nas.measure.clock import Policy
from nas.measure.measurer import Measurer
from nas.measure.on_ray import RayMeasurer, measure_on
from nas.outcome import Reason
from nas.target import Target
from nas.workers.executor import Done, Lost
from nas.workers.ray_cluster import Needs, RayCluster, given_resources
from nas.workers.ray_workers import RayWorkers, why_lost

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'nas-front[ray]'")

TARGET = Target.parse("onnxruntime-cpu-1t-b1")
SHORT = Policy(warmup_ms=0, minimum_samples=10, minimum_ms=0, maximum_ms=1000)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    with several_nodes() as made:
        yield made


@pytest.fixture(scope="module")
def cluster(nodes: Any) -> Iterator[RayCluster]:
    with RayCluster(nodes.address) as joined:
        yield joined


@pytest.fixture
def workers(cluster: RayCluster) -> Iterator[Any]:
    """Makes executors, which end with the test."""
    made: list[RayWorkers[Any, Any]] = []

    def make(entry: Any = ray_entry.make, needs: Needs | None = None, **options: Any) -> RayWorkers[Any, Any]:
        own = {name: options.pop(name) for name in ("mood", "board") if name in options}
        made.append(RayWorkers(cluster, entry, own, needs or Needs(1), **options))
        return made[-1]

    yield make
    for executor in made:
        executor.close()


def heard(_: int, stage: str, share: float) -> None:
    pass


def done(executor: RayWorkers[Any, Any]) -> Done[Any]:
    ended = executor.wait(heard)
    assert isinstance(ended, Done), ended
    return ended


def test_jobs_run_at_once_in_processes_that_stay_and_say_how_far_they_are(workers: Any) -> None:
    executor = workers()
    assert executor.slots == 2, "as many as the nodes have CPUs"
    assert len(executor.check()) == 1, "one node trains"
    for job in (1, 2):
        executor.submit(job, ("sleep", 1.0))
    processes = {done(executor).result[0] for _ in range(2)}
    assert len(processes) == 2
    assert os.getpid() not in processes
    told: list[tuple[int, str, float]] = []
    executor.submit(3, ("square", 3))
    ended = executor.wait(lambda *said: told.append(said))
    assert isinstance(ended, Done)
    square, count, (process, _) = ended.result
    assert square == 9
    assert process in processes, "the data is loaded once"
    assert count == 2
    assert ended.peak_memory_bytes is not None
    executor.submit(4, ("sleep", 1.0))
    executor.wait(lambda *said: told.append(said))
    assert (4, "starting", 0.0) in told


def test_a_process_that_dies_costs_its_job_alone_and_ray_tries_again(workers: Any, tmp_path: Path) -> None:
    executor = workers(retries=1)
    executor.submit(1, ("die once", str(tmp_path / "mark")))
    executor.submit(2, ("square", 5))
    ended = {item.job: item for item in (executor.wait(heard), executor.wait(heard))}
    assert isinstance(ended[1], Done), "Ray tried again"
    assert len(list(tmp_path.glob("died-*"))) == 1
    assert isinstance(ended[2], Done)
    executor.submit(3, ("die", None))
    lost = executor.wait(heard)
    assert isinstance(lost, Lost)
    assert lost.job == 3
    assert lost.reason.kind == "worker"
    assert lost.reason.transient
    assert "its process died" in lost.reason.message
    assert "\n" not in lost.reason.message


@pytest.mark.long
def test_a_job_that_takes_too_long_is_ended(workers: Any) -> None:
    executor = workers(seconds=3)
    executor.submit(1, ("sleep", 60))
    lost = executor.wait(heard)
    assert isinstance(lost, Lost)
    assert lost.reason == Reason("time", "took longer than 3 s, and was ended")
    executor.submit(2, ("square", 2))
    assert done(executor).job == 2


def test_what_the_work_raises_is_no_reason_to_try_again(workers: Any) -> None:
    executor = workers()
    executor.submit(1, ("raise", "a mistake of ours"))
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        executor.wait(heard)


def test_what_cannot_begin_says_why_before_anything_is_spent(
    workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StudyError, match=r"node .* of the Ray cluster: there is no such data"):
        workers(mood="refuses").check()
    (tmp_path / "only_here.py").write_text("def make():\n    return None\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(StudyError, match=r"cannot run evaluations: .*No module named 'only_here'") as refused:
        workers(importlib.import_module("only_here").make).check()
    assert "on every node" in refused.value.hint
    with pytest.raises(UnsupportedError, match="no node of the Ray cluster has what an evaluation needs"):
        workers(needs=Needs(64))
    with pytest.raises(UnsupportedError, match="1 tpu"):
        workers(needs=Needs(1, others={"tpu": 1}))


def test_a_result_that_is_of_no_use_is_a_lost_job(workers: Any) -> None:
    reason = Reason("disk", "its artifact did not come", transient=True)
    executor = workers(received=lambda result: reason)
    executor.submit(1, ("square", 2))
    assert executor.wait(heard) == Lost(1, reason)


def test_measuring_is_where_the_target_is_one_at_a_time_while_others_train(
    workers: Any, cluster: RayCluster, tmp_path: Path
) -> None:
    board = measure_on(cluster, BOARD, board=ray_entry.FakeBoard)
    try:
        with pytest.raises(UnsupportedError, match="is held by another search"):
            measure_on(cluster, BOARD, board=ray_entry.FakeBoard, patience_s=0)
        executor = workers(board=board.connection, waiting=2)
        assert executor.slots == 4
        waited_for = tmp_path / "touched"
        for job in (1, 2):
            executor.submit(job, ("measure", str(waited_for).encode()))
        # Who waits for the board holds no CPUs, else this would not begin, and the board wait for it in vain.
        executor.submit(3, ("touch", str(waited_for)))
        order = [done(executor) for _ in range(3)]
        ended = {item.job: item.result for item in order}
    finally:
        board.end()
    assert order[0].job == 3
    (first, where), (second, elsewhere) = sorted(ended[job][0] for job in (1, 2))
    assert first[1] <= second[0], "never two at once"
    carrying = {node.identifier for node in cluster.nodes() if BOARD in node.resources}
    assert {where} == {elsewhere} == carrying
    assert not carrying & {ended[1][1][1], ended[2][1][1], ended[3][1]}, "nothing trains there"


def test_a_board_measures_as_a_measurer_does(cluster: RayCluster) -> None:
    board = measure_on(cluster, BOARD, policy=SHORT)
    images = np.zeros((8, 4, 4, 1), np.uint8)
    try:
        latency, samples = board.measure(tiny_artifact(), TARGET, images)
        outputs = board.outputs(tiny_artifact(), TARGET, images)
        with Measurer(SHORT) as here:
            assert latency.environment_id == here.environment_id(TARGET), "it is the same machine in truth"
        with pytest.raises(UnsupportedError):
            board.environment(Target.parse("onnxruntime-cpu-4096t-b1"))
        board._expected = "another"
        with pytest.raises(NasError, match="went to another machine"):
            board.measure(tiny_artifact(), TARGET, images)
    finally:
        board.end()
    assert latency.value > 0
    assert len(samples) >= 10
    assert outputs.shape == (8, 3)
    assert board.machine["device"] == BOARD
    assert not board.on_this_machine


def test_a_target_that_no_node_carries_is_refused(cluster: RayCluster) -> None:
    with pytest.raises(UnsupportedError, match="carries 1 of 'target:moon'") as refused:
        measure_on(cluster, "target:moon")
    assert "there are: target:board" in refused.value.hint
    with pytest.raises(NasError, match="is gone"):
        RayMeasurer("nobody", BOARD)


@pytest.mark.long
def test_ctrl_c_once_lets_jobs_finish_and_twice_ends_them_and_nothing_stays() -> None:
    code = textwrap.dedent("""
        import ray_entry
        from nas.search.stopping import Stopping
        from nas.workers.executor import Done
        from nas.workers.ray_cluster import Needs, RayCluster
        from nas.workers.ray_workers import RayWorkers

        stopping = Stopping(lambda: print("asked", flush=True))
        heard = lambda job, stage, share: print("began", job, flush=True) if job in (1, 3) else None
        with stopping.listen():
            try:
                with RayCluster(None, print, num_cpus=2, object_store_memory=80 * 10**6) as cluster:
                    executor = RayWorkers(cluster, ray_entry.make, {"mood": ""}, Needs(1))
                    try:
                        with stopping.once_trials_run():
                            executor.submit(1, ("sleep", 2.0))
                            assert isinstance(executor.wait(heard), Done), "it was finished"
                            assert stopping.asked
                            executor.submit(3, ("sleep", 60.0))
                            executor.wait(heard)
                    finally:
                        executor.close()
            except KeyboardInterrupt:
                print("stopped", flush=True)
    """)
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = os.pathsep.join([*FOLDERS, environment.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True,
    ) as search:  # fmt: skip
        assert search.stdout is not None
        assert search.stderr is not None
        lines = []
        for line in search.stdout:
            lines.append(line.strip())
            if line.startswith("began"):
                os.killpg(search.pid, signal.SIGINT)  # as a terminal does: Ray's own processes are of the group
        errors = search.stderr.read()
    assert lines == ["starting Ray on this machine, which takes some seconds", "began 1", "asked", "began 3", "stopped"]
    assert search.returncode == 0, errors
    assert errors == "", "Ray is silent"
    with pytest.raises(ProcessLookupError):
        os.killpg(search.pid, 0)


# --- without a cluster -----------------------------------------------------------------------------------------------


def test_what_ran_out_of_memory_is_named_so() -> None:
    reason = why_lost(ray.exceptions.OutOfMemoryError("Task was killed"), ray.exceptions)
    assert reason.kind == "memory"
    assert reason.transient
    assert "memory of its node ran out" in reason.message
    assert "its node was lost" in why_lost(ray.exceptions.NodeDiedError("x"), ray.exceptions).message
    assert why_lost(ray.exceptions.ObjectLostError("a" * 40, None, ""), ray.exceptions).kind == "worker"


def test_without_ray_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnsupportedError, match="Ray is not installed") as missing:
        RayCluster("auto")
    assert missing.value.hint == "pip install 'nas-front[ray]'"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:many"])
def test_where_no_cluster_is_it_says_so_at_once(address: str) -> None:
    code = f"from nas.workers.ray_cluster import RayCluster; RayCluster({address!r})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"StudyError: no Ray cluster answers at {address}: " in found.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("target:board", "is no JSON"),
        ("[1]", "must be a JSON object"),
        ('{"target:a": 0}', "must be a positive number"),
        ('{"target:a": true}', "must be a positive number"),
        ('{"target:a": NaN}', "must be a positive number"),
        ('{"target:a": 1, "target:b": 1}', "names several targets"),
        ("[" * 10**5, "is no JSON"),
    ],
)
def test_resources_that_make_no_sense_are_refused(text: str, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        given_resources(text)


def test_resources_are_the_targets_or_the_trainings() -> None:
    assert given_resources('{"target:board": 1, "fast": 0.5}') == (("target:board", 1.0), {"fast": 0.5})
    assert given_resources("{}") == (None, {})
