"""What a search says of the moment: written whole, at every stage, and gone at the end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fakes import make_design, make_record, write_study
from search_fakes import FakeEvaluate, Memory, fake_recipe, make_space

from nas.design import Design
from nas.evaluate import EvalRequest, EvalResult
from nas.search.announced import Announced
from nas.search.loop import Loop
from nas.stages import Progress
from nas.study import Study, StudyFolder
from nas.watch.running import RUNNING_FILE, Running, read_running, write_running
from nas.workers.here import Here

DESIGN = make_design(weight_bits=8)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    "running", [Running(7, 12.5), Running(7, 12.5, "train", 0.25, 3, DESIGN), Running(1, 0.0, stage="finalists")]
)
def test_what_is_written_is_read_again(tmp_path: Path, running: Running) -> None:
    write_running(tmp_path, running)
    assert read_running(tmp_path) == running
    assert [path.name for path in tmp_path.iterdir()] == [RUNNING_FILE], "nothing is left aside"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": 2}', '{"version": 1, "pid": "x"}'])
def test_what_cannot_be_read_says_nothing(tmp_path: Path, text: str) -> None:
    assert read_running(tmp_path) is None
    (tmp_path / RUNNING_FILE).write_text(text)
    assert read_running(tmp_path) is None


def test_a_trial_is_announced_with_its_stages_and_timed_from_the_end_of_the_one_before(tmp_path: Path) -> None:
    study, clock = write_study(tmp_path, [make_record(0)]), Clock()
    with Announced(Memory(), tmp_path, clock) as watcher:
        assert read_running(tmp_path) is None
        watcher.began(study)
        assert read_running(tmp_path) == Running(os.getpid(), 1000.0)
        clock.now = 1001.0
        watcher.asked(1, DESIGN)
        assert read_running(tmp_path) == Running(os.getpid(), 1000.0, number=1, design=DESIGN)
        watcher.progress("train", 0.0)
        assert read_running(tmp_path) == Running(os.getpid(), 1000.0, "train", 0.0, 1, DESIGN)
        clock.now = 1001.5
        watcher.progress("train", 0.5)
        assert read_running(tmp_path) == Running(os.getpid(), 1000.0, "train", 0.0, 1, DESIGN), "told a moment ago"
        clock.now = 1002.0
        watcher.progress("train", 0.9)
        assert read_running(tmp_path) == Running(os.getpid(), 1000.0, "train", 0.9, 1, DESIGN)
        watcher.progress("measure", 0.0)
        assert read_running(tmp_path) == Running(os.getpid(), 1000.0, "measure", 0.0, 1, DESIGN)
        clock.now = 1003.0
        watcher.told(make_record(1), study)
        assert read_running(tmp_path) == Running(os.getpid(), 1003.0)
    assert not (tmp_path / RUNNING_FILE).exists()


def test_the_other_watcher_hears_all_of_it(tmp_path: Path) -> None:
    heard: list[object] = []

    class Listener(Memory):
        def note(self, text: str) -> None:
            heard.append(text)

        def asked(self, number: int, design: Design) -> None:
            heard.append(number)

        def progress(self, stage: str, share: float, number: int | None = None) -> None:
            heard.append((stage, share))

    listener, study = Listener(), write_study(tmp_path, [make_record(0)])
    with Announced(listener, tmp_path) as watcher:
        watcher.note("a note")
        watcher.began(study)
        watcher.asked(4, DESIGN)
        watcher.progress("train", 0.1)
        watcher.progress("train", 0.2)
        watcher.told(study.records[0], study)
    assert heard == ["a note", 4, ("train", 0.1), ("train", 0.2)]
    assert listener.began_with == 1
    assert listener.records == study.records


def test_a_folder_that_cannot_be_written_holds_no_search_up(tmp_path: Path) -> None:
    with Announced(Memory(), tmp_path / "gone") as watcher:
        watcher.asked(0, DESIGN)
        watcher.progress("train", 0.0)


def test_the_file_goes_when_a_search_is_interrupted(tmp_path: Path) -> None:
    def interrupted() -> None:
        with Announced(Memory(), tmp_path) as watcher:
            watcher.asked(0, DESIGN)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_every_trial_of_a_real_loop_is_announced_while_it_runs(tmp_path: Path) -> None:
    seen: list[int | None] = []

    class Looking(FakeEvaluate):
        def __call__(self, request: EvalRequest, progress: Progress | None) -> EvalResult:
            running = read_running(tmp_path / "s")
            assert running is not None
            assert running.design == request.design
            seen.append(running.number)
            return super().__call__(request, progress)

    folder, recipe, space = StudyFolder(tmp_path / "s"), fake_recipe(trials=6), make_space()
    with folder.claim(), Announced(Memory(), folder.path) as watcher:
        folder.start(recipe, {"space": space.digest, "data": "none"})
        evaluate = Looking()
        Loop(folder, recipe, space, Here(evaluate), {}, watcher).run()
    assert seen == [request.number for request in evaluate.requests]
    assert len(Study.open(folder.path).records) >= 6
