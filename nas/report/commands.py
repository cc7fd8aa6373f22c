"""The commands that pick a network, and which trial each of them would pick."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from nas.front import knee
from nas.objectives import Objective
from nas.record import TrialRecord
from nas.report.picking import seed_spread
from nas.study import Study
from nas.ties import smallest_of_tied
from nas.wording import display


@dataclass(frozen=True)
class Command:
    """A command, the trial that it picks, and what it is for."""

    text: str
    trial: int
    purpose: str


def pick_commands(study: Study) -> list[Command]:
    """A command for each way of choosing: the knee, accurate enough, fast enough. Empty where there is no front.

    The limits are examples, for a person to put in their own: an accuracy one point below the best, and the latency
    of the front's middle member.
    """
    if not study.front:
        return []
    front, quality, latency = study.front, _quality(study), _latency(study)
    bend = _knee(study)
    commands = [Command(_command(study, "--knee"), bend.number, "the knee of the front")]
    if latency is None:
        return commands
    least = math.floor(1000 * max(record.value(quality.key) for record in front) - 10) / 1000
    if least > 0:
        chosen = _fastest(study, front, least)
        purpose = f"the fastest with an accuracy of at least {display(quality.name, least)}"
        commands.append(Command(_command(study, f"--min-accuracy {least:.10g}"), chosen.number, purpose))
    most = _latency_limit(study, sorted(front, key=lambda record: record.value(latency.key))[len(front) // 2])
    if most is not None:
        chosen = _most_accurate(study, front, most)
        purpose = f"the most accurate within {most:.10g} ms"
        commands.append(Command(_command(study, f"--max-latency-ms {most:.10g}"), chosen.number, purpose))
    return commands


def command_for(study: Study, record: TrialRecord) -> str | None:
    """A command that picks this very member of the front, or None where no single limit singles it out."""
    fast, accurate = _latency_limit(study, record), _accuracy_limit(study, record)
    if fast is not None and _most_accurate(study, study.front, fast) is record:
        return _command(study, f"--max-latency-ms {fast:.10g}")
    if accurate is not None and _fastest(study, study.front, accurate) is record:
        return _command(study, f"--min-accuracy {accurate:.10g}")
    if study.front and _knee(study) is record:
        return _command(study, "--knee")
    return None


def _knee(study: Study) -> TrialRecord:
    """What ``nas pick --knee`` takes: the knee of the front, or the smallest that cannot be told from it."""
    objectives = study.recipe.parsed_objectives
    cost = _latency(study) or next(objective for objective in objectives if not objective.maximise)
    bend = knee(study.front, objectives)
    return smallest_of_tied(bend, study.front, _quality(study), cost, spread=seed_spread(study))


def _command(study: Study, options: str) -> str:
    return f"nas pick {shlex.quote(str(study.folder.path))} {options} --output deploy"


def _quality(study: Study) -> Objective:
    """The accuracy that counts: plain accuracy, or balanced where that is the study's only quality."""
    qualities = [o for o in study.recipe.parsed_objectives if o.maximise]
    return next((o for o in qualities if o.name == "accuracy"), qualities[0])


def _latency(study: Study) -> Objective | None:
    return next((o for o in study.recipe.parsed_objectives if o.name == "latency_ms"), None)


def _latency_limit(study: Study, record: TrialRecord) -> float | None:
    """The record's latency, rounded up as far as no other member of the front gets in; None without latency."""
    latency = _latency(study)
    if latency is None:
        return None
    return _rounded(record.value(latency.key), [r.value(latency.key) for r in study.front], up=True)


def _accuracy_limit(study: Study, record: TrialRecord) -> float | None:
    """The record's accuracy, rounded down likewise; None without latency, as then it decides nothing."""
    if _latency(study) is None:
        return None
    key = _quality(study).key
    return _rounded(record.value(key), [r.value(key) for r in study.front], up=False)


def _rounded(value: float, others: Sequence[float], up: bool) -> float | None:
    """The value with as few significant digits as keep every other value on its side; None for 0 and less."""
    if value <= 0:
        return None
    exponent = math.floor(math.log10(value))
    for digits in range(2, 16):
        step = 10.0 ** (exponent + 1 - digits)
        limit = float(f"{(math.ceil(value / step) if up else math.floor(value / step)) * step:.12g}")
        if up and limit >= value and not any(value < other <= limit for other in others):
            return limit
        if not up and 0 < limit <= value and not any(limit <= other < value for other in others):
            return limit
    return value


def _fastest(study: Study, front: Sequence[TrialRecord], least: float) -> TrialRecord:
    """What ``nas pick`` takes under an accuracy limit: the fastest, of equals the smallest, then the most accurate."""
    quality, latency = _quality(study), _latency(study)
    assert latency is not None  # callers ask for a limit first
    enough = [record for record in front if record.value(quality.key) >= least]
    leader = min(enough, key=lambda r: (r.value(latency.key), r.value("size_bytes"), -r.value(quality.key), r.number))
    return smallest_of_tied(leader, enough, quality, latency, spread=seed_spread(study))


def _most_accurate(study: Study, front: Sequence[TrialRecord], most: float) -> TrialRecord:
    """What ``nas pick`` takes under a latency limit: the most accurate, of equals the smallest, then the fastest."""
    quality, latency = _quality(study), _latency(study)
    assert latency is not None  # callers ask for a limit first
    enough = [record for record in front if record.value(latency.key) <= most]
    leader = min(enough, key=lambda r: (-r.value(quality.key), r.value("size_bytes"), r.value(latency.key), r.number))
    return smallest_of_tied(leader, enough, quality, latency, spread=seed_spread(study))
