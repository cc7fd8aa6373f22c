"""Searches on a Ray cluster whose nodes die: no trial is lost, none counted twice, and the board alone measures."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import ray_entry
import yaml
from ray_nodes import BOARD, SMALL, several_nodes

from nas import cli
from nas.measure.on_ray import measure_on
from nas.study import Study, StudyFolder
from nas.workers.ray_cluster import Needs, RayCluster
from nas.workers.ray_workers import RayWorkers

pytest.importorskip("ray", reason="Ray is not installed: pip install 'nas-front[ray]'")

TRIALS = 16


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    with several_nodes() as made:
        yield made


def once(there: Callable[[], bool], act: Callable[[], object]) -> threading.Thread:
    """Does something, in a thread, as soon as something is there."""

    def wait() -> None:
        deadline = time.monotonic() + 120
        while not there():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def whole(study: Study, trials: int) -> None:
    """The budget is spent exactly, and each number and design is there once."""
    assert study.spent == trials
    assert [record.number for record in study.records] == list(range(len(study.records)))
    assert max(Counter((record.design.digest, record.teacher) for record in study.counted).values()) == 1
    assert not [record for record in study.records if record.reason and record.reason.kind == "worker"], "none lost"


def test_a_node_killed_in_mid_study_loses_no_trial_and_counts_none_twice(
    nodes: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from search_fakes import Memory, fake_recipe, make_space

    from nas.search.loop import Loop

    notes, path = tmp_path / "notes", tmp_path / "study"
    notes.mkdir()
    doomed = nodes.add_node(num_cpus=1, **SMALL)
    nodes.wait_for_nodes()
    killer = once(  # when the node has work
        lambda: any(file.read_text() == doomed.node_id for file in notes.glob("began-*")),
        lambda: nodes.remove_node(doomed, allow_graceful=False),
    )
    folder, space, recipe = StudyFolder(path), make_space(), fake_recipe("random", trials=TRIALS)
    with RayCluster(nodes.address) as cluster:
        carrying = {node.identifier for node in cluster.nodes() if BOARD in node.resources}
        board = measure_on(cluster, BOARD, board=ray_entry.FakeBoard)
        options = {"seconds": 0.3, "folder": str(notes), "board": board.connection}
        executor: RayWorkers[Any, Any] = RayWorkers(cluster, ray_entry.make_fake, options, Needs(1), waiting=1)
        assert executor.slots == 4
        with folder.claim():
            folder.start(recipe, {"space": space.digest, "data": "none"})
            ended = Loop(folder, recipe, space, executor, {}, Memory()).run()
        board.end()
    killer.join()
    assert doomed not in nodes.list_all_nodes(), "the node is gone"
    assert ended.why == f"the budget of {TRIALS} trials is spent"
    whole(Study.open(path), TRIALS)
    runs = Counter(file.name.split("-")[1] for file in notes.glob("began-*"))
    assert max(runs.values()) > 1, "what ran there was done again"
    spans = sorted(tuple(map(float, file.name.split("-")[1:])) for file in notes.glob("measured-*"))
    assert len(spans) >= TRIALS
    assert all(one[1] <= other[0] for one, other in pairwise(spans)), "never two at once"
    assert {file.read_text() for file in notes.glob("measured-*")} == carrying
    assert capfd.readouterr().out == "", "Ray is silent"


@pytest.mark.long
def test_a_search_begun_here_goes_on_there_although_a_node_is_killed(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe, path = tmp_path / "recipe.yaml", tmp_path / "study"
    content = {
        "data": {"source": "digits", "train_limit": 200},
        "space": "mlp",
        "objectives": ["accuracy", "latency_ms@onnxruntime-cpu-1t-b1"],
        "budget": {"trials": 6, "epochs": 1, "finetune_epochs": 1},
        "training": {"threads": 1, "precision": "float32"},
        "sampler": "random",
    }
    recipe.write_text(yaml.safe_dump(content))

    def nas(*options: object) -> str:
        monkeypatch.setattr(sys, "argv", ["nas", "search", str(recipe), "--output", str(path), *map(str, options)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capfd.readouterr()
        assert ended.value.code == 0, said.err
        return said.out

    def records() -> int:
        return len(list((path / "trials").glob("*.json")))

    nas("--trials", 1)
    assert records() == 1
    doomed, _ = (nodes.add_node(num_cpus=1, resources={"trains": 1}, **SMALL) for _ in range(2))
    nodes.wait_for_nodes()
    on_ray = (
        *("--executor", "ray", "--address", nodes.address, "--cache", tmp_path / "shared"),
        *("--resources", json.dumps({BOARD: 1, "trains": 1})),
    )
    killer = once(lambda: records() > 2, lambda: nodes.remove_node(doomed, allow_graceful=False))
    said = nas(*on_ray)
    killer.join()
    assert "Ray: 5 nodes, 2 of them to evaluate on; each evaluation takes 1 CPU, 1 trains" in said
    assert f"measuring at {BOARD}" in said
    assert "continuing" in said
    study = Study.open(path)
    whole(study, 6)
    assert all(record.environment.get("device") == (BOARD if record.number else None) for record in study.measured)
    assert all(study.artifact(record) for record in study.front), "their files came"
    assert list((tmp_path / "shared" / "blobs").iterdir())
    assert "Ray: 4 nodes" in nas(*on_ray, "--trials", 20, "--dry-run")
    assert records() == len(study.records)
