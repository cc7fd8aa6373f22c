"""The live view: draws a study again and again until its search ends or the person has seen enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.live import Live

from nas.errors import StudyError
from nas.watch.frame import Frame
from nas.watch.pace import budget_share
from nas.watch.snapshot import Reader, Snapshot

ENDS = "Ctrl-C ends this view, not the search"


def show_once(console: Console, path: Path) -> None:
    """Prints one frame.

    Raises:
        StudyError: There is no study, or nothing of it can be read.
    """
    snapshot = Reader(path).read()
    if snapshot.study is None:
        hint = "run 'nas search RECIPE' first, or name its folder" if "there is no study" in snapshot.problem else ""
        raise StudyError(snapshot.problem.removesuffix(" yet"), hint)
    console.print(Frame(snapshot))


def watch_live(console: Console, path: Path, interval: float, sleep: Callable[[float], None] = time.sleep) -> Snapshot:
    """Shows a study on the whole screen until its search ends or Ctrl-C, then leaves the last frame behind.

    A study that is not there yet is waited for. One whose budget is spent and at which nothing is at work is shown
    once, since nothing will change.

    Args:
        console: A terminal.
        path: The study's folder.
        interval: Seconds between two looks.
        sleep: Lets so many seconds pass.

    Returns:
        What was seen last.
    """
    reader = Reader(path)
    snapshot = reader.read()
    try:
        with Live(Frame(snapshot, ENDS), console=console, screen=True, auto_refresh=False) as live:
            was_at_work = False
            while not is_over(snapshot, was_at_work):
                live.update(Frame(snapshot, ENDS), refresh=True)
                was_at_work = was_at_work or snapshot.owner is not None
                sleep(interval)
                snapshot = reader.read()
    except KeyboardInterrupt:  # the ordinary way to leave
        pass
    console.print(Frame(snapshot))
    return snapshot


def is_over(snapshot: Snapshot, was_at_work: bool) -> bool:
    """Whether nothing more is to be seen: the search ended, or the budget is spent and none is at work.

    Args:
        snapshot: What is seen now.
        was_at_work: Whether a search was seen at work before.
    """
    if snapshot.owner is not None:
        return False
    return was_at_work or (snapshot.study is not None and budget_share(snapshot.study) >= 1)
