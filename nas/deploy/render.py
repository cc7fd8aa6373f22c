"""What was chosen, as a terminal shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nas.deploy.choose import Choice
from nas.deploy.served import Served
from nas.deploy.service import FPS, P95, ServiceFigure
from nas.deploy.words import shown
from nas.errors import StudyError
from nas.gains import compare, gain_words
from nas.outcome import Quantity
from nas.study import Study
from nas.target import Place
from nas.wording import LABEL_WORDS, choice_words, display, interval, listing, plain_name, target_words

if TYPE_CHECKING:
    from rich.console import RenderableType


def render_choice(choice: Choice, study: Study, test_scores: Mapping[str, Quantity] | None = None) -> RenderableType:
    """The chosen trial's design, why it was chosen, its validation and test accuracy, latency and size, and its gains.

    Args:
        choice: What ``choose`` gave.
        study: The study that it is from.
        test_scores: Test scores by quantity name, where the study has none of its own for this trial.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from nas.describe import describe

    record = choice.record
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    rows = [("trial", str(record.number)), ("design", describe(record.design))]
    served = Served.at(study, record, choice.target)
    rows += _figures(choice, served, study.test_scores.get(record.number, {}) or test_scores or {})
    if (compared := compare(study, record, choice.target)) is not None:
        itself = compared.trial == record.number
        rows.append(("baseline" if itself else f"against trial {compared.trial}", compared.words))
    if gains := gain_words(record, choice.target):
        rows.append(("pruning", gains))
    if record.labels:
        labels = (f"{choice_words(name)} {LABEL_WORDS[label]}" for name, label in served.labels.items())
        rows.append(("compression", ", ".join(labels)))
    rows += _neighbours(choice)
    for name, value in rows:  # as Text, since a plain string would be read as markup
        table.add_row(Text(name), Text(value))
    return Group(Text(choice.why), table)


def _figures(choice: Choice, served: Served, test_scores: Mapping[str, Quantity]) -> list[tuple[str, str]]:
    """Name and value, with 95 % intervals, of what a person decides by."""
    record, rows = choice.record, []
    # A target beside those that serve the trial is scored once its deployment is written.
    by = "" if served.is_scored else f", by {served.scored_by}"
    for name in ("accuracy", "balanced_accuracy"):
        own = None if served.is_scored else record.quantity(f"{name}@{served.target.name}")
        if (quantity := own or record.quantity(name)) is not None:
            rows.append((plain_name(name), f"{interval(quantity)}{'' if own else by}"))
    for quantity in test_scores.values():
        rows.append((plain_name(quantity.key), f"{interval(quantity)}{by}"))
    if not test_scores:
        rows.append(("test accuracy", "not scored yet"))
    rows += _latencies(choice)
    if promises := _promises(choice):
        rows.append(("service", promises))
    if (size := _size(served)) is not None:
        rows.append(("file size", display("size_bytes", size)))
    return rows


def _neighbours(choice: Choice) -> list[tuple[str, str]]:
    """The members of the front on either side with what they cost, and the trials that are as good by measure."""
    rows = [(f"next {side.direction}", side.words) for side in choice.sides]
    seeds = "training seeds included" if choice.spread is not None else "what training seeds do is not known"
    by = f"at 95 %; {seeds}"
    if not choice.tied:
        return [*rows, ("tied with", f"no other trial that meets the limits ({by})")]
    size = choice.record.quantity("size_bytes")
    smaller = [
        record.number
        for record in choice.tied
        if size is not None and (other := record.quantity("size_bytes")) is not None and other.value < size.value
    ]
    numbers = f"trial{'' if len(choice.tied) == 1 else 's'} {listing([str(r.number) for r in choice.tied])}"
    words = f"{numbers}, which accuracy and cost cannot tell apart from it ({by})"
    if smaller:
        words += f"; of a smaller file, but not on the front or not near enough: {listing([str(n) for n in smaller])}"
    return [*rows, ("tied with", words)]


def _size(served: Served) -> float | None:
    """Of the file that the target wants; None where it is not known, or gone from the cache."""
    if served.is_weighed:
        size = served.record.quantity("size_bytes")
        return size.value if size is not None else None
    try:
        return len(served.artifact)
    except StudyError:
        return None


def _promises(choice: Choice) -> str:
    """``95 % of calls within 0.00926 ms, 119,000 fps``, where the choice was made by a latency; else nothing."""
    tail, rate = (ServiceFigure(name, choice.target).read(choice.record) for name in (P95, FPS))
    parts = [] if tail is None else [f"95 % of calls within {shown(P95, tail)}"]
    return ", ".join(parts if rate is None else [*parts, shown(FPS, rate)])


def _latencies(choice: Choice) -> list[tuple[str, str]]:
    """The latency on every target, the one that counts first; where there are several it is marked which, and which
    serve at a place.
    """
    measured = [q for q in choice.record.quantities if q.name == "latency_ms" and q.target is not None]
    targets = [q for q in measured if Place.parse(str(q.target)) is None]
    chosen = choice.served_by
    rows = []
    for quantity in sorted(targets, key=lambda q: chosen is None or q.target != chosen.name):
        places = [str(q.target) for q in measured if q.detail.get("served_by") == quantity.target]
        mark = f"  ← serves {listing(places)}" if places else ""
        if len(targets) > 1 and chosen is not None and quantity.target == chosen.name and not places:
            mark = "  ← this one"
        rows.append(("latency", f"{interval(quantity)}, {target_words(str(quantity.target))}{mark}"))
    return rows
