"""The numbers of the front, column by column, as table and page show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from nas.front import knee
from nas.gains import baseline_of, gain_words, latency_gain, mac_gain, speed_up
from nas.outcome import Quantity, Realisation
from nas.record import TrialRecord
from nas.study import Study
from nas.wording import display, frames_per_second, human, plural, significant, target_words, times

KNEE, SIMULATED, UNSUPPORTED, UNSTABLE, BASE = "◆", "†", "‡", "~", "base"


@dataclass(frozen=True)
class Column:
    """One column of numbers.

    Args:
        key: The quantity that it shows, empty for the trial's number.
        title: First line of the heading.
        unit: Second line of the heading.
        cells: Text for each row, empty where it has none.
        suffix: Put after a cell where it stands below the line, without its heading.
        words: What stands below the line instead; columns that have such words are the first to stand there.
    """

    key: str
    title: str
    unit: str
    cells: list[str]
    suffix: str = ""
    words: list[str] | None = None

    @property
    def width(self) -> int:
        return max(cell_len(text) for text in (self.title, self.unit, *self.cells))

    def below(self, row: int) -> str:
        """The cell as it stands below the line; empty where there is none."""
        if not self.cells[row]:
            return ""
        return self.words[row] if self.words else f"{self.title} {self.cells[row]}{self.suffix}"


def table_rows(study: Study) -> list[TrialRecord]:
    """The front, cheapest first, and below it the baseline where that is not a part of it."""
    baseline = baseline_of(study)
    aside = [baseline] if study.front and baseline is not None and baseline not in study.front else []
    return [*study.front, *aside]


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
        [*_cost_columns(study, rows, everything), *_gain_columns(study, rows)],
        key=lambda c: costs.index(c.key) if c.key in costs else len(costs),
    )  # a stable sort: the rest stays in order
    return [trials, *(c for c in (*_quality_columns(study, rows), *others) if any(c.cells))]


def knee_number(study: Study) -> int | None:
    """The trial at the front's knee; None where the front is too short to bend."""
    return knee(study.front, study.recipe.parsed_objectives).number if len(study.front) > 2 else None


def latency_targets(study: Study) -> list[str]:
    """The targets of a study, those that an objective names first."""
    named = [o.target for o in study.recipe.parsed_objectives if o.target]
    return list(dict.fromkeys([*named, *study.recipe.all_targets]))


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
    return columns


def _cost_columns(study: Study, rows: Sequence[TrialRecord], everything: bool) -> list[Column]:
    targets = latency_targets(study)
    by_iqr = has_iqr(study)
    columns = []

    def cells(key: str) -> list[str]:
        return [_cell(record.quantity(key)) for record in rows]

    for target in targets:
        suffix = f" {short_target(target)}" if len(targets) > 1 else ""
        key = f"latency_ms@{target}"
        latencies = [record.quantity(key) for record in rows]
        heading = "ms ±IQR/2" if by_iqr else "ms ±CI/2"
        columns.append(Column(key, f"Latency{suffix}", heading, [_latency_cell(q, by_iqr) for q in latencies], " (ms)"))
        speeds = [human(frames_per_second(q)) if q else "" for q in latencies]
        columns.append(Column(f"fps@{target}", f"fps{suffix}", "1/s", speeds))
    for name, title in (("flops", "FLOPs"), ("macs", "MACs"), ("params", "Params"), ("size_bytes", "Size")):
        columns.append(Column(name, title, "", cells(name)))
    if everything or _zipped_tells(study):
        columns.append(Column("compressed_size_bytes", "Size", "zipped", cells("compressed_size_bytes"), " zipped"))
    for name, title in (("load_ms", "Load"), ("peak_memory_bytes", "Memory")):
        for target in targets:
            suffix = f" {short_target(target)}" if len(targets) > 1 else ""
            columns.append(Column(f"{name}@{target}", f"{title}{suffix}", "", cells(f"{name}@{target}")))
    return columns


def _zipped_tells(study: Study) -> bool:
    """Whether the size of the compressed file was asked for, or shows what zeros among the weights save."""
    recipe = study.recipe
    named = (*recipe.parsed_objectives, *(constraint.quantity for constraint in recipe.parsed_constraints))
    return any(q.name == "compressed_size_bytes" for q in named) or any(r.design.step("sparsity") for r in study.front)


def _gain_columns(study: Study, rows: Sequence[TrialRecord]) -> list[Column]:
    """Speed against the baseline, and what pruning took off multiply-adds and off latency."""
    baseline, targets = baseline_of(study), latency_targets(study)
    columns = []
    for target in targets:
        suffix = f" {short_target(target)}" if len(targets) > 1 else ""
        if baseline is not None and len(rows) > 1:
            ratios = [speed_up(record, baseline, target) for record in rows]
            pairs = zip(ratios, rows, strict=True)
            words = [_speed_words(ratio) + suffix if ratio and row is not baseline else "" for ratio, row in pairs]
            cells = [f"{significant(r, 2)}×" if r else "" for r in ratios]
            columns.append(Column(f"speed_up@{target}", f"Speed{suffix}", f"× {BASE}", cells, words=words))
        gains = [(mac_gain(record), latency_gain(record, target)) for record in rows]
        cells = [f"{significant(macs, 2)}, {significant(ms, 2)}" if macs and ms else "" for macs, ms in gains]
        words = [gain_words(record, target) + suffix for record in rows]
        columns.append(Column(f"gain@{target}", f"Gain{suffix}", "× MACs, ms", cells, words=words))
    return columns


def _speed_words(ratio: float) -> str:
    return times(ratio, f"faster than {BASE}", f"slower than {BASE}", f"as fast as {BASE}")


def _cell(quantity: Quantity | None) -> str:
    return display(quantity.name, quantity.value).removesuffix(" %") if quantity else ""


def _latency_cell(latency: Quantity | None, by_iqr: bool) -> str:
    """Median and spread: ``0.0312 ±2%``."""
    if latency is None:
        return ""
    spread = None
    if by_iqr:
        spread = float(latency.detail["iqr"]) / 2
    elif latency.low is not None and latency.high is not None:
        spread = (latency.high - latency.low) / 2
    mark = UNSTABLE if latency.detail.get("unstable") else ""
    share = f" ±{_share(spread / latency.value)}%" if spread is not None else ""
    return f"{significant(latency.value)}{share}{mark}"


def _share(value: float) -> str:
    """Per cent without decimals, but never rounded down to nothing: ``14``, ``2``, ``0.3``."""
    return f"{100 * value:.0f}" if value >= 0.01 else significant(100 * value, 1)


def has_iqr(study: Study) -> bool:
    """Whether every latency of the table comes with the interquartile range of its samples."""
    latencies = [q for record in table_rows(study) for q in record.quantities if q.name == "latency_ms"]
    return all("iqr" in q.detail for q in latencies)


def short_target(target: str) -> str:
    """Threads and batch of a target, where several have to be told apart: ``1t-b1``."""
    return "-".join(target.split("-")[2:])


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
    targets = latency_targets(study)
    latencies = "; ".join(target_words(t) + (f" ({short_target(t)})" if len(targets) > 1 else "") for t in targets)
    spread = "half the interquartile range of the samples" if has_iqr(study) else "half the 95 % interval"
    notes = [f"Latency: median on {latencies}; ± {spread}."] if targets else []
    if knee_number(study) is not None:
        notes.append(f"{KNEE} the knee: past it, a little more of one objective costs much of another.")
    notes += _gain_notes(study)
    notes += _label_notes(study)
    if any(q.detail.get("unstable") for record in table_rows(study) for q in record.quantities):
        notes.append(f"{UNSTABLE} the latency was unstable while it was measured.")
    return notes


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
