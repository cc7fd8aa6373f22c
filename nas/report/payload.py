"""What the page's scripts need to know of a study, as compact JSON: every name once, a trial as a list of numbers.

2,000 trials have to open quickly, so names, notes and other texts that repeat stand in one table (``texts``) and are
meant by their position in it. ``static/data.js`` reads this; a change here is a change there.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from nas.describe import describe, describe_lines, origin_words
from nas.design import canonical_json
from nas.front import hypervolume_history
from nas.gains import baseline_of, compare, gain_words
from nas.outcome import Outcome, Quantity
from nas.proxies import proxies, results
from nas.record import StageResult, TrialRecord
from nas.report.calibration import Calibration
from nas.report.categories import convolution, precision
from nas.report.columns import knee_number, latency_targets
from nas.report.curves import curve_of
from nas.report.disagreement import Ranking, rankings
from nas.report.guesses import guesses
from nas.report.picking import pick_data
from nas.report.proxy_words import proxy_words
from nas.report.time_spent import ends
from nas.study import Study
from nas.target import Place, Target
from nas.wording import LABEL_WORDS, UNCOMPRESSED, choice_words, constraint_words, kind_of, plain_name, target_words

LONGEST_LIST = 16  # longer lists in a stage's detail are left out
# Of a stage's detail: what the pruner replays, and what the trial's notes say better.
LEFT_OUT = ("history", "left")
PAIRS = {"widths": ("channels", "→"), "zeros": ("zeros", " of ")}  # two numbers for each layer: what they are called


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


def page_data(
    study: Study,
    compared: Sequence[Ranking] | None = None,
    foreseen: Sequence[Calibration] = (),
    spread: float | None = None,
) -> dict[str, Any]:
    """All that the page's scripts show, as JSON holds it.

    Args:
        study: What the page is of.
        compared: What ``rankings`` says of the study.
        foreseen: What ``calibrations`` says of it.
        spread: Of its accuracy between training seeds, see ``pick_data``.
    """
    recipe, reference = study.recipe, study.reference
    objectives, constraints = recipe.parsed_objectives, recipe.parsed_constraints
    history = hypervolume_history(study.records, reference, objectives, constraints) if reference else []
    packer = _Packer(study)
    trials = [packer.trial(record) for record in study.records]
    baseline = baseline_of(study)
    ended = ends(study.as_told)
    return {
        "objectives": [o.key for o in objectives],
        "constraints": [
            {"key": c.quantity.key, "atMost": c.at_most, "limit": c.limit, "words": constraint_words(c)}
            for c in constraints
        ],
        "front": [record.number for record in study.front],
        "knee": knee_number(study),
        "baseline": baseline.number if baseline is not None else None,
        "pick": pick_data(study, spread),
        "finalize": f"nas finalize {shlex.quote(str(study.folder.path))}",
        # Trial, hypervolume, seconds since the study's start; the last is absent where no trial says when it started.
        "history": [[number, _short(volume), *_second(ended.get(number))] for number, volume in history],
        "flops": [_ranking(ranking) for ranking in (rankings(study) if compared is None else compared)],
        "foreseen": [_foreseen(calibration) for calibration in foreseen],
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
        self.target = next(iter(latency_targets(study)), None)
        for objective in study.recipe.parsed_objectives:
            self.keys.position(objective.key)

    def trial(self, record: TrialRecord) -> list[Any]:
        """One trial; the order of its fields is that of ``FIELDS`` in ``static/data.js``."""
        text = self.texts.position
        scores = self.study.test_scores.get(record.number, {})
        lines = describe_lines(record.design)
        return [
            record.number,
            text(str(record.outcome)),
            text(origin_words(record.origin)),
            describe(record.design),
            [text(part) for line in lines for part in line],
            [self._quantity(quantity) for quantity in (*results(record), *scores.values())],
            [text(part) for name, label in record.labels.items() for part in (choice_words(name), LABEL_WORDS[label])],
            [self._stage(stage) for stage in record.stages],
            [text(note) for note in record.notes],
            [text(record.reason.kind), record.reason.message, int(record.reason.transient)] if record.reason else None,
            record.duplicate_of,
            self._teacher(record),
            _short(record.seconds),
            record.started_at,
            record.seed,
            record.artifact_sha256,
            self.environments.position(dict(record.environment)) if record.environment else None,
            int(record.feasible(self.study.recipe.parsed_constraints)) if record.outcome is Outcome.MEASURED else None,
            text(precision(record.design)),
            text(convolution(record.design)),
            self._gains(record),
            [self._proxy(quantity) for quantity in proxies(record)],
            record.goes_on_from,
            text(f"{record.epochs:g} of {self.study.recipe.budget.epochs} epochs")
            if record.epochs is not None
            else None,
            int(record.spared),
            self._guesses(record),
        ]

    def _gains(self, record: TrialRecord) -> list[str]:
        """What a measured trial gains over the baseline and over the network that it was pruned from, in words."""
        compared = compare(self.study, record, self.target)
        beside = [compared.words] if compared is not None and compared.trial != record.number else []
        return [*beside, *filter(None, [gain_words(record, self.target)])]

    def _guesses(self, record: TrialRecord) -> list[Any]:
        """Where a trial that was given up may be drawn: key, value and how it was had, for each that is known."""
        found = guesses(record, self.study.recipe.parsed_objectives)
        position = self.keys.position
        return [[position(key), _short(value), self.texts.position(how)] for key, (value, how) in found.items()]

    def _proxy(self, quantity: Quantity) -> list[Any]:
        """What was known of a trial before its end, all in words, so that nothing can take it for a result."""
        words = proxy_words(quantity)
        return [self.texts.position(words.title), words.value, self.texts.position(words.facts)]

    def _teacher(self, record: TrialRecord) -> int | None:
        """Whom a distilled design learned from: a trial, or the file that the recipe names."""
        if record.teacher_trial is not None:
            return self.texts.position(f"trial {record.teacher_trial}")
        given = self.study.recipe.teacher
        return self.texts.position(given.path.name) if record.teacher and given else None

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
        """Name, seconds, cached, what is worth knowing of it; then its curve, where it has one."""
        packed = [self.texts.position(stage.stage), round(stage.seconds, 3), int(stage.cached), _detail(stage.detail)]
        curve = curve_of(stage.detail)
        return packed if curve is None else [*packed, {_words(name): values for name, values in curve.items()}]


def _ranking(ranking: Ranking) -> dict[str, Any]:
    """What the page draws of FLOPs against latency: the latency's key, the trials, the worst pairs of them."""
    return {
        "key": ranking.key,
        "trials": [point.number for point in ranking.points],
        "worst": [[pair.fewer.number, pair.more.number] for pair in ranking.worst],
    }


def _foreseen(calibration: Calibration) -> dict[str, Any]:
    """What the page draws of predictions: the objective's key, and for each trial what was predicted of it."""
    checks = calibration.checks
    return {
        "key": calibration.objective.key,
        "trials": [check.record.number for check in checks],
        "predicted": [_short(check.predicted.value) for check in checks],
        "low": [_short(check.interval[0]) for check in checks],
        "high": [_short(check.interval[1]) for check in checks],
        "spared": [int(check.record.spared) for check in checks],
    }


def _kind(key: str) -> dict[str, Any]:
    """What the page has to know of a quantity to show it and draw it."""
    name, _, target = key.partition("@")
    kind = kind_of(name)
    return {
        "key": key,
        "name": name,
        "title": plain_name(key),
        "target": target or None,
        "targetWords": target_words(target) if target else None,
        "batch": (Place.parse(target) or Target.parse(target)).batch if target else None,
        "unit": kind.unit if kind else "",
        "maximise": bool(kind and kind.maximise),
        "log": bool(kind and kind.log_axis),
        "own": bool(kind and kind.own),
        "axis": not name.startswith(("test_", UNCOMPRESSED)),
    }


def _short(value: Any) -> Any:
    """A number with six significant digits, counts whole, anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, float):
        return value
    return int(value) if value.is_integer() else float(f"{value:.6g}")


def _second(seconds: float | None) -> list[float]:
    return [] if seconds is None else [round(seconds, 1)]


def _detail(detail: Mapping[str, Any]) -> str:
    """A stage's detail in words: numbers and short lists by name, of a training curve its last epoch."""
    parts = []
    for name, value in detail.items():
        if name in LEFT_OUT or value in ([], {}):
            continue
        if name in PAIRS and isinstance(value, Mapping):
            what, between = PAIRS[name]
            pairs = (f"{layer} {old}{between}{new}" for layer, (old, new) in value.items())
            parts.append(f"{what} {', '.join(pairs)}")
        elif isinstance(value, Mapping):
            if len(value) <= LONGEST_LIST:
                parts.append(f"{_words(name)} {', '.join(f'{key} {_plain(item)}' for key, item in value.items())}")
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
