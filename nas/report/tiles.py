"""The key figures at the top of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas.gains import baseline_of
from nas.objectives import Objective
from nas.record import TrialRecord
from nas.report.columns import knee_number
from nas.study import Study
from nas.wording import display, plain_name

BEST = {
    "accuracy": "Most accurate",
    "balanced_accuracy": "Best balanced",
    "latency_ms": "Fastest",
    "load_ms": "First to load",
}
BEST |= {"size_bytes": "Smallest file", "peak_memory_bytes": "Least memory"}
BEST |= {"compressed_size_bytes": "Smallest compressed"}


@dataclass(frozen=True)
class Tile:
    """A key figure at the top of the page; a click opens its trial, where it has one."""

    label: str
    value: str
    note: str
    trial: int | None = None


def tiles_of(study: Study, volume: float) -> list[Tile]:
    """The front's best in every objective, its knee, its hypervolume."""
    if not study.front:
        return []
    objectives = study.recipe.parsed_objectives
    tiles: list[Tile] = []
    for objective in objectives:
        best = _best(study.front, objective)
        label = BEST.get(objective.name, f"Fewest {plain_name(objective.key)}")
        tiles.append(
            Tile(
                label,
                display(objective.name, best.value(objective.key)),
                _beside(best, objectives, objective),
                best.number,
            )
        )
    number = knee_number(study)
    if number is not None:
        bend, first = study.record(number), objectives[0]
        tiles.append(Tile("Knee", display(first.name, bend.value(first.key)), _beside(bend, objectives, first), number))
    if (baseline := baseline_of(study)) is not None:
        first = objectives[0]
        value = display(first.name, baseline.value(first.key))
        tiles.append(Tile("Baseline", value, _beside(baseline, objectives, first), baseline.number))
    tiles.append(Tile("On the front", str(len(study.front)), f"hypervolume {volume:.3f}"))
    return tiles


def _best(front: Sequence[TrialRecord], objective: Objective) -> TrialRecord:
    """The member that is best in one objective; of equals the lowest number."""
    sign = -1 if objective.maximise else 1
    return min(front, key=lambda record: (sign * record.value(objective.key), record.number))


def _beside(record: TrialRecord, objectives: Sequence[Objective], shown: Objective) -> str:
    """The trial, and the objective that tells what the shown one costs."""
    other = next(o for o in objectives if o.maximise is not shown.maximise)
    return f"at {display(other.name, record.value(other.key))}, trial {record.number}"
