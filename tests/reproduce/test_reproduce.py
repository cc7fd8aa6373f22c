"""A trial evaluated again from scratch: to the bit where nothing changed, and said where something did."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_files import Silent

from nas.errors import StudyError
from nas.measure.measurer import Measurer
from nas.outcome import How, Outcome, Quantity
from nas.recipe import Recipe, parse_recipe
from nas.record import TrialRecord, read_records, write_record
from nas.reproduce.compare import NumberPair, Reproduction, Verdict, Weights, pair_numbers
from nas.reproduce.run import reproduce
from nas.reproduce.table import lines, numbers_table, verdict_words
from nas.search.run import search
from nas.study import Study


def recipe(**changes: object) -> Recipe:
    data: dict[str, Any] = {
        "data": {"source": "digits", "train_limit": 300, "validation_limit": 100},
        "space": "mlp",
        "objectives": ["accuracy", "size_bytes"],
        "budget": {"trials": 14, "epochs": 1, "finetune_epochs": 1},
        "training": {"threads": 1},
        "strategy": "plain",
        "sampler": "random",
    }
    return parse_recipe(data | changes, "a test's recipe")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reproduce") / "s"
    search(recipe(), path, Silent())
    gc.collect()  # closes the sampler's memory, whose log is then written back: no part of what is only read later
    return path


@pytest.fixture
def folder(searched: Path, tmp_path: Path) -> Path:
    shutil.copytree(searched, tmp_path / "s")
    return tmp_path / "s"


def again(path: Path, trial: int) -> tuple[Reproduction, list[str]]:
    notes: list[str] = []
    with Measurer() as measurer:
        return reproduce(path, trial, notes.append, lambda stage, share: None, measurer), notes


def of_kind(path: Path, wanted: Any) -> TrialRecord:
    return next(record for record in Study.open(path).measured if wanted(record))


KINDS = {
    "plain": lambda r: r.origin == "baseline",
    "pruned and in few bits": lambda r: r.design.step("pruning_ratio") and r.design.step("weight_bits") != 32,
    "distilled": lambda r: r.teacher_trial is not None,
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_it_is_the_same_to_the_bit(searched: Path, kind: str) -> None:
    files = {path: path.stat().st_mtime_ns for path in searched.rglob("*")}
    record = of_kind(searched, KINDS[kind])
    found, notes = again(searched, record.number)
    assert found.verdict is Verdict.IDENTICAL
    assert found.weights is Weights.SAME
    assert found.same_artifact
    assert all(pair.same_key and pair.same_content for pair in found.stages)
    assert found.accuracy.same
    assert not found.differences
    assert "1 thread" in notes[0]
    assert {path: path.stat().st_mtime_ns for path in searched.rglob("*")} == files, "only read"
    assert "bit for bit" in str(verdict_words(found))


def test_nothing_of_the_cache_is_needed(folder: Path) -> None:
    shutil.rmtree(folder / "cache")
    found, _ = again(folder, 0)
    assert found.verdict is Verdict.IDENTICAL
    assert [pair.same_content for pair in found.stages] == [None] * len(found.stages)
    assert found.weights is Weights.SAME_BY_FILE
    assert any("not kept" in str(line) for line in lines(found))


def changed(path: Path, number: int, **changes: Any) -> None:
    record = next(r for r in read_records(path / "trials") if r.number == number)
    write_record(path / "trials", replace(record, **changes))


def test_another_seed_is_noticed(folder: Path) -> None:
    changed(folder, 0, seed=5)
    found, notes = again(folder, 0)
    assert found.verdict is not Verdict.IDENTICAL
    assert found.weights is Weights.OTHERS
    assert "seed 5" in notes[0]
    assert not found.stages[0].same_key
    assert any("its record says 5, but its network was trained from seed" in line for line in found.differences)


def test_other_versions_are_told(folder: Path) -> None:
    environment = dict(Study.open(folder).record(0).environment)
    environment["training"] = {**environment["training"], "torch": "1.0", "precision": "bfloat16"}
    changed(folder, 0, environment=environment)
    found, _ = again(folder, 0)
    told = " ".join(found.differences)
    assert "torch: 1.0 then" in told
    assert "precision: bfloat16 then, float32 now" in told or "bfloat16" not in told


def test_a_record_that_does_not_say_its_threads_is_asked_by_its_key(folder: Path) -> None:
    environment = {k: v for k, v in Study.open(folder).record(0).environment.items() if k != "training"}
    changed(folder, 0, environment=environment)
    found, notes = again(folder, 0)
    assert found.verdict is Verdict.IDENTICAL
    assert "does not say" not in notes[0]
    stages = tuple(replace(stage, key="other") if stage.key else stage for stage in found.before.stages)
    changed(folder, 0, environment=environment, stages=stages)
    _, notes = again(folder, 0)
    assert "does not say" in notes[0]


def test_other_data_is_another_trial(folder: Path) -> None:
    inputs = json.loads((folder / "inputs.json").read_text())
    (folder / "inputs.json").write_text(json.dumps(inputs | {"data": "0" * 64}))
    with pytest.raises(StudyError, match=r"the data of .* changed"):
        again(folder, 0)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.STOPPED])
def test_what_was_not_measured_is_refused(folder: Path, outcome: Outcome) -> None:
    changed(folder, 1, outcome=outcome)
    with pytest.raises(StudyError, match=f"trial 1 cannot be reproduced, it ended as {outcome}"):
        again(folder, 1)


def number(value: float, low: float | None = None, high: float | None = None, name: str = "accuracy") -> Quantity:
    unit, machine = ("ms", "here") if name == "latency_ms" else ("1", None)
    return Quantity(name, value, unit, How.MEASURED, low=low, high=high, environment_id=machine)


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        (number(0.9, 0.88, 0.92), number(0.9), Verdict.IDENTICAL),
        (number(0.9, 0.88, 0.92), number(0.89), Verdict.AGREES),
        (number(0.9, 0.88, 0.92), number(0.87), Verdict.DIFFERS),
        (number(0.9), number(0.91), Verdict.DIFFERS),
    ],
)
def test_the_verdict_is_of_the_scores(searched: Path, before: Quantity, now: Quantity, verdict: Verdict) -> None:
    record = Study.open(searched).record(0)
    found = Reproduction(record, record, (), pair_numbers([before], [now]), verdict is Verdict.IDENTICAL)
    assert found.verdict is verdict
    assert str(record.number) in str(verdict_words(found))
    assert numbers_table(found).row_count == 1


def test_latencies_are_told_as_a_ratio() -> None:
    pair = NumberPair(number(2.0, 1.9, 2.1, "latency_ms"), number(3.0, 2.9, 3.1, "latency_ms"))
    assert pair.ratio == 1.5
    assert not pair.overlap
    assert not pair.is_exact
    assert NumberPair(pair.before, number(2.15, 2.05, 2.2, "latency_ms")).overlap


def test_the_command_prints_a_verdict_and_writes_json(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    command = [sys.executable, "-c", "from nas.cli import main; main()", "reproduce", str(folder), "--trial", "0"]
    done = subprocess.run([*command, "--json", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "is reproduced bit for bit" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if not line.startswith("wrote")) <= 100
    content = json.loads(out.read_text())
    assert content["verdict"] == "identical"
    assert np.isfinite(content["numbers"][0]["now"]["value"])
    refused = subprocess.run([*command[:-1], "99"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "there is no trial 99" in refused.stderr
    assert "Traceback" not in refused.stderr
