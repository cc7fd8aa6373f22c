"""The strategy of a search: chosen when it starts, kept in its folder, and the same when it goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from nas.design import Design
from nas.errors import StudyError
from nas.measure.measurer import Measurer
from nas.pipeline import Pipeline
from nas.recipe import Recipe
from nas.record import StageResult, TrialRecord
from nas.safety.json_text import read_json
from nas.search.costs import steps_of
from nas.search.cues import Cues, joined
from nas.search.dry_run import costs_for
from nas.search.encoder import row_of
from nas.search.evaluation import Evaluate
from nas.search.guide import Guide
from nas.search.insight import Insight
from nas.search.loop import Watcher
from nas.search.network_facts import network_facts
from nas.search.plan import Course, plan, plan_without_costs, rungs_of
from nas.search.prepared import Prepared
from nas.search.probe import PROBE_SECONDS
from nas.search.rough import rough_costs
from nas.search.rule import may_pay
from nas.search.shared_network import budget_of, train_shared
from nas.store import write_atomically
from nas.study import StudyFolder
from nas.supernet import SupernetBudget

# Of a budget so much at most goes into trying out what trials cost, where little depends on it.
PROBED_SHARE = 0.01


@dataclass(frozen=True)
class Decided:
    """What a study goes by.

    Args:
        strategy: Its name.
        why: Why it is this one, in words.
        supernet: How long the shared network trains, for the strategy that has one.
        way: Whether its members are trained from inherited weights (``finetune``) or anew (``retrain``); None before
            that was tried.
    """

    strategy: str
    why: str
    supernet: SupernetBudget | None = None
    way: str | None = None

    def keep(self, folder: StudyFolder) -> None:
        """Writes it into the study's folder."""
        content = {k: v for k, v in asdict(self).items() if v is not None}
        write_atomically(folder.plan, json.dumps(content, indent=1).encode())


@dataclass(frozen=True)
class Strategy:
    """A strategy at work.

    Args:
        guide: Weighs what comes next; None where every proposal of the sampler is evaluated to the end.
        starts: Designs to begin with, and their origins.
        charged: Work done before the first trial, which some record is to carry.
    """

    guide: Guide | None = None
    starts: tuple[tuple[Design, str], ...] = ()
    charged: StageResult | None = None


def decide(
    prepared: Prepared, folder: StudyFolder, records: Sequence[TrialRecord], watcher: Watcher, measurer: Measurer
) -> Decided:
    """The strategy of a study: the one that it began with, or the one that recipe, space and budget call for.

    Args:
        prepared: What is searched.
        folder: The study's, which keeps what was decided.
        records: Its trials so far.
        watcher: Hears what was decided, and how far the trying out of costs has come.
        measurer: Measures latencies where costs are tried out.

    Raises:
        StudyError: What was decided earlier cannot be read.
    """
    decided = kept_plan(folder)
    if decided is None:
        steps = steps_of(len(prepared.dataset.train), prepared.recipe)
        planned: Course | None = plan_without_costs(prepared.recipe, prepared.space, records, steps)
        if planned is None:
            costs = costs_for(prepared, measurer, records, watcher.progress, probed(prepared.recipe, steps))
            planned = plan(prepared.recipe, prepared.space, costs, records)
        for note in planned.notes:
            watcher.note(note)
        shared = budget_of(prepared.recipe) if planned.strategy == "supernet" else None
        decided = Decided(planned.strategy, planned.why, shared)
        decided.keep(folder)
    watcher.note(f"strategy {decided.strategy}: {decided.why}")
    return decided


def probed(recipe: Recipe, steps: int) -> float:
    """For how many seconds a search tries out what trials cost, before it begins.

    Where no supernet may pay, costs decide next to nothing, and time is better spent on trials.

    Args:
        recipe: The budget, the training.
        steps: Steps of an epoch.
    """
    minutes = recipe.budget.minutes
    if minutes is None or may_pay(recipe, sys.maxsize, steps):
        return PROBE_SECONDS
    return min(PROBE_SECONDS, PROBED_SHARE * 60 * minutes)


def carry_out(
    decided: Decided,
    prepared: Prepared,
    pipeline: Pipeline,
    evaluate: Evaluate,
    folder: StudyFolder,
    watcher: Watcher,
) -> Strategy:
    """The strategy at work; a shared network is trained here, before the first trial."""
    starts = tuple(prepared.starts)
    if decided.strategy == "plain":
        return Strategy(None, starts)
    steps = steps_of(len(prepared.dataset.train), prepared.recipe)
    rungs = rungs_of(prepared.recipe, prepared.space, steps)
    facts = network_facts(prepared.space, pipeline.input_shape, len(prepared.dataset.class_names))
    rough = rough_costs(lambda design: pipeline.networks.untrained(design, 0), pipeline.input_shape)
    if decided.supernet is None:
        cues = cues_of(prepared)
        known = Insight(prepared.space, prepared.recipe, rungs, cues, watcher.note, rough=rough, facts=facts)
        return Strategy(Guide(known), starts)
    shared = train_shared(prepared, pipeline, folder, decided.supernet, watcher.progress)
    members = shared.starts(watcher.progress)
    way = decided.way
    if way is None:
        way, why = shared.way(members, evaluate, watcher.progress)
        replace(decided, way=way).keep(folder)
        watcher.note(f"members of the supernet: {way}, as {why}")
    cues = joined([Cues.of_predictions(shared.cues), cues_of(prepared)])
    insight = Insight(prepared.space, prepared.recipe, rungs, cues, watcher.note, shared, rough, facts)
    guide = Guide(insight, way == "finetune")
    return Strategy(guide, (*starts, *((design, "supernet") for design in members)), shared.stage)


def cues_of(prepared: Prepared) -> Cues | None:
    """What earlier studies say of designs; None where there are none."""
    warm = prepared.warm
    if warm is None or warm.cues is None:
        return None
    learned = warm.cues

    return Cues.of_predictions(lambda designs: learned([row_of(design) for design in designs]))


def kept_plan(folder: StudyFolder) -> Decided | None:
    """What was decided earlier; None where nothing was.

    Raises:
        StudyError: It cannot be read.
    """
    try:
        content = read_json(folder.plan, StudyError)
        shared = SupernetBudget(**content["supernet"]) if "supernet" in content else None
        return Decided(str(content["strategy"]), str(content["why"]), shared, content.get("way"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{folder.plan} cannot be read: {error}", "delete it; the next search decides anew") from error
