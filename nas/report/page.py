"""The study as one self-contained page, ``report.html``: no network, no other file."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nas.describe import describe
from nas.front import COST_DECADES, hypervolume
from nas.objectives import Objective
from nas.outcome import Outcome
from nas.record import TrialRecord
from nas.report.agreement import signed
from nas.report.choices import template_values
from nas.report.columns import front_notes, number_columns, table_rows
from nas.report.disagreement import rankings
from nas.report.files import encoded, write_output
from nas.report.foresight import Foresight
from nas.report.payload import embedded_json, page_data
from nas.report.picking import seed_spread
from nas.report.savings import savings
from nas.report.tiles import tiles_of
from nas.report.time_spent import elapsed
from nas.study import Study
from nas.wording import display, percent, plain_name, plural, target_words

FOLDER = Path(__file__).parent
TEMPLATE = "page.html.j2"
STYLE = "page.css"
SCRIPTS = (
    *("data.js", "scales.js", "svg.js", "chart.js", "colour.js", "scatter.js", "tip.js", "card.js", "brush.js"),
    *("parallel.js", "ranges.js", "pick_rule.js", "pick.js", "tables.js", "history.js", "flops.js", "foreseen.js"),
    "main.js",
)


def write_page(study: Study, path: Path) -> None:
    """Writes the page: the front as a picture to hover, click and zoom, every trial with all that is known of it.

    Everything lies inside the one file: styles, scripts and data. A content security policy names the script by digest
    and forbids all else, so that nothing is ever fetched and no name in the data can run. The pictures are drawn by the
    page's own script: the usual drawing library is 4.7 MB, and takes most of two seconds to start.

    Raises:
        StudyError: The file cannot be written.
    """
    write_output(path, encoded(render_page(study)))


def render_page(study: Study) -> str:
    """The page's HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    script = _script()
    compared, foresight = rankings(study), Foresight.of(study)
    content = page_data(study, compared, foresight.calibrations, seed_spread(study))
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(TEMPLATE).render(
        **_content(study),
        **template_values(study),
        rankings=compared if study.measured else [],
        foresight=foresight,
        spent=savings(study.as_told, study.recipe.budget.epochs),
        duration=duration,
        target_words=target_words,
        signed=signed,
        percent=percent,
        elapsed=elapsed(study.as_told),
        policy=_policy(script),
        style=Markup(_read(STYLE)),
        script=Markup(script),
        pick_command=f"{content['pick']['command']} --output deploy" if content["pick"] else "",
        data=Markup(embedded_json(content)),
    )


def _read(name: str) -> str:
    return (FOLDER / "static" / name).read_text(encoding="utf-8")


def _script() -> str:
    """The page's scripts as one, in a scope of their own."""
    return '(() => {\n"use strict";\n' + "\n".join(_read(name) for name in SCRIPTS) + "\n})();\n"


def _policy(script: str) -> str:
    """A content security policy: this script and no other, inline styles, no network."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )


def _content(study: Study) -> dict[str, Any]:
    """What the template shows; all of it is escaped there."""
    recipe, reference = study.recipe, study.reference
    objectives, constraints = recipe.parsed_objectives, recipe.parsed_constraints
    quality = next(o for o in objectives if o.maximise)
    cost = next(o for o in objectives if not o.maximise)
    volume = hypervolume(study.records, reference, objectives, constraints) if reference else 0.0
    return {
        "study": study,
        "quality": plain_name(quality.key),
        "cost": plain_name(cost.key),
        "lede": _lede(study),
        "tiles": tiles_of(study, volume),
        "measured": bool(study.measured),
        "meaning": _meaning(quality, cost),
        "why_empty": _why_empty(study),
        "columns": number_columns(study, everything=True) if study.front else [],
        "rows": table_rows(study),
        "words": [describe(record.design) for record in table_rows(study)],
        "notes": front_notes(study),
        "has_history": reference is not None and len(study.records) > 1,
        "hypervolume": f"{volume:.3f}",
        "reference": _corner(objectives, reference.values) if reference else "",
        "ideal": _corner(objectives, _ideal(objectives, reference.values)) if reference else "",
        "chips": _chips(study),
        "objectives": [
            {"key": o.key, "title": _short_name(o).capitalize(), "target": o.target or ""} for o in objectives
        ],
        "environments": _environments(study.records),
        "recipe": yaml.safe_dump(recipe.to_json(), sort_keys=False, allow_unicode=True),
    }


def _short_name(objective: Objective) -> str:
    return plain_name(objective.key).removeprefix("validation ")


def _lede(study: Study) -> str:
    recipe = study.recipe
    parts = [f"{plural(len(study.records), 'trial')} of the {recipe.space} space on {recipe.data.source}"]
    if study.records:
        started = min(record.started_at for record in study.records)
        parts.append(f"sampled by {recipe.sampler}, seed {recipe.seed}")
        if {record.outcome for record in study.records} & {Outcome.SCREENED, Outcome.STOPPED}:
            parts[0] += f" ({savings(study.as_told, recipe.budget.epochs).outcome_words})"
        parts.append(f"{duration(sum(record.seconds for record in study.records))} of work")
        if started:
            parts.append(f"started {started[:16].replace('T', ' ')} UTC")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """``42 s``, ``17 min``, ``3.2 h``."""
    minutes, hours = seconds / 60, seconds / 3600
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 90 else f"{hours:.1f} h"


def _meaning(quality: Objective, cost: Objective) -> str:
    """The picture in two sentences."""
    up, right = plain_name(quality.key), plain_name(cost.key)
    return (
        "Each point is a network that was trained, compressed, exported and measured as it would ship: the higher, the "
        f"better its {up}, and the farther left, the less its {right}. The outlined points are the "
        "front: no other trial beats one of them in one objective without losing in another, so choose among those."
    )


def _why_empty(study: Study) -> str:
    if not study.records:
        return "This study has no trials yet. Run the search, then make this report again."
    ended = {record.outcome for record in study.records}
    where = (
        "the reasons stand below" if ended & {Outcome.INFEASIBLE, Outcome.FAILED} else "the list of all trials says why"
    )
    return f"None of {plural(len(study.records), 'trial')} was measured; {where}."


def _corner(objectives: Sequence[Objective], values: Sequence[float]) -> str:
    pairs = zip(objectives, values, strict=True)
    return ", ".join(f"{_short_name(o)} {display(o.name, value)}" for o, value in pairs)


def _ideal(objectives: Sequence[Objective], reference: Sequence[float]) -> list[float]:
    """The corner of the hypervolume's box that is best in everything."""
    least = [
        value / 10**COST_DECADES if o.kind.log_axis else 0.0 for o, value in zip(objectives, reference, strict=True)
    ]
    return [1.0 if o.maximise else value for o, value in zip(objectives, least, strict=True)]


def _chips(study: Study) -> list[dict[str, Any]]:
    """The filters of the list of all trials, with how many each leaves."""
    barred = len(study.measured) - sum(r.feasible(study.recipe.parsed_constraints) for r in study.measured)
    chips = [{"filter": "all", "label": "All", "count": len(study.records)}]
    chips.append({"filter": "front", "label": "On the front", "count": len(study.front)})
    chips.append({"filter": "barred", "label": "Breaks a constraint", "count": barred})
    outcomes = Counter(str(record.outcome) for record in study.records)
    chips += [{"filter": name, "label": name.capitalize(), "count": count} for name, count in outcomes.most_common()]
    return [chip for chip in chips if chip["count"] or chip["filter"] == "all"]


def _environments(records: Sequence[TrialRecord]) -> list[list[tuple[str, str]]]:
    """Every distinct environment as names and values, in the order of first use: the order the payload numbers them."""
    distinct: list[Mapping[str, Any]] = []
    for record in records:
        if record.environment and record.environment not in distinct:
            distinct.append(record.environment)
    return [list(_flat(environment)) for environment in distinct]


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            yield f"{prefix}{name}".replace("_", " "), text
