"""What the page needs to choose as ``nas pick`` does: the front's exact numbers at every place that it was timed at.

The rule is that of ``nas.deploy.choose``; ``static/pick.js`` carries it out, and a test holds the two side by side.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import Any

from nas.finalized import read_finalized
from nas.front import knee
from nas.objectives import Objective
from nas.record import TrialRecord
from nas.study import Study
from nas.ties import tied_with
from nas.wording import plain_name

SIZE = "size_bytes"


def pick_data(study: Study, spread: float | None = None) -> dict[str, Any] | None:
    """What the page's sliders choose from.

    ``questions`` holds one entry for each latency that the front has: ``target`` (None for the one that ``nas pick``
    takes where none is named, else what ``--target`` must say), the keys of the two figures that decide, whether the
    cost is a latency, which trial is the knee, for each candidate its number and its exact quality, cost and size, and
    ``tied``: for each candidate the positions of those that cannot be told apart from it (see ``nas.ties``). Values are
    not rounded: a limit may lie anywhere between two of them.

    Args:
        study: The study.
        spread: Standard deviation of the quality between training seeds, see ``seed_spread``; None where unknown.

    Returns:
        The data, or None where there is no front, or one of its members lacks a number that decides.
    """
    quality = _quality(study)
    usual, *others = _costs(study)
    questions = [_question(study, quality, cost, spread) for cost in (usual, *others)]
    if questions[0] is None:
        return None
    questions[0]["target"] = None
    asked = [question for question in questions if question is not None]
    path = shlex.quote(str(study.folder.path))
    return {"command": f"nas pick {path}", "questions": asked}


def seed_spread(study: Study) -> float | None:
    """Standard deviation of validation accuracy between training seeds, pooled over the designs that ``nas finalize``
    trained again from several; None where none was.
    """
    deviations = [done.accuracy.deviation for done in read_finalized(study.folder.path).values()]
    known = [deviation for deviation in deviations if deviation is not None]
    return math.sqrt(math.fsum(d * d for d in known) / len(known)) if known else None


def _quality(study: Study) -> Objective:
    """The accuracy that counts: plain accuracy, or balanced where that is the study's only quality."""
    qualities = [o for o in study.recipe.parsed_objectives if o.maximise]
    return next((o for o in qualities if o.name == "accuracy"), qualities[0])


def _costs(study: Study) -> list[Objective]:
    """The cost that decides where no target is named, then the latency at every other place and target."""
    objectives, recipe = study.recipe.parsed_objectives, study.recipe
    first = next((o for o in objectives if o.name == "latency_ms"), None)
    later = [q.target for r in study.measured for q in r.quantities if q.name == "latency_ms" and q.target]
    targets = dict.fromkeys([*recipe.served, *recipe.all_targets, *later])
    usual = first or next(o for o in objectives if not o.maximise)
    return [usual, *(Objective("latency_ms", target) for target in targets if target != usual.target)]


def _question(study: Study, quality: Objective, cost: Objective, spread: float | None) -> dict[str, Any] | None:
    """One question's data; None where nothing on the front was timed there, or a number is missing."""
    able = [record for record in study.front if cost.target is None or record.quantity(cost.key)]
    keys = [quality.key, cost.key, SIZE]
    if not able or any(record.quantity(key) is None for record in able for key in keys):
        return None
    places = {record.number: at for at, record in enumerate(able)}
    return {
        "target": cost.target,
        "quality": quality.key,
        "cost": cost.key,
        "costWords": plain_name(cost.key),
        "latency": cost.name == "latency_ms",
        "knee": _knee(study, able),
        "candidates": [[record.number, *(record.value(key) for key in keys)] for record in able],
        "tied": [[places[o.number] for o in tied_with(r, able, quality, cost, spread)] for r in able],
    }


def _knee(study: Study, able: Sequence[TrialRecord]) -> int:
    """The knee; of designs that equal it in all objectives the smallest file, then the lowest number."""
    objectives = study.recipe.parsed_objectives
    bend = knee(able, objectives)
    equals = [r for r in able if all(r.value(o.key) == bend.value(o.key) for o in objectives)]
    return min(equals, key=lambda record: (record.value(SIZE), record.number)).number
