"""A command in the report picks the trial that it is said to pick."""

from __future__ import annotations

import itertools
import random
import shlex
from pathlib import Path

import pytest
from fakes import LATENCY, make_recipe, make_record, write_study

from nas.deploy.choose import Limits, choose
from nas.outcome import Outcome
from nas.report.commands import command_for, pick_commands
from nas.study import Study


def picked(study: Study, command: str) -> int:
    """The trial that 'nas pick' chooses for that command."""
    nas, pick, folder, *options = shlex.split(command)
    assert (nas, pick, folder) == ("nas", "pick", str(study.folder.path))
    assert options[-2:] == ["--output", "deploy"]
    names = {"--max-latency-ms": "max_latency_ms", "--min-accuracy": "min_accuracy"}
    limits = {names[a]: float(b) for a, b in itertools.pairwise(options) if a in names}
    return choose(study, Limits(**limits), knee="--knee" in options).record.number


def random_study(folder: Path, seed: int, **recipe) -> Study:
    rng = random.Random(seed)
    records = [make_record(n, round(rng.uniform(0.5, 1), 3), 10 ** rng.uniform(-2, 0)) for n in range(40)]
    return write_study(folder / f"study {seed}", records, make_recipe(**recipe))


@pytest.mark.parametrize("seed", range(5))
def test_each_command_picks_what_it_says(tmp_path: Path, seed: int) -> None:
    study = random_study(tmp_path, seed)
    commands = pick_commands(study)
    assert len(commands) == 3
    for command in commands:
        assert picked(study, command.text) == command.trial


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("objectives", [["accuracy", LATENCY], ["accuracy", LATENCY, "params"]])
def test_the_command_of_a_member_picks_it(tmp_path: Path, seed: int, objectives: list[str]) -> None:
    study = random_study(tmp_path, seed, objectives=objectives)
    commands = {record.number: command_for(study, record) for record in study.front}
    assert any(commands.values())
    for number, command in commands.items():
        if command is not None:
            assert picked(study, command) == number
    if len(objectives) == 2:
        assert all(commands.values())


def test_limits_are_as_short_as_they_can_be(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", [make_record(0, 0.8, 0.0123456), make_record(1, 0.9, 0.0234567)])
    assert "--max-latency-ms 0.013 " in str(command_for(study, study.record(0)))
    close = write_study(tmp_path / "c", [make_record(0, 0.8, 0.0123456), make_record(1, 0.9, 0.0123789)])
    assert "--max-latency-ms 0.01235 " in str(command_for(close, close.record(0)))


def test_no_limit_on_what_was_not_an_objective(tmp_path: Path) -> None:
    study = random_study(tmp_path, 0, objectives=["accuracy", "params"])
    assert [command.text.split("--")[1].strip() for command in pick_commands(study)] == ["knee"]


def test_no_front_no_command(tmp_path: Path) -> None:
    assert pick_commands(write_study(tmp_path / "s", [make_record(0, outcome=Outcome.FAILED)])) == []
