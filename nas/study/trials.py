"""A study's trials taken together: read and checked, what they spent, and whether they can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas.errors import StudyError
from nas.measurements import environments, measured_anew, read_measurements
from nas.outcome import Outcome
from nas.recipe import Recipe
from nas.record import TrialRecord, read_records, record_path
from nas.study.folder import StudyFolder
from nas.target import Place

# Nothing is spent on these.
FREE = (Outcome.DUPLICATE, Outcome.SCREENED)


def counted(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials that something was spent on: all but duplicates and those screened out."""
    return [record for record in records if record.outcome not in FREE]


def read_trials(folder: StudyFolder, recipe: Recipe) -> list[TrialRecord]:
    """A study's records, checked: each measured trial has what the recipe's objectives and constraints ask for.

    Raises:
        StudyError: A record is damaged or lacks a quantity; the message names the file.
    """
    records = measured_anew(read_records(folder.trials), read_measurements(folder.measurements))
    asked = [*recipe.parsed_objectives, *(constraint.quantity for constraint in recipe.parsed_constraints)]
    for record in records:
        missing = [quantity.key for quantity in asked if record.quantity(quantity.key) is None]
        if record.outcome is Outcome.MEASURED and missing:
            raise StudyError(
                f"the trial record {record_path(folder.trials, record.number)} lacks {', '.join(missing)}",
                "move it out of the study folder; the next search evaluates that trial again",
            )
    return records


def check_one_machine(
    folder: StudyFolder, recipe: Recipe, records: Sequence[TrialRecord], here: Mapping[str, str] | None = None
) -> None:
    """Makes sure that what is compared was measured in one environment.

    Args:
        folder: The study's folder.
        recipe: Whose objectives and constraints are compared.
        records: The trials.
        here: Fingerprint of this machine by target, where trials are to be added.

    Raises:
        StudyError: It was not; the message says which trials were measured where, the hint how to mend it.
    """
    for key, target in compared(recipe):
        found = environments(records, key)
        if here is not None and target in here and found:
            found.setdefault(here[target], [])
        if len(found) < 2:
            continue
        where = "; ".join(
            f"{_numbers(numbers)} on {_machine(records, numbers)} ({fingerprint})"
            if numbers
            else f"new trials here ({fingerprint})"
            for fingerprint, numbers in found.items()
        )
        raise StudyError(
            f"{key} of {folder.path} was measured in different environments, which cannot stand on one front: {where}",
            f"measure all again here: nas measure {folder.path}",
        )


def compared(recipe: Recipe) -> list[tuple[str, str]]:
    """The keys of what a recipe compares, with their targets: of a place all that compete for it, as each runtime has
    a fingerprint of its own.
    """
    named = [*recipe.parsed_objectives, *(constraint.quantity for constraint in recipe.parsed_constraints)]
    found = []
    for item in named:
        if item.target is not None:
            place = Place.parse(item.target)
            names = (item.target,) if place is None else recipe.targets_at(place)
            found += [(f"{item.name}@{name}", name) for name in names]
    return list(dict.fromkeys(found))


def _numbers(numbers: Sequence[int]) -> str:
    """``trials 0 to 11, 14``: runs of neighbours shortened."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    words = words if len(words) <= 4 else [*words[:3], "…"]
    return f"trial{'' if len(numbers) == 1 else 's'} {', '.join(words)}"


def _machine(records: Sequence[TrialRecord], numbers: Sequence[int]) -> str:
    environment = next((record.environment for record in records if record.number in numbers), {})
    return f"{environment.get('cpu', 'another machine')}, {environment.get('cores', '?')} cores"
