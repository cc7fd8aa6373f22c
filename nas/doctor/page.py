"""The diagnosis for the terminal, from 80 columns on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nas.doctor.choices import name_of
from nas.doctor.findings import Diagnosis, Here, Noise, RuntimeFinding, State, Verdict
from nas.doctor.noise import cores_words
from nas.outcome import Realisation
from nas.wording import listing, plural, significant, target_words

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

STATE_STYLES = {State.GOOD: "green", State.NEUTRAL: "", State.BAD: "yellow"}
HERE_STYLES = {Here.READY: "green", Here.MISSING: "yellow", Here.BROKEN: "red"}
LABEL_STYLES = {Realisation.REALISED: "green", Realisation.SIMULATED: "yellow", Realisation.UNSUPPORTED: "red"}
VERDICT_STYLES = {Verdict.QUIET: "green", Verdict.USABLE: "yellow", Verdict.DISTURBED: "yellow", Verdict.NOISY: "red"}


def render(diagnosis: Diagnosis) -> RenderableType:
    """Machine, runtimes, compression, packages and noise, each a table, and what it comes to in a line."""
    from rich.console import Group
    from rich.text import Text

    sections = {
        "Machine": _machine(diagnosis),
        "Runtimes": _runtimes(diagnosis),
        "Compression": _choices(diagnosis),
        "Optional packages": _packages(diagnosis),
        "Noise right now": _noise(diagnosis),
    }
    parts: list[RenderableType] = []
    for heading, section in sections.items():
        parts += [Text(heading, style="bold"), section, Text("")]
    return Group(*parts, *(Text(line) for line in conclusion(diagnosis)))


def conclusion(diagnosis: Diagnosis) -> Iterator[str]:
    """What it comes to: what can be measured on, and what to do first."""
    if not diagnosis.ready:
        yield "Nothing can be measured here: no runtime is ready. Install one as the table says."
        return
    targets = [runtime.target for runtime in diagnosis.ready]
    yield f"Ready to measure on {listing(targets)}."
    bad = [fact.name for fact in diagnosis.machine if fact.state is State.BAD]
    if bad:
        yield f"Worth mending: {listing(bad)}."


def _table(*columns: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, show_header=any(columns), header_style="dim")
    for column in columns:
        table.add_column(column)
    return table


def _machine(diagnosis: Diagnosis) -> RenderableType:
    from rich.text import Text

    table = _table("", "", "")
    table.columns[0].no_wrap = True
    table.columns[1].max_width = 30
    for fact in diagnosis.machine:
        table.add_row(
            Text(fact.name), Text(fact.value, style=STATE_STYLES[fact.state]), Text(fact.meaning, style="dim")
        )
    return table


def _runtimes(diagnosis: Diagnosis) -> RenderableType:
    """Calls have a column where one was timed; what is missing stands with how to install it."""
    from rich.text import Text

    timed = any(runtime.call_ms is not None for runtime in diagnosis.runtimes)
    table = _table("runtime", "on", "here", "version, or what is missing", *(["empty call"] if timed else []))
    for column in table.columns[:3]:
        column.no_wrap = True
    if timed:
        table.columns[4].justify = "right"
        table.columns[4].no_wrap = True
    for runtime in diagnosis.runtimes:
        call = "" if runtime.call_ms is None else f"{significant(1000 * runtime.call_ms)} µs"
        cells = [
            Text(runtime.title),
            Text(runtime.device),
            Text(runtime.here, style=HERE_STYLES[runtime.here]),
            _words_of(runtime),
        ]
        table.add_row(*cells, *([Text(call)] if timed else []))
    return table


def _words_of(runtime: RuntimeFinding) -> RenderableType:
    from rich.text import Text

    if runtime.ready:
        return Text(", ".join(f"{name} {value}" for name, value in runtime.environment.items()), style="dim")
    hint = f"\n{runtime.hint}" if runtime.hint else ""
    return Text.assemble(runtime.message, (hint, "dim"))


def _choices(diagnosis: Diagnosis) -> RenderableType:
    from rich.text import Text

    table = _table("choice", "here", "on", "what it saves")
    table.columns[1].no_wrap = True
    ready = {name_of(runtime) for runtime in diagnosis.ready}
    for choice in diagnosis.choices:
        on = "all that are ready" if ready and ready == set(choice.runtimes) else ", ".join(choice.runtimes) or "–"
        table.add_row(
            Text(choice.setting),
            Text(choice.label, style=LABEL_STYLES[choice.label]),
            Text(on),
            Text(choice.note, style="dim"),
        )
    return table


def _packages(diagnosis: Diagnosis) -> RenderableType:
    from rich.text import Text

    table = _table("", "", "")
    table.columns[0].no_wrap = True
    for package in diagnosis.packages:
        here = Text(package.version, style="green") if package.version else Text("not installed", style="yellow")
        how = "" if package.version else f"\n{package.install}"
        table.add_row(Text(package.name), here, Text.assemble((package.purpose, "dim"), how))
    return table


def _noise(diagnosis: Diagnosis) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    noise = diagnosis.noise
    if noise is None:
        return Text(f"not measured: {diagnosis.why_no_noise}", style="dim")
    table = _table("", "")
    table.columns[0].no_wrap = True
    for name, value in _noise_rows(noise):
        table.add_row(Text(name), Text(value))
    advice = [Text(f"• {line}") for line in noise.advice]
    return Group(table, Text(noise.words, style=f"bold {VERDICT_STYLES[noise.verdict]}"), *advice)


def _noise_rows(noise: Noise) -> Iterator[tuple[str, str]]:
    count = len(noise.latencies_ms)
    yield "measured", f"a small network, {count} times in a row, on {target_words(noise.target)}"
    low, high = (significant(end, 4) for end in (min(noise.latencies_ms), max(noise.latencies_ms)))
    yield "latency", f"{low} to {high} ms"
    pace = significant(noise.slowdown, 3)
    yield "pace", "at its best throughout" if float(pace) == 1 else f"at worst {pace} times as slow as at its best"
    yield "other load", _others(noise.busy_cores)
    yield "waited", _waited(noise.waited)
    if noise.retaken or noise.unstable:
        troubles = ", ".join(f"{name} {times}×" for name, times in noise.troubles.items())
        unstable = f", {noise.unstable} disturbed to the end ({troubles})" if noise.unstable else ""
        yield "disturbed", f"{plural(noise.retaken, 'measurement')} taken again{unstable}"


def _others(busy: float | None) -> str:
    if busy is None:
        return "not counted"
    words = cores_words(busy)
    return f"{words if words == 'no core' else f'at most {words}'} busy with something else"


def _waited(share: float | None) -> str:
    return "not counted" if share is None else f"at most {significant(100 * share, 2)} % of the time for a core"
