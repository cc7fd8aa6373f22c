"""A reproduction as a person reads it: a verdict, a table, what was not the same."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from nas.reproduce.compare import NumberPair, Reproduction, Verdict
from nas.wording import display

STYLES = {Verdict.IDENTICAL: "green", Verdict.AGREES: "yellow", Verdict.DIFFERS: "red"}

# Numbers of which a row says nothing that another does not.
_LEFT_OUT = ("uncompressed_latency_ms", "uncompressed_macs", "flops")


def verdict_words(found: Reproduction) -> Text:
    """The verdict in one sentence."""
    trial = found.before.number
    match found.verdict:
        case Verdict.IDENTICAL:
            words = f"trial {trial} is reproduced to the bit: the same weights, the same file, the same scores"
        case Verdict.AGREES:
            weights = "other weights" if found.same_weights is False else "another file"
            words = f"trial {trial} is reproduced within its intervals, but not to the bit: {weights}"
        case Verdict.DIFFERS:
            words = f"trial {trial} is NOT reproduced: its accuracy lies outside the interval of the earlier one"
    return Text(words, style=f"bold {STYLES[found.verdict]}")


def numbers_table(found: Reproduction) -> Table:
    """Each number then and now, and what that means."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Number", overflow="fold")
    table.add_column("Then", justify="right")
    table.add_column("Now", justify="right")
    table.add_column("")
    for pair in found.numbers:
        if pair.before is None or pair.now is None or pair.before.name in _LEFT_OUT:
            continue
        table.add_row(
            pair.key.replace("@", "\n  @"),
            display(pair.before.name, pair.before.value),
            display(pair.now.name, pair.now.value),
            _meaning(pair),
        )
    return table


def _meaning(pair: NumberPair) -> Text:
    if pair.is_exact or pair.before is None or pair.now is None:
        return Text("the same", style="green") if pair.same else Text("another", style="yellow")
    if not pair.same_environment:
        return Text(f"{pair.ratio:.2f} times, on another machine", style="dim")
    if pair.overlap:
        return Text(f"{pair.ratio:.2f} times, intervals overlap", style="green")
    shaky = any(quantity.detail.get("unstable") for quantity in (pair.before, pair.now))
    return Text(f"{pair.ratio:.2f} times{', measured on a busy machine' if shaky else ''}", style="yellow")


def lines(found: Reproduction) -> list[Text]:
    """What was compared beside the numbers, a line each."""
    said = []
    for pair in found.stages:
        content = {True: "the same result", False: "another result", None: "the earlier result is not kept"}
        key = "" if pair.same_key else ", as it depends on something else now"
        said.append(Text(f"{pair.stage}: {content[pair.same_content]}{key}", style="dim"))
    said += [Text(line, style="yellow") for line in found.differences]
    said += [Text(line, style="dim") for line in found.inputs]
    return said
