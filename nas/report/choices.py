"""What the page tells of the choices: how much each decides, what each buys, and what was not possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas.importance import ImportanceReport, importance_report
from nas.report.adjusted import Adjusted, Regression, adjusted
from nas.report.effect import quantities_of
from nas.report.matched_pairs import Comparison, MatchedPairs, matched_pairs
from nas.report.not_possible import NotPossible, not_possible, not_possible_summary
from nas.study import Study

MOST_SHOWN = 12  # rows that are open at once; the rest is a click away


@dataclass(frozen=True)
class ChoiceSections:
    """Everything that the page's parts ``choices`` and ``not_possible`` show.

    Args:
        importance: How much each choice decides about each objective.
        matched: What each value buys against another.
        regression: Estimates for the choices whose pairs are too few.
        impossible: What came to nothing, in groups.
        impossible_summary: The same in a sentence; empty where nothing did.
    """

    importance: ImportanceReport
    matched: MatchedPairs
    regression: Regression
    impossible: tuple[NotPossible, ...]
    impossible_summary: str

    @property
    def sure(self) -> list[Comparison]:
        """Comparisons that have an interval."""
        return [comparison for comparison in self.matched.comparisons if comparison.effects[0].low is not None]

    @property
    def unsure(self) -> list[Comparison]:
        """Comparisons of too few settings for one."""
        return [comparison for comparison in self.matched.comparisons if comparison.effects[0].low is None]

    @property
    def columns(self) -> list[tuple[str, str]]:
        """The quantities that comparisons have: key and short name."""
        rows: list[Comparison | Adjusted] = [*self.matched.comparisons, *self.regression.rows]
        return list(dict.fromkeys((effect.key, effect.title) for row in rows for effect in row.effects))

    def to_json(self) -> dict[str, Any]:
        return {
            "importance": self.importance.to_json(),
            "matched_pairs": self.matched.to_json(),
            "adjusted": self.regression.to_json(),
            "not_possible": [row.to_json() for row in self.impossible],
            "not_possible_summary": self.impossible_summary,
        }


def sections_of(study: Study) -> ChoiceSections:
    """What the page's parts show of a study."""
    found = matched_pairs(study)
    paired = {one.choice for one in found.comparisons if one.effects[0].low is not None}
    alone = {one.choice for one in found.comparisons if not one.pooled} | set(found.unmatched)
    regression = adjusted(
        study.measured, quantities_of(study.measured, study.recipe.parsed_objectives), sorted(alone - paired)
    )
    return ChoiceSections(
        importance_report(study), found, regression, tuple(not_possible(study)), not_possible_summary(study)
    )


def choice_sections(study: Study) -> dict[str, Any]:
    """The same as JSON, for the page's payload."""
    return sections_of(study).to_json()


def template_values(study: Study) -> Mapping[str, Any]:
    """What the partial templates need: render them with these names."""
    return {"choices": sections_of(study), "most_shown": MOST_SHOWN}
