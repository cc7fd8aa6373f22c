"""What the page's scripts need to know of a study, as compact JSON: every name once, a trial as a list of numbers.

2,000 trials have to open quickly, so names, notes and other texts that repeat stand in one table (``texts``) and are
meant by their position in it. ``static/data.js`` reads this; a change here is a change there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nas.describe import describe, describe_lines
from nas.design import canonical_json
from nas.front import hypervolume_history
from nas.measure.target import Target
from nas.objectives import KINDS
from nas.outcome import Outcome, Quantity
from nas.record import StageResult, TrialRecord
from nas.report.categories import convolution, precision
from nas.report.columns import knee_number
from nas.report.commands import command_for
from nas.study import Study
from nas.wording import constraint_words, plain_name, target_words

LONGEST_LIST = 16  # longer lists in a stage's detail are left out


class Table:
    """Values that repeat, each once, meant by its position."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._positions: dict[str, int] = {}

    def position(self, item: Any) -> int:
        """The position of an item, which is added where it is new."""
        key = canonical_json(item)
        if key not in self._positions:
            self._positions[key] = len(self.items)
            self.items.append(item)
        return self._positions[key]


def page_data(study: Study) -> dict[str, Any]:
    """All that the page's scripts show, as JSON holds it."""
    recipe, reference = study.recipe, study.reference
    objectives, constraints = recipe.parsed_objectives, recipe.parsed_constraints
    history = hypervolume_history(study.records, reference, objectives, constraints) if reference else []
    packer = _Packer(study)
    trials = [packer.trial(record) for record in study.records]
    return {
        "objectives": [o.key for o in objectives],
        "constraints": [
            {"key": c.quantity.key, "atMost": c.at_most, "limit": c.limit, "words": constraint_words(c)}
            for c in constraints
        ],
        "front": [record.number for record in study.front],
        "knee": knee_number(study),
        "history": [[number, float(f"{volume:.6g}")] for number, volume in history],
        "quantities": [_kind(key) for key in packer.keys.items],
        "environments": packer.environments.items,
        "texts": packer.texts.items,
        "trials": trials,
    }


def embedded_json(data: Any) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element or begin a comment."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


class _Packer:
    """Turns records into lists, and collects what repeats."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.texts, self.keys, self.environments = Table(), Table(), Table()
        self.members = {record.number for record in study.front}
        for objective in study.recipe.parsed_objectives:
            self.keys.position(objective.key)

    def trial(self, record: TrialRecord) -> list[Any]:
        """One trial; the order of its fields is that of ``FIELDS`` in ``static/data.js``."""
        text = self.texts.position
        scores = self.study.test_scores.get(record.number, {})
        lines = describe_lines(record.design)
        on_front = record.number in self.members
        return [
            record.number,
            text(str(record.outcome)),
            text(record.origin),
            describe(record.design),
            [text(part) for line in lines for part in line],
            [self._quantity(quantity) for quantity in (*record.quantities, *scores.values())],
            [text(part) for name, label in record.labels.items() for part in (name, str(label))],
            [self._stage(stage) for stage in record.stages],
            [text(note) for note in record.notes],
            [text(record.reason.kind), record.reason.message, int(record.reason.transient)] if record.reason else None,
            record.duplicate_of,
            record.teacher_trial,
            _short(record.seconds),
            record.started_at,
            record.seed,
            record.artifact_sha256,
            self.environments.position(dict(record.environment)) if record.environment else None,
            int(record.feasible(self.study.recipe.parsed_constraints)) if record.outcome is Outcome.MEASURED else None,
            text(precision(record.design)),
            text(convolution(record.design)),
            command_for(self.study, record) if on_front else None,
        ]

    def _quantity(self, quantity: Quantity) -> list[Any]:
        """Key, value, how; then low, high and detail as far as there are any."""
        packed: list[Any] = [
            self.keys.position(quantity.key),
            _short(quantity.value),
            self.texts.position(str(quantity.how)),
        ]
        detail = [
            part for name, value in quantity.detail.items() for part in (self.texts.position(name), _short(value))
        ]
        packed += [None if end is None else _short(end) for end in (quantity.low, quantity.high)]
        packed.append(detail or None)
        while packed[-1] is None:
            packed.pop()
        return packed

    def _stage(self, stage: StageResult) -> list[Any]:
        """Name, seconds, cached, what is worth knowing of it."""
        return [self.texts.position(stage.stage), round(stage.seconds, 3), int(stage.cached), _detail(stage.detail)]


def _kind(key: str) -> dict[str, Any]:
    """What the page has to know of a quantity to show it and draw it."""
    name, _, target = key.partition("@")
    kind = KINDS.get(name.removeprefix("test_"))
    return {
        "key": key,
        "name": name,
        "title": plain_name(key),
        "target": target or None,
        "targetWords": target_words(target) if target else None,
        "batch": Target.parse(target).batch if target else None,
        "unit": kind.unit if kind else "",
        "maximise": bool(kind and kind.maximise),
        "log": bool(kind and kind.log_axis),
    }


def _short(value: Any) -> Any:
    """A number with six significant digits, counts whole, anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, float):
        return value
    return int(value) if value.is_integer() else float(f"{value:.6g}")


def _detail(detail: Mapping[str, Any]) -> str:
    """A stage's detail in words: numbers and short lists by name, of a training curve its last epoch."""
    parts = []
    for name, value in detail.items():
        if name == "history":  # what the pruner replays; the widths say the same to a person
            continue
        if name == "widths" and isinstance(value, Mapping):
            parts.append("channels " + ", ".join(f"{layer} {old}→{new}" for layer, (old, new) in value.items()))
        elif isinstance(value, list) and value and isinstance(value[-1], Mapping):
            last = {f"last {part}": number for part, number in value[-1].items() if part != "seconds"}
            parts.append(_detail(last))
        elif isinstance(value, list | tuple):
            if len(value) <= LONGEST_LIST:
                parts.append(f"{_words(name)} {', '.join(map(_plain, value))}")
        else:
            parts.append(f"{_words(name)} {_plain(value)}")
    return "; ".join(parts)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
