"""Disks that are full, files that are damaged, clocks that jump: a search says what is wrong, and goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from searches import DONE, REFUSED, TRIALS, Nursery, error_of, front, state, whole

from nas.outcome import Outcome
from nas.study import Study


@pytest.fixture
def half(nursery: Nursery, reference: Path, tmp_path: Path) -> Path:
    """A study that came half the way, as the reference was then."""
    shutil.copytree(reference, tmp_path / "half")
    folder = tmp_path / "half"
    for record in (folder / "trials").glob("*.json"):
        if int(record.stem) >= TRIALS // 2:
            record.unlink()
    (folder / "optuna.sqlite3").unlink()
    (folder / "test_scores.json").unlink()
    return folder


FULL = ("full_for_artifacts", "full_for_records", "full_for_the_sampler", "full_for_the_end", "full_at_the_start")


@pytest.mark.parametrize("fault", FULL)
def test_a_full_disk_is_said_and_then_the_search_goes_on(
    nursery: Nursery, reference: Path, tmp_path: Path, fault: str
) -> None:
    folder = tmp_path / "s"
    assert nursery.run(folder, trials=TRIALS, fault=fault) == REFUSED
    said = error_of(folder)
    assert "full" in said or "No space left" in said
    assert "make room" in said or "make it writable" in said
    assert nursery.run(folder, trials=TRIALS) == DONE
    whole(folder, TRIALS)
    assert state(folder) == state(reference)
    assert front(folder) == front(reference)


def test_a_clock_that_jumps_backwards_changes_nothing(nursery: Nursery, reference: Path, tmp_path: Path) -> None:
    assert nursery.run(tmp_path / "s", trials=TRIALS, fault="clock_jumps_backwards") == DONE
    whole(tmp_path / "s", TRIALS)
    assert state(tmp_path / "s") == state(reference)


def test_trainings_that_diverge_are_kept_as_that_and_end_nothing(nursery: Nursery, tmp_path: Path) -> None:
    assert nursery.run(tmp_path / "s", trials=TRIALS, fault="weights_become_nan") == DONE
    whole(tmp_path / "s", TRIALS)
    reasons = [r.reason for r in Study.open(tmp_path / "s").records if r.outcome is Outcome.FAILED]
    assert reasons
    assert all(reason is not None and reason.kind == "diverged" and not reason.transient for reason in reasons)


def test_memory_that_ran_out_once_is_tried_again(nursery: Nursery, reference: Path, tmp_path: Path) -> None:
    assert nursery.run(tmp_path / "s", trials=TRIALS, fault="memory_runs_out_once") == DONE
    whole(tmp_path / "s", TRIALS)
    assert max(record.attempts for record in Study.open(tmp_path / "s").records) == 2
    assert state(tmp_path / "s") == state(reference)


def test_what_stands_half_done_is_the_reference(nursery: Nursery, half: Path, reference: Path) -> None:
    assert nursery.run(half, trials=TRIALS) == DONE
    assert state(half) == state(reference)


def flip(path: Path) -> None:
    """Damages a file in its middle, as a bad disk does."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def each_blob(folder: Path, damage: Callable[[Path], None]) -> None:
    for path in (folder / "cache" / "blobs").iterdir():
        damage(path)


@pytest.mark.parametrize("damage", [flip, tear], ids=["flipped", "torn"])
def test_a_damaged_cache_costs_work_and_nothing_else(
    nursery: Nursery, half: Path, reference: Path, damage: Callable[[Path], None]
) -> None:
    each_blob(half, damage)
    for path in list((half / "cache" / "keys").iterdir())[::2]:
        damage(path)
    assert nursery.run(half, trials=TRIALS) == DONE
    whole(half, TRIALS)
    assert state(half) == state(reference)


@pytest.mark.parametrize(
    "name", ["trials/00001.json", "recipe.yaml", "inputs.json", "plan.json", "optuna.sqlite3", "test_scores.json"]
)
def test_a_damaged_file_is_named_with_what_to_do(nursery: Nursery, reference: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "s"
    shutil.copytree(reference, folder)
    tear(folder / name)
    before = {path: path.read_bytes() for path in (folder / "trials").iterdir()}
    status = nursery.run(folder, trials=TRIALS + 1)
    if name == "test_scores.json" or (name == "optuna.sqlite3" and status == DONE):
        whole(folder, TRIALS + 1)  # every search writes the scores anew; of a torn memory what is there may suffice
        return
    assert status == REFUSED
    said = error_of(folder)
    assert Path(name).name in said or "recipe" in said
    assert "Traceback" not in said
    assert {path: path.read_bytes() for path in (folder / "trials").iterdir()} == before
    if name in ("recipe.yaml",):
        return
    (folder / name).unlink()  # as all of these say
    assert nursery.run(folder, trials=TRIALS) == DONE
    whole(folder, TRIALS)
    assert state(folder) == state(reference)


def test_running_json_is_nothing_that_a_search_depends_on(nursery: Nursery, half: Path, reference: Path) -> None:
    (half / "running.json").write_text("{")
    assert nursery.run(half, trials=TRIALS) == DONE
    assert state(half) == state(reference)


def test_two_searches_on_one_folder(nursery: Nursery, reference: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    first = nursery.start(folder, trials=TRIALS)
    while not list((folder / "trials").glob("*.json")):
        pass
    assert nursery.run(folder, trials=TRIALS) == REFUSED
    assert "another search is at work" in error_of(folder)
    assert nursery.wait(first) == DONE
    whole(folder, TRIALS)
    assert state(folder) == state(reference)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody who may not write there")
def test_a_folder_that_may_only_be_read(nursery: Nursery, reference: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    shutil.copytree(reference, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for path in folder.parents:
        if path != Path(path.anchor) and path.stat().st_uid == 0 and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o011)
    Path(folder).with_suffix(".error").touch()
    Path(folder).with_suffix(".error").chmod(0o666)
    assert nursery.run(folder, trials=TRIALS + 1, fault="may_not_write") == REFUSED
    assert "cannot be written: Permission denied | make it writable, or work on a copy" in error_of(folder)
    assert state(folder) == state(reference)
