"""Whether the numbers of several studies may be compared: the same objectives, data and machines, or what differs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nas.errors import StudyError
from nas.measurements import environments
from nas.objectives import Objective
from nas.outcome import Outcome
from nas.study import Study
from nas.target import Place
from nas.wording import listing

MOST_STUDIES = 8  # as many colours as anybody tells apart
MOST_NAMED = 5  # differences that a line names
# Of an environment: what a person can do nothing with, or what follows from the rest.
UNTOLD = ("runtimes", "memory_bytes", "container_memory_bytes")


def labels(paths: Sequence[Path]) -> list[str]:
    """A name for each study: its folder's, with as much of the path before it as it takes to tell all apart.

    Raises:
        StudyError: Fewer than two studies, too many, or one named twice.
    """
    whole = [path.resolve() for path in paths]
    if not 2 <= len(whole) <= MOST_STUDIES:
        raise StudyError(
            f"a comparison is of 2 to {MOST_STUDIES} studies, but got {len(whole)}",
            "such as: nas compare studies/a studies/b",
        )
    twice = next((path for path in whole if whole.count(path) > 1), None)
    if twice is not None:
        raise StudyError(f"the study {twice} is named twice", "name each study once")
    parts = [1] * len(whole)
    while True:
        names = [_tail(path, count) for path, count in zip(whole, parts, strict=True)]
        if len(set(names)) == len(names):
            return names
        parts = [count + (names.count(name) > 1) for count, name in zip(parts, names, strict=True)]


def _tail(path: Path, parts: int) -> str:
    """The last parts of a path; bytes in it that are no UTF-8, which could not be printed, are spelled ``\\xe9``."""
    return os.fsencode(Path(*path.parts[-parts:])).decode(errors="backslashreplace")


def shared_objectives(studies: Sequence[Study], names: Sequence[str]) -> tuple[tuple[Objective, ...], list[str]]:
    """The objectives that all studies have, in the order of the first, and notes about those left out.

    Raises:
        StudyError: There is no quality or no cost among them; the message names each study's.
    """
    first = studies[0].recipe.parsed_objectives
    shared = tuple(o for o in first if all(o in study.recipe.parsed_objectives for study in studies))
    if not any(o.maximise for o in shared) or all(o.maximise for o in shared):
        each = "; ".join(f"{n}: {', '.join(s.recipe.objectives)}" for s, n in zip(studies, names, strict=True))
        raise StudyError(
            f"these studies share no {'cost' if any(o.maximise for o in shared) else 'quality'} to compare: {each}",
            "name the same target, or a place such as latency_ms@cpu-b1, in both recipes",
        )
    notes = []
    for study, name in zip(studies, names, strict=True):
        left = [o.key for o in study.recipe.parsed_objectives if o not in shared]
        if left:
            notes.append(f"left out, as not all studies have it: {listing(left)} of {name}.")
    return shared, notes


def obstacles(studies: Sequence[Study], names: Sequence[str], shared: Sequence[Objective]) -> list[tuple[str, str]]:
    """What makes numbers of these studies incomparable: what it is, and how to mend it; empty where nothing does."""
    return [*_data_obstacles(studies, names), *_machine_obstacles(studies, names, shared)]


def _data_obstacles(studies: Sequence[Study], names: Sequence[str]) -> list[tuple[str, str]]:
    """Studies whose data is not that of the first."""
    found = []
    first, first_digest = studies[0], studies[0].folder.read_inputs().get("data")
    for study, name in zip(studies[1:], names[1:], strict=True):
        told = [line.removeprefix("data.") for line in _differences(first, study) if line.startswith("data.")]
        digest = study.folder.read_inputs().get("data")
        known = first_digest is not None and digest is not None
        if (known and digest != first_digest) or (not known and told):
            what = f" in {_shortened(told)}" if told else ": the files hold something else"
            found.append(
                (f"the data of {names[0]} and {name} differ{what}", "search both with the same 'data' in their recipes")
            )
    return found


def _machine_obstacles(
    studies: Sequence[Study], names: Sequence[str], shared: Sequence[Objective]
) -> list[tuple[str, str]]:
    """Costs that were measured in different environments."""
    found = []
    for key in _measured_keys(studies, shared):
        fingerprints = [list(environments(study.as_told, key)) for study in studies]
        known = [index for index, found_there in enumerate(fingerprints) if found_there]
        other = next((index for index in known if fingerprints[index] != fingerprints[known[0]]), None)
        if other is None:
            continue
        where = "; ".join(
            f"{name} on {_machine(study)} ({', '.join(there) or 'not measured'})"
            for study, name, there in zip(studies, names, fingerprints, strict=True)
        )
        changed = _changed(studies[known[0]], studies[other])
        what = f"; they differ in {_shortened(changed)}" if changed else ""
        hint = f"measure again on one machine: nas measure {studies[other].folder.path}"
        found.append((f"{key} was measured in different environments: {where}{what}", hint))
    return found


def _measured_keys(studies: Sequence[Study], shared: Sequence[Objective]) -> list[str]:
    """The keys whose environments have to agree: of a place those of all targets that serve it in some study."""
    keys: list[str] = []
    for objective in shared:
        if objective.target is None:
            continue
        place = Place.parse(objective.target)
        targets = (
            [objective.target] if place is None else [t for study in studies for t in study.recipe.targets_at(place)]
        )
        keys += [f"{objective.name}@{target}" for target in targets]
    return list(dict.fromkeys(keys))


def _environment(study: Study) -> dict[str, object]:
    return next((dict(r.environment) for r in study.as_told if r.outcome is Outcome.MEASURED and r.environment), {})


def _machine(study: Study) -> str:
    environment = _environment(study)
    return f"{environment.get('cpu', 'another machine')}, {environment.get('cores', '?')} cores"


def _changed(one: Study, other: Study) -> list[str]:
    """Where the environments of two studies differ: ``onnxruntime: 1.30.0, 1.32.0``."""
    here, there = _environment(one), _environment(other)
    return [
        f"{name}: {here.get(name, 'unknown')}, {there.get(name, 'unknown')}"
        for name in dict.fromkeys([*here, *there])
        if name not in UNTOLD and here.get(name) != there.get(name) and not isinstance(here.get(name), list)
    ]


def notes_on_recipes(studies: Sequence[Study], names: Sequence[str]) -> list[str]:
    """In what else the recipes differ: constraints first, as each front keeps its own; then what may explain more."""
    notes = []
    constraints = [study.recipe.constraints for study in studies]
    if len(set(constraints)) > 1:
        each = "; ".join(f"{n}: {', '.join(c) or 'none'}" for n, c in zip(names, constraints, strict=True))
        notes.append(f"each front keeps its own constraints ({each}).")
    for study, name in zip(studies[1:], names[1:], strict=True):
        skipped = ("data.", "objectives", "constraints", "targets")
        told = [line for line in _differences(studies[0], study) if not line.startswith(skipped)]
        if told:
            notes.append(f"recipes of {names[0]} and {name} differ in {_shortened(told)}.")
    return notes


def _differences(one: Study, other: Study) -> list[str]:
    return one.recipe.differences(other.recipe)


def _shortened(parts: Sequence[str]) -> str:
    named = "; ".join(parts[:MOST_NAMED])
    return named if len(parts) <= MOST_NAMED else f"{named}; and {len(parts) - MOST_NAMED} more"
