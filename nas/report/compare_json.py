"""A comparison of studies as JSON, for scripts: every number of the table, unrounded."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from nas.report.compare import Comparison, Contender

VERSION = 1


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison.

    ``objectives`` are keys such as ``latency_ms@cpu-b1``, ``reference`` is in their units. Wherever a study is meant,
    its place among ``studies`` is told, which stand in the order given, from 0: row i of ``covered`` says of each front
    how many of its members study i matches or beats in every objective, row i of ``lacks`` what its front lacks to
    cover each other (the additive epsilon indicator; null with itself, and where a front is empty). ``leads`` are
    ranges of the first cost, see ``nas.report.compare.Lead``.
    """
    indices = range(len(comparison.contenders))
    return {
        "version": VERSION,
        "objectives": [objective.key for objective in comparison.objectives],
        "reference": list(comparison.reference.values),
        "studies": [_study(comparison, contender) for contender in comparison.contenders],
        "covered": [[comparison.covered(one, other) for other in indices] for one in indices],
        "lacks": [[comparison.short_of(one, other) if one != other else None for other in indices] for one in indices],
        "cost": comparison.cost.key,
        "quality": comparison.quality.key,
        "leads": [asdict(lead) for lead in comparison.leads],
        "shares_ahead": comparison.shares_ahead(),
        "warnings": list(comparison.warnings),
        "notes": list(comparison.notes),
    }


def _study(comparison: Comparison, contender: Contender) -> dict[str, Any]:
    keys = [objective.key for objective in comparison.objectives]
    return {
        "name": contender.label,
        "trials": len(contender.study.records),
        "seconds": contender.study.seconds,
        "hypervolume": contender.volume,
        "front": [{"trial": r.number, **{key: r.value(key) for key in keys}} for r in contender.front],
    }
