"""A profile as a terminal shows it: a row per layer, then totals, speeds, estimate against measurement. 80 columns."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nas.outcome import How
from nas.profile.compute import Profile
from nas.profile.names import short_names
from nas.wording import display, interval, significant

# From here on a number is written in units of 10^9, so that no column grows past what 80 can hold.
_EXACT_BELOW = 10**9

_DISTURBED = "; unstable: something else ran meanwhile"


def render(profile: Profile) -> RenderableType:
    """The profile for ``rich`` to print."""
    parts: list[RenderableType] = [
        Text(f"{profile.title}\n", style="bold"),
        _layer_table(profile),
        Text(""),
        _summary(profile),
    ]
    if profile.complexity.uncounted:
        parts.append(Text(f"not counted: {', '.join(map(_shortened, profile.complexity.uncounted))}", style="dim"))
    parts += [Text(f"note: {note}", style="dim") for note in profile.notes]
    return Group(*parts)


def _layer_table(profile: Profile) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False, show_footer=True)
    total = profile.complexity
    table.add_column("layer", "total", overflow="fold", min_width=8)
    table.add_column("kind", overflow="fold", min_width=6)
    table.add_column("output", justify="right", no_wrap=True)
    table.add_column("kB", justify="right", no_wrap=True)
    for title, value in (("params", total.params), ("MACs", total.macs), ("FLOPs", total.flops)):
        table.add_column(title, _number(value), justify="right", no_wrap=True)
    for layer, name in zip(total.layers, short_names(total.layers), strict=True):
        # The batch is 1 throughout, so it is left out.
        shape = "×".join(str(size) for size in layer.output_shape[1:])
        numbers = (_number(value) for value in (layer.params, layer.macs, layer.flops))
        table.add_row(Text(name), Text(layer.kind), shape, _kilobytes(layer.activation_bytes), *numbers)
    return table


def _summary(profile: Profile) -> Table:
    latency = profile.latency
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    speeds = profile.platform
    table.add_row(
        "platform",
        f"{speeds.flops_per_second_matmul / 1e9:.1f} GFLOP/s matrix product, "
        f"{speeds.flops_per_second_conv / 1e9:.1f} GFLOP/s convolution"
        f"{_DISTURBED if speeds.unstable else ''}",
    )
    estimate, ratio = "none: no multiply-adds were counted", "none"
    if profile.complexity.flops:
        estimate = f"{display('latency_ms', profile.estimate_ms)} = FLOPs / FLOP/s ({profile.calibration})"
        estimate += f"; {profile.estimated_fps:,.0f} fps"
        ratio = f"measured / estimated = {profile.measured_over_estimated:.2f}"
    table.add_row("estimated", estimate)
    unstable = _DISTURBED if latency.detail.get("unstable") else ""
    untrained = " (untrained)" if latency.how is How.PROXY else ""
    table.add_row(
        "measured",
        f"{interval(latency)} median on {profile.target.name}{untrained}; {profile.measured_fps:,.0f} fps{unstable}",
    )
    table.add_row("ratio", ratio)
    table.add_row("file", f"{profile.size_bytes:,} bytes")
    peak = display("peak_activation_bytes", profile.complexity.peak_activation_bytes)
    images = "one image" if profile.counted_images == 1 else f"{profile.counted_images} images"
    table.add_row("memory", f"activations take {peak} at most at one time ({images})")
    return table


def _number(value: int) -> str:
    return f"{value:,}" if value < _EXACT_BELOW else f"{value / 1e9:,.3f} G"


def _kilobytes(value: int) -> str:
    """In units of 1000 bytes, to three digits below 1000: ``0.04``, ``13.5``, ``102,760``."""
    return significant(value / 1000, zeros=False) if value < 10**6 else f"{value / 1000:,.0f}"


def _shortened(entry: str) -> str:
    """``relu: a, b, c`` as ``relu (3×)``."""
    name, _, where = entry.partition(": ")
    return f"{name} ({where.count(', ') + 1}×)"
