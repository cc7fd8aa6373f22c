"""A supernet: one network whose weights all designs of a space share, trained once, to rank and start them by."""

from __future__ import annotations

from nas.supernet.evolution import Cost, Member, inherited_fronts
from nas.supernet.ranking import Inherited, Ranker, recalibrate
from nas.supernet.shared import SHARING, Supernet
from nas.supernet.starting import Decision, Tried, better_for_its_cost
from nas.supernet.training import SupernetBudget, train_supernet

__all__ = [
    "SHARING",
    "Cost",
    "Decision",
    "Inherited",
    "Member",
    "Ranker",
    "Supernet",
    "SupernetBudget",
    "Tried",
    "better_for_its_cost",
    "inherited_fronts",
    "recalibrate",
    "train_supernet",
]
