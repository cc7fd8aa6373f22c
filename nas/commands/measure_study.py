"""``nas measure`` of a whole study or its front, and what that shares with measuring a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.commands.terminal import progress_bar
from nas.errors import DataError, StudyError

if TYPE_CHECKING:
    from rich.console import Console

    from nas.data.dataset import Dataset
    from nas.measure.clock import Policy
    from nas.measure.measurer import Measurer
    from nas.study import Study
    from nas.target import Target

# Moves the bar: (done, of).
Bar = Callable[[float, float], None]
# Makes the measurer, here or on a device, with a policy of sampling.
MakeMeasurer = Callable[["Policy"], "Measurer"]


def policy_for(seconds: float | None) -> Policy:
    """How long a model is sampled, warm-up apart."""
    from nas.measure.clock import Policy

    if seconds is None:
        return Policy()
    return Policy(minimum_ms=1000 * seconds, maximum_ms=max(Policy().maximum_ms, 1000 * seconds))


def turn_for(seconds: float | None) -> Policy:
    """The same time, in so many turns as the finalists have."""
    from nas.measure.measurer import ROUNDS, TURN

    if seconds is None:
        return TURN
    each = 1000 * seconds / ROUNDS
    return replace(TURN, minimum_ms=each, maximum_ms=max(TURN.maximum_ms, each))


def surroundings(measurer: Measurer, targets: Sequence[Target]) -> list[str]:
    """The machine, and each target's fingerprint with what its runtime says of itself."""
    from nas import lease
    from nas.wording import plural

    machine = measurer.machine
    device = machine.get("device")
    why = None if device else lease.available()
    lines = [f"device: {device}, which calls itself {machine['host']}"] if device else []
    lines += [f"studies that train meanwhile may disturb what is measured: {why}"] if why is not None else []
    lines += [f"machine: {machine['cpu']}, {plural(machine['cores'], 'core')}, {machine['system']}"]
    for target in targets:
        runtime = ", ".join(f"{name} {value}" for name, value in measurer.environment(target).items())
        lines.append(f"environment {measurer.environment_id(target)} for {target.name}: {runtime}")
    return lines


@contextmanager
def bar_on(console: Console, what: str) -> Iterator[Bar]:
    """A progress bar, which only a terminal shows."""
    with progress_bar(console) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


def measure_study(
    console: Console, make: MakeMeasurer, path: Path, targets: Sequence[Target], front_only: bool, seconds: float | None
) -> None:
    from nas.study import Study
    from nas.target import Target

    folder = Study.open(path).folder
    with folder.claim(), make(policy_for(seconds)) as measurer:
        study = Study.open(path)
        dataset = _data(console, study)
        ours = [Target.parse(name) for name in study.recipe.all_targets]
        chosen = list(dict.fromkeys(targets)) or ours
        if not front_only:
            _measure_all(console, study, chosen, measurer, dataset)
        elsewhere = _has_others(study, chosen) and not front_only
        if not elsewhere:
            _time_front(console, Study.open(path), measurer, dataset, seconds)
        for line in surroundings(measurer, ours if front_only else chosen):
            console.print(line, style="dim", soft_wrap=True)
    console.print(f"\nnext: nas report {path}", soft_wrap=True)


def _has_others(study: Study, chosen: Sequence[Target]) -> bool:
    """Whether the recipe names targets beside those that were measured on."""
    return not set(study.recipe.all_targets) <= {target.name for target in chosen}


def _data(console: Console, study: Study) -> Dataset:
    from nas import data

    try:
        with console.status("reading the data …"):
            return data.load(study.recipe.data)
    except DataError as error:
        where = f"'data.path' in {study.folder.recipe} says where it lies"
        raise DataError(error.message, error.hint or where) from error


def _measure_all(
    console: Console, study: Study, targets: Sequence[Target], measurer: Measurer, dataset: Dataset
) -> None:
    """Measures every trial, and says what came of it: by target, and on the front."""
    from nas.remeasure import measure_all
    from nas.report.measured_anew import changes_of_front, summary_of
    from nas.study import Study

    before = _front(study)
    with bar_on(console, "measuring every trial") as bar:
        found = measure_all(study, targets, measurer, dataset, bar)
    after = Study.open(study.folder.path)
    for line in summary_of(study.as_told, found):
        console.print(line, soft_wrap=True)
    for line in changes_of_front(before, _front(after)):
        console.print(line, soft_wrap=True)


def _front(study: Study) -> list[int] | None:
    """The numbers of the front's members; None where there can be no front, as trials were measured on two machines."""
    try:
        return [record.number for record in study.front]
    except StudyError:
        return None


def _time_front(console: Console, study: Study, measurer: Measurer, dataset: Dataset, seconds: float | None) -> None:
    """Times the finalists in turns, and prints what each took and what that changed."""
    from nas.remeasure import time_front
    from nas.report.measured_anew import changes_of_front, tables_in_turns
    from nas.study import Study

    before = _front(study)
    with bar_on(console, "timing the front in turns") as bar:
        found = time_front(
            study, measurer, dataset.validation.images, lambda share: bar(share, 1.0), turn=turn_for(seconds)
        )
    if found is None:
        console.print("no member of the front could be timed: there is no latency, or no file is in the cache")
        return
    after = Study.open(study.folder.path)
    for item in tables_in_turns(after, found):
        console.print(item)
    numbers = _front(after)
    if sorted(numbers or ()) != sorted(before or ()):
        for line in changes_of_front(before, numbers):
            console.print(line, soft_wrap=True)
