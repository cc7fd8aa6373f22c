"""A reproduction as a person reads it: a table, what was not the same, a verdict."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from nas.outcome import Outcome, Quantity
from nas.reproduce.compare import NumberPair, Reproduction, StagePair, Verdict, Weights
from nas.wording import display, interval, listing, plural, significant

STYLES = {Verdict.IDENTICAL: "green", Verdict.AGREES: "yellow", Verdict.DIFFERS: "red"}
WEIGHTS_WORDS = {
    Weights.SAME: "the same to the bit",
    Weights.SAME_BY_FILE: "the same, as the same file came of them (the study's cache lost the earlier ones)",
    Weights.OTHERS: "others",
    Weights.UNKNOWN: "cannot be compared: the study's cache lost the earlier ones",
}

# Numbers of which a row says nothing that another does not.
_LEFT_OUT = ("uncompressed_latency_ms", "uncompressed_macs", "flops")


def verdict_words(found: Reproduction) -> Text:
    """The verdict on network and speed in one line."""
    return Text(f"trial {found.before.number} {_of_network(found)}", style=f"bold {STYLES[found.verdict]}")


def _of_network(found: Reproduction) -> str:
    if found.now.outcome is not Outcome.MEASURED:
        why = f": {found.now.reason.message}" if found.now.reason is not None else ""
        return f"is NOT reproduced: it ends as {found.now.outcome} now{why}"
    latencies = _of_speed(found)
    match found.verdict:
        case Verdict.IDENTICAL:
            return f"is reproduced bit for bit{latencies}"
        case Verdict.AGREES:
            return f"is reproduced within its intervals, not bit for bit{latencies}"
        case Verdict.DIFFERS:
            return f"is NOT reproduced: accuracy outside its interval{latencies}"


def _of_speed(found: Reproduction) -> str:
    """How the latencies agree, where there are any."""
    pairs = found.latencies
    if not pairs:
        return ""
    if not all(pair.same_environment for pair in pairs):
        return "; latency measured elsewhere"
    apart = [pair for pair in pairs if not pair.overlap]
    if not apart:
        return "; latency agrees"
    furthest = max(apart, key=lambda pair: abs(1 - (pair.ratio or 1.0)))
    return f"; latency {_times(furthest)}"


def numbers_table(found: Reproduction) -> Table:
    """Each number then and now, and what that means; 80 columns hold it. Below a value stands its interval."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Number", overflow="fold", max_width=28)
    table.add_column("Then", justify="right")
    table.add_column("Now", justify="right")
    table.add_column("")
    for pair in found.numbers:
        known = pair.before or pair.now
        if known is None or known.name in _LEFT_OUT or (pair.now is None and found.now.outcome is not Outcome.MEASURED):
            continue
        meaning = _meaning(pair)
        table.add_row(pair.key.replace("@", "\n@"), _cell(pair.before), _cell(pair.now), meaning)
    return table


def _cell(quantity: Quantity | None) -> str:
    """A value, with its interval below."""
    if quantity is None:
        return "–"
    text = display(quantity.name, quantity.value) if quantity.low is None else interval(quantity)
    return text.replace(" (", "\n").removesuffix(")")


def _meaning(pair: NumberPair) -> Text:
    if pair.before is None or pair.now is None:
        return Text(f"only {'now' if pair.before is None else 'then'}", style="yellow")
    if pair.is_score:
        if pair.same:
            return Text("the same", style="green")
        inside = "inside interval" if pair.within else "outside interval"
        by = "" if pair.images is None else f"{plural(abs(pair.images), 'image')} {_more(pair.images)}\n"
        return Text(f"{by}{inside}", style="yellow" if pair.within else "red")
    if pair.is_exact:
        return Text("the same", style="green") if pair.same else Text("another", style="yellow")
    ratio = _times(pair)
    if not pair.same_environment:
        return Text(f"{ratio}\nelsewhere", style="dim")
    words = [ratio]
    if pair.before.low is not None:
        words.append("overlapping" if pair.overlap else "not overlapping")
    if any(quantity.detail.get("unstable") for quantity in (pair.before, pair.now)):
        words.append("unstable")
    return Text("\n".join(words), style="green" if pair.overlap else "yellow")


def _times(pair: NumberPair) -> str:
    return "" if pair.ratio is None else f"{significant(pair.ratio)} times"


def _more(images: int) -> str:
    return "more" if images > 0 else "fewer"


def lines(found: Reproduction) -> list[Text]:
    """What was compared beside the numbers, a line each."""
    said = [Text(f"weights: {WEIGHTS_WORDS[found.weights]}", style="dim")]
    if found.now.outcome is Outcome.MEASURED:
        said.append(Text(f"file: {'the same to the bit' if found.same_artifact else 'another'}", style="dim"))
    words = [_stage_words(pair) for pair in found.stages]
    for line in dict.fromkeys(words):
        names = [pair.stage for pair, of in zip(found.stages, words, strict=True) if of == line]
        said.append(Text(f"{listing(list(dict.fromkeys(names)))}: {line}", style="dim"))
    said += [Text(line, style="yellow") for line in found.differences]
    return said + [Text(line, style="dim") for line in found.inputs]


def _stage_words(pair: StagePair) -> str:
    content = {True: "the same result", False: "another result", None: "the earlier result is not kept"}
    return f"{'the same key' if pair.same_key else 'another key'}, {content[pair.same_content]}"
