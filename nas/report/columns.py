"""The numbers of the front, column by column, as table and page show them."""

from __future__ import annotations

from collections.abc import Sequence

from nas.front import knee
from nas.gains import baseline_of, mac_gain
from nas.outcome import Quantity, Realisation
from nas.record import TrialRecord
from nas.report.column import BASE, Column, table_rows
from nas.report.latency_columns import (
    gain_columns,
    latency_columns,
    latency_notes,
    latency_targets,
    mark_notes,
)
from nas.report.target_names import short_targets
from nas.study import Study
from nas.wording import display, plain_name, plural

__all__ = ["BASE", "Column", "front_notes", "knee_number", "latency_targets", "marked", "number_columns", "table_rows"]

KNEE, SIMULATED, UNSUPPORTED = "◆", "†", "‡"


def number_columns(study: Study, everything: bool = False) -> list[Column]:
    """The columns for which there are numbers: the trial, qualities, costs that are objectives, the rest.

    Args:
        study: Whose front.
        everything: Also the size of the compressed file, which else is there only where it tells something: where it
            was asked for, or weights of the front were set to zero.
    """
    rows, recipe = table_rows(study), study.recipe
    best, baseline = knee_number(study), baseline_of(study)
    trials = Column("", "Trial", "", [marked(record, best, baseline) for record in rows])
    costs = [o.key for o in recipe.parsed_objectives if not o.maximise]
    others = sorted(
        [*_cost_columns(study, rows, everything), *gain_columns(study, rows)],
        key=lambda c: costs.index(c.key) if c.key in costs else len(costs),
    )  # a stable sort: the rest stays in order
    return [trials, *(c for c in (*_quality_columns(study, rows), *others) if any(c.cells))]


def knee_number(study: Study) -> int | None:
    """The trial at the front's knee; None where the front is too short to bend."""
    return knee(study.front, study.recipe.parsed_objectives).number if len(study.front) > 2 else None


def _quality_columns(study: Study, rows: Sequence[TrialRecord]) -> list[Column]:
    recipe = study.recipe
    named = {item.key for item in (*recipe.parsed_objectives, *(c.quantity for c in recipe.parsed_constraints))}
    columns = []
    for name, title in (("accuracy", "Accuracy"), ("balanced_accuracy", "Balanced")):
        if name == "accuracy" or name in named:
            on_test = [study.test_scores.get(record.number, {}).get(f"test_{name}") for record in rows]
            values = [_cell(record.quantity(name)) for record in rows]
            columns.append(Column(name, title, "% valid.", values, " %"))
            columns.append(Column(f"test_{name}", title, "% test", [_cell(q) for q in on_test], " % (test)"))
    return [*columns, *_own_columns(study, rows, maximise=True)]


def _own_columns(study: Study, rows: Sequence[TrialRecord], maximise: bool) -> list[Column]:
    """The numbers that the recipe's own objectives give, whether or not they decide anything."""
    names = [name for name, own in study.recipe.own_objectives.items() if (own.direction == "maximise") is maximise]
    return [
        Column(
            name,
            plain_name(name),
            "%" if maximise else "",
            [_cell(record.quantity(name)) for record in rows],
            " %" if maximise else "",
        )
        for name in names
    ]


def _cost_columns(study: Study, rows: Sequence[TrialRecord], everything: bool) -> list[Column]:
    targets = latency_targets(study)
    names = short_targets(targets)
    columns = latency_columns(study, rows)

    def cells(key: str) -> list[str]:
        return [_cell(record.quantity(key)) for record in rows]

    for name, title in (("flops", "FLOPs"), ("macs", "MACs"), ("params", "Params"), ("size_bytes", "Size")):
        columns.append(Column(name, title, "", cells(name)))
    if everything or _zipped_tells(study):
        columns.append(Column("compressed_size_bytes", "Size", "zipped", cells("compressed_size_bytes"), " zipped"))
    for name, title in (("load_ms", "Load"), ("peak_memory_bytes", "Memory")):
        for target in targets:
            suffix = f" {names[target]}" if len(targets) > 1 else ""
            columns.append(Column(f"{name}@{target}", f"{title}{suffix}", "", cells(f"{name}@{target}")))
    return [*columns, *_own_columns(study, rows, maximise=False)]


def _zipped_tells(study: Study) -> bool:
    """Whether the size of the compressed file was asked for, or shows what zeros among the weights save."""
    recipe = study.recipe
    named = (*recipe.parsed_objectives, *(constraint.quantity for constraint in recipe.parsed_constraints))
    return any(q.name == "compressed_size_bytes" for q in named) or any(r.design.step("sparsity") for r in study.front)


def _cell(quantity: Quantity | None) -> str:
    return display(quantity.name, quantity.value).removesuffix(" %") if quantity else ""


def marked(record: TrialRecord, best: int | None, baseline: TrialRecord | None = None) -> str:
    """The number of a trial with its marks, or ``base`` for the baseline; ``best`` is the knee's."""
    labels = set(record.labels.values())
    simulated = SIMULATED if Realisation.SIMULATED in labels else ""
    unsupported = UNSUPPORTED if Realisation.UNSUPPORTED in labels else ""
    name = BASE if record is baseline else record.number
    return f"{KNEE if record.number == best else ''}{simulated}{unsupported}{name}"


def front_notes(study: Study) -> list[str]:
    """What the columns and marks mean, as far as the front has them; for an empty front, why it is empty."""
    if not study.front:
        why = "meets every constraint" if study.measured else "was measured"
        return [f"No trial is on the front: of {plural(len(study.records), 'trial')} none {why}."]
    notes = latency_notes(study)
    if knee_number(study) is not None:
        notes.append(f"{KNEE} the knee: past it, a little more of one objective costs much of another.")
    notes += _gain_notes(study)
    return [*notes, *_label_notes(study), *mark_notes(study)]


def _gain_notes(study: Study) -> list[str]:
    """Which trial is the baseline, and what gains by compression are against."""
    rows, baseline = table_rows(study), baseline_of(study)
    notes = []
    if baseline is not None and baseline in rows:
        beside = "" if baseline in study.front else ", beside the front and not on it"
        notes.append(f"{BASE}: trial {baseline.number}, the baseline{beside}; speeds are told against it.")
    if any(mac_gain(record) for record in rows):
        what = "MACs and latency of the float network that the design was pruned from, exported and timed likewise"
        notes.append(f"Gain over uncompressed: {what}, divided by its own.")
    return notes


def _label_notes(study: Study) -> list[str]:
    """What the marks of trials mean whose compression does not run as its name says."""
    notes = []
    for mark, label, meaning in (
        (SIMULATED, Realisation.SIMULATED, "only simulated on this target: saves size, not time"),
        (UNSUPPORTED, Realisation.UNSUPPORTED, "without effect, as the network or this target does not allow it"),
    ):
        choices = sorted({name for r in table_rows(study) for name, value in r.labels.items() if value is label})
        if choices:
            notes.append(f"{mark} {', '.join(choices)}: {meaning}.")
    return notes
