"""One frame: what stands in it, and that it fits any screen."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import make_design, make_recipe, make_record, write_study
from rich.cells import cell_len
from rich.console import Console

from nas.errors import StudyError
from nas.outcome import Outcome
from nas.record import TrialRecord
from nas.watch.frame import Frame, front_lines
from nas.watch.running import Running
from nas.watch.snapshot import Reader, Snapshot
from nas.watch.view import is_over, show_once, watch_live


def many(count: int) -> list[TrialRecord]:
    """Trials that are all on the front."""
    return [make_record(number, 0.5 + 0.4 * number / count, 0.01 * (number + 1)) for number in range(count)]


def snapshot_of(path: Path, records: list[TrialRecord], **changes: object) -> Snapshot:
    write_study(path, records)
    return replace(Reader(path, clock=lambda: 1100.0).read(), **changes)  # type: ignore[arg-type]


def printed(snapshot: Snapshot, width: int = 80, rows: int = 24, closing: str = "") -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, markup=False, highlight=False)
    console.print(Frame(snapshot, closing), height=rows)
    return stream.getvalue().splitlines()


def test_a_search_at_work_says_what_it_does(tmp_path: Path) -> None:
    running = Running(42, 1061.0, "train", 0.4, 2, make_design(weight_bits=8))
    lines = printed(snapshot_of(tmp_path / "s", many(2), owner=42, running=running), closing="bye")
    text = "\n".join(lines)
    assert lines[0] == "s  searching (process 42)"
    assert "2 of 8 trials, 0:42 so far, about 0:00 left" in lines[1]
    assert lines[2] == "Now          trial 2: train 40 %, for 0:39"
    assert "stem 16 · sep 3×3 → 32" in lines[3]
    assert "Trials       2: 2 measured" in lines
    assert "40 trials a minute" in text
    assert "Last         trial 1 measured: 70.00 %  0.0200 ms" in lines
    assert "last grew with trial 1" in text
    assert lines[-1] == "bye"


def test_the_front_is_a_table_of_its_objectives(tmp_path: Path) -> None:
    lines = printed(snapshot_of(tmp_path / "s", many(2)))
    assert lines[-3].split()[:3] == ["Trial", "Accuracy", "Latency"]
    assert lines[-2].split()[:5] == ["0", "50.00", "%", "0.0100", "ms"]
    assert lines[-1].split()[:5] == ["1", "70.00", "%", "0.0200", "ms"]


def test_columns_of_one_name_are_told_apart_by_their_targets(tmp_path: Path) -> None:
    targets = ["onnxruntime-cpu-1t-b1", "onnxruntime-cpu-2t-b1"]
    recipe = make_recipe(objectives=["accuracy", *(f"latency_ms@{name}" for name in targets)])
    record = make_record(0)
    second = replace(record.quantities[2], target=targets[1])
    write_study(tmp_path / "s", [replace(record, quantities=(*record.quantities, second))], recipe)
    heading = printed(Reader(tmp_path / "s").read())[-2]
    assert "Latency 1t-b1" in heading
    assert "Latency 2t-b1" in heading


@pytest.mark.parametrize("width", [20, 40, 79, 80, 200])
@pytest.mark.parametrize("rows", [1, 5, 10, 14, 24, 60])
def test_it_fits_whatever_the_size(tmp_path: Path, width: int, rows: int) -> None:
    running = Running(42, 1061.0, "train", 0.4, 2, make_design(weight_bits=8))
    snapshot = snapshot_of(tmp_path / "s", many(30), owner=42, running=running, problem="a note " * 40)
    lines = printed(snapshot, width, rows, "the closing line")
    assert len(lines) <= rows
    assert max(cell_len(line) for line in lines) <= width
    assert lines[-1].startswith("the closing line"[: width - 1])


def test_a_large_front_is_shown_from_end_to_end(tmp_path: Path) -> None:
    lines = [line.plain for line in front_lines(snapshot_of(tmp_path / "s", many(30)), 10)]
    shown = [int(line.split()[0]) for line in lines[1:-1]]
    assert len(lines) == 10
    assert (shown[0], shown[-1]) == (0, 29)
    assert shown == sorted(set(shown))
    assert lines[-1] == f"8 of 30 are shown; all of them: nas front {tmp_path / 's'}"
    assert len(front_lines(snapshot_of(tmp_path / "s", many(30)), 31)) == 31, "all of them where there is room"
    assert len(front_lines(snapshot_of(tmp_path / "s", many(30)), 3)) == 3


def test_names_that_look_like_markup_are_shown_as_they_are(tmp_path: Path) -> None:
    assert printed(snapshot_of(tmp_path / "[red]x[k]", many(1)))[0].startswith("[red]x[k]  no search is at work")


def test_how_the_last_trial_ended_is_told_in_words(tmp_path: Path) -> None:
    failed = make_record(1, outcome=Outcome.FAILED)
    assert "Last         trial 1 failed: the feature map of trial 1 shrinks to nothing" in printed(
        snapshot_of(tmp_path / "failed", [make_record(0), failed])
    )
    twice = replace(make_record(1, outcome=Outcome.DUPLICATE), duplicate_of=0)
    assert "Last         trial 1 duplicate: the same design as trial 0" in printed(
        snapshot_of(tmp_path / "twice", [make_record(0), twice])
    )


def test_a_study_without_trials_and_none_at_all_are_a_line_each(tmp_path: Path) -> None:
    assert "Trials       none has ended yet" in printed(snapshot_of(tmp_path / "s", []))
    none = Reader(tmp_path / "none").read()
    assert printed(none, width=200, closing="bye") == [f"there is no study in {tmp_path / 'none'} yet", "bye"]


def test_a_budget_that_is_spent_says_so_and_counts_no_further(tmp_path: Path) -> None:
    running = Running(42, 1000.0, "finalists", 0.5)
    lines = printed(snapshot_of(tmp_path / "s", many(8), owner=42, running=running))
    assert "8 of 8 trials, 0:12 so far, spent" in lines[1]
    assert "finalists 50 %, for 1:40" in lines[2]


# --- the view --------------------------------------------------------------------------------------------------------


def terminal() -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=True, width=80, height=24, color_system=None), stream


def test_one_frame_is_printed_for_scripts(tmp_path: Path) -> None:
    write_study(tmp_path / "s", many(2))
    console, stream = terminal()
    show_once(console, tmp_path / "s")
    assert stream.getvalue().count("Hypervolume") == 1


def test_one_frame_of_no_study_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"there is no study in .*none \(run 'nas search RECIPE' first"):
        show_once(terminal()[0], tmp_path / "none")
    write_study(tmp_path / "s", many(2))
    (tmp_path / "s" / "recipe.yaml").write_text("- 1")
    with pytest.raises(StudyError, match="must be a mapping"):
        show_once(terminal()[0], tmp_path / "s")


def test_it_waits_for_a_study_follows_it_and_ends_with_its_search(tmp_path: Path) -> None:
    console, stream = terminal()
    claims = []
    steps = 0

    def sleep(seconds: float) -> None:
        nonlocal steps
        steps += 1
        assert seconds == 0.5
        if steps == 1:
            claims.append(write_study(tmp_path / "s", many(1)).folder.claim())
            claims[0].__enter__()
        elif steps == 2:
            write_study(tmp_path / "s", many(3))
        elif steps == 3:
            claims[0].__exit__(None, None, None)
        else:
            raise AssertionError("the view goes on after the search")

    last = watch_live(console, tmp_path / "s", 0.5, sleep)
    assert last.study is not None
    assert len(last.study.records) == 3
    shown = stream.getvalue()
    assert shown.index("there is no study") < shown.index("1: 1 measured") < shown.index("3: 3 measured")
    assert shown.rstrip().splitlines()[-1].split()[0] == "2", "the last frame stays, with the front at its end"
    assert "no search is at work" in shown


def test_ctrl_c_is_the_ordinary_way_to_leave(tmp_path: Path) -> None:
    write_study(tmp_path / "s", many(1))

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    console, stream = terminal()
    watch_live(console, tmp_path / "s", 1, interrupted)
    assert stream.getvalue().count("\x1b[?1049l") == 1, "the terminal's own screen is back"


def test_a_study_whose_budget_is_spent_is_shown_once(tmp_path: Path) -> None:
    write_study(tmp_path / "s", many(8))

    def never(seconds: float) -> None:
        raise AssertionError("there is nothing to wait for")

    watch_live(terminal()[0], tmp_path / "s", 1, never)


def test_what_is_not_over_goes_on(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path / "s", many(2))
    assert not is_over(snapshot, was_at_work=False), "a search may yet begin"
    assert is_over(snapshot, was_at_work=True)
    spent = snapshot_of(tmp_path / "spent", many(8))
    assert is_over(spent, was_at_work=False)
    assert not is_over(replace(spent, owner=1), was_at_work=False), "the front is timed again"
